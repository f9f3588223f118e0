#include "cli/new_device.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "blockdev/size.h"
#include "cli/device_info.h"
#include "cli/json_text.h"

namespace uzram {
namespace {

using Json = nlohmann::ordered_json;

tl::unexpected<Error> wrong(const std::string& field, const std::string& why) {
  return fail(EINVAL, field + ": " + why);
}

// Bytes, as a number or as text.
template <class Parse>
Result<void> read_bytes(const std::string& field, const Json& value, Parse parse, std::uint64_t& into) {
  std::string text;
  if (value.is_number_integer())
    text = value.dump();
  else if (value.is_string())
    text = value.get<std::string>();
  else
    return wrong(field, "is neither a number of bytes nor a text such as \"1G\"");
  const auto bytes = parse(text);
  if (!bytes) return wrong(field, bytes.error().message);
  into = *bytes;
  return {};
}

Result<void> read_chain(const Json& value, DeviceOptions& options) {
  if (!value.is_number_unsigned() || value < kDocumentedChain || value > kMaxChain) {
    return wrong("chain", "is not a number from 4 to 16");
  }
  options.geometry = geometry_for_chain(value.get<unsigned>());
  return {};
}

Result<void> read_algorithm(const std::string& text, DeviceOptions& options) {
  const auto codec = CodecSpec::parse(text);
  if (!codec) return wrong("algorithm", codec.error());
  options.codec = *codec;
  return {};
}

Result<void> read_field(const std::string& field, const Json& value, DeviceOptions& options) {
  if (field == "size") return read_bytes(field, value, parse_device_size, options.size);
  if (field == "mem_limit") return read_bytes(field, value, parse_size, options.mem_limit);
  if (field == "chain") return read_chain(value, options);
  if (field == "check") {
    if (!value.is_boolean()) return wrong(field, "is neither true nor false");
    options.check = value.get<bool>();
    return {};
  }
  if (field != "name" && field != "algorithm") return wrong(field, "there is no such field");
  if (!value.is_string()) return wrong(field, "is not a text");
  if (field == "algorithm") return read_algorithm(value.get<std::string>(), options);
  options.name = value.get<std::string>();
  return {};
}

// The members of one object whose values are single; null stands for a value that is not. Not a tree: json_text.h says
// why.
class FlatObject : public nlohmann::json_sax<Json> {
 public:
  // Nothing where `text` is not one object.
  [[nodiscard]] static std::optional<std::vector<std::pair<std::string, Json>>> read(std::string_view text) {
    FlatObject object;
    if (!Json::sax_parse(text, &object)) return std::nullopt;
    return std::move(object.members_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(value); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return depth_ > 0 && open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (depth_ == 1) name_ = name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  bool add(Json value) {
    if (depth_ == 1) members_.emplace_back(name_, std::move(value));
    return depth_ > 0;
  }
  bool open() {
    if (depth_ == 1) members_.emplace_back(name_, nullptr);
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  std::vector<std::pair<std::string, Json>> members_;
  std::string name_;
  unsigned depth_ = 0;
};

}  // namespace

std::string to_json(const DeviceOptions& options) {
  JsonText out;
  out.open_object();
  out.text("name", options.name);
  out.number("size", options.size);
  out.text("algorithm", options.codec.to_string());
  out.number("mem_limit", options.mem_limit);
  out.number("chain", options.geometry.chain);
  out.truth("check", options.check);
  out.close_object();
  return out.take();
}

Result<DeviceOptions> device_options_from_json(std::string_view text) {
  const auto members = FlatObject::read(text);
  if (!members) return fail(EINVAL, "the description of a device is not a JSON object");
  for (const std::string_view needed : {"name", "size"}) {
    const auto is_needed = [&](const auto& member) { return member.first == needed; };
    if (std::none_of(members->begin(), members->end(), is_needed)) return wrong(std::string(needed), "is missing");
  }
  DeviceOptions options;
  for (const auto& [field, value] : *members) {
    if (const auto read = read_field(field, value, options); !read) return tl::unexpected(read.error());
  }
  return options;
}

}  // namespace uzram

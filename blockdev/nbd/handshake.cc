#include "blockdev/nbd/handshake.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "blockdev/nbd/option_reader.h"
#include "blockdev/nbd/option_writer.h"
#include "blockdev/nbd/wire.h"

namespace uzram::nbd {
namespace {

// One negotiation. `handle` and below answer one option each.
class Handshake {
 public:
  Handshake(Connection& connection, DeviceTable& devices, const HandshakeOptions& options)
      : connection_(connection),
        devices_(devices),
        options_(options),
        deadline_(std::chrono::steady_clock::now() + options.timeout),
        tls_missing_(options.tls_required && !connection.is_local()),
        peer_(connection.peer()) {}

  HandshakeResult run();

 private:
  bool greet();
  bool receive_option();
  void handle();
  void start_tls();
  void turn_on(std::initializer_list<bool*> features);
  void export_name();
  void list();
  void info_or_go();
  void list_or_set_meta_context();
  void choose(OpenDevice device, std::string_view name);
  std::optional<OpenDevice> open(std::string_view name);

  [[nodiscard]] const ExportRules& rules_of(std::string_view name) const;
  [[nodiscard]] std::uint16_t transmission_flags(const Device& device) const;

  // Replies are gathered and sent when the option has been answered.
  void ack() { out_.ack(option_); }
  void refuse(OptionReply error, std::string_view why) { out_.refuse(option_, error, why); }
  bool flush();

  bool receive(std::span<std::byte> out, bool begun);
  bool give_up(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
    return false;
  }

  Connection& connection_;
  DeviceTable& devices_;
  const HandshakeOptions& options_;
  const Deadline deadline_;
  bool tls_missing_;
  Peer peer_;

  bool no_zeroes_ = false;
  bool structured_ = false;
  bool extended_ = false;
  Contexts contexts_;           // that were chosen
  std::string context_export_;  // for this export

  Option option_{};
  std::vector<std::byte> data_;  // of the option; at most kMaxOptionBytes
  OptionWriter out_;
  bool closing_ = false;
  std::string failure_;
  std::optional<Agreement> agreement_;
};

// `begun`: bytes of the same message have come before.
bool Handshake::receive(std::span<std::byte> out, bool begun) {
  switch (connection_.receive_all(out, deadline_, begun)) {
    case Connection::Received::all:
      return true;
    case Connection::Received::late:
      return give_up("the handshake took too long");
    case Connection::Received::closed:
    case Connection::Received::stopping:
      break;
  }
  return false;
}

HandshakeResult Handshake::run() {
  unsigned count = 0;
  if (greet()) {
    while (!agreement_ && !closing_ && receive_option()) {
      if (++count > kMaxOptions) {
        give_up("too many options");
        break;
      }
      handle();
      if (!agreement_ && !flush()) break;
    }
  }
  return {std::move(agreement_), std::move(out_.bytes()), std::move(failure_)};
}

bool Handshake::greet() {
  out_.put(kInitMagic);
  out_.put(kOptionMagic);
  out_.put<std::uint16_t>(kFlagFixedNewstyle | kFlagNoZeroes);
  std::array<std::byte, 4> bytes;
  if (!flush() || !receive(bytes, false)) return false;
  // A client without the fixed flag is served like any other: the replies it gets are those it asked for.
  const auto flags = load_be<std::uint32_t>(bytes.data());
  if ((flags & ~std::uint32_t{kFlagFixedNewstyle | kFlagNoZeroes}) != 0) return give_up("unknown client flags");
  no_zeroes_ = (flags & kFlagNoZeroes) != 0;
  return true;
}

bool Handshake::receive_option() {
  std::array<std::byte, kOptionHeaderBytes> header;
  if (!receive(header, false)) return false;
  if (load_be<std::uint64_t>(header.data()) != kOptionMagic) return give_up("not an NBD option");
  option_ = Option{load_be<std::uint32_t>(header.data() + 8)};
  const auto length = load_be<std::uint32_t>(header.data() + 12);
  if (length > kMaxOptionBytes) return give_up("an option is too long");
  data_.resize(length);
  return length == 0 || receive(data_, true);
}

void Handshake::handle() {
  if (connection_.stopping()) {
    refuse(OptionReply::err_shutdown, "the server is shutting down");
    closing_ = true;
    return;
  }
  if (tls_missing_ && option_ != Option::starttls && option_ != Option::abort) {
    closing_ = option_ == Option::export_name;
    return closing_ ? void(give_up("TLS is required")) : refuse(OptionReply::err_tls_reqd, "TLS comes first");
  }
  switch (option_) {
    case Option::export_name:
      return export_name();
    case Option::abort:
      ack();
      closing_ = true;
      return;
    case Option::list:
      return list();
    case Option::info:
    case Option::go:
      return info_or_go();
    case Option::structured_reply:
      if (extended_) return refuse(OptionReply::err_ext_header_reqd, "extended headers include structured replies");
      return turn_on({&structured_});
    case Option::extended_headers:
      return turn_on({&structured_, &extended_});
    case Option::list_meta_context:
    case Option::set_meta_context:
      return list_or_set_meta_context();
    case Option::starttls:
      if (options_.tls == nullptr) break;
      return start_tls();
  }
  refuse(OptionReply::err_unsup, "this option is not supported");
}

// For an option that carries no data.
void Handshake::turn_on(std::initializer_list<bool*> features) {
  if (!data_.empty()) return refuse(OptionReply::err_invalid, "this option carries no data");
  for (bool* const feature : features) *feature = true;
  ack();
}

// What was negotiated before could have come from anybody: nothing of it is kept.
void Handshake::start_tls() {
  if (connection_.is_encrypted()) return refuse(OptionReply::err_invalid, "TLS has begun already");
  if (!data_.empty()) return refuse(OptionReply::err_invalid, "STARTTLS carries no data");
  ack();
  structured_ = false;
  extended_ = false;
  contexts_ = {};
  closing_ = true;
  if (!flush()) return;
  std::string why = connection_.start_tls(*options_.tls, deadline_);
  if (!why.empty()) return void(give_up(std::move(why)));
  closing_ = false;
  tls_missing_ = false;
  peer_ = connection_.peer();
}

const ExportRules& Handshake::rules_of(std::string_view name) const {
  static const ExportRules none;
  return options_.access == nullptr ? none : options_.access->of(name);
}

// Nothing where there is no such export, or it is not for this client: which is replied.
std::optional<OpenDevice> Handshake::open(std::string_view name) {
  auto device = devices_.open(name);
  if (!device) {
    refuse(OptionReply::err_unknown, "there is no such export");
  } else if (!rules_of((*device)->options().name).admits(peer_)) {
    refuse(OptionReply::err_policy, "this export is not for you");
  } else {
    return std::move(*device);
  }
  return std::nullopt;
}

// There is no way to report an error: a name that is not served closes the connection.
void Handshake::export_name() {
  const std::string_view name(reinterpret_cast<const char*>(data_.data()), data_.size());
  closing_ = true;
  if (!is_protocol_string(name)) return void(give_up("the export name is no name"));
  auto device = open(name);
  if (!device) {
    out_.bytes().clear();
    return void(give_up("the export is unknown, or not for this client"));
  }
  out_.put<std::uint64_t>((*device)->size());
  out_.put(transmission_flags(**device));
  if (!no_zeroes_) out_.put_zeroes(kExportNamePadding);
  choose(std::move(*device), name);
}

void Handshake::list() {
  if (!data_.empty()) return refuse(OptionReply::err_invalid, "LIST carries no data");
  for (const std::string& name : devices_.names()) {
    if (!rules_of(name).admits(peer_)) continue;
    out_.reply(option_, OptionReply::server, 4 + name.size());
    out_.put(static_cast<std::uint32_t>(name.size()));
    out_.put_text(name);
  }
  ack();
}

void Handshake::info_or_go() {
  OptionReader data(data_);
  const auto name = data.take_string();
  const auto count = data.take<std::uint16_t>();
  if (!name || !count || data.size() != std::size_t{*count} * 2) {
    return refuse(OptionReply::err_invalid, "the lengths, or the export name, are not valid");
  }
  auto device = open(*name);
  if (!device) return;
  bool wants_name = false;
  bool wants_block_size = false;
  while (const auto wanted = data.take<std::uint16_t>()) {
    wants_name |= Info{*wanted} == Info::name;
    wants_block_size |= Info{*wanted} == Info::block_size;
  }
  out_.export_info(option_, (*device)->size(), transmission_flags(**device));
  if (wants_name) out_.name_info(option_, (*device)->options().name);
  if (wants_block_size) out_.block_size_info(option_);
  ack();
  if (option_ == Option::go) choose(std::move(*device), *name);
}

void Handshake::choose(OpenDevice device, std::string_view name) {
  const bool read_only = rules_of(device->options().name).read_only;
  agreement_.emplace(Agreement{.device = std::move(device),
                               .read_only = read_only,
                               .structured = structured_,
                               .extended = extended_,
                               .contexts = context_export_ == name ? contexts_ : Contexts{}});
}

void Handshake::list_or_set_meta_context() {
  const bool set = option_ == Option::set_meta_context;
  // Even a SET that fails ends what an earlier one has chosen.
  if (set) contexts_ = {};
  if (set && !structured_) return refuse(OptionReply::err_invalid, "structured replies come first");
  OptionReader data(data_);
  const auto name = data.take_string();
  const auto queries = data.take<std::uint32_t>();
  if (!name || !queries) return refuse(OptionReply::err_invalid, "the export name or its length is not valid");
  const auto device = open(*name);
  if (!device) return;
  auto wanted = read_queries(data, *queries, set);
  if (!wanted) return refuse(OptionReply::err_invalid, "a query or its length is not valid");
  // A page that is not a hole promises that it can be written; a store with a limit cannot promise that.
  if ((*device)->can_run_full()) wanted->allocation = false;
  for (const ContextName& context : kContextNames) {
    if ((*wanted).*context.which) out_.context(option_, set ? context.id : 0, context.name);
  }
  if (set) {
    contexts_ = *wanted;
    context_export_ = *name;
  }
  ack();
}

std::uint16_t Handshake::transmission_flags(const Device& device) const {
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  flags |= rules_of(device.options().name).read_only ? kReadOnly : kSendTrim | kSendWriteZeroes | kSendFastZero;
  if (options_.multi_conn) flags |= kCanMultiConn;
  if (structured_) flags |= kSendDf;
  return static_cast<std::uint16_t>(flags);
}

bool Handshake::flush() {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
  connection_.limit_sends(left);
  const bool sent = out_.bytes().empty() || connection_.send_all(out_.bytes());
  out_.bytes().clear();
  return sent;
}

}  // namespace

HandshakeResult negotiate(Connection& connection, DeviceTable& devices, const HandshakeOptions& options) {
  return Handshake(connection, devices, options).run();
}

}  // namespace uzram::nbd

// Who may open which export.

#include "blockdev/nbd/access.h"

#include <pwd.h>

#include <fstream>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 16 << 20;
constexpr const char* kKey = "0123456789abcdef0123456789abcdef";

std::vector<Identity> identities(std::string_view text) {
  auto parsed = parse_identities(text);
  if (parsed) return *parsed;
  ADD_FAILURE() << parsed.error().message;
  return {};
}

TEST(Identity, NamesAUserAKeyOrACertificate) {
  const auto all = identities("user:0, psk:alice,cert:build 7");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_TRUE(all[0].is({.uid = 0}));
  EXPECT_FALSE(all[0].is({.uid = 1}));
  EXPECT_FALSE(all[0].is({.psk_name = "0"}));
  EXPECT_TRUE(all[1].is({.psk_name = "alice"}));
  EXPECT_FALSE(all[1].is({.certificate_name = "alice"}));
  EXPECT_TRUE(all[2].is({.certificate_name = "build 7"}));
  EXPECT_FALSE(all[2].is({}));
  EXPECT_EQ(identities("user:root").at(0).uid, 0u);
}

TEST(Identity, RefusesWhatItCannotMeet) {
  for (const std::string text : {"", "alice", "psk:", "psk", "dn:x", "psk:a,", "user:no-such-user"}) {
    EXPECT_FALSE(parse_identities(text)) << text;
  }
}

TEST(ExportRules, EmptyNamesOfAPeerMatchNobody) {
  const ExportRules rules{.allow = {{.kind = Identity::Kind::psk, .name = "a"}}};
  EXPECT_FALSE(rules.admits({}));
  EXPECT_TRUE(ExportRules{}.admits({}));
}

class Access : public testing::Test {
 protected:
  static ServerOptions with(AccessRules access) { return {.access = std::move(access)}; }
  static std::string me() { return "user:" + std::to_string(::geteuid()); }
  static std::string another() { return "user:" + std::to_string(::geteuid() + 1); }
};

TEST_F(Access, ForbiddenExportIsErrPolicyAndNotListed) {
  AccessRules access;
  access.exports["closed"] = {.allow = identities(another())};
  access.exports["mine"] = {.allow = identities(me())};
  TestServer server(kSize, with(access));
  server.add("closed", kSize);
  server.add("mine", kSize);
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::info, go_data("closed")), OptionReply::err_policy);
  EXPECT_EQ(client.verdict(Option::go, go_data("closed")), OptionReply::err_policy);
  EXPECT_EQ(client.verdict(Option::set_meta_context, context_data("closed", {})), OptionReply::err_policy);
  EXPECT_EQ(client.verdict(Option::go, go_data("none")), OptionReply::err_unknown);
  const auto names = client.ask(Option::list);
  ASSERT_EQ(names.size(), 3u);
  EXPECT_EQ(names[1].data, Bytes().put_string("mine"));
  EXPECT_EQ(client.verdict(Option::go, go_data("mine")), OptionReply::ack);

  TestClient old = server.connect();
  old.greet();
  old.send_option(Option::export_name, "closed");
  EXPECT_TRUE(old.closed());
  EXPECT_EQ(server.devices().openers("closed"), 0);
}

TEST_F(Access, DefaultExportIsForbiddenUnderItsEmptyNameToo) {
  AccessRules access;
  access.exports["zram0"] = {.allow = identities(another())};
  TestServer server(kSize, with(access));
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::err_policy);
}

TEST_F(Access, ReadOnlyExportStandsBesideAWritableOne) {
  AccessRules access;
  access.exports["zram0"] = {.read_only = true};
  TestServer server(kSize, with(access));
  server.add("other", kSize);
  EXPECT_EQ(server.enter("zram0").write(0, "x"), 1u);
  EXPECT_EQ(server.enter("").write(0, "x"), 1u);
  EXPECT_EQ(server.enter("other").write(0, "x"), 0u);
}

TEST_F(Access, KeyOpensWhatItsNameMay) {
  AccessRules access;
  access.others = {.allow = identities("psk:alice")};
  access.exports["bobs"] = {.allow = identities("psk:bob")};
  ServerOptions options = with(access);
  const std::string keys = std::filesystem::temp_directory_path() / ("uzram-keys." + std::to_string(::getpid()));
  std::ofstream(keys) << "alice:" << kKey << "\n";
  options.tls.psk_file = keys;
  TestServer server(kSize, options);
  server.add("bobs", kSize);
  TestClient client = server.connect();
  std::filesystem::remove(keys);
  client.greet();
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::err_policy);
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  EXPECT_TRUE(client.start_tls("alice", kKey));
  EXPECT_EQ(client.verdict(Option::go, go_data("bobs")), OptionReply::err_policy);
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::ack);
}

}  // namespace
}  // namespace uzram::nbd

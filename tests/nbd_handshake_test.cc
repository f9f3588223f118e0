// The handshake, item by item of docs/nbd.md, with raw sockets.

#include <thread>

#include "blockdev/nbd/handshake.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 64 << 20;
constexpr std::size_t kMiB = 1 << 20;

class Handshake : public testing::Test {
 protected:
  // A client that has sent its flags.
  TestClient greeted() {
    TestClient client = server_.connect();
    client.greet();
    return client;
  }
  TestServer server_{kSize};
};

TEST_F(Handshake, GreetingIsTwoMagicsAndTwoFlags) {
  TestClient client = server_.connect();
  EXPECT_EQ(client.receive(18), Bytes("NBDMAGICIHAVEOPT").put<std::uint16_t>(3));
}

TEST_F(Handshake, UnknownClientFlagsCloseTheConnection) {
  for (const std::uint32_t flags : {4u, 7u, 0x80000000u, 0x10003u}) {
    TestClient client = server_.connect();
    client.greet(flags);
    EXPECT_TRUE(client.closed()) << flags;
  }
}

TEST_F(Handshake, EveryMixOfTheKnownClientFlagsIsServed) {
  for (const std::uint32_t flags : {0u, 1u, 2u, 3u}) {
    TestClient client = server_.connect();
    client.greet(flags);
    EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
    EXPECT_TRUE(client.serves()) << flags;
  }
}

TEST_F(Handshake, UnknownOptionIsRefusedAndItsDataSkipped) {
  TestClient client = greeted();
  for (const std::uint32_t option : {0u, 4u, 12u, 0xffffffffu}) {
    EXPECT_EQ(client.verdict(Option{option}, std::string(50000, 'x')), OptionReply::err_unsup);
  }
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::ack);
}

TEST_F(Handshake, AbortIsAcknowledgedWhateverItCarries) {
  TestClient client = greeted();
  EXPECT_EQ(client.verdict(Option::abort, "some data"), OptionReply::ack);
  EXPECT_TRUE(client.closed());
}

TEST_F(Handshake, ClientThatAbortsAndLeavesDisturbsNobody) {
  for (int i = 0; i < 50; ++i) {
    TestClient client = greeted();
    client.send_option(Option::abort);
  }
  EXPECT_TRUE(server_.enter().serves());
}

TEST_F(Handshake, ListNamesEveryExport) {
  server_.add("zram1", kSize);
  TestClient client = greeted();
  const auto answers = client.ask(Option::list);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].type, OptionReply::server);
  EXPECT_EQ(answers[0].data, Bytes().put_string("zram0"));
  EXPECT_EQ(answers[1].data, Bytes().put_string("zram1"));
  EXPECT_EQ(answers[2].type, OptionReply::ack);
}

TEST_F(Handshake, ListWithDataIsInvalid) {
  TestClient client = greeted();
  EXPECT_EQ(client.verdict(Option::list, "x"), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::list), OptionReply::ack);
}

TEST_F(Handshake, ExportNameIsPaddedUnlessNoZeroes) {
  for (const std::uint32_t flags : {1u, 3u}) {
    TestClient client = server_.connect();
    client.greet(flags);
    client.send_option(Option::export_name, "zram0");
    const Bytes answer = client.receive(flags == 1 ? 134 : 10);
    EXPECT_EQ(answer.get<std::uint64_t>(0), kSize);
    EXPECT_EQ(answer.get<std::uint16_t>(8) & kHasFlags, kHasFlags);
    EXPECT_EQ(answer.find_first_not_of('\0', 10), std::string::npos);
    EXPECT_TRUE(client.serves());
  }
}

TEST_F(Handshake, UnknownExportNameCloses) {
  for (const std::string& name : {std::string("zram7"), std::string(5000, 'x'), std::string("\xff")}) {
    TestClient client = greeted();
    client.send_option(Option::export_name, name);
    EXPECT_TRUE(client.closed());
  }
}

TEST_F(Handshake, EmptyNameIsTheFirstExport) {
  server_.add("zram1", 2 * kSize);
  TestClient client = greeted();
  client.send_option(Option::export_name, "");
  EXPECT_EQ(client.receive(10).get<std::uint64_t>(0), kSize);
}

TEST_F(Handshake, GoTellsSizeAndFlagsUnasked) {
  TestClient client = greeted();
  const auto answers = client.ask(Option::go, go_data("zram0"));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].type, OptionReply::info);
  EXPECT_EQ(answers[0].data.size(), 12u);
  EXPECT_EQ(answers[0].data.get<std::uint16_t>(0), 0u);
  EXPECT_EQ(answers[0].data.get<std::uint64_t>(2), kSize);
}

TEST_F(Handshake, NothingFollowsTheAckOfGo) {
  TestClient client = server_.connect();
  client.greet(kFlagFixedNewstyle);
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::ack);
  EXPECT_TRUE(client.serves());
}

TEST_F(Handshake, InfoWithLengthsThatDoNotFitIsInvalid) {
  const std::vector<Bytes> wrong = {
      Bytes(),
      Bytes("abc"),
      Bytes().put<std::uint32_t>(0),
      Bytes().put<std::uint32_t>(0xffffffff).put<std::uint16_t>(0),
      Bytes().put<std::uint32_t>(6).put_text("zram0").put<std::uint16_t>(0),
      Bytes().put_string("zram0").put<std::uint16_t>(1),
      Bytes().put_string("zram0").put<std::uint16_t>(0xffff).put<std::uint16_t>(3),
      Bytes().put_string("zram0").put<std::uint16_t>(0).put_text("x"),
  };
  TestClient client = greeted();
  for (const Option option : {Option::info, Option::go}) {
    for (const Bytes& data : wrong) EXPECT_EQ(client.verdict(option, data), OptionReply::err_invalid);
  }
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::ack);
}

TEST_F(Handshake, UnknownNameIsErrUnknownAlone) {
  TestClient client = greeted();
  for (const std::string& name : {std::string("zram7"), std::string(4096, 'x'), std::string("\xc3\xa9")}) {
    const auto answers = client.ask(Option::go, go_data(name, {3}));
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].type, OptionReply::err_unknown);
    EXPECT_LE(answers[0].data.size(), 4096u);
  }
}

TEST_F(Handshake, UnknownInfoTypesAreIgnored) {
  TestClient client = greeted();
  const auto answers = client.ask(Option::go, go_data("zram0", {77, 0xffff, 3, 3}));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[1].data.get<std::uint16_t>(0), 3u);
}

TEST_F(Handshake, InfoAndGoSayTheSame) {
  TestClient client = greeted();
  const auto info = client.ask(Option::info, go_data("", {1, 3}));
  const auto go = client.ask(Option::go, go_data("", {1, 3}));
  ASSERT_EQ(info.size(), go.size());
  ASSERT_EQ(info.size(), 4u);
  for (std::size_t i = 0; i < info.size(); ++i) EXPECT_EQ(info[i].data, go[i].data);
  EXPECT_EQ(info[1].data, Bytes().put<std::uint16_t>(1).put_text("zram0"));
}

TEST_F(Handshake, NameThatIsNoTextIsInvalid) {
  using namespace std::string_literals;
  TestClient client = greeted();
  for (const std::string& name :
       {"zram0\0"s, "\0"s, "\xff"s, "a\x80"s, "\xc3"s, "\xc0\xaf"s, "\xe0\x80\x80"s, "\xed\xa0\x80"s,
        "\xf0\x8f\xbf\xbf"s, "\xf4\x90\x80\x80"s, "\xe2\x82"s, std::string(4097, 'x'), std::string(5000, 'x')}) {
    EXPECT_EQ(client.verdict(Option::go, go_data(name)), OptionReply::err_invalid);
    EXPECT_EQ(client.verdict(Option::info, go_data(name)), OptionReply::err_invalid);
    EXPECT_EQ(client.verdict(Option::list_meta_context, context_data(name, {})), OptionReply::err_invalid);
  }
}

TEST_F(Handshake, BlockSizesAreToldWhenAsked) {
  TestClient client = greeted();
  const auto answers = client.ask(Option::info, go_data("zram0", {3}));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[1].data,
            Bytes().put<std::uint16_t>(3).put<std::uint32_t>(1).put<std::uint32_t>(4096).put<std::uint32_t>(64 * kMiB));
}

TEST_F(Handshake, ClientThatAskedForNoBlockSizesMayUseThem) {
  TestClient client = server_.enter();
  const std::string large(32 * kMiB, 'q');
  EXPECT_EQ(client.write(1, large), 0u);
  EXPECT_EQ(client.read(0, 2), Bytes("\0q", 2));
  EXPECT_EQ(client.read(1, 32 * kMiB), large);
}

TEST_F(Handshake, StructuredReplyTakesNoData) {
  TestClient client = greeted();
  EXPECT_EQ(client.verdict(Option::structured_reply, "x"), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
}

TEST_F(Handshake, StartTlsIsUnsupportedAndNeverRequired) {
  TestClient client = greeted();
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::err_unsup);
  EXPECT_EQ(client.verdict(Option::list), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::go, go_data("zram0")), OptionReply::ack);
}

TEST_F(Handshake, ExtendedHeadersIncludeStructuredReplies) {
  TestClient client = greeted();
  EXPECT_EQ(client.verdict(Option::extended_headers, "x"), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::extended_headers), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::extended_headers), OptionReply::ack);
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::err_ext_header_reqd);
  EXPECT_EQ(client.verdict(Option::set_meta_context, context_data("", {"base:allocation"})), OptionReply::ack);
}

TEST_F(Handshake, OptionThatEndsDuringAStopIsErrShutdown) {
  TestClient client = greeted();
  const Bytes option = Bytes().put(kOptionMagic).put(Option::list).put<std::uint32_t>(0);
  client.send(option.substr(0, 9));
  client.wait_until_taken();
  std::thread stop = server_.stop_beside();
  client.send(option.substr(9));
  EXPECT_EQ(client.receive_option().type, OptionReply::err_shutdown);
  EXPECT_TRUE(client.closed());
  stop.join();
}

TEST_F(Handshake, FlagsTellWhatIsServed) {
  constexpr unsigned kAlways = kHasFlags | kSendFlush | kSendFua | kSendCache | kCanMultiConn;
  constexpr unsigned kChanges = kSendTrim | kSendWriteZeroes | kSendFastZero;
  TestClient client = greeted();
  EXPECT_EQ(client.ask(Option::info, go_data(""))[0].data.get<std::uint16_t>(10), kAlways | kChanges);
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(client.ask(Option::info, go_data(""))[0].data.get<std::uint16_t>(10), kAlways | kChanges | kSendDf);

  TestServer read_only(kSize, {.access = {.others = {.read_only = true}}, .max_connections = 1});
  TestClient alone = read_only.connect();
  alone.greet();
  EXPECT_EQ(alone.ask(Option::info, go_data(""))[0].data.get<std::uint16_t>(10),
            (kAlways | kReadOnly) & ~unsigned{kCanMultiConn});
}

}  // namespace
}  // namespace uzram::nbd

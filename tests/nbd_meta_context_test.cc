// LIST_META_CONTEXT and SET_META_CONTEXT, with raw sockets.

#include "blockdev/backing_file.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 64 << 20;

class MetaContext : public testing::Test {
 protected:
  // A client that has structured replies.
  TestClient structured() {
    TestClient client = server_.connect();
    client.greet();
    EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
    return client;
  }
  // Whether BLOCK_STATUS is answered after GO with `name`.
  static bool chosen(TestClient& client, std::string_view name) {
    EXPECT_EQ(client.verdict(Option::go, go_data(name)), OptionReply::ack);
    client.send_request(Command::block_status, 0, 1, 0, 4096);
    return client.receive_chunk().type == Chunk::block_status;
  }
  static std::size_t contexts(const std::vector<OptionAnswer>& answers) {
    EXPECT_EQ(answers.back().type, OptionReply::ack);
    return answers.size() - 1;
  }
  TestServer server_{kSize};
};

TEST_F(MetaContext, SetNeedsStructuredReplies) {
  TestClient client = server_.connect();
  client.greet();
  EXPECT_EQ(client.verdict(Option::set_meta_context, context_data("", {"base:allocation"})), OptionReply::err_invalid);
}

TEST_F(MetaContext, SetChoosesTheContextByName) {
  TestClient client = structured();
  const auto answers = client.ask(Option::set_meta_context, context_data("", {"base:allocation"}));
  ASSERT_EQ(contexts(answers), 1u);
  EXPECT_EQ(answers[0].data, Bytes().put<std::uint32_t>(1).put_text("base:allocation"));
  EXPECT_TRUE(chosen(client, ""));
}

TEST_F(MetaContext, NoQueriesListAllAndSetNone) {
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::list_meta_context, context_data("", {}))), 2u);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {}))), 0u);
  EXPECT_FALSE(chosen(client, ""));
}

TEST_F(MetaContext, NamespaceAloneIsAWildcardForListOnly) {
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::list_meta_context, context_data("", {"base:"}))), 1u);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"base:"}))), 0u);
  const auto own = client.ask(Option::list_meta_context, context_data("", {"uzram:"}));
  ASSERT_EQ(contexts(own), 1u);
  EXPECT_EQ(own[0].data, Bytes().put<std::uint32_t>(0).put_text("uzram:page"));
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"uzram:"}))), 0u);
}

TEST_F(MetaContext, BothAreAnsweredEachInItsChunk) {
  TestClient client = structured();
  const auto answers = client.ask(Option::set_meta_context, context_data("", {"uzram:page", "base:allocation"}));
  ASSERT_EQ(contexts(answers), 2u);
  EXPECT_EQ(answers[0].data, Bytes().put<std::uint32_t>(1).put_text("base:allocation"));
  EXPECT_EQ(answers[1].data, Bytes().put<std::uint32_t>(2).put_text("uzram:page"));
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  client.send_request(Command::block_status, 0, 7, 0, 1 << 20);
  const ChunkAnswer allocation = client.receive_chunk();
  const ChunkAnswer pages = client.receive_chunk();
  EXPECT_EQ(allocation.flags, 0u);
  EXPECT_EQ(allocation.data.get<std::uint32_t>(0), 1u);
  EXPECT_EQ(pages.flags, kChunkDone);
  EXPECT_EQ(pages.data.get<std::uint32_t>(0), 2u);
  EXPECT_EQ(pages.data.get<std::uint32_t>(8), kPageHole);
}

TEST_F(MetaContext, PagesTellHowEachIsStored) {
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"uzram:page"}))), 1u);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  std::string noise(4096, '\0');
  std::uint64_t state = 88172645463325252;
  for (char& c : noise) c = static_cast<char>((state ^= state << 13, state ^= state >> 7, state ^= state << 17) >> 32);
  std::string text;
  while (text.size() < 4096) text += "page " + std::to_string(text.size()) + "\n";
  text.resize(4096);
  std::string word;
  while (word.size() < 4096) word += "\xf1\x52\x33\x74\x95\x16\x07\x88";  // too wide for a slot: an object of 8 bytes
  // Three pages of one word, one of text, one of noise, and a hole.
  EXPECT_EQ(client.write(4096, std::string(4096, '\0') + std::string(4096, 'x') + word + text + noise), 0u);
  client.send_request(Command::block_status, 0, 7, 0, 8 * 4096);
  const ChunkAnswer answer = client.receive_chunk();
  Bytes expected;
  expected.put<std::uint32_t>(2);
  for (const auto& [pages, flags] :
       {std::pair{1u, kPageHole}, {3u, kPageSameFilled}, {1u, kPageCompressed}, {1u, kPageHuge}, {2u, kPageHole}}) {
    expected.put<std::uint32_t>(pages * 4096).put<std::uint32_t>(flags);
  }
  EXPECT_EQ(answer.data, expected);
}

TEST_F(MetaContext, WrittenBackPagesAreTold) {
  const std::string path = "/var/tmp/uzram-meta-context." + std::to_string(::getpid());
  const auto file = BackingFile::open(path, 1 << 20);
  ASSERT_TRUE(file) << file.error().message;
  ::unlink(path.c_str());
  TestServer server(kSize, {}, file->get());
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.verdict(Option::structured_reply), OptionReply::ack);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"base:allocation", "uzram:page"}))), 2u);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  std::string text;
  while (text.size() < 4096) text += "page " + std::to_string(text.size()) + "\n";
  text.resize(4096);
  EXPECT_EQ(client.write(4096, text + text), 0u);
  const WritebackRequest second{.huge = false, .idle = false, .pages = {{PageIndex{2}, PageIndex{2}}}};
  ASSERT_TRUE((*server.devices().find("zram0"))->write_back(second));
  client.send_request(Command::block_status, 0, 7, 0, 4 * 4096);
  Bytes allocation;
  allocation.put<std::uint32_t>(1).put<std::uint32_t>(4096).put<std::uint32_t>(kStateHole | kStateZero);
  allocation.put<std::uint32_t>(2 * 4096).put<std::uint32_t>(0);
  allocation.put<std::uint32_t>(4096).put<std::uint32_t>(kStateHole | kStateZero);
  EXPECT_EQ(client.receive_chunk().data, allocation);
  Bytes pages;
  pages.put<std::uint32_t>(2);
  for (const std::uint32_t flags : {kPageHole, kPageCompressed, kPageWrittenBack, kPageHole}) {
    pages.put<std::uint32_t>(4096).put<std::uint32_t>(flags);
  }
  EXPECT_EQ(client.receive_chunk().data, pages);
}

TEST_F(MetaContext, PagesAreToldWhereAllocationIsWithheld) {
  server_.add("limited", kSize, 1 << 20);
  TestClient client = structured();
  const Bytes both = context_data("limited", {"base:allocation", "uzram:page"});
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, both)), 1u);
  EXPECT_TRUE(chosen(client, "limited"));
}

TEST_F(MetaContext, UnknownNamespacesAndContextsAreIgnored) {
  TestClient client = structured();
  const Bytes data = context_data("", {"qemu:dirty-bitmap:x", "", "base:other", "x", "base:allocation"});
  EXPECT_EQ(contexts(client.ask(Option::list_meta_context, data)), 1u);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, data)), 1u);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"x:allocation"}))), 0u);
}

TEST_F(MetaContext, TheSameQueryTwiceIsOneContext) {
  TestClient client = structured();
  const Bytes data = context_data("", {"base:allocation", "base:allocation"});
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, data)), 1u);
}

TEST_F(MetaContext, QueriesThatDoNotFitAreInvalid) {
  const Bytes whole = context_data("zram0", {"base:allocation", "base:allocation"});
  TestClient client = structured();
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    TestClient fresh = structured();
    for (const Option option : {Option::list_meta_context, Option::set_meta_context}) {
      ASSERT_EQ(fresh.verdict(option, whole.substr(0, cut)), OptionReply::err_invalid) << cut;
    }
  }
  EXPECT_EQ(client.verdict(Option::set_meta_context, Bytes(whole).put_text("x")), OptionReply::err_invalid);
  const Bytes many = Bytes().put_string("zram0").put<std::uint32_t>(0xffffffff);
  EXPECT_EQ(client.verdict(Option::set_meta_context, many), OptionReply::err_invalid);
}

TEST_F(MetaContext, SetReplacesAnEarlierSetEvenWhenItFails) {
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("", {"base:allocation"}))), 1u);
  EXPECT_EQ(client.verdict(Option::set_meta_context, "x"), OptionReply::err_invalid);
  EXPECT_FALSE(chosen(client, ""));
}

TEST_F(MetaContext, UnknownExportIsErrUnknown) {
  TestClient client = structured();
  EXPECT_EQ(client.verdict(Option::set_meta_context, context_data("zram7", {})), OptionReply::err_unknown);
  EXPECT_EQ(client.verdict(Option::list_meta_context, context_data("zram7", {})), OptionReply::err_unknown);
}

TEST_F(MetaContext, IsLostWhenGoNamesAnotherExport) {
  server_.add("zram1", kSize);
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("zram0", {"base:allocation"}))), 1u);
  EXPECT_FALSE(chosen(client, "zram1"));
}

TEST_F(MetaContext, AllocationIsWithheldWhereAWriteMayBeRefused) {
  server_.add("limited", kSize, 1 << 20);
  TestClient client = structured();
  EXPECT_EQ(contexts(client.ask(Option::list_meta_context, context_data("limited", {"base:"}))), 0u);
  EXPECT_EQ(contexts(client.ask(Option::set_meta_context, context_data("limited", {"base:allocation"}))), 0u);
  EXPECT_FALSE(chosen(client, "limited"));
}

}  // namespace
}  // namespace uzram::nbd

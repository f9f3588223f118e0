// Random sessions against a plain array: pipelined requests of any kind, offset and length, valid or not, cut into
// random segments on their way.

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <thread>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 3 << 20;

// One client whose requests are made, sent and checked in batches. The server executes them in order, as far as they
// touch the same bytes, and answers in any.
class ModelSession {
 public:
  ModelSession(TestServer& server, std::string_view name, unsigned seed) : random_(seed), client_(server.enter(name)) {}

  void run_batch() {
    Bytes batch;
    expected_.clear();
    for (auto n = below(40) + 1; n > 0; --n) add_request(batch);
    const std::jthread sender([&] { send_in_segments(batch); });
    while (!expected_.empty()) {
      const SimpleAnswer answer = client_.receive_simple();
      const auto e = expected_.find(answer.cookie);
      ASSERT_NE(e, expected_.end());
      const auto& [error, data, what] = e->second;
      ASSERT_EQ(answer, (SimpleAnswer{kSimpleReplyMagic, error, answer.cookie})) << what;
      ASSERT_TRUE(client_.receive(data.size()) == data) << what;
      expected_.erase(e);
    }
  }

 private:
  struct Expected {
    std::uint32_t error;
    std::string data;
    std::string what;
  };

  std::uint64_t below(std::uint64_t n) { return random_() % n; }

  // Small ones, whole pages, and now and then one larger than the session's buffers.
  std::uint32_t length() {
    switch (below(8)) {
      case 0:
        return static_cast<std::uint32_t>(below(1 << 21) + 1);
      case 1:
      case 2:
        return static_cast<std::uint32_t>((below(16) + 1) * 4096);
      default:
        return static_cast<std::uint32_t>(below(20'000));
    }
  }

  std::string payload(std::uint32_t length) {
    std::string text(length, static_cast<char>(below(3)));
    for (std::uint64_t i = below(3) == 0 ? 0 : text.size(); i < text.size(); ++i)
      text[i] = static_cast<char>(random_());
    return text;
  }

  void add_request(Bytes& batch) {
    constexpr Command kCommands[] = {Command::read,  Command::write, Command::read,         Command::write,
                                     Command::flush, Command::trim,  Command::write_zeroes, Command::cache};
    const Command command = kCommands[below(8)];
    const bool ranged = command != Command::flush;
    const std::uint32_t n = ranged ? length() : 0;
    const std::uint64_t unit = below(2) == 0 ? 4096 : 1;
    const std::uint64_t offset = ranged ? below(kSize / unit + 1) * unit : 0;
    const std::string data = command == Command::write ? payload(n) : "";
    const std::uint64_t cookie = random_();
    batch.put_text(request_bytes(command, 0, cookie, offset, n, data));
    Expected e{0, "",
               std::to_string(static_cast<int>(command)) + " " + std::to_string(offset) + "+" + std::to_string(n)};
    if (ranged && (n == 0 || offset + n > kSize)) {
      const bool full = n != 0 && (command == Command::write || command == Command::write_zeroes);
      e.error = full ? ENOSPC : EINVAL;
    } else {
      apply(command, offset, n, data, e);
    }
    expected_.emplace(cookie, std::move(e));
  }

  void apply(Command command, std::uint64_t offset, std::uint32_t n, const std::string& data, Expected& e) {
    if (command == Command::read) e.data = model_.substr(offset, n);
    if (command == Command::write) model_.replace(offset, n, data);
    if (command == Command::write_zeroes) model_.replace(offset, n, std::string(n, '\0'));
    if (command == Command::trim) {
      const std::uint64_t from = (offset + 4095) / 4096 * 4096;
      const std::uint64_t to = (offset + n) / 4096 * 4096;
      if (to > from) model_.replace(from, to - from, std::string(to - from, '\0'));
    }
  }

  void send_in_segments(std::string_view bytes) {
    std::mt19937 cuts(static_cast<unsigned>(bytes.size()));
    const std::size_t longest = cuts() % 2 == 0 ? 50'000 : 1'000'000;
    while (!bytes.empty()) {
      const std::size_t n = std::min<std::size_t>(bytes.size(), cuts() % longest + 1);
      ASSERT_TRUE(client_.send(bytes.substr(0, n)));
      bytes.remove_prefix(n);
    }
  }

  std::mt19937_64 random_;
  TestClient client_;
  std::string model_ = std::string(kSize, '\0');
  std::map<std::uint64_t, Expected> expected_;  // by cookie
};

TEST(SessionModel, RandomSessionsAgreeWithAnArray) {
  for (unsigned seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    TestServer server(kSize);
    ModelSession session(server, "", seed);
    for (int i = 0; i < 15 && !testing::Test::HasFatalFailure(); ++i) session.run_batch();
    server.server().stop();
    (*server.devices().find("zram0"))->check_invariants();
  }
}

// Each connection has a device of its own, so that each model is exact; memory and server are shared.
TEST(SessionModel, ConnectionsSideBySideDoNotDisturbEachOther) {
  TestServer server(kSize);
  server.start();
  std::vector<std::thread> threads;
  for (unsigned seed = 100; seed < 104; ++seed) {
    const std::string name = "own" + std::to_string(seed);
    server.add(name, kSize);
    threads.emplace_back([&server, name, seed] {
      ModelSession session(server, name, seed);
      for (int i = 0; i < 10 && !testing::Test::HasFatalFailure(); ++i) session.run_batch();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace uzram::nbd

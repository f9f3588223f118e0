#include "cli/control.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <ctime>
#include <optional>
#include <string>
#include <thread>

#include "blockdev/attributes.h"
#include "cli/control_caller.h"
#include "cli/control_client.h"
#include "cli/device_json.h"
#include "cli/log.h"
#include "cli/metrics.h"
#include "cli/new_device.h"

namespace uzram {
namespace {

using namespace std::chrono_literals;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// A socket that has the path, and nobody listens yet.
int bound_socket(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const sockaddr_un address = address_of(path);
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    init_log();  // before there is a second thread, as the daemon does
    DeviceOptions options;
    options.size = 1 << 20;
    ASSERT_TRUE(devices_.create(options));
    nbd::ServerOptions serve;
    serve.unix_path = path_ + ".nbd";
    auto server = nbd::Server::listen(devices_, serve);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    auto control = ControlEndpoint::listen(devices_, *server_, path_, false);
    ASSERT_TRUE(control) << control.error().message;
    control_ = std::move(*control);
    server_->start();
    control_->start();
  }
  void TearDown() override {
    control_->stop();
    server_->stop();
  }

  // Sends the bytes as they are and returns all that comes back until the endpoint closes.
  std::string raw(const std::string& bytes) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const sockaddr_un address = address_of(path_);
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    std::string answer;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
      answer.append(buffer, static_cast<std::size_t>(n));
    }
    ::close(fd);
    return answer;
  }
  std::string request(const std::string& line, const std::string& body = "") {
    return raw(line + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  // The status and the error of an answer: "404 no device 'x'"; the body where it is no error.
  static std::string brief(const std::string& answer) {
    const std::string status = answer.size() > 12 ? answer.substr(9, 3) : "none";
    const auto at = answer.find("\r\n\r\n");
    const std::string body = at == std::string::npos ? "" : answer.substr(at + 4);
    const std::string error = error_from_json(body);
    return status + (error.empty() ? (body.empty() ? "" : " " + body) : " " + error);
  }

  const std::string path_ = testing::TempDir() + "control_test." + std::to_string(::getpid());
  const ControlClient client_{path_};
  PageArena arena_{PageArena::Options{}};
  DeviceTable devices_{arena_};
  std::unique_ptr<nbd::Server> server_;
  std::unique_ptr<ControlEndpoint> control_;
};

TEST_F(ControlTest, SocketIsForItsOwnerOnlyAndGoesWithTheEndpoint) {
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  control_->stop();
  EXPECT_NE(::stat(path_.c_str(), &info), 0);
}

TEST_F(ControlTest, SecondEndpointAtThePathIsRefused) {
  const auto second = ControlEndpoint::listen(devices_, *server_, path_, false);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(path_), std::string::npos);
  EXPECT_TRUE(client_.get("/v1/devices"));
}

TEST_F(ControlTest, ListsDevicesAsJson) {
  const auto body = client_.get("/v1/devices");
  ASSERT_TRUE(body) << body.error().message;
  const auto infos = device_infos_from_json(*body);
  ASSERT_TRUE(infos) << infos.error().message;
  ASSERT_EQ(infos->size(), 1U);
  EXPECT_EQ(infos->front().name, "zram0");
  EXPECT_EQ(infos->front().disksize, 1U << 20);
  EXPECT_EQ(infos->front().algorithm, "lz4");
  EXPECT_EQ(infos->front().chain, 4U);
}

TEST_F(ControlTest, AttributeIsTheBytesOfTheKernel) {
  for (const char* name : {"mm_stat", "io_stat", "bd_stat", "debug_stat", "comp_algorithm", "disksize"}) {
    EXPECT_EQ(client_.get(device_target("zram0", name)).value_or("none"),
              show_attribute(**devices_.find("zram0"), name).value_or("unknown"));
  }
}

TEST_F(ControlTest, AttributeIsSetByPut) {
  EXPECT_TRUE(client_.put(device_target("zram0", "mem_limit"), "8M\n"));
  EXPECT_EQ(client_.get(device_target("zram0", "mem_limit")).value_or(""), "8388608\n");
}

TEST_F(ControlTest, ClassesTableHasThreeForms) {
  const std::string target = device_target("zram0", "classes");
  EXPECT_EQ(client_.get(target).value_or("").substr(0, 24), " class  size almost_full");
  EXPECT_EQ(client_.get(target + "?format=documented").value_or(""), client_.get(target).value_or("none"));
  EXPECT_EQ(client_.get(target + "?format=kernel-6").value_or("").substr(0, 23), " class  size       10% ");
  EXPECT_EQ(client_.get(target + "?format=json").value_or("").substr(0, 14), "{\n  \"classes\":");
  EXPECT_EQ(client_.get(target + "?format=x").error().message, "format 'x' is unknown: documented, kernel-6 or json");
}

TEST_F(ControlTest, DeviceIsCreatedAndRemoved) {
  const auto made = client_.post("/v1/devices", R"json({"name": "b", "size": "2M", "algorithm": "zstd(level=5)",
      "mem_limit": 65536, "chain": 8, "check": false})json");
  ASSERT_TRUE(made) << made.error().message;
  const auto device = *devices_.find("b");
  EXPECT_EQ(device->size(), 2U << 20);
  EXPECT_EQ(device->options().codec.to_string(), "zstd(level=5)");
  EXPECT_EQ(device->options().mem_limit, 65536U);
  EXPECT_EQ(device->options().geometry.rule, ChainRule::kernel);
  EXPECT_FALSE(device->options().check);
  EXPECT_TRUE(client_.remove(device_target("b")));
  EXPECT_FALSE(devices_.find("b"));
}

TEST_F(ControlTest, OptionsSurviveTheWayThroughJson) {
  DeviceOptions options;
  options.name = "x";
  options.size = 1 << 30;
  options.codec = *CodecSpec::parse("lz4hc(level=7)");
  options.mem_limit = 4096;
  options.geometry = geometry_for_chain(16);
  options.check = false;
  const auto back = device_options_from_json(to_json(options));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), to_json(options));
}

TEST_F(ControlTest, ScrubAnswersWithItsReport) {
  EXPECT_EQ(client_.get(device_target("zram0", "scrub")).error().code, ENOENT) << "it is done by POST";
  const auto device = *devices_.find("zram0");
  const StreamPtr stream = device->make_stream();
  ASSERT_TRUE(device->write(*stream, ByteOffset{0}, std::vector<std::byte>(2 * kPageSize, std::byte{7})));
  const auto body = client_.post(device_target("zram0", "scrub"), "");
  ASSERT_TRUE(body) << body.error().message;
  const auto report = scrub_report_from_json(*body);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->pages, 2U);
  EXPECT_EQ(report->objects, 0U);
  EXPECT_EQ(report->damaged, 0U);
  EXPECT_EQ(client_.post(device_target("x", "scrub"), "").error().message, "no device 'x'");
}

TEST_F(ControlTest, ScrubReportSurvivesTheWayThroughJson) {
  const ScrubReport report{.pages = 5, .objects = 4, .damaged = 2, .named = {PageIndex{1}, PageIndex{3}}};
  const auto back = scrub_report_from_json(to_json(report));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(to_json(*back), to_json(report));
  EXPECT_FALSE(scrub_report_from_json("{}"));
  EXPECT_FALSE(scrub_report_from_json("["));
}

TEST_F(ControlTest, ErrorHasTheStatusThatGoesWithItsCause) {
  EXPECT_EQ(brief(request("GET /v1/devices/x")), "404 no device 'x'");
  EXPECT_EQ(brief(request("GET /v1/devices/x/mm_stat")), "404 no device 'x'");
  EXPECT_EQ(brief(request("GET /v1/devices/zram0/foo")), "404 zram0: no attribute 'foo'");
  EXPECT_EQ(brief(request("GET /v1/devices/zram0/compact")), "403 zram0: compact can only be written");
  EXPECT_EQ(brief(request("PUT /v1/devices/zram0/mm_stat", "1")), "403 zram0: mm_stat can only be read");
  EXPECT_EQ(brief(request("PUT /v1/devices/zram0/mem_limit", "x")).substr(0, 32), "400 zram0: mem_limit: 'x' is not");
  EXPECT_EQ(brief(request("DELETE /v1/devices/x")), "404 no device 'x'");
  EXPECT_EQ(brief(request("GET /v2")), "404 there is no GET /v2");
  EXPECT_EQ(brief(request("DELETE /metrics")), "404 there is no DELETE /metrics");
  EXPECT_EQ(brief(request("PUT /v1/devices/zram0/reset", "1")), "204");
  const auto client = devices_.open("zram0");
  EXPECT_EQ(brief(request("PUT /v1/devices/zram0/reset", "1")),
            "409 zram0: reset: device 'zram0' is in use by a client");
  EXPECT_EQ(brief(request("DELETE /v1/devices/zram0")), "409 device 'zram0' is in use by a client");
}

TEST_F(ControlTest, WrongDescriptionOfADeviceIsRefused) {
  const auto post = [&](const std::string& body) { return brief(request("POST /v1/devices", body)); };
  EXPECT_EQ(post(""), "400 the description of a device is not a JSON object");
  EXPECT_EQ(post("[1]"), "400 the description of a device is not a JSON object");
  EXPECT_EQ(post("{"), "400 the description of a device is not a JSON object");
  EXPECT_EQ(post(R"({"name": "b"})"), "400 size: is missing");
  EXPECT_EQ(post(R"({"size": 4096})"), "400 name: is missing");
  EXPECT_EQ(post(R"({"name": 1, "size": 4096})"), "400 name: is not a text");
  EXPECT_EQ(post(R"({"name": "b", "size": 0})"), "400 size: '0' is no size for a device: it holds at least one page");
  EXPECT_EQ(post(R"({"name": "b", "size": -1})"), "400 size: '-1' is negative");
  EXPECT_EQ(post(R"({"name": "b", "size": 1.5})").substr(0, 17), "400 size: is neit");
  EXPECT_EQ(post(R"({"name": "b", "size": 4096, "chain": 3})"), "400 chain: is not a number from 4 to 16");
  EXPECT_EQ(post(R"({"name": "b", "size": 4096, "check": 1})"), "400 check: is neither true nor false");
  EXPECT_EQ(post(R"({"name": "b", "size": 4096, "frob": 1})"), "400 frob: there is no such field");
  EXPECT_EQ(post(R"({"name": "b", "size": 4096, "algorithm": "lzo"})").substr(0, 15), "400 algorithm: ");
  EXPECT_EQ(post(R"({"name": "zram0", "size": 4096})"), "409 device 'zram0' exists already");
  EXPECT_EQ(post(R"({"name": "a b", "size": 4096})").substr(0, 32), "400 'a b' is not a device name: ");
  EXPECT_EQ(devices_.names(), std::vector<std::string>{"zram0"});
}

TEST_F(ControlTest, NamesAreEscapedOnTheWay) {
  for (const std::string name : {"a/b", "../devices", "a b", "a?b", "a%2Fb", "\xff", ".."}) {
    const auto answer = client_.get(device_target(name, "mm_stat"));
    ASSERT_FALSE(answer) << name;
    EXPECT_EQ(answer.error().code, ENOENT) << name;
    EXPECT_EQ(answer.error().message.find('\n'), std::string::npos);
  }
}

TEST_F(ControlTest, BodyOfUnboundedLengthIsRefused) {
  EXPECT_EQ(brief(raw("PUT /v1/devices/zram0/mem_limit HTTP/1.1\r\nHost: x\r\n\r\n")),
            "411 the request states no Content-Length");
  EXPECT_EQ(brief(raw("PUT /v1/devices/zram0/mem_limit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")),
            "411 the request states no Content-Length");
  EXPECT_EQ(brief(raw("POST /v1/devices HTTP/1.1\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\nx")),
            "415 the request's body is encoded");
  EXPECT_EQ(brief(raw("PUT /v1/devices/zram0/mem_limit HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")),
            "413 the request's body is longer than 64 KiB");
  const auto long_one = client_.put(device_target("zram0", "writeback"), std::string(65537, ' '));
  ASSERT_FALSE(long_one);
  EXPECT_EQ(long_one.error().message, "the request's body is longer than 64 KiB");
  EXPECT_EQ(brief(request("GET /" + std::string(2000, 'a'))), "414 the request's path is too long");
  EXPECT_TRUE(client_.get("/v1/devices"));
}

TEST_F(ControlTest, GarbageDisturbsNobody) {
  for (const std::string& bytes : {std::string("\r\n\r\n"), std::string("NBDMAGIC\0\0\0\0\r\n", 14),
                                   std::string("GET\r\n\r\n"), std::string(20000, 'x') + "\r\n\r\n",
                                   std::string("GET / HTTP/1.1\r\n") + std::string(20000, 'h') + "\r\n\r\n"}) {
    raw(bytes);
    EXPECT_TRUE(client_.get("/v1/devices"));
  }
}

TEST_F(ControlTest, ManyClientsAtOnceAreAllAnswered) {
  std::vector<std::thread> clients;
  std::atomic<int> answered{0};
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      const std::string name = "d" + std::to_string(i);
      DeviceOptions options;
      options.name = name;
      options.size = 4096;
      const ControlClient client(path_);
      if (client.post("/v1/devices", to_json(options)) && client.get(device_target(name)) &&
          client.remove(device_target(name))) {
        ++answered;
      }
    });
  }
  for (std::thread& t : clients) t.join();
  EXPECT_EQ(answered, 16);
  EXPECT_EQ(devices_.names(), std::vector<std::string>{"zram0"});
}

TEST_F(ControlTest, IdleServersUseNoProcessorTime) {
  (void)request("GET /v1/devices");
  const std::clock_t before = std::clock();  // of the process, whatever the machine does meanwhile
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 20);
}

TEST_F(ControlTest, StopAnswersWhatIsInFlightThenNobody) {
  control_->stop();
  const auto answer = client_.get("/v1/devices");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message, path_ + ": No such file or directory: is uzramd running?");
}

// A caller at one end of a socketpair; `peer` is the other.
class Caller : public testing::Test {
 protected:
  Caller() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    own_ = nbd::Fd(ends[0]);
    peer_ = nbd::Fd(ends[1]);
  }
  nbd::Fd own_;
  nbd::Fd peer_;
};

TEST_F(Caller, ThisUserIsTrustedAndGroupsAreItsOwn) {
  const ControlCaller caller(own_.get(), 1s, 1s);
  EXPECT_TRUE(caller.is_trusted(std::nullopt));
  EXPECT_TRUE(caller.is_trusted(::getegid()));
}

TEST_F(Caller, RequestThatComesInSingleBytesEndsAtItsDeadline) {
  const auto begin = std::chrono::steady_clock::now();
  ControlCaller caller(own_.get(), 300ms, 60s);
  std::jthread slow([&](const std::stop_token& stop) {
    while (!stop.stop_requested() && ::send(peer_.get(), "x", 1, MSG_NOSIGNAL) == 1) std::this_thread::sleep_for(20ms);
  });
  char byte = 0;
  unsigned got = 0;
  while (caller.read(&byte, 1) == 1) ++got;
  EXPECT_GT(got, 0U);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 300ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
}

TEST_F(Caller, SilenceAndFullBuffersEndSooner) {
  ControlCaller caller(own_.get(), 60s, 100ms);
  char byte = 0;
  EXPECT_EQ(caller.read(&byte, 1), -1);
  const std::string much(1 << 20, 'x');
  ssize_t n = 1;
  while (n > 0) n = caller.write(much.data(), much.size());
  EXPECT_EQ(n, -1);
}

TEST(ControlClient, SaysThatNobodyAnswers) {
  const std::string path = testing::TempDir() + "stale." + std::to_string(::getpid());
  const int fd = bound_socket(path);
  ASSERT_FALSE(HasFailure());
  ::close(fd);
  EXPECT_EQ(ControlClient(path).get("/metrics").error().message,
            path + ": no daemon answers there: is uzramd running?");
  ::unlink(path.c_str());
  EXPECT_EQ(ControlClient(std::string(200, 'a')).get("/").error().message,
            std::string(200, 'a') + ": the path is too long");
}

// A daemon that dies while it is asked: the request then goes to a connection that has ended already.
TEST(ControlClient, OutlivesADaemonThatClosesAtOnce) {
  const std::string path = testing::TempDir() + "closes." + std::to_string(::getpid());
  const int fd = bound_socket(path);
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(::listen(fd, 1), 0);
  std::jthread daemon([&] {
    for (int caller = 0; (caller = ::accept(fd, nullptr, nullptr)) >= 0;) ::close(caller);
  });
  const ControlClient client(path);
  for (int i = 0; i < 10000; ++i) {
    const auto answer = client.put("/v1/devices/zram0/compact", "1");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, EIO) << answer.error().message;
  }
  ::shutdown(fd, SHUT_RDWR);
  daemon.join();
  ::close(fd);
  ::unlink(path.c_str());
}

TEST_F(ControlTest, MetricsAreOpenMetrics) {
  const std::string text = client_.get("/metrics").value_or("");
  EXPECT_TRUE(text.starts_with("# TYPE uzram_build info\n"));
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
  EXPECT_NE(text.find("\nuzram_disksize_bytes{device=\"zram0\"} 1048576\n"), std::string::npos);
  EXPECT_NE(text.find("\nuzram_connections 0\n"), std::string::npos);
  const std::string answer = request("GET /metrics");
  EXPECT_NE(answer.find("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"), std::string::npos);
}

TEST(Metrics, FamilyIsDeclaredOnceBeforeTheSamplesOfEveryDevice) {
  std::vector<DeviceInfo> infos(2);
  infos[0].name = "a";
  infos[1].name = "b\"\\\n";
  infos[1].stats.failed_reads = 7;
  const std::string text = openmetrics(infos, 3);
  EXPECT_NE(text.find("# TYPE uzram_failed_reads counter\n"
                      "# HELP uzram_failed_reads Reads that failed.\n"
                      "uzram_failed_reads_total{device=\"a\"} 0\n"
                      "uzram_failed_reads_total{device=\"b\\\"\\\\\\n\"} 7\n"),
            std::string::npos);
  EXPECT_EQ(text.find("# TYPE uzram_failed_reads "), text.rfind("# TYPE uzram_failed_reads "));
}

}  // namespace
}  // namespace uzram

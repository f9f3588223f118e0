#include "cli/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace uzram {
namespace {

class ConfigTest : public testing::Test {
 protected:
  ~ConfigTest() override { ::unlink(file_.c_str()); }

  Config parse(const std::vector<std::string>& arguments) {
    auto parsed = parse_config(arguments);
    if (const auto* exit = std::get_if<Exit>(&parsed)) {
      ADD_FAILURE() << exit->text;
      return {};
    }
    return std::get<Config>(std::move(parsed));
  }
  // "code: text"
  std::string refused(const std::vector<std::string>& arguments) {
    const auto parsed = parse_config(arguments);
    const auto* exit = std::get_if<Exit>(&parsed);
    return exit == nullptr ? "accepted" : std::to_string(exit->code) + ": " + exit->text;
  }
  std::vector<std::string> with_file(const std::string& text) {
    std::ofstream(file_) << text;
    return {"--config", file_};
  }
  std::string refused_file(const std::string& text) {
    std::string answer = refused(with_file(text));
    if (const auto at = answer.find(file_); at != std::string::npos) answer.replace(at, file_.size(), "FILE");
    return answer;
  }

  const std::string file_ = testing::TempDir() + "config_test." + std::to_string(::getpid());
};

TEST_F(ConfigTest, SizeAloneMakesOneDeviceWithTheDefaults) {
  const Config config = parse({"--size", "1G"});
  ASSERT_EQ(config.devices.size(), 1U);
  const DeviceOptions& d = config.devices[0];
  EXPECT_EQ(d.name, "zram0");
  EXPECT_EQ(d.size, 1U << 30);
  EXPECT_EQ(d.codec, CodecSpec{});
  EXPECT_EQ(d.mem_limit, 0U);
  EXPECT_EQ(d.geometry, Geometry{});
  EXPECT_TRUE(d.check);
  EXPECT_EQ(config.nbd.unix_path, "");
  EXPECT_FALSE(config.nbd.port);
  EXPECT_EQ(config.nbd.host, "127.0.0.1");
  EXPECT_FALSE(config.nbd.access.others.read_only);
  EXPECT_TRUE(config.nbd.access.others.allow.empty());
  EXPECT_FALSE(config.nbd.tls.offered());
  EXPECT_EQ(config.control_path, "");
  EXPECT_EQ(config.run, "");
}

TEST_F(ConfigTest, SizesMayBeExpressionsOfTheMachinesMemory) {
  EXPECT_EQ(parse({"--size", "min(ram, 6000)"}).devices.at(0).size, 8192U);
  // With and without quotes: blanks and commas make no list of it.
  const Config config =
      parse(with_file("size = min(ram / 2, 64K)  # half of it\n"
                      "mem-limit = \"max(ram - ram, 5)\"\n"
                      "swap-safe = true\n"
                      "reserve = min(ram / 2, 1M)\n"
                      "[device.second]\n"
                      "size = min( ram, 2 * 4K )\n"));
  EXPECT_EQ(config.devices.at(0).size, 65536U);
  EXPECT_EQ(config.devices.at(0).mem_limit, 5U);
  EXPECT_EQ(config.reserve, 1U << 20);
  EXPECT_EQ(config.devices.at(1).size, 8192U);
  EXPECT_EQ(refused_file("size = min(ram / 2\n"),
            "2: uzramd: --size: 'min(ram / 2' has its end where ',' or ')' should be");
}

TEST_F(ConfigTest, EveryOptionIsTaken) {
  const Config config = parse({"--size=5000", "--name",      "swap",      "--algorithm", "zstd(level=5)",
                               "--mem-limit", "1M",          "--chain",   "8",           "--no-check",
                               "-U",          "/a",          "-p",        "10809",       "--host",
                               "::1",         "--read-only", "--control", "/b",          "--run",
                               "true $uri"});
  const DeviceOptions& d = config.devices.at(0);
  EXPECT_EQ(d.name, "swap");
  EXPECT_EQ(d.size, 8192U);
  EXPECT_EQ(d.codec.to_string(), "zstd(level=5)");
  EXPECT_EQ(d.mem_limit, 1U << 20);
  EXPECT_EQ(d.geometry.rule, ChainRule::kernel);
  EXPECT_EQ(d.geometry.chain, 8U);
  EXPECT_FALSE(d.check);
  EXPECT_EQ(config.nbd.unix_path, "/a");
  EXPECT_EQ(config.nbd.port, 10809);
  EXPECT_EQ(config.nbd.host, "::1");
  EXPECT_TRUE(config.nbd.access.others.read_only);
  EXPECT_EQ(config.control_path, "/b");
  EXPECT_EQ(config.run, "true $uri");
}

TEST_F(ConfigTest, ChainOfFourIsTheDocumentedRule) {
  EXPECT_EQ(parse({"--size=1M", "--chain=4"}).devices.at(0).geometry.rule, ChainRule::documented);
  EXPECT_EQ(parse({"--size=1M", "--chain=5"}).devices.at(0).geometry.rule, ChainRule::kernel);
}

TEST_F(ConfigTest, WrongValueIsNamedWithItsOption) {
  EXPECT_EQ(refused({}), "2: uzramd: --size SIZE is missing, and no --config FILE names a device");
  EXPECT_EQ(refused({"--size", "0"}), "2: uzramd: --size: '0' is no size for a device: it holds at least one page");
  EXPECT_EQ(refused({"--size", "-5"}), "2: uzramd: --size: '-5' is negative");
  EXPECT_EQ(refused({"--size", "17T"}), "2: uzramd: --size: '17T' is more than 16 TiB, the largest device");
  EXPECT_EQ(refused({"--size", "big"}),
            "2: uzramd: --size: 'big' is not a number of bytes, with K, M, G or T behind it if need be");
  EXPECT_EQ(refused({"--size", ""}), "2: uzramd: --size: a size is missing");
  EXPECT_EQ(refused({"--size=1M", "--mem-limit", "-1"}), "2: uzramd: --mem-limit: '-1' is negative");
  EXPECT_EQ(refused({"--size=1M", "--algorithm", "lzo"}).substr(0, 24), "2: uzramd: --algorithm: ");
  EXPECT_EQ(refused({"--size=1M", "--algorithm", "zstd(level=99)"}).substr(0, 24), "2: uzramd: --algorithm: ");
  EXPECT_EQ(refused({"--size=1M", "--chain=3"}), "2: uzramd: --chain: Value 3 not in range 4 to 16");
  EXPECT_EQ(refused({"--size=1M", "--port=65536"}), "2: uzramd: --port: Value 65536 not in range 0 to 65535");
  EXPECT_EQ(refused({"--size=1M", "--unix", ""}), "2: uzramd: --unix: is empty");
}

TEST_F(ConfigTest, SwitchIsOnOrOffAndItsLastWordHolds) {
  const auto checks = [this](const std::vector<std::string>& words) {
    std::vector<std::string> all{"--size=1M"};
    all.insert(all.end(), words.begin(), words.end());
    return parse(all).devices.at(0).check;
  };
  EXPECT_TRUE(checks({}));
  EXPECT_FALSE(checks({"--no-check"}));
  for (const char* on : {"1", "yes", "true", "on", "True"})
    EXPECT_FALSE(checks({std::string("--no-check=") + on})) << on;
  for (const char* off : {"0", "no", "false", "OFF"}) EXPECT_TRUE(checks({std::string("--no-check=") + off})) << off;
  EXPECT_FALSE(checks({"--no-check=off", "--no-check=on"}));
  EXPECT_TRUE(checks({"--no-check", "--no-check", "--no-check=off"}));
  EXPECT_FALSE(parse(with_file("size = 1M\nsupervise = off\n")).supervise);
  // Fuzzing found that CLI11 has an exception of another kind for the first.
  for (const std::string& neither : {std::string(40, '1'), std::string("0x1"), std::string("maybe")}) {
    const std::string why = "'" + neither + "' is neither on nor off: one of yes, true, on, 1, no, false, off, 0";
    EXPECT_EQ(refused({"--size=1M", "--no-check=" + neither}), "2: uzramd: --no-check: " + why);
    EXPECT_EQ(refused({"--size=1M", "--takeover=" + neither}), "2: uzramd: --takeover: " + why);
    EXPECT_EQ(refused_file("[device.a]\nsize = 1M\nread-only = " + neither + "\n"),
              "2: uzramd: FILE: [device.a] --read-only: " + why);
  }
}

TEST_F(ConfigTest, UnknownWordIsRefused) {
  EXPECT_EQ(refused({"--size=1M", "--frob"}), "2: uzramd: The following argument was not expected: --frob");
  EXPECT_EQ(refused({"--size=1M", "frob"}), "2: uzramd: The following argument was not expected: frob");
}

TEST_F(ConfigTest, OneHolderOfTheStateIsEnough) {
  EXPECT_TRUE(parse({"--size=1M", "--supervise"}).supervise);
  EXPECT_EQ(refused({"--size=1M", "--supervise", "--state=/x"}),
            "2: uzramd: --supervise: holds what is stored itself: not with --state");
  EXPECT_EQ(refused({"--size=1M", "--supervise", "--run=true"}),
            "2: uzramd: --supervise: a daemon that ends with its command needs no other: not with --run");
  EXPECT_TRUE(parse({"--size=1M", "--takeover", "--supervise"}).takeover);
  EXPECT_EQ(refused({"--size=1M", "--takeover", "--run=true"}),
            "2: uzramd: --takeover: the clients of another daemon are not for one command: not with --run");
}

TEST_F(ConfigTest, BackingFileGoesWithAStateThatEndsOnly) {
  const Config config = parse({"--size=1M", "--backing=/b", "--backing-size=1G"});
  EXPECT_EQ(config.backing, "/b");
  EXPECT_EQ(config.backing_size, std::uint64_t{1} << 30);
  EXPECT_EQ(parse({"--size=1M", "--backing=/b"}).backing_size, 0U);
  EXPECT_EQ(parse(with_file("size = 1M\nbacking = /b\nbacking-size = 8K\n")).backing_size, 8192U);
  const std::string ends = "2: uzramd: --backing: what is written back ends with the daemon: not with ";
  EXPECT_EQ(refused({"--size=1M", "--backing=/b", "--state=/x"}), ends + "--state");
  EXPECT_EQ(refused({"--size=1M", "--backing=/b", "--supervise"}), ends + "--supervise");
  EXPECT_EQ(refused({"--size=1M", "--backing=/b", "--takeover"}), ends + "--takeover");
  EXPECT_EQ(refused({"--size=1M", "--backing=/b", "--swap-safe", "--reserve=1M"}),
            "2: uzramd: --backing: writing to a file asks for memory: not with --swap-safe");
  EXPECT_EQ(refused({"--size=1M", "--backing-size=1G"}),
            "2: uzramd: --backing-size: of which file? --backing FILE is missing");
  EXPECT_EQ(refused({"--size=1M", "--backing="}).substr(0, 2), "2:");
  EXPECT_EQ(refused({"--size=1M", "--backing=/b", "--backing-size=lots"}).substr(0, 2), "2:");
}

TEST_F(ConfigTest, OtherThanLoopbackNeedsConsent) {
  for (const std::string host : {"0.0.0.0", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com"}) {
    EXPECT_EQ(refused({"--size=1M", "-p1", "--host", host}),
              "2: uzramd: --host " + host +
                  ": not loopback, and NBD is not encrypted: add --tls-require, or --allow-insecure if you mean it");
  }
  EXPECT_EQ(parse({"--size=1M", "-p1", "--host=0.0.0.0", "--allow-insecure"}).nbd.host, "0.0.0.0");
  for (const std::string host : {"127.0.0.1", "127.9.9.9", "::1", "localhost"}) {
    EXPECT_EQ(parse({"--size=1M", "-p1", "--host", host}).nbd.host, host);
  }
  EXPECT_EQ(refused({"--size=1M", "--host=::1"}), "2: uzramd: --host: says where TCP listens, and --port N is missing");
}

TEST_F(ConfigTest, TlsIsWholeOrRefused) {
  const Config config = parse({"--size=1M", "-p1", "--host=0.0.0.0", "--tls-psk=/k", "--tls-require"});
  EXPECT_EQ(config.nbd.tls.psk_file, "/k");
  EXPECT_TRUE(config.nbd.tls.require);
  EXPECT_EQ(parse({"--size=1M", "--tls-certificates=/c", "--tls-verify-peer"}).nbd.tls.certificates, "/c");
  EXPECT_EQ(refused({"--size=1M", "-p1", "--host=0.0.0.0", "--tls-psk=/k"}).substr(0, 2), "2:");
  EXPECT_EQ(refused({"--size=1M", "--tls-require"}),
            "2: uzramd: --tls-require: needs --tls-certificates DIR or --tls-psk FILE");
  EXPECT_EQ(refused({"--size=1M", "--tls-psk=/k", "--tls-verify-peer"}),
            "2: uzramd: --tls-verify-peer: needs --tls-certificates DIR, whose CA is believed");
  EXPECT_EQ(refused({"--size=1M", "--swap-safe", "--reserve=1M", "--tls-psk=/k"}),
            "2: uzramd: --swap-safe: TLS asks for memory as it serves: not with --tls-certificates or --tls-psk");
}

TEST_F(ConfigTest, ExportsHaveRulesOfTheirOwnOrTheDaemons) {
  const Config config = parse(with_file(R"(
allow = "user:0, psk:alice"
[device.all]
size = 1M
[device.own]
size = 1M
read-only = true
allow = cert:build
)"));
  const auto kind = [](const nbd::ExportRules& rules, std::size_t i) { return rules.allow.at(i).kind; };
  const nbd::ExportRules& all = config.nbd.access.of("all");
  EXPECT_FALSE(all.read_only);
  ASSERT_EQ(all.allow.size(), 2U);
  EXPECT_EQ(kind(all, 0), nbd::Identity::Kind::user);
  EXPECT_EQ(all.allow[1].name, "alice");
  const nbd::ExportRules& own = config.nbd.access.of("own");
  EXPECT_TRUE(own.read_only);
  ASSERT_EQ(own.allow.size(), 1U);
  EXPECT_EQ(kind(own, 0), nbd::Identity::Kind::certificate);
  EXPECT_EQ(config.nbd.access.of("made later").allow.size(), 2U);
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\nallow = joe\n"),
            "2: uzramd: FILE: [device.a] --allow: 'joe' is none of user:NAME, psk:NAME and cert:COMMON-NAME");
  EXPECT_EQ(refused({"--size=1M", "--allow", "user:no such user"}),
            "2: uzramd: --allow: 'user:no such user': there is no such user");
}

TEST_F(ConfigTest, HelpAndVersionEndWell) {
  EXPECT_EQ(refused({"--version"}), "0: uzramd 0.1.0");
  const std::string help = refused({"--help"});
  EXPECT_EQ(help.substr(0, 2), "0:");
  for (const char* word : {"--size SIZE", "--algorithm A", "-U,--unix PATH", "--run CMD", "Device:", "Clients:"}) {
    EXPECT_NE(help.find(word), std::string::npos) << word;
  }
}

TEST_F(ConfigTest, FileDescribesSeveralDevices) {
  const Config config = parse(with_file(R"(
# the daemon
control = "/run/x/control.sock"
port = 10809
algorithm = zstd(level=5)   # for those that name none
chain = 8

[device.root.img]
size = 8G

[device.scratch]
size = 2G
algorithm = lz4
mem-limit = 512M
chain = 4
no-check = true
)"));
  EXPECT_EQ(config.control_path, "/run/x/control.sock");
  EXPECT_EQ(config.nbd.port, 10809);
  ASSERT_EQ(config.devices.size(), 2U);
  EXPECT_EQ(config.devices[0].name, "root.img");
  EXPECT_EQ(config.devices[0].size, std::uint64_t{8} << 30);
  EXPECT_EQ(config.devices[0].codec.to_string(), "zstd(level=5)");
  EXPECT_EQ(config.devices[0].geometry.chain, 8U);
  EXPECT_TRUE(config.devices[0].check);
  EXPECT_EQ(config.devices[1].name, "scratch");
  EXPECT_EQ(config.devices[1].codec.to_string(), "lz4");
  EXPECT_EQ(config.devices[1].mem_limit, std::uint64_t{512} << 20);
  EXPECT_EQ(config.devices[1].geometry.rule, ChainRule::documented);
  EXPECT_FALSE(config.devices[1].check);
}

TEST_F(ConfigTest, CommandLineWinsOverTheFileAndItsDeviceComesFirst) {
  auto arguments = with_file("name = fromfile\nsize = 1M\n[device.b]\nsize = 2M\n");
  EXPECT_EQ(parse(arguments).devices.at(0).name, "fromfile");
  arguments.insert(arguments.end(), {"--name", "cli"});
  const Config config = parse(arguments);
  ASSERT_EQ(config.devices.size(), 2U);
  EXPECT_EQ(config.devices[0].name, "cli");
  EXPECT_EQ(config.devices[0].size, 1U << 20);
  EXPECT_EQ(config.devices[1].name, "b");
}

TEST_F(ConfigTest, WrongFileIsNamedWithWhatIsWrong) {
  EXPECT_EQ(refused_file("[device.a]\n"), "2: uzramd: FILE: [device.a] size is missing");
  EXPECT_EQ(refused_file("[device.a]\nsize = 0\n"),
            "2: uzramd: FILE: [device.a] --size: '0' is no size for a device: it holds at least one page");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\nfrob = 1\n"),
            "2: uzramd: FILE: [device.a] frob: there is no such key");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\nport = 1\n"),
            "2: uzramd: FILE: [device.a] port: there is no such key");
  EXPECT_EQ(refused_file("frob = 1\n"), "2: uzramd: FILE: frob: there is no such key");
  EXPECT_EQ(refused_file("config = other\n"), "2: uzramd: FILE: config: there is no such key");
  EXPECT_EQ(refused_file("[frob]\nsize = 1M\n"),
            "2: uzramd: FILE: [frob]: there is no such section; one is [device.NAME]");
  EXPECT_EQ(refused_file("[device.]\nsize = 1M\n"),
            "2: uzramd: FILE: [device.]: there is no such section; one is [device.NAME]");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\n[device.b]\nsize = 1M\n[device.a]\nsize = 1M\n"),
            "2: uzramd: FILE: [device.a]: stands there twice");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M, 2M\n"),
            "2: uzramd: FILE: [device.a] --size: '1M, 2M' has ',' where an operator or the end should be");
  EXPECT_EQ(refused_file("[device.a]\nsize = []\n"), "2: uzramd: FILE: [device.a] size: takes one value");
  EXPECT_EQ(refused_file("[device.a]\nsize 1M\n"), "2: uzramd: FILE: [device.a] size 1M: there is no such key");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\n-- = 1\n"), "2: uzramd: FILE: [device.a] --: there is no such key");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\n++ = 1\n"), "2: uzramd: FILE: [device.a] ++: there is no such key");
  // What CLI11 is told to separate names by, since it has to be told something: fuzzing found a section that was none.
  EXPECT_EQ(refused_file("mem\x1f-limit = 1M\n"), "2: uzramd: FILE: holds a control character (0x1f): not a text file");
  EXPECT_EQ(refused_file("[device.a]\nsize = 1M\x1f"),
            "2: uzramd: FILE: holds a control character (0x1f): not a text file");
  EXPECT_EQ(refused_file("# nothing\n"), "2: uzramd: --size SIZE is missing, and no --config FILE names a device");
}

TEST_F(ConfigTest, FileThatIsNotThereIsAFailure) {
  EXPECT_EQ(refused({"--config", "/nonexistent/uzramd.conf"}),
            "1: uzramd: /nonexistent/uzramd.conf: No such file or directory");
  EXPECT_EQ(refused({"--config", "/proc"}), "1: uzramd: /proc: Is a directory");
  EXPECT_EQ(refused({"--config", "/proc/self/mem"}), "1: uzramd: /proc/self/mem: Input/output error");
}

}  // namespace
}  // namespace uzram

#pragma once
// The messages of a takeover, with the descriptors that go with them.
//
// Threads: functions without state.

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockdev/nbd/connection.h"

namespace uzram {

enum class Step : std::uint32_t { hello = 1, refused, state, go, everything, up };

// To be changed with every change of the messages, or of what a ClientSet saves.
inline constexpr std::uint64_t kTakeoverMagic = 0x31304b54'4d52'5a55;  // "UZRMTK01"

struct StepMessage {
  std::uint64_t magic = kTakeoverMagic;
  Step step{};
  std::uint32_t image_version = 0;  // hello, state
  std::uint32_t devices_bytes = 0;  // everything: of the image's file, which goes on with the clients
  std::uint32_t clients_bytes = 0;
  std::uint32_t has_unix = 0;  // everything: the image's file, takeover, control, unix (if any), tcp, clients
  std::uint32_t tcp = 0;
  std::array<char, 256> text{};  // refused: why
};

struct ReceivedStep {
  StepMessage message;
  std::vector<nbd::Fd> fds;
};

// As many as the kernel lets one message carry.
inline constexpr std::size_t kMaxStepFds = 253;

// False where the other side is gone.
[[nodiscard]] bool send_step(int channel, const StepMessage& message, std::span<const int> fds = {});
// Nothing where the other side is gone, is silent for as long as the channel's timeout, or speaks otherwise.
[[nodiscard]] std::optional<ReceivedStep> receive_step(int channel);
void set_patience(int channel, std::chrono::seconds patience);

[[nodiscard]] StepMessage refused(std::string_view why);

}  // namespace uzram

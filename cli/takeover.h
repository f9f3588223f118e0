#pragma once
// How a daemon takes everything over from the one that runs (--takeover): the devices, the sockets it listens on, and
// its connected clients, between two of their requests.
//
//     new                                        running
//     hello (the image it understands)  ->
//                                       <-       state (the file that holds what is stored), or refused
//     maps and locks it
//     go                                ->
//                                                its connections stand still
//                                       <-       everything (an image of what it knows beside the file, the sockets)
//     makes all of it ready
//     up                                ->
//     serves                                     ends
//
// Until `up` has been sent the new one changes nothing that is shared; whatever happens to it before, the running one
// serves on. The two talk on a unix socket beside the control endpoint's, NAME.takeover; root and the same user may.
//
// Threads: each class belongs to one.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockdev/nbd/listener.h"
#include "blockdev/types.h"

namespace uzram {

// Where a daemon with this control endpoint waits for its successor.
[[nodiscard]] std::string takeover_path(const std::string& control);

// What goes from one daemon to the other.
struct Inheritance {
  std::vector<std::byte> devices{};  // of another kImageVersion, perhaps: then they are to be recovered
  std::vector<std::byte> clients{};
  nbd::Fd takeover{};
  nbd::Fd control{};
  nbd::Fd unix_socket{};
  std::vector<nbd::Fd> tcp{};
  std::vector<nbd::Fd> sockets{};  // the clients'
};

// The new daemon's side.
class Predecessor {
 public:
  // Asks the daemon for its state. Fails with one line: nobody answers, or why it refuses.
  [[nodiscard]] static Result<Predecessor> ask(const std::string& path);

  // The file that holds what is stored, once.
  [[nodiscard]] nbd::Fd take_state() { return std::move(state_); }
  // Whether it writes the images that this program reads.
  [[nodiscard]] bool same_image() const { return same_image_; }

  // Everything else; its connections stand still from now on.
  [[nodiscard]] Result<Inheritance> go();

  // From here on this process is the one that serves; fails where the other one has given up waiting, and serves on.
  [[nodiscard]] Result<void> up();

 private:
  Predecessor(nbd::Fd channel, nbd::Fd state, bool same_image)
      : channel_(std::move(channel)), state_(std::move(state)), same_image_(same_image) {}

  nbd::Fd channel_;
  nbd::Fd state_;
  bool same_image_;
};

// The running daemon's side: waits for a successor, in a thread of its own. When there is one, the process ends.
class TakeoverPoint {
 public:
  // What the successor gets; the descriptors stay this process's until it ends.
  struct Offer {
    std::vector<std::byte> devices;
    std::vector<std::byte> clients;
    int control = -1;
    int unix_socket = -1;
    std::vector<int> tcp;
    std::vector<int> sockets;
  };
  struct Hooks {
    std::function<Result<Offer>()> stop;  // makes everything stand still; where it fails, nothing does
    std::function<void()> go_on;          // undoes it
  };

  // Waits at `listener`. `state` is the file that holds what is stored; it is the caller's.
  TakeoverPoint(nbd::UnixListener listener, int state, Hooks hooks);
  ~TakeoverPoint();
  TakeoverPoint(const TakeoverPoint&) = delete;
  TakeoverPoint& operator=(const TakeoverPoint&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace uzram

#include "cli/control.h"

#include <httplib.h>
#include <sys/socket.h>

#include <chrono>
#include <shared_mutex>

#include "blockdev/attributes.h"
#include "blockdev/classes_table.h"
#include "blockdev/nbd/listener.h"
#include "cli/accept_threads.h"
#include "cli/control_caller.h"
#include "cli/control_client.h"
#include "cli/device_json.h"
#include "cli/log.h"
#include "cli/metrics.h"
#include "cli/new_device.h"

namespace uzram {
namespace {

using httplib::Request;
using httplib::Response;

constexpr std::size_t kThreads = 2;
constexpr std::size_t kMaxTarget = 1024;
constexpr std::size_t kMaxPath = 400;               // unescaped; std::regex takes stack for each character of it
constexpr std::chrono::seconds kCallerPatience{2};  // with a client that does not read or write
constexpr std::chrono::seconds kRequestTime{10};    // for all of a request to come
constexpr const char* kText = "text/plain";
constexpr const char* kJson = "application/json";

// The address of a caller who may control the daemon; that of any other is empty.
constexpr const char* kTrusted = "trusted";

// As httplib wants to read from and write to a caller.
class CallerStream final : public httplib::Stream {
 public:
  CallerStream(int socket, std::optional<gid_t> group)
      : caller_(socket, kRequestTime, kCallerPatience), trusted_(caller_.is_trusted(group)) {}

  [[nodiscard]] bool is_readable() const override { return caller_.is_readable(); }
  [[nodiscard]] bool is_writable() const override { return caller_.is_writable(); }
  ssize_t read(char* to, std::size_t size) override { return caller_.read(to, size); }
  ssize_t write(const char* from, std::size_t size) override { return caller_.write(from, size); }
  void get_remote_ip_and_port(std::string& ip, int& /*port*/) const override { ip = trusted_ ? kTrusted : ""; }
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  [[nodiscard]] socket_t socket() const override { return caller_.socket(); }

 private:
  ControlCaller caller_;
  const bool trusted_;
};

// httplib parses, routes and answers; the sockets and the threads, who calls and how long it takes are ours.
class HttpServer : public httplib::Server {
 public:
  explicit HttpServer(std::optional<gid_t> group) : group_(group) {}

  // One request of a connection: one that is kept open would hold a thread.
  void answer(int client) {
    bool closed = false;
    CallerStream stream(client, group_);
    if (stream.is_readable()) (void)process_request(stream, true, closed, nullptr);
    ::shutdown(client, SHUT_RDWR);
  }

 private:
  const std::optional<gid_t> group_;
};

int status_of(int code) {
  switch (code) {
    case EINVAL:
    case ERANGE:
      return 400;
    case EACCES:
      return 403;
    case ENOENT:
    case ENODEV:
      return 404;
    case EAGAIN:
    case EEXIST:
    case EBUSY:
      return 409;
    case ENOMEM:
    case ENOSPC:
      return 507;
    default:
      return 500;
  }
}

void refuse(Response& response, int status, std::string_view why) {
  response.status = status;
  response.set_content(error_to_json(why), kJson);
}

void refuse(Response& response, const Error& error) { refuse(response, status_of(error.code), error.message); }

bool refuse_stranger(const Request& request, Response& response) {
  if (request.remote_addr == kTrusted) return false;
  refuse(response, 403, "only root, the daemon's user and members of its group may control it");
  log_warning("a caller of the control endpoint was turned away: another user");
  return true;
}

// Without a stated length httplib reads a body of any size into memory.
bool refuse_unbounded(const Request& request, Response& response) {
  const bool has_body = request.method == "PUT" || request.method == "POST" || request.method == "DELETE";
  if (request.target.size() > kMaxTarget || request.path.size() > kMaxPath) {
    refuse(response, 414, "the request's path is too long");
  } else if (request.has_header("Transfer-Encoding") ||
             (has_body && request.method != "DELETE" && !request.has_header("Content-Length"))) {
    refuse(response, 411, "the request states no Content-Length");
  } else if (request.has_header("Content-Encoding")) {
    refuse(response, 415, "the request's body is encoded");
  } else if (request.get_header_value<std::uint64_t>("Content-Length") > kMaxControlBody) {
    refuse(response, 413, kBodyTooLong);
  } else {
    return false;
  }
  return true;
}

void show_classes(const Device& device, const std::string& form, Response& response) {
  const auto rows = class_rows(device.pool());
  if (form == "json") return response.set_content(to_json(rows), kJson);
  if (form == "kernel-6") return response.set_content(format_classes(rows, TableForm::kernel6), kText);
  if (form.empty() || form == "documented") {
    return response.set_content(format_classes(rows, TableForm::documented), kText);
  }
  refuse(response, 400, "format '" + form + "' is unknown: documented, kernel-6 or json");
}

}  // namespace

struct ControlEndpoint::State {
  DeviceTable& devices;
  nbd::Server& server;
  bool swap_safe;
  std::optional<nbd::UnixListener> listener;  // none once stopped
  HttpServer http{server.group()};
  std::shared_mutex pausing{};  // held by each request, and alone by a pause
  AcceptThreads threads{};

  void route();
  [[nodiscard]] DeviceInfo with_server(DeviceInfo info) const;
  void list(Response& response) const;
  void create(const Request& request, Response& response) const;
  void show(const Request& request, Response& response) const;
  void show_one(const std::string& name, Response& response) const;
  void scrub(const std::string& name, Response& response) const;
};

DeviceInfo ControlEndpoint::State::with_server(DeviceInfo info) const {
  info.uris = server.uris(info.name);
  info.swap_safe = swap_safe;
  return info;
}

void ControlEndpoint::State::list(Response& response) const {
  auto infos = device_infos(devices);
  for (DeviceInfo& info : infos) info = with_server(std::move(info));
  response.set_content(to_json(infos), kJson);
}

void ControlEndpoint::State::create(const Request& request, Response& response) const {
  const auto options = device_options_from_json(request.body);
  if (!options) return refuse(response, options.error());
  if (const auto created = devices.create(*options); !created) return refuse(response, created.error());
  log_info("created device " + options->name);
  show_one(options->name, response);
  response.status = 201;
}

void ControlEndpoint::State::show_one(const std::string& name, Response& response) const {
  const auto info = device_info(devices, name);
  if (!info) return refuse(response, info.error());
  response.set_content(to_json(with_server(*info)), kJson);
}

void ControlEndpoint::State::show(const Request& request, Response& response) const {
  const auto device = devices.find(request.matches[1].str());
  if (!device) return refuse(response, device.error());
  const std::string attribute = request.matches[2];
  if (attribute == "classes") return show_classes(**device, request.get_param_value("format"), response);
  const auto text = show_attribute(**device, attribute);
  if (!text) return refuse(response, text.error());
  response.set_content(*text, kText);
}

void ControlEndpoint::State::scrub(const std::string& name, Response& response) const {
  const auto device = devices.find(name);
  if (!device) return refuse(response, device.error());
  const ScrubReport report = (*device)->scrub();
  const std::string line =
      name + ": scrubbed " + std::to_string(report.pages) + " pages, " + std::to_string(report.damaged) + " damaged";
  report.damaged == 0 ? log_info(line) : log_warning(line);
  response.set_content(to_json(report), kJson);
}

void ControlEndpoint::State::route() {
  http.Get("/v1/devices", [this](const Request&, Response& r) { list(r); });
  http.Post("/v1/devices", [this](const Request& q, Response& r) { create(q, r); });
  http.Get("/v1/devices/([^/]+)", [this](const Request& q, Response& r) { show_one(q.matches[1], r); });
  http.Delete("/v1/devices/(.+)", [this](const Request& q, Response& r) {
    const std::string name = q.matches[1];
    if (const auto removed = devices.remove(name); !removed) return refuse(r, removed.error());
    log_info("removed device " + name);
    r.status = 204;
  });
  http.Post("/v1/devices/(.+)/fence", [this](const Request& q, Response& r) {
    const std::string name = q.matches[1];
    if (const auto fenced = server.fence(name); !fenced) return refuse(r, fenced.error());
    log_info("ended the connections to " + name);
    r.status = 204;
  });
  http.Post("/v1/devices/(.+)/scrub", [this](const Request& q, Response& r) { scrub(q.matches[1], r); });
  http.Get("/v1/devices/(.+)/([^/]+)", [this](const Request& q, Response& r) { show(q, r); });
  http.Put("/v1/devices/(.+)/([^/]+)", [this](const Request& q, Response& r) {
    const auto written = set_attribute(devices, q.matches[1].str(), q.matches[2].str(), q.body);
    if (!written) return refuse(r, written.error());
    r.status = 204;
  });
  http.Get("/metrics", [this](const Request&, Response& r) {
    r.set_content(openmetrics(device_infos(devices), server.connections()), kMetricsType);
  });
  http.set_pre_routing_handler([](const Request& q, Response& r) {
    return refuse_stranger(q, r) || refuse_unbounded(q, r) ? HttpServer::HandlerResponse::Handled
                                                           : HttpServer::HandlerResponse::Unhandled;
  });
  http.set_error_handler([](const Request& q, Response& r) {
    if (!r.body.empty()) return;
    refuse(r, r.status, r.status == 404 ? "there is no " + q.method + " " + q.path : "the request is not right");
  });
  http.set_exception_handler([](const Request&, Response& r, const std::exception_ptr& e) {
    try {
      std::rethrow_exception(e);
    } catch (const std::bad_alloc&) {
      refuse(r, 507, "out of memory");
    } catch (const std::exception& error) {
      refuse(r, 500, error.what());
    }
  });
}

ControlEndpoint::ControlEndpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}

ControlEndpoint::~ControlEndpoint() { stop(); }

Result<std::unique_ptr<ControlEndpoint>> ControlEndpoint::listen(DeviceTable& devices, nbd::Server& server,
                                                                 const std::string& path, bool swap_safe,
                                                                 std::optional<nbd::UnixListener>&& inherited) {
  auto listener =
      inherited ? Result<nbd::UnixListener>(std::move(*inherited)) : nbd::UnixListener::listen(path, server.group());
  if (!listener) return tl::unexpected(listener.error());
  auto state = std::unique_ptr<State>(new State{devices, server, swap_safe, std::move(*listener)});
  state->http.set_payload_max_length(kMaxControlBody);
  state->route();
  return std::unique_ptr<ControlEndpoint>(new ControlEndpoint(std::move(state)));
}

int ControlEndpoint::fd() const { return state_->listener->fd(); }

void ControlEndpoint::start() {
  state_->threads.start(state_->listener->fd(), kThreads, [http = &state_->http, gate = &state_->pausing](int client) {
    try {
      const std::shared_lock lock(*gate);
      http->answer(client);
    } catch (const std::exception& e) {
      log_warning(std::string("a request to the control endpoint was dropped: ") + e.what());
    }
  });
}

void ControlEndpoint::pause() { state_->pausing.lock(); }

void ControlEndpoint::resume() { state_->pausing.unlock(); }

void ControlEndpoint::stop() {
  state_->threads.stop();
  state_->listener.reset();
}

}  // namespace uzram

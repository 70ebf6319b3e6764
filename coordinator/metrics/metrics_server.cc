#include "coordinator/metrics/metrics_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/threads.h"
#include "consilium/secure/proxy.h"
#include "coordinator/metrics/http_head.h"
#include "coordinator/rpc/sockets.h"

namespace consilium {
namespace {

// One may wait for the disk; /healthz needs none.
constexpr size_t kThreads = 2;
// Read after an answer and thrown away: a close with bytes unread would take
// the answer back from a peer that has not read it yet.
constexpr int64_t kMostThrownAway = 256 << 10;
// Until accepting is tried again when the process has no descriptor left.
constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kExposition[] = "text/plain; version=0.0.4; charset=utf-8";

enum class Stage { kReading, kWorking, kWriting, kEnding };

struct Connection {
  uint64_t id = 0;
  Fd fd;
  Stage stage = Stage::kReading;
  std::string request;  // what there is of it
  std::string answer;
  size_t sent = 0;
  int64_t thrown_away = 0;
  absl::Duration until;
};

class Server final : public MetricsServer {
 public:
  Server(MetricsServerOptions options, MetricsHandlers handlers,
         Listeners listeners, Fd wake)
      : options_(std::move(options)),
        handlers_(std::move(handlers)),
        listeners_(std::move(listeners)),
        wake_(std::move(wake)),
        workers_(std::make_unique<ThreadPool>(kThreads)),
        thread_([this] { Run(); }) {}

  ~Server() override {
    {
      const MutexLock lock(&mu_);
      stop_ = true;
    }
    Wake();
    thread_.join();
    connections_.clear();
    listeners_.fds.clear();
    workers_.reset();
  }

  int port() const override { return listeners_.port; }

 private:
  void Wake() {
    const uint64_t one = 1;
    CONSILIUM_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  }

  void Run() {
    std::vector<pollfd> waiting;
    while (TakeAnswers()) {
      waiting.assign(1, {wake_.get(), POLLIN, 0});
      for (const Fd& listener : listeners_.fds) {
        waiting.push_back({pause_ ? -1 : listener.get(), POLLIN, 0});
      }
      const size_t first = waiting.size();
      for (const Connection& c : connections_) waiting.push_back(Interest(c));
      const int timeout = Timeout();
      pause_ = false;
      if (poll(waiting.data(), waiting.size(), timeout) < 0) continue;
      if (waiting[0].revents != 0) {
        uint64_t count = 0;
        CONSILIUM_CHECK(read(wake_.get(), &count, sizeof(count)) > 0);
      }
      const absl::Duration now = options_.clock->Monotonic();
      size_t at = first;
      for (auto c = connections_.begin(); c != connections_.end(); ++at) {
        const auto here = c++;
        const bool there = waiting[at].revents == 0 || Serve(*here);
        if (!there || now >= here->until) connections_.erase(here);
      }
      for (size_t i = 1; i < first; ++i) {
        if (waiting[i].revents != 0) Accept(listeners_.fds[i - 1].get());
      }
    }
  }

  // What the workers have made. False: it is time to stop.
  bool TakeAnswers() {
    std::vector<std::pair<uint64_t, std::string>> made;
    {
      const MutexLock lock(&mu_);
      if (stop_) return false;
      made.swap(made_);
    }
    working_ -= static_cast<int64_t>(made.size());
    for (auto& [id, answer] : made) {
      const auto c = std::find_if(
          connections_.begin(), connections_.end(),
          [id = id](const Connection& other) { return other.id == id; });
      if (c != connections_.end()) Answer(*c, std::move(answer));
    }
    return true;
  }

  static pollfd Interest(const Connection& c) {
    if (c.stage == Stage::kWorking) return {-1, 0, 0};
    return {c.fd.get(),
            static_cast<short>(c.stage == Stage::kWriting ? POLLOUT : POLLIN),
            0};
  }

  int Timeout() const {
    absl::Duration left = pause_ ? kPause : absl::InfiniteDuration();
    if (!connections_.empty()) {
      // The oldest is the first.
      left = std::min(left,
                      connections_.front().until - options_.clock->Monotonic());
    }
    if (left == absl::InfiniteDuration()) return -1;
    left = std::clamp(left, absl::ZeroDuration(), absl::Minutes(1));
    return static_cast<int>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
  }

  bool Full() const {
    return static_cast<int64_t>(connections_.size()) >=
           options_.max_connections;
  }
  // The one that makes room for another: one that waits for the disk only
  // where all do, so that /healthz is answered whatever the disk does.
  std::list<Connection>::const_iterator Oldest() const {
    const auto idle = std::find_if(
        connections_.begin(), connections_.end(),
        [](const Connection& c) { return c.stage != Stage::kWorking; });
    return idle != connections_.end() ? idle : connections_.begin();
  }

  void Accept(int listener) {
    std::string peer;
    Fd fd = AcceptFrom(listener, &peer);
    if (!fd) {
      pause_ = errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
               errno == ENOMEM;
      return;
    }
    if (Full()) connections_.erase(Oldest());
    Connection& c = connections_.emplace_back();
    c.id = ++last_id_;
    c.fd = std::move(fd);
    c.until = options_.clock->Monotonic() + options_.timeout;
  }

  // False when the connection is at its end.
  bool Serve(Connection& c) {
    if (c.stage == Stage::kWriting) return Write(c);
    std::array<char, 4096> buffer;
    const ssize_t got = recv(c.fd.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    if (c.stage == Stage::kEnding) {
      c.thrown_away += got;
      return c.thrown_away < kMostThrownAway;
    }
    c.request.append(buffer.data(), static_cast<size_t>(got));
    const size_t end = c.request.find("\r\n\r\n");
    const size_t size = end == std::string::npos ? c.request.size() : end + 4;
    if (static_cast<int64_t>(size) > options_.max_request_bytes) {
      Refuse(c, 431,
             Cat("a request may have limits.max_metrics_request_bytes = ",
                 options_.max_request_bytes, " bytes\n"));
    } else if (end != std::string::npos) {
      Begin(c, ParseHttpHead(std::string_view(c.request).substr(0, size)));
    }
    return true;
  }

  bool Write(Connection& c) {
    const ssize_t sent = send(c.fd.get(), c.answer.data() + c.sent,
                              c.answer.size() - c.sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    c.sent += static_cast<size_t>(sent);
    if (c.sent < c.answer.size()) return true;
    c.answer = std::string();
    c.stage = Stage::kEnding;
    return shutdown(c.fd.get(), SHUT_WR) == 0;
  }

  static void Answer(Connection& c, std::string answer) {
    c.request = std::string();
    c.answer = std::move(answer);
    c.stage = Stage::kWriting;
  }
  static void Refuse(Connection& c, int status, std::string_view text) {
    Answer(c, HttpAnswer(status, kPlain, text, /*body=*/true));
  }

  void Begin(Connection& c, HttpRequest request) {
    switch (request.status) {
      case 200:
        break;
      case 405:
        return Refuse(c, 405, "only GET and HEAD\n");
      case 413:
        return Refuse(c, 413, "a request has no body here\n");
      default:
        return Refuse(c, request.status, "this is no HTTP/1.1 request\n");
    }
    if (request.path == "/healthz") {
      return Answer(c, HttpAnswer(200, kPlain, "ok\n", request.body));
    }
    if (request.path != "/metrics" && request.path != "/readyz") {
      return Answer(
          c, HttpAnswer(404, kPlain, "there are /metrics, /healthz, /readyz\n",
                        request.body));
    }
    // Work outlives connections that gave up on it.
    if (working_ >= options_.max_connections) {
      return Refuse(c, 503, "earlier requests still wait for the disk\n");
    }
    c.stage = Stage::kWorking;
    ++working_;
    workers_->Schedule([this, id = c.id, request = std::move(request)] {
      std::string answer = Make(request);
      {
        const MutexLock lock(&mu_);
        made_.emplace_back(id, std::move(answer));
      }
      Wake();
    });
  }

  std::string Make(const HttpRequest& request) const {
    try {
      if (request.path == "/metrics") {
        return HttpAnswer(200, kExposition, handlers_.metrics(), request.body);
      }
      const absl::Status status = handlers_.ready();
      std::string text =
          status.ok() ? "ready\n" : Cat(StdView(status.message()), "\n");
      if (handlers_.warnings) {
        for (const std::string& warning : handlers_.warnings()) {
          CatInto(text, "warning: ", warning, "\n");
        }
      }
      return HttpAnswer(status.ok() ? 200 : 503, kPlain, text, request.body);
    } catch (...) {
      return HttpAnswer(500, kPlain, "internal error\n", request.body);
    }
  }

  const MetricsServerOptions options_;
  const MetricsHandlers handlers_;
  // The thread's alone, until it has ended.
  Listeners listeners_;
  std::list<Connection> connections_;  // the oldest first
  uint64_t last_id_ = 0;
  int64_t working_ = 0;  // requests that the workers have
  bool pause_ = false;

  const Fd wake_;
  Mutex mu_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::pair<uint64_t, std::string>> made_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<ThreadPool> workers_;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    MetricsServerOptions options, MetricsHandlers handlers) {
  const absl::StatusOr<HostPort> to = HostPort::ParseListening(options.address);
  if (!to.ok()) return Annotate(to.status(), "listen.metrics_address");
  absl::StatusOr<Listeners> listeners = ListenOnAll(*to);
  if (!listeners.ok()) {
    return absl::UnavailableError(Cat(
        "cannot listen on ", options.address,
        " (listen.metrics_address): ", StdView(listeners.status().message()),
        "; is the port in use, or the address not of this host?"));
  }
  Fd wake(eventfd(0, EFD_CLOEXEC));
  if (!wake) {
    return absl::UnavailableError(
        Cat("eventfd: ", std::generic_category().message(errno)));
  }
  return std::unique_ptr<MetricsServer>(
      std::make_unique<Server>(std::move(options), std::move(handlers),
                               *std::move(listeners), std::move(wake)));
}

}  // namespace consilium

#include "coordinator/rpc/connection_gate.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/proxy.h"
#include "coordinator/rpc/rate_limit.h"
#include "coordinator/rpc/sockets.h"

namespace consilium {
namespace {

constexpr size_t kBufferBytes = 16 << 10;
// Until accepting is tried again when the process has no descriptor left.
constexpr absl::Duration kPause = absl::Milliseconds(100);

// Bytes on their way from one socket to the other.
struct Way {
  std::array<char, kBufferBytes> buffer;
  size_t at = 0;
  size_t end = 0;
  bool ended = false;  // nothing more comes
  bool told = false;   // and the other side knows

  bool empty() const { return at == end; }
  bool done() const { return ended && empty(); }
};

struct Connection {
  Fd outer;  // to the peer
  Fd inner;  // to the sink's end
  Way in;
  Way out;
  int64_t received = 0;
  absl::Duration until;
  std::string peer;
  std::string address;
  std::string inner_name;
};

enum class Reason { kTooMany, kTooLong, kTooOld, kFailed };

class Gate final : public ConnectionGate {
 public:
  Gate(Options options, std::vector<Fd> listeners, Fd wake, int port)
      : options_(std::move(options)),
        listeners_(std::move(listeners)),
        wake_(std::move(wake)),
        port_(port) {}

  ~Gate() override {
    Ask(&stop_);
    if (thread_.joinable()) thread_.join();
  }

  int port() const override { return port_; }

  void Start(Sink sink) override {
    sink_ = std::move(sink);
    thread_ = std::thread([this] { Run(); });
  }

  void StopAccepting() override {
    if (!thread_.joinable()) {
      listeners_.clear();
      return;
    }
    Ask(&closed_);
    const MutexLock lock(&mu_);
    while (!gone_) went_.Wait(&mu_);
  }

  std::string PeerOf(std::string_view inner) const override {
    const MutexLock lock(&mu_);
    const auto it = peers_.find(inner);
    return it == peers_.end() ? std::string(inner) : it->second;
  }

  Counts counts() const override {
    const MutexLock lock(&mu_);
    return counts_;
  }

 private:
  void Ask(bool* what) {
    {
      const MutexLock lock(&mu_);
      *what = true;
    }
    const uint64_t one = 1;
    CONSILIUM_CHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  }

  void Run() {
    std::vector<pollfd> waiting;
    for (;;) {
      const bool full = Full();
      {
        const MutexLock lock(&mu_);
        if (stop_) return;
        if (closed_ && !gone_) {
          listeners_.clear();
          gone_ = true;
          went_.SignalAll();
        }
      }
      waiting.clear();
      waiting.push_back({wake_.get(), POLLIN, 0});
      for (const Fd& listener : listeners_) {
        waiting.push_back({full || pause_ ? -1 : listener.get(), POLLIN, 0});
      }
      const size_t first = waiting.size();
      for (const Connection& c : connections_) {
        waiting.push_back(Interest(c.outer, c.in, c.out));
        waiting.push_back(Interest(c.inner, c.out, c.in));
      }
      const int timeout = Timeout();
      pause_ = false;
      if (poll(waiting.data(), waiting.size(), timeout) < 0) continue;
      if (waiting[0].revents != 0) {
        uint64_t count = 0;
        CONSILIUM_CHECK(read(wake_.get(), &count, sizeof(count)) > 0);
      }
      size_t at = first;
      for (auto c = connections_.begin(); c != connections_.end(); at += 2) {
        const auto here = c++;
        if (!Serve(*here, waiting[at].revents, waiting[at + 1].revents)) {
          Forget(here);
        }
      }
      for (size_t i = 1; i < first; ++i) {
        // Each of several listeners may have filled the last place.
        if (waiting[i].revents != 0 && !Full()) {
          Accept(listeners_[i - 1].get());
        }
      }
    }
  }

  bool Full() const {
    return static_cast<int64_t>(connections_.size()) >=
           options_.max_connections;
  }

  // Of a socket: `from` takes what it reads, `to` holds what it is to write.
  static pollfd Interest(const Fd& fd, const Way& from, const Way& to) {
    short events = 0;
    if (!from.ended && from.empty()) events |= POLLIN;
    if (!to.empty()) events |= POLLOUT;
    return {events == 0 ? -1 : fd.get(), events, 0};
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

  void Accept(int listener) {
    std::string peer;
    Fd outer = AcceptFrom(listener, &peer);
    if (!outer) {
      pause_ = errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
               errno == ENOMEM;
      return;
    }
    std::string address = AddressOfPeer(peer);
    const auto same = std::count_if(
        connections_.begin(), connections_.end(),
        [&](const Connection& c) { return c.address == address; });
    if (same >= options_.max_connections_per_address) {
      Count(Reason::kTooMany, address);
      return;
    }
    absl::StatusOr<LoopbackPair> pair = LoopbackPair::Make();
    if (!pair.ok()) {
      Count(Reason::kFailed, address, StdView(pair.status().message()));
      return;
    }
    Connection& c = connections_.emplace_back();
    c.outer = std::move(outer);
    c.inner = std::move(pair->ours);
    c.until = options_.clock->Monotonic() + options_.max_age;
    c.peer = std::move(peer);
    c.address = std::move(address);
    c.inner_name = std::move(pair->name);
    {
      const MutexLock lock(&mu_);
      ++counts_.open;
      ++counts_.accepted;
      peers_[c.inner_name] = c.peer;
    }
    sink_(pair->theirs.Release());
  }

  // False when the connection is at its end.
  bool Serve(Connection& c, short outer, short inner) {
    if (options_.clock->Monotonic() >= c.until) {
      Count(Reason::kTooOld, c.address);
      return false;
    }
    if (outer != 0 && c.in.empty() && !c.in.ended) {
      if (!Fill(c.outer, c.in)) return false;
      c.received += static_cast<int64_t>(c.in.end - c.in.at);
      if (c.received > options_.max_bytes) {
        Count(Reason::kTooLong, c.address);
        return false;
      }
      // Nobody reads it any more; closing now could lose what was answered.
      if (c.out.ended) c.in.at = c.in.end;
    }
    if (inner != 0 && c.out.empty() && !c.out.ended && !Fill(c.inner, c.out)) {
      return false;
    }
    return Drain(c.in, c.inner) && Drain(c.out, c.outer) &&
           !(c.in.done() && c.out.done());
  }

  static bool Fill(const Fd& from, Way& way) {
    const ssize_t got =
        recv(from.get(), way.buffer.data(), way.buffer.size(), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    way.at = 0;
    way.end = static_cast<size_t>(got);
    way.ended = got == 0;
    return true;
  }

  static bool Drain(Way& way, const Fd& to) {
    if (!way.empty()) {
      const ssize_t sent = send(to.get(), way.buffer.data() + way.at,
                                way.end - way.at, MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      way.at += static_cast<size_t>(sent);
    }
    if (way.done() && !way.told) {
      way.told = true;
      shutdown(to.get(), SHUT_WR);
    }
    return true;
  }

  void Forget(std::list<Connection>::iterator c) {
    const MutexLock lock(&mu_);
    peers_.erase(c->inner_name);
    --counts_.open;
    connections_.erase(c);
  }

  // `error`: for kFailed.
  void Count(Reason reason, const std::string& address,
             std::string_view error = {}) {
    std::string why(error);
    {
      const MutexLock lock(&mu_);
      switch (reason) {
        case Reason::kTooMany:
          ++counts_.too_many;
          why = Cat(options_.max_connections_per_address_key, " is ",
                    options_.max_connections_per_address,
                    ", and it has that many open");
          break;
        case Reason::kTooLong:
          ++counts_.too_long;
          why = Cat("it sent more than ", options_.max_bytes_key, " = ",
                    options_.max_bytes, " bytes");
          break;
        case Reason::kTooOld:
          ++counts_.too_old;
          why = Cat("it lasted longer than ", options_.max_age_key, " = ",
                    absl::FormatDuration(options_.max_age));
          break;
        case Reason::kFailed:
          break;
      }
    }
    Silence& silence = silences_[reason];
    const absl::Duration now = options_.clock->Monotonic();
    if (silence.until.has_value() && now < *silence.until) {
      ++silence.kept_back;
      return;
    }
    options_.report(Cat(
        options_.address_key, ": closed a connection of ", address, ": ", why,
        silence.kept_back == 0
            ? std::string()
            : Cat(" (and ", silence.kept_back, " others for this reason)")));
    silence = {now + options_.report_every, 0};
  }

  struct Silence {
    std::optional<absl::Duration> until;
    int64_t kept_back = 0;
  };

  const Options options_;
  // The thread's alone.
  Sink sink_;
  std::vector<Fd> listeners_;
  std::list<Connection> connections_;  // in order of their ends
  std::map<Reason, Silence> silences_;
  bool pause_ = false;

  const Fd wake_;
  const int port_;
  mutable Mutex mu_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;  // the listeners
  CondVar went_;
  Counts counts_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string, std::less<>> peers_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: it uses what is above
};

}  // namespace

absl::StatusOr<std::unique_ptr<ConnectionGate>> ConnectionGate::Open(
    Options options) {
  absl::StatusOr<HostPort> to = HostPort::ParseListening(options.address);
  if (!to.ok()) return Annotate(to.status(), options.address_key);
  absl::StatusOr<Listeners> listeners = ListenOnAll(*to);
  if (!listeners.ok()) {
    return absl::UnavailableError(
        Cat("cannot listen on ", options.address, " (", options.address_key,
            "): ", StdView(listeners.status().message()),
            "; is the port in use, or the address not of this host?"));
  }
  Fd wake(eventfd(0, EFD_CLOEXEC));
  if (!wake) {
    return absl::UnavailableError(
        Cat("eventfd: ", std::generic_category().message(errno)));
  }
  return std::unique_ptr<ConnectionGate>(
      std::make_unique<Gate>(std::move(options), std::move(listeners->fds),
                             std::move(wake), listeners->port));
}

}  // namespace consilium

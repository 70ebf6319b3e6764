// A TCP relay that cuts its connection at a chosen point.

#ifndef CONSILIUM_TESTS_INTEGRATION_CUTTING_PROXY_H_
#define CONSILIUM_TESTS_INTEGRATION_CUTTING_PROXY_H_

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {

class CuttingProxy {
 public:
  explicit CuttingProxy(uint16_t to)
      : server_([this, to](int fd) { Serve(fd, to); }) {}

  uint16_t port() const { return server_.port(); }

  // Cuts once, after so many more bytes from client to server: the byte after
  // them never arrives.
  void CutAfterSent(int64_t bytes) {
    MutexLock lock(&mutex_);
    sent_left_ = bytes;
  }
  // Cuts once, in place of the n-th (from 1) piece from server to client.
  void CutAtReply(int64_t n) {
    MutexLock lock(&mutex_);
    replies_left_ = n;
  }
  // Cuts all connections that are open.
  void CutNow() {
    MutexLock lock(&mutex_);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    if (!open_.empty()) ++cuts_;
  }
  int cuts() {
    MutexLock lock(&mutex_);
    return cuts_;
  }
  // From client to server, all connections together.
  int64_t sent_bytes() {
    MutexLock lock(&mutex_);
    return sent_bytes_;
  }
  // Pieces from server to client.
  int64_t replies() {
    MutexLock lock(&mutex_);
    return replies_;
  }

 private:
  // How many of `size` bytes may pass; fewer means that the connection is cut
  // after them.
  int64_t Allow(bool to_server, int64_t size) {
    MutexLock lock(&mutex_);
    if (to_server) {
      sent_bytes_ += size;
      if (!sent_left_.has_value()) return size;
      const int64_t pass = std::min(size, *sent_left_);
      *sent_left_ -= pass;
      if (pass < size) {
        sent_left_.reset();
        ++cuts_;
      }
      return pass;
    }
    ++replies_;
    if (!replies_left_.has_value() || --*replies_left_ > 0) return size;
    replies_left_.reset();
    ++cuts_;
    return 0;
  }

  void Serve(int client, uint16_t to) {
    const int server = DialLoopback(to);
    SetOpen(client, server, true);
    Relay(client, server);
    SetOpen(client, server, false);
    close(server);
  }

  void SetOpen(int client, int server, bool open) {
    MutexLock lock(&mutex_);
    for (const int fd : {client, server}) {
      if (open) {
        open_.insert(fd);
      } else {
        open_.erase(fd);
      }
    }
  }

  void Relay(int client, int server) {
    std::array<char, 65536> buffer;
    const std::array<int, 2> fds = {client, server};
    for (;;) {
      std::array<pollfd, 2> waiting = {pollfd{client, POLLIN, 0},
                                       pollfd{server, POLLIN, 0}};
      if (poll(waiting.data(), waiting.size(), -1) <= 0) return;
      for (size_t from = 0; from < 2; ++from) {
        if (waiting[from].revents == 0) continue;
        const ssize_t got = recv(fds[from], buffer.data(), buffer.size(), 0);
        if (got <= 0) return;
        const int64_t pass = Allow(from == 0, got);
        if (!SendAll(fds[1 - from], buffer.data(), pass) || pass < got) return;
      }
    }
  }

  static bool SendAll(int fd, const char* data, int64_t size) {
    while (size > 0) {
      const ssize_t sent =
          send(fd, data, static_cast<size_t>(size), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      data += sent;
      size -= sent;
    }
    return true;
  }

  Mutex mutex_;
  std::optional<int64_t> sent_left_ ABSL_GUARDED_BY(mutex_);
  std::optional<int64_t> replies_left_ ABSL_GUARDED_BY(mutex_);
  int cuts_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t sent_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t replies_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<int> open_ ABSL_GUARDED_BY(mutex_);
  LoopbackServer server_;  // last: its threads use what is above
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_CUTTING_PROXY_H_

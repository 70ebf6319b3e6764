#ifndef CONSILIUM_CLIENT_OPTIONS_H_
#define CONSILIUM_CLIENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "consilium/client/types.h"

namespace consilium::client {

// Waits between attempts: capped exponential with full jitter, so attempt k
// waits uniformly in [0, min(cap, initial * multiplier^k)).
struct RetryPolicy {
  absl::Duration initial = absl::Milliseconds(200);
  absl::Duration cap = absl::Seconds(30);
  double multiplier = 2.0;
  // A call that made no progress for this long returns the last error. Zero:
  // never; end it with a CancelToken.
  absl::Duration give_up_after = absl::ZeroDuration();
};

struct ClientOptions {
  // host:port of the coordinator's service.
  std::string coordinator;

  // Made by enrolment: client.pem, client.key, root-ca.pem, signing.pub.
  std::string identity_dir;

  // Outbox and cache; one process at a time. "": identity_dir + "/state".
  std::string state_dir;

  RetryPolicy retry;

  // Deadline of one control call (greeting, admission, commit, ...); a long
  // poll has this much on top of its wait.
  absl::Duration control_timeout = absl::Seconds(20);
  // A transfer that moves nothing for this long is cut and resumed.
  absl::Duration stall_timeout = absl::Seconds(60);
  // A ping on the idle connection, so that no NAT forgets it, and how long its
  // answer may take.
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(10);

  // HTTP CONNECT proxy: a URL, "none", or "" for the environment's
  // (https_proxy, no_proxy).
  std::string proxy;
  // The name to expect in the server's certificate when it is not the host of
  // `coordinator` (a tunnel). "": that host.
  std::string server_name;

  // A process that is killed never loses its outbox. With outbox_sync it also
  // survives a loss of power, once an upload has lasted for outbox_sync_delay:
  // then it is synced to disk in the background. Before, or without it, a loss
  // of power during an upload means training that round again.
  bool outbox_sync = true;
  absl::Duration outbox_sync_delay = absl::Seconds(10);

  // Version files kept on disk, least recently used dropped first; at least 1.
  int cached_versions = 2;

  // Version files and sealed uploads that are done with are kept up to this
  // many bytes, to be overwritten by the next ones, which is faster than making
  // new files; removed when the disk is full. 0: none are kept.
  int64_t spare_bytes = int64_t{4} << 30;

  // The most that a federation's layout may have: bytes of its text, tensors.
  int64_t max_layout_bytes = int64_t{64} << 20;
  int64_t max_layout_slots = int64_t{1} << 20;

  // Named in the coordinator's log. "": "consilium-client <version>".
  std::string software;

  // Called from any thread of any call, one at a time; must be quick and must
  // not call the Client.
  std::function<void(const Event&)> observer;
};

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_OPTIONS_H_

// How often somebody may ask.

#ifndef CONSILIUM_COORDINATOR_RPC_RATE_LIMIT_H_
#define CONSILIUM_COORDINATOR_RPC_RATE_LIMIT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "consilium/base/mutex.h"

namespace consilium {

// The address in gRPC's name of a peer, "ipv4:192.0.2.7:49152": without the
// port, and of an IPv6 address the first 64 bits, since whoever has one has
// all of those. Other names stay as they are.
std::string AddressOfPeer(std::string_view peer);

// Token buckets, one for all callers and one for each address (or other name of
// who calls): a minute's worth at once, then a steady trickle. An address over
// its own limit takes nothing from the others. Bounded memory. Thread-safe.
class RateLimit {
 public:
  struct Options {
    std::string what;  // in refusals: "enrolments"
    // What the limits below call a minute.
    absl::Duration period = absl::Minutes(1);
    // Each with the key that sets it; 0: no limit.
    int64_t per_minute = 0;
    std::string per_minute_key;
    int64_t per_minute_and_address = 0;
    std::string per_minute_and_address_key;
    // Addresses remembered; further ones share one bucket.
    size_t max_addresses = 4096;
  };
  explicit RateLimit(Options options);

  // `now`: monotonic.
  // Errors: RESOURCE_EXHAUSTED naming the limit, its key, and when to try
  // again.
  absl::Status Admit(std::string_view address, absl::Duration now);

  size_t addresses() const;

 private:
  struct Bucket {
    double tokens = 0;
    absl::Duration at;
  };
  // Zero, or how long until the bucket has one.
  absl::Duration Wait(Bucket& bucket, int64_t per_minute,
                      absl::Duration now) const;
  Bucket& BucketOf(std::string_view address, absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  Bucket all_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Bucket, std::less<>> buckets_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_RATE_LIMIT_H_

#include "coordinator/rpc/rate_limit.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <utility>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

absl::Status TooMany(const RateLimit::Options& options, std::string_view from,
                     std::string_view key, int64_t limit, absl::Duration wait) {
  // In whole seconds, never none.
  const int64_t seconds = std::max<int64_t>(
      absl::ToInt64Seconds(absl::Ceil(wait, absl::Seconds(1))), 1);
  return absl::ResourceExhaustedError(Cat("too many ", options.what, from, ": ",
                                          key, " is ", limit, "; try again in ",
                                          seconds, "s"));
}

}  // namespace

std::string AddressOfPeer(std::string_view peer) {
  if (peer.starts_with("ipv4:")) {
    return std::string(peer.substr(5, peer.rfind(':') - 5));
  }
  if (!peer.starts_with("ipv6:")) return std::string(peer);
  std::string text(peer.substr(5, peer.rfind(':') - 5));
  // gRPC escapes the brackets.
  for (const std::string_view bracket : {"[", "]", "%5B", "%5D"}) {
    for (size_t at = text.find(bracket); at != std::string::npos;
         at = text.find(bracket)) {
      text.erase(at, bracket.size());
    }
  }
  text = text.substr(0, text.find('%'));  // the scope
  std::array<unsigned char, 16> bytes;
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) return text;
  char out[INET6_ADDRSTRLEN] = {};
  constexpr std::array<unsigned char, 12> kMapped = {0, 0, 0, 0, 0,    0,
                                                     0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(kMapped.begin(), kMapped.end(), bytes.begin())) {
    inet_ntop(AF_INET, bytes.data() + kMapped.size(), out, sizeof(out));
    return out;
  }
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  inet_ntop(AF_INET6, bytes.data(), out, sizeof(out));
  return Cat(out, "/64");
}

RateLimit::RateLimit(Options options) : options_(std::move(options)) {
  all_.tokens = static_cast<double>(options_.per_minute);
}

absl::Duration RateLimit::Wait(Bucket& bucket, int64_t per_minute,
                               absl::Duration now) const {
  if (per_minute == 0) return absl::ZeroDuration();
  const double full = static_cast<double>(per_minute);
  const double came =
      full * absl::FDivDuration(std::max(now - bucket.at, absl::ZeroDuration()),
                                options_.period);
  bucket.tokens = std::min(full, bucket.tokens + came);
  bucket.at = std::max(bucket.at, now);
  if (bucket.tokens >= 1.0) return absl::ZeroDuration();
  return options_.period * ((1.0 - bucket.tokens) / full);
}

RateLimit::Bucket& RateLimit::BucketOf(std::string_view address,
                                       absl::Duration now) {
  const auto found = buckets_.find(address);
  if (found != buckets_.end()) return found->second;
  if (buckets_.size() >= options_.max_addresses) {
    // One that has been quiet for that long is as good as new.
    std::erase_if(buckets_, [&](const auto& entry) {
      return now - entry.second.at >= options_.period;
    });
  }
  const std::string key(buckets_.size() >= options_.max_addresses ? ""
                                                                  : address);
  const double full = static_cast<double>(options_.per_minute_and_address);
  return buckets_.try_emplace(key, Bucket{full, now}).first->second;
}

absl::Status RateLimit::Admit(std::string_view address, absl::Duration now) {
  MutexLock lock(&mu_);
  Bucket* own = nullptr;
  if (options_.per_minute_and_address > 0) {
    own = &BucketOf(address, now);
    const absl::Duration wait =
        Wait(*own, options_.per_minute_and_address, now);
    if (wait > absl::ZeroDuration()) {
      return TooMany(options_, Cat(" from ", address),
                     options_.per_minute_and_address_key,
                     options_.per_minute_and_address, wait);
    }
  }
  const absl::Duration wait = Wait(all_, options_.per_minute, now);
  if (wait > absl::ZeroDuration()) {
    return TooMany(options_, "", options_.per_minute_key, options_.per_minute,
                   wait);
  }
  if (own != nullptr) own->tokens -= 1.0;
  all_.tokens -= 1.0;
  return absl::OkStatus();
}

size_t RateLimit::addresses() const {
  MutexLock lock(&mu_);
  return buckets_.size();
}

}  // namespace consilium

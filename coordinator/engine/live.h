// A setting that a reload may change while others read it.

#ifndef CONSILIUM_COORDINATOR_ENGINE_LIVE_H_
#define CONSILIUM_COORDINATOR_ENGINE_LIVE_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace consilium {

// Reads and writes like its value, from any thread; each read stands alone.
template <typename T>
class Live;

template <>
class Live<int64_t> {
 public:
  Live(int64_t value) : value_(value) {}  // NOLINT: stands for its value
  Live(const Live& other) : value_(other.get()) {}
  Live& operator=(const Live& other) {
    value_.store(other.get());
    return *this;
  }
  int64_t get() const { return value_.load(std::memory_order_relaxed); }
  operator int64_t() const { return get(); }  // NOLINT: as above

 private:
  std::atomic<int64_t> value_;
};

// In whole nanoseconds.
template <>
class Live<absl::Duration> {
 public:
  Live(absl::Duration value)  // NOLINT: as above
      : value_(absl::ToInt64Nanoseconds(value)) {}
  absl::Duration get() const {
    const int64_t value = value_.get();
    return value == INT64_MAX ? absl::InfiniteDuration()
                              : absl::Nanoseconds(value);
  }
  operator absl::Duration() const { return get(); }  // NOLINT: as above

 private:
  Live<int64_t> value_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_LIVE_H_

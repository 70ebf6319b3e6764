// Deterministic randomness. Thread-safe, though the order of calls then counts.
//
// CONSILIUM_SEED in the environment overrides the seed, and a failing test
// prints the one it used.
#ifndef CONSILIUM_TESTS_SUPPORT_SEEDED_RANDOM_H_
#define CONSILIUM_TESTS_SUPPORT_SEEDED_RANDOM_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "consilium/base/bytes.h"
#include "consilium/base/mutex.h"
#include "consilium/base/random.h"

namespace consilium {

class SeededRandom final : public RandomSource {
 public:
  explicit SeededRandom(uint64_t seed = 1) : seed_(seed), state_(seed) {
    if (const char* text = std::getenv("CONSILIUM_SEED"); text != nullptr) {
      state_ = seed_ = std::strtoull(text, nullptr, 10);
    }
  }
  ~SeededRandom() override {
    if (::testing::Test::HasFailure()) {
      std::fprintf(stderr, "repeat with CONSILIUM_SEED=%llu\n",
                   static_cast<unsigned long long>(seed_));
    }
  }

  void Fill(std::span<std::byte> out) override {
    MutexLock lock(&mutex_);
    while (!out.empty()) {
      std::byte word[8];
      StoreLittleEndian(Step(), word);
      const size_t n = out.size() < 8 ? out.size() : 8;
      std::copy(word, word + n, out.begin());
      out = out.subspan(n);
    }
  }

  uint64_t seed() const { return seed_; }

 private:
  // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
  // generators", OOPSLA 2014).
  uint64_t Step() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t seed_;
  Mutex mutex_;
  uint64_t state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_SEEDED_RANDOM_H_

// Seeded randomness whose numbers are the same on every machine and standard
// library: for splits, shuffles and starting values. Never for secrets.
#ifndef CONSILIUM_BASE_SPLIT_MIX_H_
#define CONSILIUM_BASE_SPLIT_MIX_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "consilium/base/random.h"

namespace consilium {

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
// generators", OOPSLA 2014). Not thread-safe.
class SplitMixRandom final : public RandomSource {
 public:
  explicit SplitMixRandom(uint64_t seed) : state_(seed) {}

  void Fill(std::span<std::byte> out) override {
    while (!out.empty()) {
      uint64_t word = Next();
      const size_t n = std::min<size_t>(out.size(), sizeof(word));
      for (size_t i = 0; i < n; ++i, word >>= 8) {
        out[i] = static_cast<std::byte>(word & 0xff);
      }
      out = out.subspan(n);
    }
  }

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// Fisher-Yates; std::shuffle may differ between libraries.
template <typename T>
void Shuffle(RandomSource& random, std::span<T> items) {
  for (size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[RandomBelow(random, i)]);
  }
}

}  // namespace consilium

#endif  // CONSILIUM_BASE_SPLIT_MIX_H_

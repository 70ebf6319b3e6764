// Randomness as an interface. consilium::crypto provides the cryptographic
// source; tests/support has a seeded one.
#ifndef CONSILIUM_BASE_RANDOM_H_
#define CONSILIUM_BASE_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace consilium {

// Thread-safe. A source that cannot deliver aborts the process: there is no
// safe way to go on without randomness.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void Fill(std::span<std::byte> out) = 0;
};

uint64_t RandomU64(RandomSource& source);

// Uniform in [0, bound), without modulo bias. bound > 0 (CHECK).
uint64_t RandomBelow(RandomSource& source, uint64_t bound);

// Uniform in [0, 1), a multiple of 2^-53.
double RandomUnit(RandomSource& source);

// `bytes` random bytes in hexadecimal, so 2 * bytes characters.
std::string RandomHex(RandomSource& source, size_t bytes);

}  // namespace consilium

#endif  // CONSILIUM_BASE_RANDOM_H_

#include "consilium/base/random.h"

#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {

uint64_t RandomU64(RandomSource& source) {
  std::byte raw[8];
  source.Fill(raw);
  return LoadLittleEndian<uint64_t>(raw);
}

uint64_t RandomBelow(RandomSource& source, uint64_t bound) {
  CONSILIUM_CHECK(bound > 0);
  // The first 2^64 mod bound values would make small results too likely.
  const uint64_t rejected = (0 - bound) % bound;
  uint64_t value;
  do {
    value = RandomU64(source);
  } while (value < rejected);
  return value % bound;
}

double RandomUnit(RandomSource& source) {
  return static_cast<double>(RandomU64(source) >> 11) * 0x1p-53;
}

std::string RandomHex(RandomSource& source, size_t bytes) {
  std::vector<std::byte> raw(bytes);
  source.Fill(raw);
  return HexEncode(raw);
}

}  // namespace consilium

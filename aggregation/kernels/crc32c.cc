#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "aggregation/kernels/scalar.h"
#include "consilium/aggregation/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "aggregation/kernels/crc32c.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which sets the target that this header reads.
#include "hwy/highway.h"

#ifndef CONSILIUM_AGGREGATION_KERNELS_CRC32C_TABLES_
#define CONSILIUM_AGGREGATION_KERNELS_CRC32C_TABLES_
namespace consilium::kernels::crc32c {

// The CRC instruction answers after 3 cycles but starts one each cycle, so
// three streams of kStream bytes run side by side. A register is moved past
// the bytes of a later stream by a linear map, kept as four byte tables.
inline constexpr size_t kStream = 2048;
using ShiftTables = std::array<std::array<uint32_t, 256>, 4>;

// Feeds `bytes` zero bytes to the register `crc`.
constexpr uint32_t FeedZeros(uint32_t crc, size_t bytes) {
  for (size_t bit = 0; bit < 8 * bytes; ++bit) {
    crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return crc;
}

inline ShiftTables MakeShift(size_t bytes) {
  std::array<uint32_t, 32> image;  // of each bit of the register
  for (size_t bit = 0; bit < 32; ++bit) {
    image[bit] = FeedZeros(uint32_t{1} << bit, bytes);
  }
  ShiftTables tables{};
  for (size_t table = 0; table < 4; ++table) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      for (size_t bit = 0; bit < 8; ++bit) {
        if ((byte >> bit) & 1) tables[table][byte] ^= image[8 * table + bit];
      }
    }
  }
  return tables;
}

inline uint32_t Apply(const ShiftTables& tables, uint32_t crc) {
  return tables[0][crc & 0xFF] ^ tables[1][(crc >> 8) & 0xFF] ^
         tables[2][(crc >> 16) & 0xFF] ^ tables[3][crc >> 24];
}

}  // namespace consilium::kernels::crc32c
#endif

HWY_BEFORE_NAMESPACE();
namespace consilium::kernels::HWY_NAMESPACE {

// Lower numbers are better targets; all x86 ones from SSE4 on have CRC32.
#if HWY_ARCH_X86_64 && HWY_TARGET <= HWY_SSE4

HWY_INLINE uint64_t Load64(const std::byte* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

uint32_t Crc32c(const std::byte* p, size_t n, uint32_t crc) {
  using crc32c::kStream;
  static const crc32c::ShiftTables shift = crc32c::MakeShift(kStream);
  uint64_t a = ~crc;
  for (; n >= 3 * kStream; n -= 3 * kStream, p += 3 * kStream) {
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < kStream; i += 8) {
      a = _mm_crc32_u64(a, Load64(p + i));
      b = _mm_crc32_u64(b, Load64(p + kStream + i));
      c = _mm_crc32_u64(c, Load64(p + 2 * kStream + i));
    }
    a = crc32c::Apply(shift, static_cast<uint32_t>(a)) ^ b;
    a = crc32c::Apply(shift, static_cast<uint32_t>(a)) ^ c;
  }
  for (; n >= 8; n -= 8, p += 8) a = _mm_crc32_u64(a, Load64(p));
  auto tail = static_cast<uint32_t>(a);
  for (; n > 0; --n, ++p) {
    tail = _mm_crc32_u8(tail, static_cast<unsigned char>(*p));
  }
  return ~tail;
}

#else

uint32_t Crc32c(const std::byte* p, size_t n, uint32_t crc) {
  return scalar::Crc32c({p, n}, crc);
}

#endif

}  // namespace consilium::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consilium::kernels {
namespace {
HWY_EXPORT(Crc32c);
}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc) {
  return HWY_DYNAMIC_DISPATCH(Crc32c)(bytes.data(), bytes.size(), crc);
}

}  // namespace consilium::kernels
#endif

#include "consilium/aggregation/widen.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

// A binary format with `exponent_bits` and `mantissa_bits`, subnormals, and
// infinities where the largest exponent is reserved for them.
template <int exponent_bits, int mantissa_bits, bool has_infinity>
float FromBits(uint32_t bits) {
  constexpr int kBias = (1 << (exponent_bits - 1)) - 1;
  constexpr uint32_t kTop = (1u << exponent_bits) - 1;
  constexpr uint32_t kMantissa = (1u << mantissa_bits) - 1;
  const uint32_t mantissa = bits & kMantissa;
  const uint32_t exponent = (bits >> mantissa_bits) & kTop;
  const bool negative = (bits >> (mantissa_bits + exponent_bits)) & 1;
  float value;
  if (exponent == kTop && has_infinity) {
    value = mantissa == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == kTop && mantissa == kMantissa) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), 1 - kBias - mantissa_bits);
  } else {
    value = std::ldexp(static_cast<float>(mantissa | (kMantissa + 1)),
                       static_cast<int>(exponent) - kBias - mantissa_bits);
  }
  return negative ? -value : value;
}

template <typename T, typename Convert>
void Each(std::span<const std::byte> bytes, std::span<float> out,
          Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    T element;
    std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(element);
  }
}

}  // namespace

absl::Status WidenToFloat(DType dtype, std::span<const std::byte> bytes,
                          std::span<float> out) {
  if (bytes.size() != out.size() * static_cast<size_t>(DTypeBytes(dtype))) {
    return absl::InvalidArgumentError(Cat(out.size(), " elements of ",
                                          DTypeName(dtype), " are not ",
                                          bytes.size(), " bytes"));
  }
  switch (dtype) {
    case DType::kF32:
      if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
      return absl::OkStatus();
    case DType::kF64:
      Each<double>(bytes, out, [](double v) { return static_cast<float>(v); });
      return absl::OkStatus();
    case DType::kBF16:
      Each<uint16_t>(bytes, out, [](uint16_t v) {
        return std::bit_cast<float>(static_cast<uint32_t>(v) << 16);
      });
      return absl::OkStatus();
    case DType::kF16:
      Each<uint16_t>(bytes, out, FromBits<5, 10, true>);
      return absl::OkStatus();
    case DType::kF8E5M2:
      Each<uint8_t>(bytes, out, FromBits<5, 2, true>);
      return absl::OkStatus();
    case DType::kF8E4M3:
      Each<uint8_t>(bytes, out, FromBits<4, 3, false>);
      return absl::OkStatus();
    case DType::kI8:
      Each<int8_t>(bytes, out, [](int8_t v) { return static_cast<float>(v); });
      return absl::OkStatus();
    case DType::kU8:
      Each<uint8_t>(bytes, out,
                    [](uint8_t v) { return static_cast<float>(v); });
      return absl::OkStatus();
    default:
      return absl::UnimplementedError(
          Cat("elements of ", DTypeName(dtype), " are not read as numbers"));
  }
}

}  // namespace consilium

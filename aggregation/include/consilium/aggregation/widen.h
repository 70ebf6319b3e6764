#ifndef CONSILIUM_AGGREGATION_WIDEN_H_
#define CONSILIUM_AGGREGATION_WIDEN_H_

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "consilium/aggregation/dtype.h"

namespace consilium {

// Little-endian elements of a file as float32. F16 and BF16 are IEEE 754 half
// and its 8-bit-exponent sibling; F8_E5M2 and F8_E4M3 are those of the OCP
// 8-bit floating point specification 1.0 (E4M3 has no infinity, and one NaN
// for each sign). F64 is rounded to nearest even; every other conversion is
// exact. I8 and U8 are plain integers.
//
// Errors: UNIMPLEMENTED for another dtype; INVALID_ARGUMENT when `bytes` does
// not hold out.size() elements.
absl::Status WidenToFloat(DType dtype, std::span<const std::byte> bytes,
                          std::span<float> out);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_WIDEN_H_

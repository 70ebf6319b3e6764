#ifndef CONSILIUM_AGGREGATION_DTYPE_H_
#define CONSILIUM_AGGREGATION_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace consilium {

// Element types of a safetensors file with a whole number of bytes each.
// The names are those of the file format ("F32", "BF16", ...).
enum class DType : uint8_t {
  kBool = 0,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

std::string_view DTypeName(DType dtype);
std::optional<DType> ParseDType(std::string_view name);
int64_t DTypeBytes(DType dtype);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_DTYPE_H_

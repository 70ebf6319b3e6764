#include "consilium/aggregation/dtype.h"

#include <array>
#include <cstddef>

namespace consilium {
namespace {

struct Row {
  std::string_view name;
  int bytes;
};

// In the order of the enum.
constexpr std::array<Row, 17> kRows = {{
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E5M2", 1},
    {"F8_E4M3", 1},
    {"F8_E8M0", 1},
    {"I16", 2},
    {"U16", 2},
    {"F16", 2},
    {"BF16", 2},
    {"I32", 4},
    {"U32", 4},
    {"F32", 4},
    {"C64", 8},
    {"F64", 8},
    {"I64", 8},
    {"U64", 8},
}};
static_assert(static_cast<size_t>(DType::kU64) + 1 == kRows.size());

}  // namespace

std::string_view DTypeName(DType dtype) {
  return kRows[static_cast<size_t>(dtype)].name;
}

std::optional<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t DTypeBytes(DType dtype) {
  return kRows[static_cast<size_t>(dtype)].bytes;
}

}  // namespace consilium

#ifndef CONSILIUM_AGGREGATION_SAFETENSORS_H_
#define CONSILIUM_AGGREGATION_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/dtype.h"
#include "consilium/aggregation/name_index.h"
#include "consilium/base/file.h"

namespace consilium {

// Reading and writing the safetensors container: u64 little-endian header
// length, a JSON header, then the tensors' bytes. The reader is strict where
// the format allows a file to lie: tensors must tile the data part exactly
// (no gap, no overlap, nothing left over), sizes must match shape and dtype,
// names and keys must be unique, the header must be one flat JSON object.

// One tensor of a file. Offsets count bytes from the start of the data part.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // empty: scalar
  int64_t begin = 0;
  int64_t end = 0;

  int64_t bytes() const { return end - begin; }
  int64_t elements() const { return bytes() / DTypeBytes(dtype); }
};

// Those of a version file follow from its layout: VersionFileLimits().
struct SafetensorsLimits {
  int64_t max_header_bytes = 100'000'000;
  int64_t max_tensors = int64_t{1} << 20;
  int64_t max_name_bytes = 512;
  int64_t max_rank = 8;
  int64_t max_metadata_entries = 4096;
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  int64_t data_offset = 0;  // of the data part, from the start of the file
  int64_t data_bytes = 0;

  // nullptr when there is no such tensor.
  const TensorInfo* Find(std::string_view name) const;

  NameIndex by_name;  // into tensors
};

// Parses the JSON of a header whose file has `data_bytes` bytes after it.
// Time and memory are linear in json.size(). `data_offset` of the result is
// 8 + json.size().
//
// Errors:
//   INVALID_ARGUMENT    broken JSON or a broken rule; names tensor and rule
//   RESOURCE_EXHAUSTED  beyond a limit; the message names it
//   UNIMPLEMENTED       a dtype whose elements are not whole bytes, or unknown
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    std::string_view json, int64_t data_bytes,
    const SafetensorsLimits& limits = {});

// Reads the header only. Errors: as above; DATA_LOSS for a file too short to
// hold the header it announces; errors of the file.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(
    File* file, const SafetensorsLimits& limits = {});

// A whole file in memory or in a read-only mapping. Does not own the bytes.
class SafetensorsView {
 public:
  // Errors: as ReadSafetensorsHeader().
  static absl::StatusOr<SafetensorsView> Parse(
      std::span<const std::byte> file, const SafetensorsLimits& limits = {});

  const SafetensorsHeader& header() const { return header_; }
  // The bytes of a tensor, whatever its dtype. Errors: NOT_FOUND.
  absl::StatusOr<std::span<const std::byte>> Bytes(std::string_view name) const;
  // The elements of an F32 tensor, in place. Errors: NOT_FOUND;
  // FAILED_PRECONDITION when the dtype is not F32 or the bytes lie at an
  // address that is not a multiple of 4 (a header not padded to 8).
  absl::StatusOr<std::span<const float>> Floats(std::string_view name) const;

 private:
  SafetensorsHeader header_;
  std::span<const std::byte> data_;
};

// What a writer needs of one tensor.
struct TensorSpec {
  std::string_view name;
  DType dtype = DType::kF32;
  std::span<const int64_t> shape;
};

// The bytes before the data part: length and header, padded with spaces so
// that data starts at a multiple of `alignment` (a multiple of 8). Tensors lie
// in the order given, without gaps. Equal arguments give equal bytes.
// Errors: INVALID_ARGUMENT for a repeated or empty name, or a size that
// overflows.
absl::StatusOr<std::string> BuildSafetensorsHeader(
    std::span<const TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata,
    int64_t alignment = 4096);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_SAFETENSORS_H_

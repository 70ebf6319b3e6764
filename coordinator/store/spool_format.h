#ifndef CONSILIUM_COORDINATOR_STORE_SPOOL_FORMAT_H_
#define CONSILIUM_COORDINATOR_STORE_SPOOL_FORMAT_H_

// Bytes of a spool file; FORMAT.md section 4. Private to the store.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "coordinator/store/spool.h"

namespace consilium {

inline constexpr uint32_t kSpoolMagic = 0x4c505343;  // "CSPL"
inline constexpr uint16_t kSpoolVersion = 1;
inline constexpr uint16_t kSpoolFlagSealed = 1;
inline constexpr uint16_t kSpoolFlagMasked = 2;
inline constexpr size_t kSpoolFixedBytes = 96;   // before the variable part
inline constexpr size_t kSpoolHashOffset = 64;   // of the header's SHA-256
inline constexpr size_t kSpoolAlignment = 4096;  // of the first record
inline constexpr size_t kSpoolRecordHead = 16;
inline constexpr size_t kSpoolTagBytes = 16;  // AES-GCM's, in each sealed body

// Errors: INVALID_ARGUMENT naming the field, its value and its limit.
absl::Status CheckSpoolHeader(const SpoolHeader& header);

// The header's bytes, padded to kSpoolAlignment.
std::vector<std::byte> EncodeSpoolHeader(const SpoolHeader& header);

struct DecodedSpoolHeader {
  SpoolHeader header;
  int64_t bytes = 0;  // offset of the first record
};
// Errors: DATA_LOSS naming the file and what does not fit; UNIMPLEMENTED for a
// format version this program does not know.
absl::StatusOr<DecodedSpoolHeader> ReadSpoolHeader(File* file);

// Bytes of the complete file.
int64_t SpoolFileBytes(const SpoolHeader& header);

struct SpoolRecordHead {
  uint32_t length = 0;  // of the body; 0: no record here
  uint32_t vector = 0;
  uint64_t index = 0;
};
std::array<std::byte, kSpoolRecordHead> EncodeRecordHead(
    const SpoolRecordHead& head);
// Reads the head at `offset`. False: there is no good record `expected`, so
// the file ends here (end of file, torn, out of order).
absl::StatusOr<bool> ReadRecordHead(File* file, int64_t offset,
                                    int64_t file_size, uint64_t expected,
                                    const SpoolHeader& header,
                                    SpoolRecordHead* head);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SPOOL_FORMAT_H_

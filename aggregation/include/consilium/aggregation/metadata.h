#ifndef CONSILIUM_AGGREGATION_METADATA_H_
#define CONSILIUM_AGGREGATION_METADATA_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/frame.h"

namespace consilium {

// What an institution says about its contribution. It travels as frame 0, so
// that counts and metrics are sealed like the parameters.
//
// Body of that frame, little-endian: u16 version = 1, then fields
//   u16 tag | u32 length | bytes       tags strictly ascending
//   1  examples      u64
//   2  group tokens  (u32 group, u64 tokens)*, groups strictly ascending
//   3  metrics       (u16 length, name, f64)*, names strictly ascending
//   16 - 31          reserved for clipping and attestation
// Tags not named here are skipped, so that old coordinators read new clients.
struct GroupTokens {
  uint32_t group = 0;   // index into Layout::groups()
  uint64_t tokens = 0;  // tokens routed to that expert
  friend bool operator==(const GroupTokens&, const GroupTokens&) = default;
};

struct NamedMetric {
  std::string name;  // [a-z0-9_./-]+
  double value = 0;  // finite
  friend bool operator==(const NamedMetric&, const NamedMetric&) = default;
};

struct ContributionMetadata {
  uint64_t examples = 0;
  std::vector<GroupTokens> group_tokens = {};
  std::vector<NamedMetric> metrics = {};
  friend bool operator==(const ContributionMetadata&,
                         const ContributionMetadata&) = default;
};

// In configuration: limits.max_metadata_bytes, limits.max_metrics.
struct MetadataLimits {
  int64_t max_metadata_bytes = kMaxFrameBodyBytes;  // and never above it
  int64_t max_metrics = 1024;
  int64_t max_metric_name_bytes = 128;
};

// The whole frame 0. Sorts tokens and metrics. Errors: INVALID_ARGUMENT for a
// repeated group or metric, a bad name or a value that is not finite;
// RESOURCE_EXHAUSTED beyond a limit.
absl::StatusOr<std::vector<std::byte>> EncodeMetadataFrame(
    ContributionMetadata metadata, const MetadataLimits& limits = {});

// `groups`: number of groups of the layout. Errors: as above, and
// INVALID_ARGUMENT for a group index >= groups or bytes that break the grammar.
absl::StatusOr<ContributionMetadata> DecodeMetadata(
    const FrameView& frame, size_t groups, const MetadataLimits& limits = {});

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_METADATA_H_

#include "consilium/aggregation/metadata.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr uint16_t kMetadataVersion = 1;
constexpr uint16_t kExamplesTag = 1;
constexpr uint16_t kGroupTokensTag = 2;
constexpr uint16_t kMetricsTag = 3;

bool IsMetricName(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '/' || c == '-';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), plain);
}

absl::Status CheckMetric(std::string_view name, double value,
                         const MetadataLimits& limits) {
  if (std::cmp_greater(name.size(), limits.max_metric_name_bytes)) {
    return absl::ResourceExhaustedError(Cat(
        "metadata: a metric name of ", name.size(),
        " bytes exceeds max_metric_name_bytes ", limits.max_metric_name_bytes));
  }
  if (!IsMetricName(name)) {
    return absl::InvalidArgumentError(Cat(
        "metadata: metric name ", Quoted(name), " is not of a-z 0-9 _ . / -"));
  }
  if (!std::isfinite(value)) {
    return absl::InvalidArgumentError(
        Cat("metadata: metric ", Quoted(name), " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckMetricCount(size_t count, const MetadataLimits& limits) {
  if (std::cmp_greater(count, limits.max_metrics)) {
    return absl::ResourceExhaustedError(
        Cat("metadata: ", count, " metrics exceed limits.max_metrics ",
            limits.max_metrics));
  }
  return absl::OkStatus();
}

absl::Status CheckSize(size_t bytes, const MetadataLimits& limits) {
  const int64_t most = std::min(limits.max_metadata_bytes,
                                static_cast<int64_t>(kMaxFrameBodyBytes));
  if (std::cmp_greater(bytes, most)) {
    return absl::ResourceExhaustedError(
        Cat("metadata of ", bytes, " bytes exceeds limits.max_metadata_bytes ",
            most));
  }
  return absl::OkStatus();
}

void Field(uint16_t tag, std::span<const std::byte> bytes, ByteWriter* out) {
  out->U16(tag);
  out->LengthPrefixed(bytes);
}

absl::Status ReadGroupTokens(std::span<const std::byte> bytes, size_t groups,
                             std::vector<GroupTokens>* out) {
  ByteReader in(bytes, "metadata group tokens");
  while (!in.done()) {
    GroupTokens entry;
    CONSILIUM_ASSIGN_OR_RETURN(entry.group, in.U32());
    CONSILIUM_ASSIGN_OR_RETURN(entry.tokens, in.U64());
    if (entry.group >= groups) {
      return absl::InvalidArgumentError(
          Cat("metadata: tokens for group ", entry.group, " of ", groups));
    }
    if (!out->empty() && entry.group <= out->back().group) {
      return absl::InvalidArgumentError(
          Cat("metadata: tokens for group ", entry.group, " are out of order"));
    }
    out->push_back(entry);
  }
  return absl::OkStatus();
}

absl::Status ReadMetrics(std::span<const std::byte> bytes,
                         const MetadataLimits& limits,
                         std::vector<NamedMetric>* out) {
  ByteReader in(bytes, "metadata metrics");
  while (!in.done()) {
    CONSILIUM_RETURN_IF_ERROR(CheckMetricCount(out->size() + 1, limits));
    CONSILIUM_ASSIGN_OR_RETURN(const uint16_t length, in.U16());
    CONSILIUM_ASSIGN_OR_RETURN(const std::string_view name, in.Text(length));
    CONSILIUM_ASSIGN_OR_RETURN(const double value, in.F64());
    CONSILIUM_RETURN_IF_ERROR(CheckMetric(name, value, limits));
    if (!out->empty() && name <= out->back().name) {
      return absl::InvalidArgumentError(
          Cat("metadata: metric ", Quoted(name), " is out of order"));
    }
    out->push_back({std::string(name), value});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> EncodeMetadataFrame(
    ContributionMetadata metadata, const MetadataLimits& limits) {
  std::sort(metadata.group_tokens.begin(), metadata.group_tokens.end(),
            [](const GroupTokens& a, const GroupTokens& b) {
              return a.group < b.group;
            });
  std::sort(metadata.metrics.begin(), metadata.metrics.end(),
            [](const NamedMetric& a, const NamedMetric& b) {
              return a.name < b.name;
            });
  CONSILIUM_RETURN_IF_ERROR(CheckMetricCount(metadata.metrics.size(), limits));

  ByteWriter out;
  out.Zeros(kFrameHeaderBytes);
  out.U16(kMetadataVersion);
  ByteWriter field;
  field.U64(metadata.examples);
  Field(kExamplesTag, field.bytes(), &out);
  if (!metadata.group_tokens.empty()) {
    ByteWriter tokens;
    const GroupTokens* previous = nullptr;
    for (const GroupTokens& entry : metadata.group_tokens) {
      if (previous != nullptr && previous->group == entry.group) {
        return absl::InvalidArgumentError(
            Cat("metadata: tokens for group ", entry.group, " given twice"));
      }
      previous = &entry;
      tokens.U32(entry.group);
      tokens.U64(entry.tokens);
    }
    Field(kGroupTokensTag, tokens.bytes(), &out);
  }
  if (!metadata.metrics.empty()) {
    ByteWriter metrics;
    const NamedMetric* previous = nullptr;
    for (const NamedMetric& metric : metadata.metrics) {
      CONSILIUM_RETURN_IF_ERROR(CheckMetric(metric.name, metric.value, limits));
      if (previous != nullptr && previous->name == metric.name) {
        return absl::InvalidArgumentError(
            Cat("metadata: metric ", Quoted(metric.name), " given twice"));
      }
      previous = &metric;
      if (metric.name.size() > 0xFFFF) {
        return absl::InvalidArgumentError("metadata: a metric name too long");
      }
      metrics.U16(static_cast<uint16_t>(metric.name.size()));
      metrics.Text(metric.name);
      metrics.F64(metric.value);
    }
    Field(kMetricsTag, metrics.bytes(), &out);
  }
  CONSILIUM_RETURN_IF_ERROR(CheckSize(out.size() - kFrameHeaderBytes, limits));
  std::vector<std::byte> frame = std::move(out).Take();
  SealFrameHeader({.kind = FrameKind::kMetadata}, frame);
  return frame;
}

absl::StatusOr<ContributionMetadata> DecodeMetadata(
    const FrameView& frame, size_t groups, const MetadataLimits& limits) {
  if (frame.header.kind != FrameKind::kMetadata ||
      !frame.codec_header.empty()) {
    return absl::InvalidArgumentError("this frame holds no metadata");
  }
  CONSILIUM_RETURN_IF_ERROR(CheckSize(frame.body.size(), limits));
  ByteReader in(frame.body, "metadata");
  CONSILIUM_ASSIGN_OR_RETURN(const uint16_t version, in.U16());
  if (version != kMetadataVersion) {
    return absl::InvalidArgumentError(Cat(
        "metadata version ", version, "; this build reads ", kMetadataVersion));
  }
  ContributionMetadata metadata;
  std::optional<uint16_t> last_tag;
  while (!in.done()) {
    CONSILIUM_ASSIGN_OR_RETURN(const uint16_t tag, in.U16());
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                               in.LengthPrefixed(kMaxFrameBodyBytes));
    if (last_tag.has_value() && tag <= *last_tag) {
      return absl::InvalidArgumentError(
          Cat("metadata: field ", tag, " is out of order"));
    }
    last_tag = tag;
    if (tag == kExamplesTag) {
      ByteReader value(bytes, "metadata examples");
      CONSILIUM_ASSIGN_OR_RETURN(metadata.examples, value.U64());
      CONSILIUM_RETURN_IF_ERROR(value.ExpectEnd());
    } else if (tag == kGroupTokensTag) {
      CONSILIUM_RETURN_IF_ERROR(
          ReadGroupTokens(bytes, groups, &metadata.group_tokens));
    } else if (tag == kMetricsTag) {
      CONSILIUM_RETURN_IF_ERROR(ReadMetrics(bytes, limits, &metadata.metrics));
    }
  }
  return metadata;
}

}  // namespace consilium

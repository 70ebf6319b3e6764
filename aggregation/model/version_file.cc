#include "consilium/aggregation/version_file.h"

#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

constexpr char kFormatKey[] = "consilium.format";
constexpr char kFormat[] = "1";
constexpr char kLayoutKey[] = "consilium.layout";

absl::Status CheckSlot(const TensorSlot& slot, const TensorInfo& tensor) {
  if (tensor.name != slot.name || tensor.shape != slot.shape ||
      tensor.dtype != slot.dtype) {
    return absl::FailedPreconditionError(Cat(
        "tensor ", Quoted(tensor.name, 512), " stands where the layout has ",
        Quoted(slot.name, 512), " (name, shape and dtype must agree)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> BuildVersionHeader(const Layout& layout,
                                               const Sha256Digest& layout_id) {
  std::vector<TensorSpec> tensors;
  tensors.reserve(layout.slots().size());
  for (const TensorSlot& slot : layout.slots()) {
    tensors.push_back({slot.name, slot.dtype, slot.shape});
  }
  return BuildSafetensorsHeader(
      tensors, {{kFormatKey, kFormat}, {kLayoutKey, layout_id.Hex()}});
}

SafetensorsLimits VersionFileLimits(const Layout& layout) {
  constexpr int64_t kTensorsPerSlot = 3;
  constexpr int64_t kBytesOfNameByte = 6;  // escaped
  constexpr int64_t kBytesOfDimension = 24;
  constexpr int64_t kBytesBeside = 160;
  SafetensorsLimits limits;
  limits.max_tensors =
      kTensorsPerSlot * static_cast<int64_t>(layout.slots().size());
  limits.max_header_bytes = int64_t{1} << 20;
  for (const TensorSlot& slot : layout.slots()) {
    limits.max_header_bytes +=
        kTensorsPerSlot *
        (kBytesOfNameByte * static_cast<int64_t>(slot.name.size()) +
         kBytesOfDimension * static_cast<int64_t>(slot.shape.size()) +
         kBytesBeside);
  }
  return limits;
}

absl::StatusOr<VersionFileInfo> ReadVersionFile(File* file,
                                                const Layout& layout,
                                                const Sha256Digest& layout_id) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const SafetensorsHeader header,
      ReadSafetensorsHeader(file, VersionFileLimits(layout)));
  const auto value = [&](const char* key) -> std::string {
    const auto found = header.metadata.find(key);
    return found == header.metadata.end() ? "" : found->second;
  };
  if (value(kFormatKey) != kFormat) {
    return absl::InvalidArgumentError(Cat(file->path(), ": ", kFormatKey,
                                          " is ", Quoted(value(kFormatKey)),
                                          ", not \"", kFormat, "\""));
  }
  if (value(kLayoutKey) != layout_id.Hex()) {
    return absl::FailedPreconditionError(
        Cat(file->path(), ": a version of layout ", Quoted(value(kLayoutKey)),
            ", not of ", layout_id.Hex()));
  }
  if (header.tensors.size() < layout.slots().size()) {
    return absl::FailedPreconditionError(
        Cat(file->path(), ": ", header.tensors.size(),
            " tensors; the layout has ", layout.slots().size(), " slots"));
  }
  for (size_t i = 0; i < layout.slots().size(); ++i) {
    const absl::Status same = CheckSlot(layout.slots()[i], header.tensors[i]);
    if (!same.ok()) return Annotate(same, file->path());
  }
  return VersionFileInfo{.data_offset = header.data_offset,
                         .file_bytes = header.data_offset + header.data_bytes};
}

absl::StatusOr<WrittenVersion> WriteVersionFile(
    const Layout& layout, const Sha256Digest& layout_id,
    const std::function<
        absl::StatusOr<std::span<const float>>(const TensorSlot&)>& values,
    const HasherFactory& sha256, File* out) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string header,
                             BuildVersionHeader(layout, layout_id));
  const std::unique_ptr<Hasher> hasher = sha256();
  const auto write = [&](int64_t at, std::span<const std::byte> bytes) {
    hasher->Update(bytes);
    return out->WriteAt(at, bytes);
  };
  CONSILIUM_RETURN_IF_ERROR(write(0, AsBytes(header)));
  auto at = static_cast<int64_t>(header.size());
  const int64_t data_offset = at;
  for (const TensorSlot& slot : layout.slots()) {
    CONSILIUM_ASSIGN_OR_RETURN(const std::span<const float> floats,
                               values(slot));
    if (std::cmp_not_equal(floats.size(), slot.elements)) {
      return absl::InvalidArgumentError(
          Cat("slot ", Quoted(slot.name, 512), ": ", floats.size(),
              " values given, ", slot.elements, " needed"));
    }
    for (size_t i = 0; i < floats.size(); ++i) {
      if (!std::isfinite(floats[i])) {
        return absl::InvalidArgumentError(Cat("slot ", Quoted(slot.name, 512),
                                              ": value ", i, " is not finite"));
      }
    }
    CONSILIUM_RETURN_IF_ERROR(write(at, std::as_bytes(floats)));
    at += static_cast<int64_t>(floats.size_bytes());
  }
  return WrittenVersion{.digest = hasher->Finish(),
                        .info = {.data_offset = data_offset, .file_bytes = at}};
}

}  // namespace consilium

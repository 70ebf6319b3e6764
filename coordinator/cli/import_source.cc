#include "coordinator/cli/import_source.h"

#include <algorithm>
#include <utility>

#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr char kFormatKey[] = "consilium.format";

std::string Describe(DType dtype, const std::vector<int64_t>& shape) {
  std::string out = Cat(DTypeName(dtype), " ");
  for (size_t i = 0; i < shape.size(); ++i) {
    CatInto(out, i > 0 ? "x" : "", shape[i]);
  }
  return shape.empty() ? Cat(out, "scalar") : out;
}

}  // namespace

absl::StatusOr<ImportSource> ImportSource::Open(FileSystem* fs,
                                                const std::string& path,
                                                const std::string& layout_path,
                                                std::string_view layout_text) {
  ImportSource source;
  CONSILIUM_ASSIGN_OR_RETURN(source.file_, fs->Open(path, {}));
  const auto header = ReadSafetensorsHeader(source.file_.get());
  if (!header.ok()) return Annotate(header.status(), path);
  if (header->metadata.contains(kFormatKey)) {
    CONSILIUM_ASSIGN_OR_RETURN(source.bytes_, source.file_->Size());
    source.parts_.push_back({0, source.bytes_, 0});
    return source;
  }
  const auto layout = Layout::Parse(layout_text);
  if (!layout.ok()) return Annotate(layout.status(), layout_path);
  CONSILIUM_ASSIGN_OR_RETURN(source.header_,
                             BuildVersionHeader(*layout, Sha256(layout_text)));
  source.bytes_ = static_cast<int64_t>(source.header_.size());
  for (const TensorSlot& slot : layout->slots()) {
    const TensorInfo* const tensor = header->Find(slot.name);
    const std::string wanted = Describe(slot.dtype, slot.shape);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(Cat(path, ": there is no tensor ",
                                            Quoted(slot.name, 512),
                                            "; the layout has it as ", wanted));
    }
    if (tensor->dtype != slot.dtype || tensor->shape != slot.shape) {
      return absl::InvalidArgumentError(Cat(
          path, ": tensor ", Quoted(slot.name, 512), " is ",
          Describe(tensor->dtype, tensor->shape), "; the layout has ", wanted));
    }
    source.parts_.push_back(
        {source.bytes_, tensor->bytes(), header->data_offset + tensor->begin});
    source.bytes_ += tensor->bytes();
  }
  if (header->tensors.size() != layout->slots().size()) {
    for (const TensorInfo& tensor : header->tensors) {
      if (layout->FindSlot(tensor.name).has_value()) continue;
      return absl::InvalidArgumentError(Cat(path, ": tensor ",
                                            Quoted(tensor.name, 512),
                                            " is not in the layout"));
    }
  }
  return source;
}

absl::Status ImportSource::Read(int64_t at, std::span<std::byte> out) const {
  const auto header = AsBytes(header_);
  if (at < static_cast<int64_t>(header.size())) {
    const auto piece = header.subspan(static_cast<size_t>(at));
    const size_t size = std::min(piece.size(), out.size());
    std::copy_n(piece.begin(), size, out.begin());
    out = out.subspan(size);
    at += static_cast<int64_t>(size);
  }
  // The last part that begins at or before `at`.
  auto part = std::upper_bound(
      parts_.begin(), parts_.end(), at,
      [](int64_t value, const Part& p) { return value < p.at; });
  if (part != parts_.begin()) --part;
  for (; !out.empty() && part != parts_.end(); ++part) {
    const int64_t inside = at - part->at;
    const size_t size = static_cast<size_t>(std::min<int64_t>(
        part->bytes - inside, static_cast<int64_t>(out.size())));
    CONSILIUM_RETURN_IF_ERROR(
        ReadExactlyAt(file_.get(), part->offset + inside, out.first(size)));
    out = out.subspan(size);
    at += static_cast<int64_t>(size);
  }
  return absl::OkStatus();
}

absl::StatusOr<Sha256Digest> ImportSource::Digest() const {
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  std::vector<std::byte> piece(
      static_cast<size_t>(std::min(kPieceBytes, bytes_)));
  for (int64_t at = 0; at < bytes_;) {
    const std::span<std::byte> part = std::span(piece).first(
        static_cast<size_t>(std::min(kPieceBytes, bytes_ - at)));
    CONSILIUM_RETURN_IF_ERROR(Read(at, part));
    hasher->Update(part);
    at += static_cast<int64_t>(part.size());
  }
  return hasher->Finish();
}

}  // namespace consilium

#include "consilium/aggregation/safetensors.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "aggregation/model/json_reader.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"

namespace consilium {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

absl::Status Broken(std::string_view tensor, std::string_view rule) {
  return absl::InvalidArgumentError(
      Cat("safetensors header: tensor ", Quoted(tensor), ": ", rule));
}

// shape * element size in bytes; INVALID_ARGUMENT where it overflows int64.
absl::StatusOr<int64_t> BytesOf(std::string_view name, DType dtype,
                                std::span<const int64_t> shape) {
  int64_t bytes = DTypeBytes(dtype);
  for (const int64_t dim : shape) {
    if (dim < 0) return Broken(name, Cat("dimension ", dim, " is negative"));
    if (dim != 0 && bytes > std::numeric_limits<int64_t>::max() / dim) {
      return Broken(name, "its size overflows 2^63 bytes");
    }
    bytes *= dim;
  }
  return bytes;
}

class HeaderParser {
 public:
  HeaderParser(std::string_view json, const SafetensorsLimits& limits)
      : json_(json, "safetensors header"), limits_(limits) {}

  absl::Status Parse(SafetensorsHeader* header) {
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('{'));
    if (json_.Take('}')) return json_.End();
    bool has_metadata = false;
    do {
      CONSILIUM_ASSIGN_OR_RETURN(
          std::string key,
          json_.String(static_cast<size_t>(limits_.max_name_bytes)));
      CONSILIUM_RETURN_IF_ERROR(json_.Expect(':'));
      if (key == kMetadataKey) {
        if (has_metadata) return Broken(key, "appears twice");
        has_metadata = true;
        CONSILIUM_RETURN_IF_ERROR(ParseMetadata(header));
        continue;
      }
      if (std::cmp_greater_equal(header->tensors.size(), limits_.max_tensors)) {
        return absl::ResourceExhaustedError(
            Cat("safetensors header: more tensors than the limit of ",
                limits_.max_tensors));
      }
      CONSILIUM_ASSIGN_OR_RETURN(TensorInfo tensor,
                                 ParseTensor(std::move(key)));
      header->tensors.push_back(std::move(tensor));
    } while (json_.Take(','));
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('}'));
    return json_.End();
  }

 private:
  absl::Status ParseMetadata(SafetensorsHeader* header) {
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('{'));
    if (json_.Take('}')) return absl::OkStatus();
    constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();
    do {
      CONSILIUM_ASSIGN_OR_RETURN(std::string key, json_.String(kNoLimit));
      CONSILIUM_RETURN_IF_ERROR(json_.Expect(':'));
      CONSILIUM_ASSIGN_OR_RETURN(std::string value, json_.String(kNoLimit));
      if (std::cmp_greater_equal(header->metadata.size(),
                                 limits_.max_metadata_entries)) {
        return absl::ResourceExhaustedError(
            Cat("safetensors header: more metadata than the limit of ",
                limits_.max_metadata_entries));
      }
      if (!header->metadata.emplace(key, std::move(value)).second) {
        return absl::InvalidArgumentError(
            Cat("safetensors header: metadata key ", Quoted(key),
                " appears twice"));
      }
    } while (json_.Take(','));
    return json_.Expect('}');
  }

  absl::StatusOr<TensorInfo> ParseTensor(std::string name) {
    TensorInfo tensor;
    tensor.name = std::move(name);
    if (tensor.name.empty()) return Broken(tensor.name, "its name is empty");
    if (!IsPlainName(tensor.name)) {
      return Broken(tensor.name, "a name has no control characters");
    }
    bool has_dtype = false;
    bool has_shape = false;
    bool has_offsets = false;
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('{'));
    do {
      CONSILIUM_ASSIGN_OR_RETURN(const std::string key, json_.String(16));
      CONSILIUM_RETURN_IF_ERROR(json_.Expect(':'));
      bool* seen = key == "dtype"          ? &has_dtype
                   : key == "shape"        ? &has_shape
                   : key == "data_offsets" ? &has_offsets
                                           : nullptr;
      if (seen == nullptr) {
        return Broken(tensor.name, Cat("unknown key ", Quoted(key)));
      }
      if (*seen) return Broken(tensor.name, Cat(key, " appears twice"));
      *seen = true;
      const absl::Status parsed = seen == &has_dtype   ? ParseDType(&tensor)
                                  : seen == &has_shape ? ParseShape(&tensor)
                                                       : ParseOffsets(&tensor);
      CONSILIUM_RETURN_IF_ERROR(parsed);
    } while (json_.Take(','));
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('}'));
    if (!has_dtype || !has_shape || !has_offsets) {
      return Broken(tensor.name, "needs dtype, shape and data_offsets");
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        const int64_t bytes, BytesOf(tensor.name, tensor.dtype, tensor.shape));
    if (tensor.end < tensor.begin || tensor.bytes() != bytes) {
      return Broken(tensor.name, Cat("data_offsets [", tensor.begin, ",",
                                     tensor.end, "] are not the ", bytes,
                                     " bytes that shape and dtype take"));
    }
    return tensor;
  }

  absl::Status ParseDType(TensorInfo* tensor) {
    CONSILIUM_ASSIGN_OR_RETURN(const std::string name, json_.String(16));
    const std::optional<DType> dtype = consilium::ParseDType(name);
    if (!dtype.has_value()) {
      return absl::UnimplementedError(Cat("safetensors header: tensor ",
                                          Quoted(tensor->name), ": dtype ",
                                          Quoted(name), " is not supported"));
    }
    tensor->dtype = *dtype;
    return absl::OkStatus();
  }

  absl::Status ParseShape(TensorInfo* tensor) {
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('['));
    if (json_.Take(']')) return absl::OkStatus();
    do {
      if (std::cmp_greater_equal(tensor->shape.size(), limits_.max_rank)) {
        return absl::ResourceExhaustedError(
            Cat("safetensors header: tensor ", Quoted(tensor->name),
                ": more dimensions than the limit of ", limits_.max_rank));
      }
      CONSILIUM_ASSIGN_OR_RETURN(const int64_t dim, json_.Integer());
      tensor->shape.push_back(dim);
    } while (json_.Take(','));
    return json_.Expect(']');
  }

  absl::Status ParseOffsets(TensorInfo* tensor) {
    CONSILIUM_RETURN_IF_ERROR(json_.Expect('['));
    CONSILIUM_ASSIGN_OR_RETURN(tensor->begin, json_.Integer());
    CONSILIUM_RETURN_IF_ERROR(json_.Expect(','));
    CONSILIUM_ASSIGN_OR_RETURN(tensor->end, json_.Integer());
    return json_.Expect(']');
  }

  JsonReader json_;
  const SafetensorsLimits& limits_;
};

// Sorts the tensors by place and checks that they tile the data part.
absl::Status CheckTiling(SafetensorsHeader* header) {
  std::vector<TensorInfo>& tensors = header->tensors;
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return a.begin != b.begin ? a.begin < b.begin
                                               : a.end < b.end;
                   });
  header->by_name = NameIndex(tensors.size());
  const auto name_of = [&](uint32_t i) -> std::string_view {
    return tensors[i].name;
  };
  int64_t end = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& tensor = tensors[i];
    if (header->by_name.AddOrFind(static_cast<uint32_t>(i), name_of)) {
      return Broken(tensor.name, "appears twice");
    }
    if (tensor.begin != end) {
      return Broken(tensor.name,
                    Cat("begins at byte ", tensor.begin,
                        tensor.begin < end ? ", inside the tensor before it"
                                           : ", which leaves a gap",
                        " (expected ", end, ")"));
    }
    end = tensor.end;
    if (end > header->data_bytes) {
      return Broken(tensor.name, Cat("ends at byte ", end, " of ",
                                     header->data_bytes, " in the file"));
    }
  }
  if (end != header->data_bytes) {
    return absl::InvalidArgumentError(
        Cat("safetensors file: ", header->data_bytes - end,
            " bytes after the last tensor"));
  }
  return absl::OkStatus();
}

absl::Status CheckHeaderLength(uint64_t length, int64_t file_bytes,
                               const SafetensorsLimits& limits) {
  if (std::cmp_greater(length, limits.max_header_bytes)) {
    return absl::ResourceExhaustedError(Cat("safetensors header of ", length,
                                            " bytes exceeds the limit of ",
                                            limits.max_header_bytes));
  }
  if (std::cmp_greater(length, file_bytes - int64_t{kLengthBytes})) {
    return absl::DataLossError(Cat("safetensors file of ", file_bytes,
                                   " bytes is too short for its "
                                   "header of ",
                                   length, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status TooShort(int64_t file_bytes) {
  return absl::DataLossError(Cat("safetensors file of ", file_bytes,
                                 " bytes is too short for a header"));
}

}  // namespace

const TensorInfo* SafetensorsHeader::Find(std::string_view name) const {
  const std::optional<uint32_t> index = by_name.Find(
      name, [this](uint32_t i) -> std::string_view { return tensors[i].name; });
  return index.has_value() ? &tensors[*index] : nullptr;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    std::string_view json, int64_t data_bytes,
    const SafetensorsLimits& limits) {
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError(
        "safetensors header does not begin with '{'");
  }
  SafetensorsHeader header;
  header.data_offset = static_cast<int64_t>(kLengthBytes + json.size());
  header.data_bytes = data_bytes;
  CONSILIUM_RETURN_IF_ERROR(HeaderParser(json, limits).Parse(&header));
  CONSILIUM_RETURN_IF_ERROR(CheckTiling(&header));
  return header;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(
    File* file, const SafetensorsLimits& limits) {
  CONSILIUM_ASSIGN_OR_RETURN(const int64_t file_bytes, file->Size());
  if (file_bytes < static_cast<int64_t>(kLengthBytes)) {
    return Annotate(TooShort(file_bytes), file->path());
  }
  std::byte length_bytes[kLengthBytes];
  CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(file, 0, length_bytes));
  const auto length = LoadLittleEndian<uint64_t>(length_bytes);
  if (absl::Status fits = CheckHeaderLength(length, file_bytes, limits);
      !fits.ok()) {
    return Annotate(fits, file->path());
  }
  std::string json(length, '\0');
  CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
      file, kLengthBytes, std::as_writable_bytes(std::span<char>(json))));
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(json,
                             file_bytes - static_cast<int64_t>(kLengthBytes) -
                                 static_cast<int64_t>(length),
                             limits);
  if (!header.ok()) return Annotate(header.status(), file->path());
  return header;
}

absl::StatusOr<SafetensorsView> SafetensorsView::Parse(
    std::span<const std::byte> file, const SafetensorsLimits& limits) {
  const auto file_bytes = static_cast<int64_t>(file.size());
  if (file.size() < kLengthBytes) return TooShort(file_bytes);
  const auto length = LoadLittleEndian<uint64_t>(file.data());
  CONSILIUM_RETURN_IF_ERROR(CheckHeaderLength(length, file_bytes, limits));
  SafetensorsView view;
  view.data_ = file.subspan(kLengthBytes + length);
  CONSILIUM_ASSIGN_OR_RETURN(
      view.header_,
      ParseSafetensorsHeader(AsChars(file.subspan(kLengthBytes, length)),
                             static_cast<int64_t>(view.data_.size()), limits));
  return view;
}

absl::StatusOr<std::span<const std::byte>> SafetensorsView::Bytes(
    std::string_view name) const {
  const TensorInfo* tensor = header_.Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(
        Cat("the file has no tensor ", Quoted(name, 512)));
  }
  return data_.subspan(static_cast<size_t>(tensor->begin),
                       static_cast<size_t>(tensor->bytes()));
}

absl::StatusOr<std::span<const float>> SafetensorsView::Floats(
    std::string_view name) const {
  CONSILIUM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                             Bytes(name));
  const TensorInfo* tensor = header_.Find(name);
  if (tensor->dtype != DType::kF32) {
    return absl::FailedPreconditionError(
        Cat("tensor ", Quoted(name, 512), " has dtype ",
            DTypeName(tensor->dtype), ", not F32"));
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) != 0) {
    return absl::FailedPreconditionError(
        Cat("tensor ", Quoted(name, 512),
            " lies at an address that is not a multiple of 4"));
  }
  return std::span<const float>(reinterpret_cast<const float*>(bytes.data()),
                                bytes.size() / sizeof(float));
}

absl::StatusOr<std::string> BuildSafetensorsHeader(
    std::span<const TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata, int64_t alignment) {
  CONSILIUM_CHECK(alignment > 0 && alignment % 8 == 0);
  std::string out(kLengthBytes, '\0');
  const auto separate = [&out] {
    if (out.back() != '{') out.push_back(',');
  };
  out.push_back('{');
  if (!metadata.empty()) {
    AppendJsonString(kMetadataKey, &out);
    out.append(":{");
    for (const auto& [key, value] : metadata) {
      if (!IsValidUtf8(key) || !IsValidUtf8(value)) {
        return absl::InvalidArgumentError(
            Cat("metadata ", Quoted(key), " is not UTF-8"));
      }
      separate();
      AppendJsonString(key, &out);
      out.push_back(':');
      AppendJsonString(value, &out);
    }
    out.push_back('}');
  }
  NameIndex names(tensors.size());
  int64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& tensor = tensors[i];
    if (tensor.name.empty() || tensor.name == kMetadataKey ||
        !IsPlainName(tensor.name)) {
      return Broken(tensor.name, "this name cannot be written");
    }
    if (names.AddOrFind(static_cast<uint32_t>(i),
                        [&](uint32_t j) { return tensors[j].name; })) {
      return Broken(tensor.name, "appears twice");
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        const int64_t bytes, BytesOf(tensor.name, tensor.dtype, tensor.shape));
    if (bytes > std::numeric_limits<int64_t>::max() - offset) {
      return Broken(tensor.name, "its size overflows 2^63 bytes");
    }
    separate();
    AppendJsonString(tensor.name, &out);
    CatInto(out, ":{\"dtype\":\"", DTypeName(tensor.dtype), "\",\"shape\":[");
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      CatInto(out, d == 0 ? "" : ",", tensor.shape[d]);
    }
    CatInto(out, "],\"data_offsets\":[", offset, ",", offset + bytes, "]}");
    offset += bytes;
  }
  out.push_back('}');
  const auto step = static_cast<size_t>(alignment);
  out.append((step - out.size() % step) % step, ' ');
  StoreLittleEndian(static_cast<uint64_t>(out.size() - kLengthBytes),
                    reinterpret_cast<std::byte*>(out.data()));
  return out;
}

}  // namespace consilium

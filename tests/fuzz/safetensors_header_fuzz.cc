// Whatever bytes a file begins with: reading it ends in an error or in tensors
// that tile the data part and survive being written and read once more.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/aggregation/safetensors.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

// Few random bytes are JSON: every byte picks a piece of a header. Most pieces
// are whole tensors that begin where the last one ended.
std::string Compose(std::string_view input) {
  constexpr std::array<const char*, 24> kPieces = {
      "{",
      "}",
      "[",
      "]",
      ":",
      ",",
      "\"",
      " ",
      "\\u0041",
      "\\ud83d",
      "0",
      "-1",
      "1.5",
      "9223372036854775808",
      "\"F32\"",
      "\"dtype\"",
      "\"shape\"",
      "\"data_offsets\"",
      "\"__metadata__\"",
      ",\"__metadata__\":{\"k\":\"v\\n\"}",
      "\"t0\"",
      "\xc3\xa9",
      "\xff",
      "F4"};
  std::string json = "{";
  int64_t end = 0;
  int tensors = 0;
  for (const char c : input) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < kPieces.size()) {
      json += kPieces[byte];
      continue;
    }
    const int64_t elements = byte % 5;
    const bool wide = byte % 2 == 0;
    const int64_t begin = end;
    end += elements * (wide ? 4 : 1);
    consilium::CatInto(json, tensors == 0 ? "" : ",", "\"t", tensors % 50,
                       "\":{\"dtype\":\"", wide ? "F32" : "I8",
                       "\",\"shape\":[", elements, "],\"data_offsets\":[",
                       begin, ",", end, "]}");
    ++tensors;
  }
  return json + "}";
}

void CheckTiling(const consilium::SafetensorsHeader& header) {
  int64_t end = 0;
  for (const consilium::TensorInfo& tensor : header.tensors) {
    Require(tensor.begin == end && tensor.end >= tensor.begin);
    int64_t bytes = consilium::DTypeBytes(tensor.dtype);
    for (const int64_t dim : tensor.shape) bytes *= dim;
    Require(bytes == tensor.bytes());
    Require(header.Find(tensor.name) == &tensor);
    end = tensor.end;
  }
  Require(end == header.data_bytes);
}

void CheckRoundTrip(const consilium::SafetensorsHeader& header) {
  std::vector<consilium::TensorSpec> specs;
  for (const consilium::TensorInfo& tensor : header.tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  const auto written =
      consilium::BuildSafetensorsHeader(specs, header.metadata, 8);
  Require(written.ok());
  const auto again = consilium::ParseSafetensorsHeader(
      std::string_view(*written).substr(8), header.data_bytes);
  Require(again.ok() && again->tensors.size() == header.tensors.size() &&
          again->metadata == header.metadata);
  for (size_t i = 0; i < specs.size(); ++i) {
    Require(again->tensors[i].name == header.tensors[i].name &&
            again->tensors[i].begin == header.tensors[i].begin &&
            again->tensors[i].shape == header.tensors[i].shape);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  // As a file, length field and all.
  if (const auto view = consilium::SafetensorsView::Parse(bytes); view.ok()) {
    CheckTiling(view->header());
    for (const auto& tensor : view->header().tensors) {
      Require(view->Bytes(tensor.name)->size() ==
              static_cast<size_t>(tensor.bytes()));
    }
  }
  // As the JSON alone, literally and put together from pieces.
  if (size < 1) return 0;
  const int64_t data_bytes = data[0];
  const std::string_view text = consilium::AsChars(bytes.subspan(1));
  for (const std::string& json : {std::string(text), Compose(text)}) {
    const auto header = consilium::ParseSafetensorsHeader(json, data_bytes,
                                                          {.max_tensors = 64});
    if (header.ok()) {
      CheckTiling(*header);
      CheckRoundTrip(*header);
    }
  }
  return 0;
}

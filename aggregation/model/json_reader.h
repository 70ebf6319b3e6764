#ifndef CONSILIUM_AGGREGATION_MODEL_JSON_READER_H_
#define CONSILIUM_AGGREGATION_MODEL_JSON_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace consilium {

// Pulls values out of JSON text (RFC 8259), as far as a safetensors header
// needs it: objects, arrays, strings, non-negative integers. The caller walks;
// nothing recurses and nothing is built, so cost is linear in what is read.
// Errors: INVALID_ARGUMENT with the byte offset.
class JsonReader {
 public:
  // Messages begin with `what`, which the caller keeps.
  JsonReader(std::string_view text, std::string_view what)
      : text_(text), what_(what) {}

  // Skips white space, then takes this character.
  absl::Status Expect(char c);
  // Skips white space; takes `c` and says true when it comes next.
  bool Take(char c);
  // A string, unescaped; its UTF-8 and escapes are checked.
  // RESOURCE_EXHAUSTED beyond max_bytes.
  absl::StatusOr<std::string> String(size_t max_bytes);
  // An integer in [0, 2^63), without sign, fraction, exponent, leading zero.
  absl::StatusOr<int64_t> Integer();
  // Only white space is left.
  absl::Status End();

  size_t offset() const { return at_; }

 private:
  void SkipSpace();
  absl::Status Escape(std::string* out);
  absl::StatusOr<uint32_t> FourHexDigits();
  absl::Status Error(std::string_view what) const;

  std::string_view text_;
  std::string_view what_;
  size_t at_ = 0;
};

// `text` as a JSON string with its quotes. Needs valid UTF-8.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_MODEL_JSON_READER_H_

#include "aggregation/model/json_reader.h"

#include <limits>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"

namespace consilium {

absl::Status JsonReader::Error(std::string_view what) const {
  return absl::InvalidArgumentError(Cat(what_, ", byte ", at_, ": ", what));
}

void JsonReader::SkipSpace() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' ||
                                text_[at_] == '\n' || text_[at_] == '\r')) {
    ++at_;
  }
}

bool JsonReader::Take(char c) {
  SkipSpace();
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

absl::Status JsonReader::Expect(char c) {
  if (Take(c)) return absl::OkStatus();
  return Error(Cat("expected '", std::string_view(&c, 1), "'"));
}

absl::StatusOr<std::string> JsonReader::String(size_t max_bytes) {
  CONSILIUM_RETURN_IF_ERROR(Expect('"'));
  std::string out;
  while (true) {
    if (at_ >= text_.size()) return Error("a string does not end");
    const char c = text_[at_];
    if (c == '"') break;
    if (static_cast<unsigned char>(c) < 0x20) {
      return Error("a control character in a string");
    }
    ++at_;
    if (c == '\\') {
      CONSILIUM_RETURN_IF_ERROR(Escape(&out));
    } else {
      out.push_back(c);
    }
    if (out.size() > max_bytes) {
      return absl::ResourceExhaustedError(Cat(what_, ", byte ", at_,
                                              ": a string longer than ",
                                              max_bytes, " bytes"));
    }
  }
  ++at_;
  if (!IsValidUtf8(out)) return Error("a string that is not UTF-8");
  return out;
}

absl::Status JsonReader::Escape(std::string* out) {
  if (at_ >= text_.size()) return Error("a string does not end");
  const char c = text_[at_++];
  switch (c) {
    case '"':
    case '\\':
    case '/':
      out->push_back(c);
      return absl::OkStatus();
    case 'b':
      out->push_back('\b');
      return absl::OkStatus();
    case 'f':
      out->push_back('\f');
      return absl::OkStatus();
    case 'n':
      out->push_back('\n');
      return absl::OkStatus();
    case 'r':
      out->push_back('\r');
      return absl::OkStatus();
    case 't':
      out->push_back('\t');
      return absl::OkStatus();
    case 'u':
      break;
    default:
      return Error("an unknown escape");
  }
  CONSILIUM_ASSIGN_OR_RETURN(uint32_t code, FourHexDigits());
  if (code >= 0xD800 && code < 0xDC00) {
    if (text_.substr(at_, 2) != "\\u") return Error("half a surrogate pair");
    at_ += 2;
    CONSILIUM_ASSIGN_OR_RETURN(const uint32_t low, FourHexDigits());
    if (low < 0xDC00 || low >= 0xE000) return Error("half a surrogate pair");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  } else if (code >= 0xDC00 && code < 0xE000) {
    return Error("half a surrogate pair");
  }
  AppendUtf8(code, out);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> JsonReader::FourHexDigits() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint32_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint32_t>(c - 'A') + 10;
    } else {
      return Error("\\u needs four hexadecimal digits");
    }
    value = value * 16 + digit;
  }
  return value;
}

absl::StatusOr<int64_t> JsonReader::Integer() {
  SkipSpace();
  const size_t start = at_;
  int64_t value = 0;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
    const int digit = text_[at_] - '0';
    if (value > (std::numeric_limits<int64_t>::max() - digit) / 10) {
      return Error("a number of 2^63 or more");
    }
    value = value * 10 + digit;
    ++at_;
  }
  if (at_ == start) return Error("expected a non-negative integer");
  if (text_[start] == '0' && at_ > start + 1) {
    return Error("a number with a leading zero");
  }
  const char next = at_ < text_.size() ? text_[at_] : '\0';
  if (next == '.' || next == 'e' || next == 'E') {
    return Error("a number that is no integer");
  }
  return value;
}

absl::Status JsonReader::End() {
  SkipSpace();
  if (at_ != text_.size()) return Error("text after the end");
  return absl::OkStatus();
}

void AppendJsonString(std::string_view text, std::string* out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out->push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (byte < 0x20) {
      out->append("\\u00");
      out->push_back(kHex[byte >> 4]);
      out->push_back(kHex[byte & 15]);
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

}  // namespace consilium

#include "consilium/base/toml.h"

#include <charconv>
#include <limits>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/utf8.h"

namespace consilium {
namespace {

constexpr size_t kMaxKeyParts = 16;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsBare(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         c == '_' || c == '-';
}
bool IsControl(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == '\x7f';
}

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Digits with single underscores between them.
bool AreDigits(std::string_view text) {
  if (text.empty() || !IsDigit(text.front()) || !IsDigit(text.back())) {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' ? text[i + 1] == '_' : !IsDigit(text[i])) return false;
  }
  return true;
}

// One line, from left to right.
class Line {
 public:
  Line(std::string_view text, int64_t number) : text_(text), number_(number) {}

  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(Cat("line ", number_, ": ", what));
  }

  void SkipBlanks() {
    while (!AtEnd() && (Next() == ' ' || Next() == '\t')) ++at_;
  }
  bool AtEnd() const { return at_ == text_.size(); }
  bool AtEndOrComment() const { return AtEnd() || Next() == '#'; }
  char Next() const { return text_[at_]; }
  bool Take(char c) {
    if (AtEnd() || Next() != c) return false;
    ++at_;
    return true;
  }

  // A dotted key.
  absl::Status ReadKey(std::vector<std::string>& path) {
    do {
      SkipBlanks();
      std::string part;
      if (!AtEnd() && (Next() == '"' || Next() == '\'')) {
        CONSILIUM_ASSIGN_OR_RETURN(part, ReadString());
      } else {
        const size_t begin = at_;
        while (!AtEnd() && IsBare(Next())) ++at_;
        part = std::string(text_.substr(begin, at_ - begin));
        if (part.empty()) {
          return Error(AtEnd() ? "a key is missing at the end of the line"
                               : Cat("a key is missing before ", Rest()));
        }
      }
      path.push_back(std::move(part));
      if (path.size() > kMaxKeyParts) return Error("a key has too many parts");
      SkipBlanks();
    } while (Take('.'));
    return absl::OkStatus();
  }

  absl::StatusOr<TomlValue> ReadValue() {
    if (AtEndOrComment()) return Error("a value is missing behind '='");
    switch (Next()) {
      case '"':
      case '\'': {
        CONSILIUM_ASSIGN_OR_RETURN(std::string text, ReadString());
        return TomlValue(std::move(text));
      }
      case '[':
        return Error("arrays are not used in this file");
      case '{':
        return Error("inline tables are not used in this file");
      default:
        return ReadWord();
    }
  }

 private:
  std::string Rest() const { return Quoted(text_.substr(at_), 24); }

  absl::StatusOr<std::string> ReadString() {
    const char quote = Next();
    if (text_.substr(at_, 3) == std::string(3, quote)) {
      return Error("strings of several lines are not used in this file");
    }
    ++at_;
    std::string out;
    while (!AtEnd()) {
      const char c = text_[at_++];
      if (c == quote) return out;
      if (c == '\\' && quote == '"') {
        CONSILIUM_RETURN_IF_ERROR(ReadEscape(out));
      } else {
        out.push_back(c);
      }
    }
    return Error("a string is not closed");
  }

  absl::Status ReadEscape(std::string& out) {
    if (AtEnd()) return Error("a string is not closed");
    constexpr std::string_view kNames = "btnfr\"\\";
    constexpr std::string_view kMeanings = "\b\t\n\f\r\"\\";
    const char name = text_[at_++];
    if (const size_t i = kNames.find(name); i != std::string_view::npos) {
      out.push_back(kMeanings[i]);
      return absl::OkStatus();
    }
    const size_t digits = name == 'u' ? 4 : name == 'U' ? 8 : 0;
    if (digits == 0) {
      return Error(Cat("unknown escape ",
                       Quoted(Cat("\\", std::string(1, name))),
                       "; write \\\\ for a backslash, or use single quotes"));
    }
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const int digit = AtEnd() ? -1 : HexDigit(Next());
      if (digit < 0) {
        return Error(Cat("an escape needs ", digits, " hexadecimal digits"));
      }
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      return Error("an escape names no character");
    }
    AppendUtf8(code, &out);
    return absl::OkStatus();
  }

  // true, 12, -0.5, inf: up to a blank or comment.
  absl::StatusOr<TomlValue> ReadWord() {
    const size_t begin = at_;
    while (!AtEndOrComment() && Next() != ' ' && Next() != '\t') ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "true") return TomlValue(true);
    if (word == "false") return TomlValue(false);
    const bool sign = word[0] == '+' || word[0] == '-';
    const std::string_view plain = word.substr(sign ? 1 : 0);
    const double direction = word[0] == '-' ? -1.0 : 1.0;
    if (plain == "inf") {
      return TomlValue(direction * std::numeric_limits<double>::infinity());
    }
    if (plain == "nan") {
      return TomlValue(std::numeric_limits<double>::quiet_NaN());
    }
    const size_t mark = plain.find_first_of(".eE");
    const std::string_view whole = plain.substr(0, mark);
    if (!AreDigits(whole)) return BadWord(word);
    if (whole.size() > 1 && whole[0] == '0') {
      return Error(Cat("a number must not begin with 0: ", Quoted(word)));
    }
    std::string digits = word[0] == '-' ? "-" : "";
    for (const char c : plain) {
      if (c != '_') digits.push_back(c);
    }
    if (mark == std::string_view::npos) return Convert<int64_t>(digits, word);
    std::string_view tail = plain.substr(mark);
    if (tail[0] == '.') {
      const size_t e = tail.find_first_of("eE");
      const size_t end = e == std::string_view::npos ? tail.size() : e;
      if (!AreDigits(tail.substr(1, end - 1))) return BadWord(word);
      tail.remove_prefix(end);
    }
    if (!tail.empty()) {
      tail.remove_prefix(1);
      if (!tail.empty() && (tail[0] == '+' || tail[0] == '-')) {
        tail.remove_prefix(1);
      }
      if (!AreDigits(tail)) return BadWord(word);
    }
    // from_chars knows no plus but in an exponent.
    return Convert<double>(digits, word);
  }

  template <typename Number>
  absl::StatusOr<TomlValue> Convert(const std::string& digits,
                                    std::string_view word) const {
    Number value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      return Error(Cat("the number ", Quoted(word), " does not fit 64 bits"));
    }
    return TomlValue(value);
  }

  absl::Status BadWord(std::string_view word) const {
    return Error(Cat("not a value: ", Quoted(word),
                     "; text needs quotes, numbers are decimal"));
  }

  const std::string_view text_;
  const int64_t number_;
  size_t at_ = 0;
};

class Document {
 public:
  absl::Status Add(std::string_view text, int64_t number) {
    Line line(text, number);
    line.SkipBlanks();
    if (line.AtEndOrComment()) return absl::OkStatus();
    CONSILIUM_RETURN_IF_ERROR(line.Take('[') ? AddTable(line, number)
                                             : AddEntry(line, number));
    line.SkipBlanks();
    if (!line.AtEndOrComment()) {
      return line.Error("only a comment may follow on the same line");
    }
    return absl::OkStatus();
  }
  TomlDocument Release() { return std::move(document_); }

 private:
  using Path = std::vector<std::string>;
  // How a path came to be: as the beginning of a header, as a header, as the
  // beginning of a dotted key, or as a key.
  enum class Kind { kImplied, kHeader, kDotted, kKey };

  absl::Status AddTable(Line& line, int64_t number) {
    if (!line.AtEnd() && line.Next() == '[') {
      return line.Error("arrays of tables are not used in this file");
    }
    Path path;
    CONSILIUM_RETURN_IF_ERROR(line.ReadKey(path));
    if (!line.Take(']')) return line.Error("']' is missing");
    Path prefix;
    for (size_t i = 0; i + 1 < path.size(); ++i) {
      prefix.push_back(path[i]);
      if (kinds_.emplace(prefix, Kind::kImplied).first->second == Kind::kKey) {
        return line.Error("a section has the name of a key");
      }
    }
    const auto [it, fresh] = kinds_.emplace(path, Kind::kHeader);
    if (!fresh && it->second != Kind::kImplied) {
      return line.Error("a section or key is there twice");
    }
    it->second = Kind::kHeader;
    document_.tables.push_back({path, number});
    table_ = std::move(path);
    return absl::OkStatus();
  }

  absl::Status AddEntry(Line& line, int64_t number) {
    Path path = table_;
    CONSILIUM_RETURN_IF_ERROR(line.ReadKey(path));
    if (!line.Take('=')) return line.Error("'=' is missing behind a key");
    line.SkipBlanks();
    CONSILIUM_ASSIGN_OR_RETURN(TomlValue value, line.ReadValue());
    Path prefix = table_;
    for (size_t i = table_.size(); i + 1 < path.size(); ++i) {
      prefix.push_back(path[i]);
      const Kind kind = kinds_.emplace(prefix, Kind::kDotted).first->second;
      if (kind != Kind::kDotted) {
        return line.Error("a dotted key reaches into another section or key");
      }
    }
    if (!kinds_.emplace(path, Kind::kKey).second) {
      return line.Error("a section or key is there twice");
    }
    document_.entries.push_back({std::move(path), std::move(value), number});
    return absl::OkStatus();
  }

  TomlDocument document_;
  Path table_;
  std::map<Path, Kind> kinds_;
};

absl::Status CheckCharacters(std::string_view line, int64_t number) {
  while (!line.empty()) {
    const size_t length = Utf8SequenceLength(line);
    if (length == 0 || IsControl(line[0])) {
      return absl::InvalidArgumentError(
          Cat("line ", number, ": ",
              length == 0 ? "not UTF-8" : "a control character"));
    }
    line.remove_prefix(length);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TomlDocument> ReadToml(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    text.remove_prefix(kByteOrderMark.size());
  }
  Document document;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (end != std::string_view::npos && !line.empty() && line.back() == '\r') {
      line.remove_suffix(1);
    }
    CONSILIUM_RETURN_IF_ERROR(CheckCharacters(line, number));
    CONSILIUM_RETURN_IF_ERROR(document.Add(line, number));
  }
  return document.Release();
}

std::string DottedName(const std::vector<std::string>& path) {
  std::string name;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool dot = path[i].find('.') != std::string::npos;
    CatInto(name, i == 0 ? "" : ".", dot ? Quoted(path[i]) : path[i]);
  }
  return name;
}

}  // namespace consilium

#include "coordinator/cli/output.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "coordinator/round/round_text.h"

namespace consilium {
namespace {

constexpr std::string_view kReset = "\x1b[0m";
constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kGreen = "\x1b[32m";
constexpr std::string_view kYellow = "\x1b[33m";
constexpr std::string_view kRed = "\x1b[31m";
constexpr size_t kMaxCell = 4096;

std::string_view ColourOf(std::string_view word) {
  static const std::map<std::string_view, std::string_view> colours = {
      {"active", kGreen},       {"promoted", kGreen},  {"committed", kGreen},
      {"folded", kGreen},       {"valid", kGreen},     {"yes", kGreen},
      {"suspended", kYellow},   {"expiring", kYellow}, {"rejected", kYellow},
      {"rolled_back", kYellow}, {"declined", kYellow}, {"missing", kYellow},
      {"revoked", kRed},        {"failed", kRed},      {"cancelled", kRed},
      {"quarantined", kRed},    {"expired", kRed},     {"removed", kRed},
  };
  const auto found = colours.find(word.substr(0, word.find(' ')));
  return found == colours.end() ? std::string_view() : found->second;
}

std::string Pad(const std::string& text, size_t width, bool right) {
  const size_t have = DisplayWidth(text);
  const std::string space(width > have ? width - have : 0, ' ');
  return right ? space + text : text + space;
}

}  // namespace

std::string ShortDuration(absl::Duration d) {
  if (d < absl::Minutes(1)) return Cat(absl::ToInt64Seconds(d), "s");
  if (d < absl::Hours(1)) return Cat(absl::ToInt64Minutes(d), "m");
  if (d < absl::Hours(48)) return Cat(absl::ToInt64Hours(d), "h");
  return Cat(absl::ToInt64Hours(d) / 24, "d");
}

std::string Style::Age(int64_t micros) const {
  if (micros == 0) return "-";
  const absl::Duration since = now - absl::FromUnixMicros(micros);
  return since < absl::ZeroDuration() ? Cat("in ", ShortDuration(-since))
                                      : Cat(ShortDuration(since), " ago");
}

std::string Style::When(int64_t micros) const {
  if (micros == 0) return "-";
  return Cat(
      absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMicros(micros), zone),
      " (", Age(micros), ")");
}

size_t DisplayWidth(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      while (i < text.size() && text[i] != 'm') ++i;
      continue;
    }
    // Continuation bytes of UTF-8 take no place.
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) ++width;
  }
  return width;
}

std::string CutToWidth(const std::string& line, int width) {
  if (static_cast<int>(DisplayWidth(line)) <= width) return line;
  std::string out;
  int shown = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b') {
      const size_t end = std::min(line.find('m', i), line.size() - 1);
      out.append(line, i, end - i + 1);
      i = end;
      continue;
    }
    const bool begins = (static_cast<unsigned char>(line[i]) & 0xc0) != 0x80;
    if (begins && ++shown > width) break;
    out.push_back(line[i]);
  }
  if (out.find('\x1b') != std::string::npos) out += kReset;
  return out;
}

std::string PaintState(const Style& style, const std::string& text) {
  const std::string_view colour =
      style.colour ? ColourOf(text) : std::string_view();
  return colour.empty() ? text : Cat(colour, text, kReset);
}

std::string Bold(const Style& style, const std::string& text) {
  return style.colour ? Cat(kBold, text, kReset) : text;
}

void Table::Row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    cell = CleanText(cell, kMaxCell);
    if (cell.empty()) cell = "-";
  }
  rows_.push_back(std::move(cells));
}

std::vector<std::string> Table::Lines(const Style& style) const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = DisplayWidth(columns_[c].name);
    for (const auto& row : rows_) width = std::max(width, DisplayWidth(row[c]));
    widths.push_back(width);
  }
  const auto line = [&](const auto& cell_of) {
    std::string out;
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (c > 0) out += "  ";
      out += cell_of(c);
    }
    return out;
  };
  const auto padded = [&](const std::string& text, size_t c) {
    const bool right = columns_[c].align == Align::kRight;
    const bool last = c + 1 == columns_.size();
    return last && !right ? text : Pad(text, widths[c], right);
  };
  std::vector<std::string> lines;
  lines.push_back(
      Bold(style, line([&](size_t c) { return padded(columns_[c].name, c); })));
  for (const auto& row : rows_) {
    lines.push_back(line([&](size_t c) {
      const std::string text = padded(row[c], c);
      return columns_[c].align == Align::kState ? PaintState(style, text)
                                                : text;
    }));
  }
  return lines;
}

void Table::Print(std::ostream& out, const Style& style) const {
  for (const std::string& line : Lines(style)) out << line << "\n";
}

std::string SealingText(bool sealing) {
  return sealing ? "on"
                 : "OFF: uploads lie unencrypted on the coordinator's disk";
}

Fields& Fields::Add(std::string name, std::string value) {
  fields_.push_back({std::move(name), CleanText(value, kMaxCell), false});
  return *this;
}
Fields& Fields::State(std::string name, std::string value) {
  fields_.push_back({std::move(name), CleanText(value, kMaxCell), true});
  return *this;
}

void Fields::Print(std::ostream& out, const Style& style) const {
  size_t width = 0;
  for (const Field& field : fields_) {
    if (!field.value.empty()) width = std::max(width, field.name.size());
  }
  for (const Field& field : fields_) {
    if (field.value.empty()) continue;
    out << Pad(field.name, width, false) << "  "
        << (field.state ? PaintState(style, field.value) : field.value) << "\n";
  }
}

std::string FormatNumber(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

std::string ShortDigest(std::string_view bytes, size_t digits) {
  return HexEncode(AsBytes(bytes)).substr(0, digits);
}

}  // namespace consilium

// Text for people: tables, fields, times.

#ifndef CONSILIUM_COORDINATOR_CLI_OUTPUT_H_
#define CONSILIUM_COORDINATOR_CLI_OUTPUT_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace consilium {

// How text is shown. Colours only where a person looks on.
struct Style {
  bool colour = false;
  int width = 80;  // of the terminal, in columns
  absl::Time now;
  absl::TimeZone zone;

  // "2026-03-01 12:00:00 (3m ago)" in local time; "-" for 0.
  std::string When(int64_t micros) const;
  // "3m ago", "in 2h"; "-" for 0.
  std::string Age(int64_t micros) const;
};

// "45s", "3m", "2h", "5d": one unit, rounded down.
std::string ShortDuration(absl::Duration duration);

enum class Align { kLeft, kRight, kState };  // kState: left, painted by word

struct Column {
  std::string name;
  Align align = Align::kLeft;
};

// Rows under a header, columns aligned. Control characters, which may come
// from a peer, are made harmless.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as columns.
  void Row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  std::vector<std::string> Lines(const Style& style) const;
  void Print(std::ostream& out, const Style& style) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "on", or what it means that it is off.
std::string SealingText(bool sealing);

// "name:   value" lines, values aligned; empty values are left out.
class Fields {
 public:
  Fields& Add(std::string name, std::string value);
  // Painted by word.
  Fields& State(std::string name, std::string value);
  void Print(std::ostream& out, const Style& style) const;

 private:
  struct Field {
    std::string name;
    std::string value;
    bool state;
  };
  std::vector<Field> fields_;
};

// `text` in the colour of a state word ("promoted" green, "failed" red).
std::string PaintState(const Style& style, const std::string& text);
std::string Bold(const Style& style, const std::string& text);

// What a terminal shows of UTF-8 text, in characters.
size_t DisplayWidth(std::string_view text);
// Cut to that many characters; escape sequences count nothing and stay whole.
std::string CutToWidth(const std::string& line, int width);

// Up to six significant digits.
std::string FormatNumber(double value);
// The first `digits` of a digest given as raw bytes.
std::string ShortDigest(std::string_view bytes, size_t digits = 12);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_OUTPUT_H_

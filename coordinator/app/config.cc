#include "coordinator/app/config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "coordinator/app/config_table.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include "toml++/toml.h"

namespace consilium {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr size_t kMaxMistakes = 10;
constexpr size_t kTextWidth = 76;

// Edits that turn one word into the other.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j],
                               std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

std::string Suggest(const std::string& wrong,
                    const std::vector<std::string>& known) {
  std::string_view best;
  size_t least = std::min<size_t>(wrong.size(), 64) / 3 + 2;
  if (wrong.size() <= 64) {
    for (const std::string& candidate : known) {
      const size_t distance = Distance(wrong, candidate);
      if (distance < least) least = distance, best = candidate;
    }
  }
  return best.empty() ? "" : Cat("; did you mean ", best, "?");
}

std::string Dotted(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : Cat(section, ".", key);
}

// A key as text from the file, which may hold anything.
std::string ShowKey(std::string_view name) {
  const bool plain = !name.empty() && name.size() <= 64 &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return std::isalnum(static_cast<unsigned char>(c)) ||
                              c == '_' || c == '-' || c == '.';
                     });
  return plain ? std::string(name) : Quoted(name);
}

class Reader {
 public:
  Reader() {
    for (const ConfigSection& s : ConfigSections()) sections_.insert(s.name);
    for (const ConfigKey& k : ConfigKeys()) {
      keys_[Dotted(k.section, k.name)] = &k;
    }
  }

  void ReadTable(const toml::table& table, const std::string& section) {
    for (const auto& [key, node] : table) {
      const std::string path = Dotted(section, key.str());
      if (const auto it = keys_.find(path); it != keys_.end()) {
        ReadKey(*it->second, path, node);
      } else if (!sections_.contains(path)) {
        Mistake(node, Cat("unknown ", node.is_table() ? "section " : "key ",
                          ShowKey(path), Suggest(path, Known(section, node))));
      } else if (node.is_table()) {
        ReadTable(*node.as_table(), path);
      } else {
        Mistake(node, Cat(path, " must be a section, [", path, "]"));
      }
    }
  }

  void Mistake(const toml::node& node, std::string text) {
    Mistake(node.source().begin.line, std::move(text));
  }
  void Mistake(uint32_t line, std::string text) {
    mistakes_.emplace(
        line, line > 0 ? Cat("line ", line, ": ", text) : std::move(text));
  }

  absl::Status Status() const {
    if (mistakes_.empty()) return absl::OkStatus();
    std::string all;
    size_t shown = 0;
    for (const auto& [line, text] : mistakes_) {
      if (++shown > kMaxMistakes) break;
      CatInto(all, all.empty() ? "" : "\n", text);
    }
    if (mistakes_.size() > kMaxMistakes) {
      CatInto(all, "\nand ", mistakes_.size() - kMaxMistakes, " more");
    }
    return absl::InvalidArgumentError(all);
  }

  CoordinatorConfig config;

 private:
  std::vector<std::string> Known(const std::string& section,
                                 const toml::node& node) const {
    std::vector<std::string> known;
    if (node.is_table()) {
      known.assign(sections_.begin(), sections_.end());
      return known;
    }
    for (const auto& [path, key] : keys_) {
      if (key->section == section) known.push_back(path);
    }
    return known;
  }

  static ConfigValue ValueOf(const toml::node& node) {
    if (const auto* v = node.as_boolean()) return v->get();
    if (const auto* v = node.as_integer()) return v->get();
    if (const auto* v = node.as_floating_point()) return v->get();
    if (const auto* v = node.as_string()) return v->get();
    if (node.is_array()) return OtherType{"array"};
    if (node.is_table()) return OtherType{"table"};
    return OtherType{"date or time"};
  }

  void ReadKey(const ConfigKey& key, const std::string& path,
               const toml::node& node) {
    const absl::Status status = key.parse(ValueOf(node), config);
    if (status.ok()) return;
    const std::string_view text = StdView(status.message());
    // Words from elsewhere name their own subject.
    const bool says_is = text.substr(0, 3) == "is ";
    Mistake(node, Cat(path, says_is ? " " : ": ", text));
  }

  std::set<std::string> sections_;
  std::map<std::string, const ConfigKey*> keys_;
  std::multimap<uint32_t, std::string> mistakes_;
};

// The line, from 1, whose text toml++ must not see, or 0: outside of strings
// and comments it tests letters for being exotic whitespace, and runs into
// undefined behaviour for most of them (3.3.0); and strings of several lines,
// which no key needs, would make it hard to tell what is outside.
uint32_t UnsafeLine(std::string_view text) {
  uint32_t line = 1;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') {
      ++line;
      quote = 0;
    } else if (quote != 0) {
      if (c == quote) quote = 0;
      if (c == '\\' && quote == '"' && i + 1 < text.size() &&
          text[i + 1] != '\n') {
        ++i;
      }
    } else if (c == '"' || c == '\'') {
      const std::string_view three = text.substr(i, 3);
      if (three.size() == 3 && three[1] == c && three[2] == c) return line;
      quote = c;
    } else if (c == '#') {
      i = std::min(text.find('\n', i), text.size()) - 1;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      return line;
    }
  }
  return 0;
}

void EmitComment(std::string_view comment, std::string& out) {
  std::string line = "#";
  while (!comment.empty()) {
    const size_t end = std::min(comment.find(' '), comment.size());
    const std::string_view word = comment.substr(0, end);
    if (line.size() > 1 && line.size() + 1 + word.size() > kTextWidth) {
      CatInto(out, line, "\n");
      line = "#";
    }
    CatInto(line, " ", word);
    comment.remove_prefix(std::min(end + 1, comment.size()));
  }
  if (line.size() > 1) CatInto(out, line, "\n");
}

}  // namespace

absl::StatusOr<CoordinatorConfig> ParseConfig(std::string_view text) {
  if (text.size() > static_cast<size_t>(kMaxConfigBytes)) {
    return absl::ResourceExhaustedError(
        Cat("configuration of ", FormatBytes(text.size()), ", at most ",
            FormatBytes(kMaxConfigBytes), " are read"));
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    text.remove_prefix(kByteOrderMark.size());
  }
  Reader reader;
  if (const uint32_t line = UnsafeLine(text); line > 0) {
    reader.Mistake(line,
                   "not ASCII outside of quotes and comments, or a string of "
                   "several lines");
    return reader.Status();
  }
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    reader.Mistake(parsed.error().source().begin.line,
                   Cat("not TOML: ", parsed.error().description()));
    return reader.Status();
  }
  reader.ReadTable(parsed.table(), "");
  CONSILIUM_RETURN_IF_ERROR(reader.Status());
  CONSILIUM_RETURN_IF_ERROR(ValidateConfig(reader.config));
  return std::move(reader.config);
}

absl::StatusOr<CoordinatorConfig> LoadConfig(const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string text,
      ReadWholeFile(PosixFileSystem(), path, kMaxConfigBytes));
  absl::StatusOr<CoordinatorConfig> config = ParseConfig(text);
  if (!config.ok()) return Annotate(config.status(), path);
  const size_t slash = path.rfind('/');
  ResolvePaths(slash == std::string::npos ? "." : path.substr(0, slash),
               *config);
  return config;
}

absl::Status ValidateConfig(const CoordinatorConfig& c) {
  CONSILIUM_RETURN_IF_ERROR(Annotate(ValidateRoundConfig(c.rounds), "rounds"));
  if (c.storage.max_spool_bytes != 0 &&
      c.storage.max_spool_bytes < c.storage.max_update_bytes) {
    return absl::InvalidArgumentError(
        Cat("storage.max_spool_bytes is ",
            FormatBytes(static_cast<uint64_t>(c.storage.max_spool_bytes)),
            ", must be 0 or at least storage.max_update_bytes, ",
            FormatBytes(static_cast<uint64_t>(c.storage.max_update_bytes))));
  }
  const absl::Duration shortest = std::min({c.certificates.institution_lifetime,
                                            c.certificates.operator_lifetime,
                                            c.certificates.server_lifetime});
  if (c.certificates.renew_before >= shortest) {
    return absl::InvalidArgumentError(
        Cat("certificates.renew_before is ",
            FormatDuration(c.certificates.renew_before),
            ", must be less than every lifetime, the shortest is ",
            FormatDuration(shortest)));
  }
  return absl::OkStatus();
}

std::string DefaultConfigText(const CoordinatorConfig& config) {
  const CoordinatorConfig defaults;
  std::string out =
      "# Configuration of a Consilium coordinator.\n"
      "#\n"
      "# A key with '#' in front has its default, shown; remove the '#' to "
      "change it.\n"
      "# Times: \"250ms\", \"90s\", \"1h30m\", \"7d\". Sizes: \"64MiB\", "
      "\"4GiB\", or bytes.\n";
  for (const ConfigSection& section : ConfigSections()) {
    CatInto(out, "\n");
    EmitComment(section.comment, out);
    CatInto(out, "[", section.name, "]\n");
    for (const ConfigKey& key : ConfigKeys()) {
      if (key.section != section.name) continue;
      const std::string value = key.emit(config);
      EmitComment(key.comment, out);
      CatInto(out, value == key.emit(defaults) ? "#" : "", key.name, " = ",
              value, "\n");
    }
  }
  return out;
}

void ResolvePaths(const std::string& dir, CoordinatorConfig& config) {
  for (std::string* path : ConfigPaths(config)) {
    if (!path->empty() && path->front() != '/') *path = Cat(dir, "/", *path);
  }
}

}  // namespace consilium

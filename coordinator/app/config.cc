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
#include "consilium/base/toml.h"
#include "coordinator/app/config_table.h"

namespace consilium {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr size_t kMaxMistakes = 10;
constexpr size_t kTextWidth = 76;

// What CoordinatorServer::Reload() applies.
constexpr std::string_view kLiveKeys[] = {
    "storage.max_update_bytes",
    "storage.max_spool_bytes",
    "storage.min_free_bytes",
    "rounds.failure_pause",
    "limits.max_uploads",
    "limits.max_resumes",
    "limits.max_superseded_uploads",
    "limits.frame_memory",
    "limits.long_poll_timeout",
    "limits.upload_idle_timeout",
    "limits.upload_slot_timeout",
    "limits.progress_period",
    "limits.connected_for",
    "log.level",
    "enrollment.token_lifetime",
};

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

// Fills a configuration from a document; collects all mistakes.
class Reader {
 public:
  Reader() {
    for (const ConfigSection& s : ConfigSections()) sections_.insert(s.name);
    for (const ConfigKey& k : ConfigKeys()) {
      keys_[Dotted(k.section, k.name)] = &k;
    }
  }

  void Read(const TomlDocument& document) {
    for (const TomlTable& table : document.tables) {
      const std::string name = DottedName(table.path);
      if (sections_.contains(name)) continue;
      if (keys_.contains(name)) {
        Mistake(table.line, Cat(name, " is a key, not a section"));
      } else {
        Mistake(table.line, Cat("unknown section ", ShowKey(name),
                                Suggest(name, Sections())));
      }
    }
    for (const TomlEntry& entry : document.entries) {
      const std::string name = DottedName(entry.path);
      if (const auto it = keys_.find(name); it != keys_.end()) {
        ReadKey(*it->second, name, entry);
      } else if (sections_.contains(name)) {
        Mistake(entry.line, Cat(name, " must be a section, [", name, "]"));
      } else {
        Mistake(entry.line, Cat("unknown key ", ShowKey(name),
                                Suggest(name, KeysBeside(name))));
      }
    }
  }

  absl::Status Status() const {
    if (mistakes_.empty()) return absl::OkStatus();
    std::string all;
    size_t shown = 0;
    for (const auto& [line, text] : mistakes_) {
      if (++shown > kMaxMistakes) break;
      CatInto(all, all.empty() ? "" : "\n", "line ", line, ": ", text);
    }
    if (mistakes_.size() > kMaxMistakes) {
      CatInto(all, "\nand ", mistakes_.size() - kMaxMistakes, " more");
    }
    return absl::InvalidArgumentError(all);
  }

  CoordinatorConfig config;

 private:
  void Mistake(int64_t line, std::string text) {
    mistakes_.emplace(line, std::move(text));
  }

  std::vector<std::string> Sections() const {
    return {sections_.begin(), sections_.end()};
  }
  // The keys of the same section.
  std::vector<std::string> KeysBeside(const std::string& name) const {
    const size_t dot = name.rfind('.');
    const std::string section =
        dot == std::string::npos ? "" : name.substr(0, dot);
    std::vector<std::string> known;
    for (const auto& [path, key] : keys_) {
      if (key->section == section) known.push_back(path);
    }
    return known;
  }

  void ReadKey(const ConfigKey& key, const std::string& name,
               const TomlEntry& entry) {
    const absl::Status status = key.parse(entry.value, config);
    if (status.ok()) return;
    const std::string_view text = StdView(status.message());
    // Words from elsewhere name their own subject.
    const bool says_is = text.substr(0, 3) == "is ";
    Mistake(entry.line, Cat(name, says_is ? " " : ": ", text));
  }

  std::set<std::string> sections_;
  std::map<std::string, const ConfigKey*> keys_;
  std::multimap<int64_t, std::string> mistakes_;
};

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
  CONSILIUM_ASSIGN_OR_RETURN(const TomlDocument document, ReadToml(text));
  Reader reader;
  reader.Read(document);
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
  if (c.limits.max_admin_jobs >= c.workers.admin_threads) {
    return absl::InvalidArgumentError(Cat(
        "limits.max_admin_jobs is ", c.limits.max_admin_jobs,
        ", must be less than workers.admin_threads, ", c.workers.admin_threads,
        ": short commands need a thread while long ones run"));
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

std::vector<std::string> ChangedKeys(const CoordinatorConfig& a,
                                     const CoordinatorConfig& b) {
  std::vector<std::string> changed;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.emit(a) == key.emit(b)) continue;
    changed.push_back(Dotted(key.section, key.name));
  }
  return changed;
}

bool IsLiveKey(std::string_view name) {
  return std::find(std::begin(kLiveKeys), std::end(kLiveKeys), name) !=
         std::end(kLiveKeys);
}

void ResolvePaths(const std::string& dir, CoordinatorConfig& config) {
  for (std::string* path : ConfigPaths(config)) {
    if (!path->empty() && path->front() != '/') *path = Cat(dir, "/", *path);
  }
}

}  // namespace consilium

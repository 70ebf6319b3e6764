// The parts of FaultFileSystem that its two source files share.
#ifndef CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_INTERNAL_H_
#define CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_INTERNAL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fault_file_system.h"

namespace consilium {
namespace internal {

// Absolute, without "." and "..".
std::string Normal(const std::string& path);
absl::Status PowerIsOff();

// One unsynced change of a file's bytes.
struct Edit {
  bool truncates = false;
  int64_t offset = 0;  // of data, or the new size
  std::string data{};
};

inline void Apply(const Edit& edit, std::string& bytes) {
  const auto offset = static_cast<size_t>(edit.offset);
  if (edit.truncates) {
    bytes.resize(offset, '\0');
  } else if (!edit.data.empty()) {
    const size_t end = offset + edit.data.size();
    if (bytes.size() < end) bytes.resize(end, '\0');
    bytes.replace(offset, edit.data.size(), edit.data);
  }
}

}  // namespace internal

struct FaultFileSystem::Inode {
  int64_t held() const {
    return std::max(static_cast<int64_t>(seen.size()), reserved);
  }
  void Edited(internal::Edit edit, absl::Time now) {
    Apply(edit, seen);
    unsynced.push_back(std::move(edit));
    modified = now;
  }

  std::string seen;
  std::string durable;
  std::vector<internal::Edit> unsynced;
  int64_t reserved = 0;
  uint32_t mode = 0600;
  absl::Time modified = absl::UnixEpoch();
};

struct FaultFileSystem::NameChange {
  std::string added{};  // empty: none
  InodePtr inode{};     // of `added`
  std::string removed{};

  std::string directory() const {
    return DirName(added.empty() ? removed : added);
  }
};

// What a loss of power does to the unsynced steps, in their order.
class FaultFileSystem::Dice {
 public:
  enum class Fate { kDropped, kKept, kTorn };
  enum class Style { kNone, kAll, kPrefix, kEach };

  explicit Dice(Style style) : style_(style) {}
  explicit Dice(uint64_t seed) : state_(seed), style_(Style::kEach) {
    constexpr Style kStyles[] = {Style::kEach, Style::kPrefix, Style::kAll,
                                 Style::kNone, Style::kEach,   Style::kPrefix};
    style_ = kStyles[Below(std::size(kStyles))];
  }

  // One outcome for each step of a sequence of `steps`.
  std::vector<Fate> Fates(size_t steps) {
    std::vector<Fate> out(steps, Fate::kDropped);
    if (style_ == Style::kAll) out.assign(steps, Fate::kKept);
    if (style_ == Style::kPrefix) {
      const size_t kept = static_cast<size_t>(Below(steps + 1));
      std::fill_n(out.begin(), kept, Fate::kKept);
      if (kept < steps) out[kept] = Fate::kTorn;
    }
    if (style_ == Style::kEach) {
      for (Fate& fate : out) fate = static_cast<Fate>(Below(3));
    }
    return out;
  }

  internal::Edit Torn(internal::Edit edit) {
    const size_t cut = static_cast<size_t>(Below(edit.data.size() + 1));
    if (Below(2) == 0) {
      edit.data.resize(cut);
    } else {
      edit.data.erase(0, cut);
      edit.offset += static_cast<int64_t>(cut);
    }
    return edit;
  }

 private:
  // SplitMix64; the bias of the modulo does not matter here.
  uint64_t Below(uint64_t bound) {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
  }

  uint64_t state_ = 0;
  Style style_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FAULT_FILE_SYSTEM_INTERNAL_H_

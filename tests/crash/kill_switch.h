// A test and a process that it kills, in agreement about when: memory that
// both map.

#ifndef CONSILIUM_TESTS_CRASH_KILL_SWITCH_H_
#define CONSILIUM_TESTS_CRASH_KILL_SWITCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/base/file.h"
#include "tests/support/forwarding_file_system.h"

namespace consilium {

// The process announces each step that it is about to take, and ends with
// SIGKILL in place of the one that the test chose. Thread-safe.
class KillSwitch {
 public:
  // The test makes the file, the process opens it.
  static absl::StatusOr<std::unique_ptr<KillSwitch>> Create(
      const std::string& path);
  static absl::StatusOr<std::unique_ptr<KillSwitch>> Open(
      const std::string& path);
  ~KillSwitch();
  KillSwitch(const KillSwitch&) = delete;
  KillSwitch& operator=(const KillSwitch&) = delete;

  // --- the process ----------------------------------------------------------
  void Step(std::string_view label);
  // Something worth counting over several lives.
  void Count();

  // --- the test -------------------------------------------------------------
  // Kills at the `step`-th step from now, counted from 1; 0: never.
  void Arm(int64_t step);
  void Disarm();          // what was counted and fired since Arm() stays
  int64_t steps() const;  // since Arm()
  // Labels of these steps, in order; of no more than kTraced.
  static constexpr int64_t kTraced = 2048;
  std::vector<std::string> Trace() const;
  bool fired() const;         // since Arm()
  std::string label() const;  // of the step that was not taken
  int64_t count() const;
  void ResetCount();

 private:
  struct Shared;
  explicit KillSwitch(Shared* shared) : shared_(shared) {}
  static absl::StatusOr<std::unique_ptr<KillSwitch>> Map(
      const std::string& path, bool create);

  Shared* const shared_;
};

// A file system whose changes are steps: making, syncing, renaming and removing
// files, and syncing folders. Writes are none; what a torn write does is for
// the tests with a fault-injecting file system.
class KillingFileSystem final : public ForwardingFileSystem {
 public:
  KillingFileSystem(FileSystem* inner, KillSwitch* kill)
      : ForwardingFileSystem(inner), kill_(kill) {}

  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveTree(const std::string& path) override;
  absl::Status SyncDir(const std::string& directory) override;
  absl::Status MakeDirs(const std::string& directory, uint32_t mode) override;

 private:
  KillSwitch* const kill_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_KILL_SWITCH_H_

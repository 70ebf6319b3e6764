#include "tests/crash/kill_switch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "consilium/base/strings.h"

namespace consilium {

// Zeros, as a new file holds them, are its first state.
struct KillSwitch::Shared {
  struct Label {
    static constexpr size_t kMaxBytes = 252;
    void Set(std::string_view value) {
      const size_t length = std::min(value.size(), kMaxBytes);
      std::memcpy(text, value.data(), length);
      bytes.store(static_cast<uint32_t>(length));
    }
    std::string Get() const { return std::string(text, bytes.load()); }

    std::atomic<uint32_t> bytes;
    char text[kMaxBytes];
  };

  std::atomic<int64_t> steps;
  std::atomic<int64_t> die_at;
  std::atomic<int64_t> fired;
  std::atomic<int64_t> count;
  Label label;
  Label trace[kTraced];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert(std::atomic<int64_t>::is_always_lock_free);

absl::StatusOr<std::unique_ptr<KillSwitch>> KillSwitch::Map(
    const std::string& path, bool create) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  void* memory = MAP_FAILED;
  if (ftruncate(fd, sizeof(Shared)) == 0) {
    memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
  }
  const int error = errno;
  close(fd);
  if (memory == MAP_FAILED) return ErrnoStatus(error, "map", path);
  return std::unique_ptr<KillSwitch>(
      new KillSwitch(static_cast<Shared*>(memory)));
}

absl::StatusOr<std::unique_ptr<KillSwitch>> KillSwitch::Create(
    const std::string& path) {
  return Map(path, true);
}
absl::StatusOr<std::unique_ptr<KillSwitch>> KillSwitch::Open(
    const std::string& path) {
  return Map(path, false);
}

KillSwitch::~KillSwitch() { munmap(shared_, sizeof(Shared)); }

void KillSwitch::Step(std::string_view label) {
  const int64_t step = shared_->steps.fetch_add(1) + 1;
  if (step <= kTraced) shared_->trace[step - 1].Set(label);
  if (step != shared_->die_at.load()) return;
  shared_->label.Set(label);
  shared_->fired.store(1);
  kill(getpid(), SIGKILL);
  for (;;) pause();  // it comes at once, but to some thread
}

void KillSwitch::Count() { shared_->count.fetch_add(1); }

void KillSwitch::Arm(int64_t step) {
  shared_->die_at.store(0);
  shared_->fired.store(0);
  shared_->label.Set("");
  shared_->steps.store(0);
  shared_->die_at.store(step);
}

void KillSwitch::Disarm() { shared_->die_at.store(0); }

int64_t KillSwitch::steps() const { return shared_->steps.load(); }
bool KillSwitch::fired() const { return shared_->fired.load() != 0; }
std::string KillSwitch::label() const { return shared_->label.Get(); }
std::vector<std::string> KillSwitch::Trace() const {
  std::vector<std::string> labels;
  const int64_t traced = std::min(steps(), kTraced);
  for (int64_t i = 0; i < traced; ++i) {
    labels.push_back(shared_->trace[i].Get());
  }
  return labels;
}
int64_t KillSwitch::count() const { return shared_->count.load(); }
void KillSwitch::ResetCount() { shared_->count.store(0); }

// --- KillingFileSystem -------------------------------------------------------

namespace {

class KillingFile final : public ForwardingFile {
 public:
  KillingFile(std::unique_ptr<File> file, KillSwitch* kill)
      : ForwardingFile(std::move(file)), kill_(kill) {}

  absl::Status Sync() override {
    kill_->Step(Cat("sync ", path()));
    return ForwardingFile::Sync();
  }

 private:
  KillSwitch* const kill_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<File>> KillingFileSystem::Open(
    const std::string& path, const OpenOptions& options) {
  if (options.create) kill_->Step(Cat("make ", path));
  absl::StatusOr<std::unique_ptr<File>> file =
      ForwardingFileSystem::Open(path, options);
  if (!file.ok() || !options.write) return file;
  return std::make_unique<KillingFile>(*std::move(file), kill_);
}
absl::Status KillingFileSystem::Rename(const std::string& from,
                                       const std::string& to) {
  kill_->Step(Cat("rename to ", to));
  return ForwardingFileSystem::Rename(from, to);
}
absl::Status KillingFileSystem::Remove(const std::string& path) {
  if (Exists(path)) kill_->Step(Cat("remove ", path));
  return ForwardingFileSystem::Remove(path);
}
absl::Status KillingFileSystem::RemoveTree(const std::string& path) {
  if (Exists(path)) kill_->Step(Cat("remove ", path));
  return ForwardingFileSystem::RemoveTree(path);
}
absl::Status KillingFileSystem::SyncDir(const std::string& directory) {
  kill_->Step(Cat("sync folder ", directory));
  return ForwardingFileSystem::SyncDir(directory);
}
absl::Status KillingFileSystem::MakeDirs(const std::string& directory,
                                         uint32_t mode) {
  if (!Exists(directory)) kill_->Step(Cat("make ", directory));
  return ForwardingFileSystem::MakeDirs(directory, mode);
}

}  // namespace consilium

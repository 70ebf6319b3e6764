// A coordinator's engine and store on a disk that fails on command, without
// processes and network: what institutions and operators would call over gRPC
// is called directly.

#ifndef CONSILIUM_TESTS_CRASH_ENGINE_WORLD_H_
#define CONSILIUM_TESTS_CRASH_ENGINE_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/mutex.h"
#include "coordinator/engine/anchored_clock.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/file_system_vfs.h"
#include "coordinator/store/maintenance.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/manual_executor.h"
#include "tests/support/seeded_random.h"

namespace consilium {

// Rung by every thread of the engine after it did something, so that a test
// waits for a change and not for a time.
class Bell {
 public:
  void Ring() {
    MutexLock lock(&mu_);
    ++rings_;
    rung_.SignalAll();
  }
  uint64_t rings() {
    MutexLock lock(&mu_);
    return rings_;
  }
  void WaitBeyond(uint64_t rings) {
    MutexLock lock(&mu_);
    while (rings_ <= rings) rung_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar rung_;
  uint64_t rings_ ABSL_GUARDED_BY(mu_) = 0;
};

// Two tensors for everybody and three experts, in a few hundred bytes.
Layout SmallLayout();
// The shared part fills more than one frame: an upload has three chunks.
Layout LayoutOfTwoFrames();

// The files of a stopped coordinator with version 0, two institutions and a
// policy: quorum 2, both evaluate. The same for every call with one layout.
using DiskImage = std::map<std::string, std::string>;

// Life: Boot -> engine() -> Down, any number of times. The disk, the clock
// and what the log said stay.
class EngineWorld {
 public:
  explicit EngineWorld(const DiskImage& image);
  ~EngineWorld();

  static DiskImage MakeImage(const Layout& layout);
  // Of this world's disk, after Down().
  DiskImage TakeImage();

  // Opens the store and starts the engine. After anything but a clean stop it
  // first compares files and rows: a store that is not clean, or that lost what
  // was acknowledged, is a failure of the test.
  absl::Status Boot();
  // Stops the engine as SIGTERM does, or as far as a dead disk lets it.
  void Down();
  bool up() const { return engine_ != nullptr; }

  Engine& engine() { return *engine_; }
  Store& store() { return *store_; }
  FaultFileSystem& fs() { return fs_; }
  FakeClock& clock() { return clock_; }
  Bell& bell() { return bell_; }
  // What the engine leaves to ingest threads; the test runs it.
  ManualExecutor& ingest() { return ingest_; }
  RandomSource& random() { return random_; }
  Caller CallerFor(const std::string& institution);
  static const SigningKey& signing_key();
  static const IssuingCa& ca();

  // CheckStore() with digests, every problem a failure of the test.
  void ExpectClean();
  // "error 1 bank-a: text", in order.
  std::vector<std::string> Log();
  std::string LastError();

 private:
  friend class ImageMaker;
  struct Empty {};
  explicit EngineWorld(Empty);
  absl::Status OpenStore(bool create);
  absl::Status StartEngine();
  absl::Status RecoverAndCheck();

  FakeClock clock_;
  FaultFileSystem fs_;
  FileSystemVfs vfs_;
  SeededRandom random_;
  NullListener listener_;
  std::optional<AnchoredClock> anchored_;  // of this boot, as in the server
  Bell bell_;
  ManualExecutor ingest_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Engine> engine_;
  bool stopped_cleanly_ = true;
  Mutex log_mu_;
  std::vector<std::string> log_ ABSL_GUARDED_BY(log_mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_ENGINE_WORLD_H_

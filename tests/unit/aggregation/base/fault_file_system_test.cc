#include "tests/support/fault_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/base/sync_name.h"
#include "consilium/base/threads.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Code = absl::StatusCode;

constexpr OpenOptions kNew = {.write = true, .create = true};
constexpr int kSeeds = 60;

std::unique_ptr<File> Open(FaultFileSystem& fs, const std::string& path) {
  auto file = fs.Open(path, kNew);
  EXPECT_THAT(file, IsOk());
  return *std::move(file);
}

std::string Text(FaultFileSystem& fs, const std::string& path) {
  auto text = ReadWholeFile(&fs, path, 1 << 20);
  return text.ok() ? *std::move(text) : std::string(text.status().message());
}

TEST(FaultFileSystemTest, SyncedBytesUnderASyncedNameSurvive) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    FaultFileSystem fs;
    const auto file = Open(fs, "/f");
    ASSERT_THAT(file->WriteAt(0, AsBytes("kept")), IsOk());
    ASSERT_THAT(file->Sync(), IsOk());
    EXPECT_TRUE(fs.HasUnsynced());
    ASSERT_THAT(fs.SyncDir("/"), IsOk());
    EXPECT_FALSE(fs.HasUnsynced());
    fs.Crash(seed);
    EXPECT_EQ(Text(fs, "/f"), "kept");
  }
}

TEST(FaultFileSystemTest, AnUnsyncedNameMayGoWithItsSyncedBytes) {
  std::set<bool> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    FaultFileSystem fs;
    const auto file = Open(fs, "/f");
    ASSERT_THAT(file->WriteAt(0, AsBytes("text")), IsOk());
    ASSERT_THAT(file->Sync(), IsOk());
    fs.Crash(seed);
    seen.insert(fs.Exists("/f"));
    if (fs.Exists("/f")) {
      EXPECT_EQ(Text(fs, "/f"), "text");
    }
  }
  EXPECT_THAT(seen, ElementsAre(false, true));
}

TEST(FaultFileSystemTest, UnsyncedWritesAreKeptDroppedOrTorn) {
  std::set<std::string> seen;
  for (int seed = 0; seed < 20000; ++seed) {
    FaultFileSystem fs;
    const auto file = Open(fs, "/f");
    ASSERT_THAT(file->WriteAt(0, AsBytes("....")), IsOk());
    ASSERT_THAT(file->Sync(), IsOk());
    ASSERT_THAT(fs.SyncDir("/"), IsOk());
    ASSERT_THAT(file->WriteAt(0, AsBytes("ab")), IsOk());
    ASSERT_THAT(file->WriteAt(2, AsBytes("cd")), IsOk());
    fs.Crash(seed);
    seen.insert(Text(fs, "/f"));
  }
  EXPECT_EQ(seen.size(), 16u);  // each byte old or new
  EXPECT_TRUE(seen.contains("....") && seen.contains("abcd"));
}

TEST(FaultFileSystemTest, AnUnsyncedRenameIsUndoneAsAWhole) {
  std::set<std::string> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    FaultFileSystem fs;
    for (const char* name : {"/old", "/new"}) {
      const auto file = Open(fs, name);
      ASSERT_THAT(file->WriteAt(0, AsBytes(name)), IsOk());
      ASSERT_THAT(file->Sync(), IsOk());
    }
    ASSERT_THAT(fs.SyncDir("/"), IsOk());
    ASSERT_THAT(fs.Rename("/new", "/old"), IsOk());
    fs.Crash(seed);
    seen.insert(Text(fs, "/old"));
    EXPECT_EQ(fs.Exists("/new"), Text(fs, "/old") == "/old");
  }
  EXPECT_THAT(seen, ElementsAre("/new", "/old"));
}

TEST(FaultFileSystemTest, ARenameToAnotherDirectoryHangsOnTheNewOne) {
  FaultFileSystem fs;
  ASSERT_THAT(fs.MakeDirs("/a"), IsOk());
  ASSERT_THAT(fs.MakeDirs("/b"), IsOk());
  ASSERT_THAT(Open(fs, "/a/f")->Sync(), IsOk());
  ASSERT_THAT(fs.Rename("/a/f", "/b/f"), IsOk());
  ASSERT_THAT(fs.SyncDir("/b"), IsOk());
  // Its making in /a was never synced; moved on, it must not come back there.
  for (int seed = 0; seed < kSeeds; ++seed) fs.Crash(seed);
  EXPECT_FALSE(fs.Exists("/a/f"));
  EXPECT_TRUE(fs.Exists("/b/f"));
}

TEST(FaultFileSystemTest, AnUnsyncedRemovalMayComeBack) {
  std::set<bool> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    FaultFileSystem fs;
    ASSERT_THAT(fs.MakeDirs("/d/e"), IsOk());
    ASSERT_THAT(WriteFileAtomic(&fs, "/d/e/f", AsBytes("text")), IsOk());
    ASSERT_THAT(fs.RemoveTree("/d"), IsOk());
    EXPECT_FALSE(fs.Exists("/d"));
    fs.Crash(seed);
    seen.insert(fs.Exists("/d/e/f"));
    if (fs.Exists("/d/e/f")) {
      EXPECT_EQ(Text(fs, "/d/e/f"), "text");
      EXPECT_THAT(fs.List("/d"), IsOkAndHolds(ElementsAre("e")));
    }
  }
  EXPECT_THAT(seen, ElementsAre(false, true));
}

// MakeDirs syncs what it makes. A process killed in it leaves a directory that
// the next one finds, and that goes with everything synced into it.
TEST(FaultFileSystemTest, AnUnsyncedDirectoryMayGoWithAllThatIsInIt) {
  std::set<bool> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    for (const bool synced : {false, true}) {
      FaultFileSystem fs;
      fs.CrashAt(2);
      EXPECT_THAT(fs.MakeDirs("/d"), StatusIs(Code::kUnavailable));
      fs.KillProcess();
      ASSERT_TRUE(fs.Exists("/d"));
      ASSERT_THAT(fs.MakeDirs("/d/e"), IsOk());
      ASSERT_THAT(WriteFileAtomic(&fs, "/d/e/f", AsBytes("text")), IsOk());
      EXPECT_TRUE(fs.HasUnsynced());
      if (synced) {
        ASSERT_THAT(SyncName(&fs, "/d"), IsOk());
      }
      fs.Crash(seed);
      EXPECT_EQ(fs.Exists("/d"), fs.Exists("/d/e/f"));
      if (synced) {
        EXPECT_TRUE(fs.Exists("/d"));
      } else {
        seen.insert(fs.Exists("/d"));
      }
    }
  }
  EXPECT_THAT(seen, ElementsAre(false, true));
}

TEST(FaultFileSystemTest, ADirectoryThatCannotBeSyncedIsNotThere) {
  FaultFileSystem fs;
  fs.FailAt(2, absl::DataLossError("broken"));
  EXPECT_THAT(fs.MakeDirs("/d"), StatusIs(Code::kDataLoss));
  EXPECT_FALSE(fs.Exists("/d"));
  EXPECT_THAT(fs.MakeDirs("/d"), IsOk());
  EXPECT_FALSE(fs.HasUnsynced());
}

TEST(FaultFileSystemTest, CrashKeepingNothingUnsyncedKeepsNothingUnsynced) {
  FaultFileSystem fs;
  ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("old")), IsOk());
  const auto file = Open(fs, "/f");
  ASSERT_THAT(file->WriteAt(0, AsBytes("new!")), IsOk());
  ASSERT_THAT(file->Truncate(2), IsOk());
  ASSERT_THAT(fs.Rename("/f", "/g"), IsOk());
  fs.CrashKeepingNothingUnsynced();
  EXPECT_EQ(Text(fs, "/f"), "old");
  EXPECT_FALSE(fs.Exists("/g"));
}

TEST(FaultFileSystemTest, AKilledProcessLosesNothingItWrote) {
  FaultFileSystem fs;
  const auto file = Open(fs, "/f");
  ASSERT_THAT(file->WriteAt(0, AsBytes("text")), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto lock, fs.LockFile("/lock"));
  fs.KillProcess();
  EXPECT_EQ(Text(fs, "/f"), "text");
  EXPECT_THAT(file->WriteAt(0, AsBytes("x")), StatusIs(Code::kUnavailable));
  EXPECT_THAT(fs.LockFile("/lock"), IsOk());
  EXPECT_TRUE(fs.HasUnsynced());
}

TEST(FaultFileSystemTest, ALockOfAnEarlierLifeFreesNothing) {
  FaultFileSystem fs;
  ASSERT_OK_AND_ASSIGN(auto before, fs.LockFile("/lock"));
  fs.Crash(1);
  ASSERT_OK_AND_ASSIGN(const auto now, fs.LockFile("/lock"));
  before.reset();
  EXPECT_THAT(fs.LockFile("/lock"), StatusIs(Code::kFailedPrecondition));
}

TEST(FaultFileSystemTest, EverythingFailsFromTheCrashOn) {
  FaultFileSystem fs;
  const auto file = Open(fs, "/f");
  fs.CrashAt(2);
  EXPECT_THAT(file->WriteAt(0, AsBytes("x")), IsOk());
  EXPECT_THAT(file->Sync(), StatusIs(Code::kUnavailable));
  std::byte out[1];
  EXPECT_THAT(file->ReadAt(0, out), StatusIs(Code::kUnavailable));
  EXPECT_THAT(file->Size(), StatusIs(Code::kUnavailable));
  EXPECT_THAT(fs.Open("/f", {}), StatusIs(Code::kUnavailable));
  EXPECT_THAT(fs.Stat("/"), StatusIs(Code::kUnavailable));
  EXPECT_FALSE(fs.Exists("/f"));
  EXPECT_EQ(fs.ops(), 3);
  fs.Crash(1);
  EXPECT_THAT(file->ReadAt(0, out), StatusIs(Code::kUnavailable));
  EXPECT_THAT(fs.Open("/g", kNew), IsOk());
}

TEST(FaultFileSystemTest, OneOperationFailsWithoutEffect) {
  FaultFileSystem fs;
  const auto file = Open(fs, "/f");
  fs.FailAt(1, absl::DataLossError("bad sector"));
  EXPECT_THAT(file->WriteAt(0, AsBytes("lost")),
              StatusIs(Code::kDataLoss, std::string("bad sector")));
  EXPECT_EQ(Text(fs, "/f"), "");
  EXPECT_THAT(file->WriteAt(0, AsBytes("kept")), IsOk());
  fs.FailAt(1, absl::DataLossError("bad sector"));
  EXPECT_THAT(file->Sync(), StatusIs(Code::kDataLoss));
  EXPECT_THAT(file->Sync(), StatusIs(Code::kDataLoss));
  EXPECT_EQ(Text(fs, "/f"), "kept");
}

TEST(FaultFileSystemTest, AFullDiskTakesWhatFits) {
  FaultFileSystem fs;
  const auto file = Open(fs, "/f");
  ASSERT_THAT(file->WriteAt(0, AsBytes("12")), IsOk());
  fs.FailWithNoSpaceAfter(4);
  EXPECT_THAT(file->WriteAt(0, AsBytes("1234")), IsOk());
  EXPECT_THAT(fs.FreeSpace("/"), IsOkAndHolds(2));
  EXPECT_THAT(file->WriteAt(4, AsBytes("5678")),
              StatusIs(Code::kResourceExhausted, HasSubstr("/f")));
  EXPECT_EQ(Text(fs, "/f"), "123456");
  EXPECT_THAT(file->WriteAt(0, AsBytes("over")), IsOk());  // no growth
  EXPECT_THAT(file->Truncate(7), StatusIs(Code::kResourceExhausted));
  EXPECT_THAT(file->Truncate(1), IsOk());
  EXPECT_THAT(fs.FreeSpace("/"), IsOkAndHolds(5));
  ASSERT_THAT(fs.Remove("/f"), IsOk());
  EXPECT_THAT(fs.FreeSpace("/"), IsOkAndHolds(6));
  fs.FailWithNoSpaceAfter(-1);
  EXPECT_THAT(Open(fs, "/g")->WriteAt(100, AsBytes("x")), IsOk());
}

TEST(FaultFileSystemTest, AReservationTakesSpaceAndKeepsIt) {
  FaultFileSystem fs;
  const auto reserved = Open(fs, "/reserved");
  const auto other = Open(fs, "/other");
  fs.FailWithNoSpaceAfter(10);
  EXPECT_THAT(reserved->Allocate(11), StatusIs(Code::kResourceExhausted));
  EXPECT_THAT(reserved->Allocate(8), IsOk());
  EXPECT_THAT(other->WriteAt(0, AsBytes("123")),
              StatusIs(Code::kResourceExhausted));
  EXPECT_THAT(reserved->WriteAt(0, AsBytes("12345678")), IsOk());
}

TEST(FaultFileSystemTest, CorruptFlipsAByteOnDiskAndInMemory) {
  FaultFileSystem fs;
  const auto file = Open(fs, "/f");
  ASSERT_THAT(file->WriteAt(0, AsBytes("aaaa")), IsOk());
  EXPECT_THAT(fs.Corrupt("/f", 2, 0x03), IsOk());
  EXPECT_EQ(Text(fs, "/f"), "aaba");
  ASSERT_THAT(file->Sync(), IsOk());
  ASSERT_THAT(fs.SyncDir("/"), IsOk());
  fs.Crash(1);
  EXPECT_EQ(Text(fs, "/f"), "aaba");
  EXPECT_THAT(fs.Corrupt("/f", 4), StatusIs(Code::kOutOfRange));
  EXPECT_THAT(fs.Corrupt("/g", 0), StatusIs(Code::kNotFound));
}

TEST(FaultFileSystemTest, TimesComeFromTheClock) {
  FakeClock clock;
  FaultFileSystem fs(&clock);
  const auto file = Open(fs, "/f");
  clock.Advance(absl::Hours(1));
  ASSERT_THAT(file->WriteAt(0, AsBytes("x")), IsOk());
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs.Stat("/f"));
  EXPECT_EQ(info.modified, clock.Now());
}

TEST(FaultFileSystemTest, ThreadsMayShareIt) {
  FaultFileSystem fs;
  ThreadPool pool(4);
  pool.ParallelFor(16, [&fs](size_t i) {
    const std::string path = Cat("/f", i);
    for (int round = 0; round < 50; ++round) {
      EXPECT_THAT(WriteFileAtomic(&fs, path, AsBytes(Cat(round))), IsOk());
    }
  });
  for (int i = 0; i < 16; ++i) EXPECT_EQ(Text(fs, Cat("/f", i)), "49");
}

// The promise of WriteFileAtomic, at every step and for many outcomes: the old
// bytes or the new ones, and the new ones once it has said OK.
TEST(WriteFileAtomicTest, SurvivesALossOfPowerAtEveryStep) {
  int64_t steps = 0;
  {
    FaultFileSystem fs;
    ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("old")), IsOk());
    steps = -fs.ops();
    ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("newer")), IsOk());
    steps += fs.ops();
  }
  ASSERT_EQ(steps, 5);  // make, write, sync, rename, sync directory
  std::set<std::string> seen;
  for (int64_t k = 1; k <= steps + 1; ++k) {
    for (int seed = 0; seed < kSeeds; ++seed) {
      FaultFileSystem fs;
      ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("old")), IsOk());
      fs.CrashAt(k);
      const absl::Status status = WriteFileAtomic(&fs, "/f", AsBytes("newer"));
      EXPECT_EQ(status.ok(), k > steps);
      fs.Crash(static_cast<uint64_t>(seed));
      const std::string text = Text(fs, "/f");
      seen.insert(text);
      EXPECT_THAT(text, AnyOf("old", "newer"));
      if (status.ok()) {
        EXPECT_EQ(text, "newer");
      }
      // What a crash leaves behind does not disturb the next write.
      ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("next")), IsOk());
      EXPECT_EQ(Text(fs, "/f"), "next");
      EXPECT_THAT(fs.List("/"), IsOkAndHolds(ElementsAre("f")));
    }
  }
  EXPECT_THAT(seen, ElementsAre("newer", "old"));
}

TEST(WriteFileAtomicTest, AFailureAtAnyStepLeavesTheOldFileAndNoOther) {
  for (int64_t k = 1; k <= 4; ++k) {
    FaultFileSystem fs;
    ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("old")), IsOk());
    fs.FailAt(k, absl::DataLossError("bad sector"));
    EXPECT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("new")),
                StatusIs(Code::kDataLoss));
    EXPECT_EQ(Text(fs, "/f"), "old");
    EXPECT_THAT(fs.List("/"), IsOkAndHolds(ElementsAre("f")));
  }
}

TEST(WriteFileAtomicTest, AFullDiskLeavesTheOldFileAndNoOther) {
  FaultFileSystem fs;
  ASSERT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("old")), IsOk());
  fs.FailWithNoSpaceAfter(3);
  EXPECT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("newer")),
              StatusIs(Code::kResourceExhausted));
  EXPECT_EQ(Text(fs, "/f"), "old");
  EXPECT_THAT(fs.List("/"), IsOkAndHolds(ElementsAre("f")));
  EXPECT_THAT(WriteFileAtomic(&fs, "/f", AsBytes("new")), IsOk());
}

// The fake finds the mistakes it is made for: without the sync of the
// directory, or of the file, a crash after OK loses data.
TEST(FaultFileSystemTest, AMissingSyncIsFound) {
  bool lost_name = false;
  bool lost_bytes = false;
  for (int seed = 0; seed < kSeeds; ++seed) {
    for (const bool sync_file : {false, true}) {
      FaultFileSystem fs;
      const auto file = Open(fs, "/tmp");
      ASSERT_THAT(file->WriteAt(0, AsBytes("text")), IsOk());
      if (sync_file) {
        ASSERT_THAT(file->Sync(), IsOk());
      }
      ASSERT_THAT(fs.Rename("/tmp", "/f"), IsOk());
      if (!sync_file) {
        ASSERT_THAT(fs.SyncDir("/"), IsOk());
      }
      fs.Crash(static_cast<uint64_t>(seed));
      lost_name |= sync_file && !fs.Exists("/f");
      lost_bytes |= !sync_file && Text(fs, "/f") != "text";
    }
  }
  EXPECT_TRUE(lost_name);
  EXPECT_TRUE(lost_bytes);
}

}  // namespace
}  // namespace consilium

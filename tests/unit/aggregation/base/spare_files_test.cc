#include "consilium/base/spare_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "consilium/base/bytes.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SpareFilesTest : public ::testing::Test {
 protected:
  SpareFilesTest() { CONSILIUM_CHECK(fs_.MakeDirs("/data").ok()); }
  void Make(const std::string& path, size_t bytes) {
    ASSERT_OK(WriteFileAtomic(&fs_, path, AsBytes(std::string(bytes, 'x'))));
  }
  void Retire(SpareFiles& spares, size_t bytes) {
    Make("/data/old", bytes);
    ASSERT_OK(spares.Retire("/data/old"));
    EXPECT_FALSE(fs_.Exists("/data/old"));
  }
  // Size of the file that Take gives, or -1 for none.
  int64_t Take(SpareFiles& spares, int64_t bytes) {
    const auto file = spares.Take("/data/new", bytes);
    CONSILIUM_CHECK(file.ok());
    if (*file == nullptr) return -1;
    const int64_t size = *(*file)->Size();
    CONSILIUM_CHECK((*file)->WriteAt(0, AsBytes("new")).ok());
    CONSILIUM_CHECK(fs_.Remove("/data/new").ok());
    return size;
  }

  FaultFileSystem fs_;
};

TEST_F(SpareFilesTest, TheBestFitIsTakenAndCut) {
  SpareFiles spares(&fs_, "/spare", 10'000);
  ASSERT_OK(spares.Prepare());
  for (const size_t bytes : {700, 1000, 2000, 500}) Retire(spares, bytes);
  EXPECT_EQ(spares.bytes(), 4200);
  EXPECT_EQ(Take(spares, 900), 900);  // of the 1000
  EXPECT_EQ(Take(spares, 900), 900);  // of the 2000
  EXPECT_EQ(Take(spares, 900), 700);  // the largest that is left
  EXPECT_EQ(Take(spares, 1002), -1);  // 500 are less than half
  EXPECT_EQ(Take(spares, 1000), 500);
  EXPECT_EQ(Take(spares, 1), -1);
  EXPECT_EQ(spares.bytes(), 0);
}

TEST_F(SpareFilesTest, ASpareThatCouldNotBeTakenIsStillCounted) {
  SpareFiles spares(&fs_, "/spare", 10'000);
  ASSERT_OK(spares.Prepare());
  Retire(spares, 1000);
  fs_.FailAt(1, absl::UnavailableError("the disk does not answer"));
  EXPECT_THAT(spares.Take("/data/new", 900),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(spares.bytes(), 1000);
  EXPECT_EQ(Take(spares, 900), 900);
  EXPECT_EQ(spares.bytes(), 0);
}

TEST_F(SpareFilesTest, NoMoreThanTheLimitIsKept) {
  SpareFiles spares(&fs_, "/spare", 1000);
  ASSERT_OK(spares.Prepare());
  Retire(spares, 600);
  Retire(spares, 401);
  EXPECT_EQ(spares.bytes(), 600);
  Retire(spares, 400);
  EXPECT_EQ(spares.bytes(), 1000);
  EXPECT_THAT(fs_.List("/spare"), IsOkAndHolds(SizeIs(2)));
}

TEST_F(SpareFilesTest, WithALimitOfZeroFilesAreRemoved) {
  SpareFiles spares(&fs_, "/spare", 0);
  ASSERT_OK(spares.Prepare());
  Retire(spares, 600);
  EXPECT_EQ(Take(spares, 600), -1);
  EXPECT_FALSE(fs_.Exists("/spare"));
}

// Else a loss of power leaves one file under the old name and the new one.
TEST_F(SpareFilesTest, WhatIsRetiredIsGoneDurably) {
  for (const int64_t limit : {1000, 0}) {
    SpareFiles spares(&fs_, "/spare", limit);
    ASSERT_OK(spares.Prepare());
    Retire(spares, 600);
    fs_.CrashKeepingNothingUnsynced();
    EXPECT_FALSE(fs_.Exists("/data/old")) << limit;
  }
}

TEST_F(SpareFilesTest, AFileThatDidNotMoveDurablyIsNoSpare) {
  for (const int64_t sync : {2, 3}) {
    SpareFiles spares(&fs_, "/spare", 1000);
    ASSERT_OK(spares.Prepare());
    Make("/data/old", 600);
    fs_.FailAt(sync, absl::DataLossError("the disk does not sync"));
    EXPECT_THAT(spares.Retire("/data/old"),
                StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_EQ(Take(spares, 600), -1);
    EXPECT_EQ(spares.bytes(), 0);
    EXPECT_THAT(fs_.List("/spare"), IsOkAndHolds(IsEmpty()));
  }
}

TEST_F(SpareFilesTest, WhatAKilledProcessMovedIsDurableBeforeItIsTaken) {
  ASSERT_OK(fs_.MakeDirs("/spare"));
  Make("/data/old", 600);
  ASSERT_OK(fs_.Rename("/data/old", "/spare/0.spare"));
  fs_.KillProcess();
  SpareFiles spares(&fs_, "/spare", 1000);
  ASSERT_OK(spares.Prepare());
  ASSERT_OK(fs_.MakeDirs("/elsewhere"));
  ASSERT_OK_AND_ASSIGN(const auto file, spares.Take("/elsewhere/new", 600));
  ASSERT_NE(file, nullptr);
  ASSERT_OK(fs_.SyncDir("/elsewhere"));
  fs_.CrashKeepingNothingUnsynced();
  EXPECT_TRUE(fs_.Exists("/elsewhere/new"));
  EXPECT_FALSE(fs_.Exists("/data/old"));
}

TEST_F(SpareFilesTest, WhatIsInUseIsRemovedAndItsReadersKeepIt) {
  SpareFiles spares(&fs_, "/spare", 1000);
  ASSERT_OK(spares.Prepare());
  Make("/data/old", 600);
  {
    FileUse first = spares.Use("/data/old");
    FileUse second = spares.Use("/data/old");
    first.End();
    FileUse moved = std::move(second);
    ASSERT_OK(spares.Retire("/data/old"));
    EXPECT_FALSE(fs_.Exists("/data/old"));
    EXPECT_EQ(spares.bytes(), 0);
  }
  Retire(spares, 600);
  EXPECT_EQ(spares.bytes(), 600);
}

TEST_F(SpareFilesTest, ALaterProcessTakesThemOver) {
  {
    SpareFiles spares(&fs_, "/spare", 5000);
    ASSERT_OK(spares.Prepare());
    Retire(spares, 600);
    Retire(spares, 4000);
  }
  Make("/spare/notes.txt", 10);
  Make("/spare/007.spare", 10);
  SpareFiles smaller(&fs_, "/spare", 1000);
  ASSERT_OK(smaller.Prepare());
  EXPECT_EQ(smaller.bytes(), 600);
  EXPECT_THAT(fs_.List("/spare"), IsOkAndHolds(ElementsAre("0.spare")));
  Retire(smaller, 300);  // under a name of its own
  EXPECT_EQ(Take(smaller, 600), 600);
  EXPECT_EQ(Take(smaller, 300), 300);
  SpareFiles none(&fs_, "/spare", 0);
  Make("/spare/9.spare", 10);
  ASSERT_OK(none.Prepare());
  EXPECT_THAT(fs_.List("/spare"), IsOkAndHolds(IsEmpty()));
}

TEST_F(SpareFilesTest, ClearRemovesAllAndWhatIsGoneIsNoError) {
  SpareFiles spares(&fs_, "/spare", 5000);
  ASSERT_OK(spares.Prepare());
  Retire(spares, 600);
  Retire(spares, 700);
  ASSERT_OK(fs_.Remove("/spare/0.spare"));
  ASSERT_OK(spares.Clear());
  EXPECT_EQ(spares.bytes(), 0);
  EXPECT_THAT(fs_.List("/spare"), IsOkAndHolds(IsEmpty()));
  Retire(spares, 600);
  ASSERT_OK(fs_.Remove("/spare/2.spare"));
  EXPECT_EQ(Take(spares, 600), -1);
  EXPECT_OK(spares.Retire("/data/never"));
}

}  // namespace
}  // namespace consilium

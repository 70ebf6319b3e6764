#include "examples/local/own_directory.h"

#include <string>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class OwnDirectoryTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<FileLock>> Claim() {
    return ClaimDirectory(fs_, path_, "mark", [](std::string_view name) {
      return name == "made" || name == "folder";
    });
  }
  void Write(const std::string& name) {
    ASSERT_OK(WriteFileAtomic(fs_, JoinPath(path_, name), AsBytes("x")));
  }

  FileSystem* const fs_ = PosixFileSystem();
  TempDir temporary_;
  const std::string path_ = temporary_ / "d";
};

TEST_F(OwnDirectoryTest, TheNextRunFindsItEmpty) {
  {
    ASSERT_OK_AND_ASSIGN(const auto lock, Claim());
    Write("made");
    ASSERT_OK(fs_->MakeDirs(JoinPath(path_, "folder/below")));
    Write("folder/below/file");
  }
  EXPECT_OK(Claim());
  EXPECT_THAT(fs_->List(path_), IsOkAndHolds(UnorderedElementsAre("mark")));
}

// A run that was killed at once left only the marker.
TEST_F(OwnDirectoryTest, ARunThatWasCutShortIsReplaced) {
  { ASSERT_OK(Claim()); }
  EXPECT_OK(Claim());
}

TEST_F(OwnDirectoryTest, WhatSomebodyElsePutThereStays) {
  { ASSERT_OK(Claim()); }
  Write("made");
  Write("notes.txt");
  EXPECT_OK(Claim());
  EXPECT_THAT(fs_->List(path_),
              IsOkAndHolds(UnorderedElementsAre("mark", "notes.txt")));
}

TEST_F(OwnDirectoryTest, ADirectoryOfSomebodyElseIsRefused) {
  ASSERT_OK(fs_->MakeDirs(path_));
  Write("made");
  EXPECT_THAT(Claim(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("holds made")));
  EXPECT_THAT(fs_->List(path_), IsOkAndHolds(UnorderedElementsAre("made")));
}

TEST_F(OwnDirectoryTest, ARunThatGoesOnIsLeftAlone) {
  ASSERT_OK_AND_ASSIGN(const auto lock, Claim());
  Write("made");
  EXPECT_THAT(Claim(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("held by process")));
  EXPECT_TRUE(fs_->Exists(JoinPath(path_, "made")));
}

}  // namespace
}  // namespace consilium

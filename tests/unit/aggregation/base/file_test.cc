#include "consilium/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Code = absl::StatusCode;

constexpr OpenOptions kNew = {.write = true, .create = true};

// The contract of FileSystem, for the real one and for the fake alike.
class FileContractTest : public ::testing::TestWithParam<bool> {
 protected:
  FileContractTest() {
    if (GetParam()) {
      root_ = real_directory_.path();
      fs_ = PosixFileSystem();
    } else {
      root_ = "/fake/root";
      fs_ = &fake_;
      EXPECT_THAT(fs_->MakeDirs(root_), IsOk());
    }
  }
  std::string At(std::string_view name) const { return JoinPath(root_, name); }

  std::unique_ptr<File> Create(std::string_view name, std::string_view text) {
    auto file = fs_->Open(At(name), kNew);
    EXPECT_THAT(file, IsOk());
    EXPECT_THAT((*file)->WriteAt(0, AsBytes(text)), IsOk());
    return *std::move(file);
  }
  std::string Text(std::string_view name) {
    auto text = ReadWholeFile(fs_, At(name), 1 << 20);
    EXPECT_THAT(text, IsOk());
    return text.value_or("");
  }
  static std::string Read(File& file, int64_t offset, size_t size) {
    std::string out(size, '?');
    auto got = file.ReadAt(
        offset, std::as_writable_bytes(std::span(out.data(), out.size())));
    EXPECT_THAT(got, IsOk());
    return out.substr(0, got.value_or(0));
  }

  TempDir real_directory_;
  FaultFileSystem fake_;
  FileSystem* fs_ = nullptr;
  std::string root_;
};

INSTANTIATE_TEST_SUITE_P(Systems, FileContractTest, ::testing::Bool(),
                         [](const auto& tested) {
                           return tested.param ? "Posix" : "Fake";
                         });

TEST_P(FileContractTest, ReadsAreShortOnlyAtTheEnd) {
  const auto file = Create("f", "0123456789");
  EXPECT_EQ(Read(*file, 0, 4), "0123");
  EXPECT_EQ(Read(*file, 8, 4), "89");
  EXPECT_EQ(Read(*file, 10, 4), "");
  EXPECT_EQ(Read(*file, 1000, 4), "");
  std::byte out[4];
  EXPECT_THAT(ReadExactlyAt(file.get(), 6, out), IsOk());
  EXPECT_THAT(ReadExactlyAt(file.get(), 7, out),
              StatusIs(Code::kDataLoss,
                       AllOf(HasSubstr(At("f")), HasSubstr("4 bytes"),
                             HasSubstr("offset 7"), HasSubstr("3 are there"))));
}

TEST_P(FileContractTest, WritesGrowTheFileAndLeaveZerosInGaps) {
  const auto file = Create("f", "ab");
  EXPECT_THAT(file->WriteAt(4, AsBytes("cd")), IsOk());
  EXPECT_THAT(file->Size(), IsOkAndHolds(6));
  EXPECT_THAT(file->WriteAt(1, AsBytes("XY")), IsOk());
  EXPECT_THAT(file->Sync(), IsOk());
  EXPECT_THAT(file->StartWriteback(0, 6), IsOk());
  EXPECT_EQ(Text("f"), std::string("aXY\0cd", 6));
  EXPECT_THAT(file->WriteAt(0, {}), IsOk());
}

TEST_P(FileContractTest, TruncateCutsAndExtends) {
  const auto file = Create("f", "abcdef");
  EXPECT_THAT(file->Truncate(3), IsOk());
  EXPECT_EQ(Text("f"), "abc");
  EXPECT_THAT(fs_->Truncate(At("f"), 5), IsOk());
  EXPECT_EQ(Text("f"), std::string("abc\0\0", 5));
  EXPECT_THAT(fs_->Truncate(At("none"), 5), StatusIs(Code::kNotFound));
}

TEST_P(FileContractTest, AllocateDoesNotChangeTheSize) {
  const auto file = Create("f", "abc");
  EXPECT_THAT(file->Allocate(1 << 16), IsOk());
  EXPECT_THAT(file->Allocate(0), IsOk());
  EXPECT_THAT(file->Size(), IsOkAndHolds(3));
}

TEST_P(FileContractTest, OpenFollowsItsOptions) {
  EXPECT_THAT(fs_->Open(At("f"), {}),
              StatusIs(Code::kNotFound, HasSubstr(At("f"))));
  EXPECT_THAT(fs_->Open(At("f"), {.write = true}), StatusIs(Code::kNotFound));
  Create("f", "text");
  EXPECT_THAT(fs_->Open(At("f"), kNew), IsOk());
  EXPECT_EQ(Text("f"), "text");
  EXPECT_THAT(
      fs_->Open(At("f"), {.write = true, .create = true, .exclusive = true}),
      StatusIs(Code::kAlreadyExists));
  EXPECT_THAT(fs_->Open(At("f"), {.write = true, .truncate = true}), IsOk());
  EXPECT_EQ(Text("f"), "");
  EXPECT_THAT(fs_->Open(At("f"), {.create = true}),
              StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(fs_->Open(root_, {}), StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(fs_->Open(At("no/f"), kNew), StatusIs(Code::kNotFound));
  EXPECT_THAT(fs_->Open(At("f/g"), kNew), StatusIs(Code::kFailedPrecondition));
}

TEST_P(FileContractTest, AFileDoesOnlyWhatItWasOpenedFor) {
  Create("f", "text");
  std::byte out[1];
  ASSERT_OK_AND_ASSIGN(const auto reading, fs_->Open(At("f"), {}));
  EXPECT_THAT(reading->WriteAt(0, AsBytes("x")),
              StatusIs(Code::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(const auto writing,
                       fs_->Open(At("f"), {.read = false, .write = true}));
  EXPECT_THAT(writing->ReadAt(0, out), StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(writing->Close(), IsOk());
  EXPECT_THAT(writing->WriteAt(0, AsBytes("x")),
              StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(writing->Close(), StatusIs(Code::kFailedPrecondition));
}

TEST_P(FileContractTest, NegativeAndOverflowingRangesAreRefused) {
  const auto file = Create("f", "text");
  std::byte out[8];
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(file->ReadAt(-1, out), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->ReadAt(kMax - 2, out), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->WriteAt(-1, out), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->WriteAt(kMax, out), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->Truncate(-1), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->Allocate(-1), StatusIs(Code::kInvalidArgument));
  EXPECT_THAT(file->StartWriteback(0, -1), StatusIs(Code::kInvalidArgument));
  EXPECT_EQ(Text("f"), "text");
}

TEST_P(FileContractTest, RenameReplaces) {
  Create("a", "new");
  Create("b", "old");
  EXPECT_THAT(fs_->Rename(At("a"), At("b")), IsOk());
  EXPECT_EQ(Text("b"), "new");
  EXPECT_FALSE(fs_->Exists(At("a")));
  EXPECT_THAT(fs_->Rename(At("a"), At("b")), StatusIs(Code::kNotFound));
  EXPECT_THAT(fs_->MakeDirs(At("d")), IsOk());
  EXPECT_THAT(RenameDurably(fs_, At("b"), At("d/c")), IsOk());
  EXPECT_EQ(Text("d/c"), "new");
  EXPECT_THAT(fs_->Rename(At("d/c"), At("none/c")), StatusIs(Code::kNotFound));
}

TEST_P(FileContractTest, DirectoriesAreMadeListedAndRemoved) {
  EXPECT_THAT(fs_->MakeDirs(At("x/y/z"), 0750), IsOk());
  EXPECT_THAT(fs_->MakeDirs(At("x/y")), IsOk());
  Create("x/file", "");
  Create("x/y/file", "");
  EXPECT_THAT(fs_->List(At("x")), IsOkAndHolds(ElementsAre("file", "y")));
  EXPECT_THAT(fs_->List(At("none")), StatusIs(Code::kNotFound));
  EXPECT_THAT(fs_->List(At("x/file")), StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(fs_->MakeDirs(At("x/file")), StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(fs_->SyncDir(At("x")), IsOk());
  EXPECT_THAT(fs_->SyncDir(At("none")), StatusIs(Code::kNotFound));
  EXPECT_THAT(fs_->Remove(At("x/y")), StatusIs(Code::kFailedPrecondition));
  EXPECT_THAT(fs_->Remove(At("x/file")), IsOk());
  EXPECT_THAT(fs_->Remove(At("x/file")), StatusIs(Code::kNotFound));
  EXPECT_THAT(fs_->RemoveTree(At("x")), IsOk());
  EXPECT_THAT(fs_->RemoveTree(At("x")), IsOk());
  EXPECT_FALSE(fs_->Exists(At("x")));
  EXPECT_THAT(fs_->List(root_), IsOkAndHolds(IsEmpty()));
}

TEST_P(FileContractTest, StatTellsKindSizeAndMode) {
  Create("f", "four");
  ASSERT_OK_AND_ASSIGN(const FileInfo file, fs_->Stat(At("f")));
  EXPECT_EQ(file.size, 4);
  EXPECT_EQ(file.mode, 0600u);
  EXPECT_FALSE(file.is_directory);
  EXPECT_THAT(fs_->MakeDirs(At("d")), IsOk());
  ASSERT_OK_AND_ASSIGN(const FileInfo directory, fs_->Stat(At("d")));
  EXPECT_TRUE(directory.is_directory);
  EXPECT_EQ(directory.mode, 0700u);
  EXPECT_THAT(fs_->Stat(At("none")), StatusIs(Code::kNotFound));
  ASSERT_OK_AND_ASSIGN(const int64_t free, fs_->FreeSpace(root_));
  EXPECT_GT(free, 0);
  EXPECT_THAT(fs_->FreeSpace(At("none")), StatusIs(Code::kNotFound));
}

TEST_P(FileContractTest, ALockThatIsHeldNamesItsHolder) {
  ASSERT_OK_AND_ASSIGN(auto lock, fs_->LockFile(At("lock")));
  EXPECT_THAT(fs_->LockFile(At("lock")),
              StatusIs(Code::kFailedPrecondition,
                       AllOf(HasSubstr(At("lock")),
                             HasSubstr(Cat("process ", ::getpid())))));
  lock.reset();
  EXPECT_THAT(fs_->LockFile(At("lock")), IsOk());
  EXPECT_EQ(Text("lock"), Cat(::getpid(), "\n"));
  EXPECT_THAT(fs_->LockFile(At("none/lock")), StatusIs(Code::kNotFound));
}

TEST_P(FileContractTest, ReadWholeFileKeepsToItsLimit) {
  Create("f", "12345");
  EXPECT_THAT(ReadWholeFile(fs_, At("f"), 5), IsOkAndHolds("12345"));
  EXPECT_THAT(ReadWholeFile(fs_, At("f"), 4),
              StatusIs(Code::kResourceExhausted,
                       AllOf(HasSubstr(At("f")), HasSubstr("at most 4"))));
  Create("empty", "");
  EXPECT_THAT(ReadWholeFile(fs_, At("empty"), 0), IsOkAndHolds(""));
}

TEST_P(FileContractTest, WriteFileAtomicReplacesAndLeavesNothingBehind) {
  Create("f.tmp", "left by a crash, and longer");
  EXPECT_THAT(WriteFileAtomic(fs_, At("f"), AsBytes("one")), IsOk());
  EXPECT_EQ(Text("f"), "one");
  EXPECT_THAT(WriteFileAtomic(fs_, At("f"), AsBytes("two"), 0640), IsOk());
  EXPECT_EQ(Text("f"), "two");
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs_->Stat(At("f")));
  EXPECT_EQ(info.mode, 0640u);
  EXPECT_THAT(fs_->List(root_), IsOkAndHolds(ElementsAre("f")));
  EXPECT_THAT(WriteFileAtomic(fs_, At("none/f"), AsBytes("x")),
              StatusIs(Code::kNotFound));
}

TEST(PathTest, JoinsAndSplits) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("a", "/b"), "/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("a", ""), "a");
  EXPECT_EQ(DirName("/a/b"), "/a");
  EXPECT_EQ(DirName("/a/b//"), "/a");
  EXPECT_EQ(DirName("/a"), "/");
  EXPECT_EQ(DirName("//a"), "/");
  EXPECT_EQ(DirName("/"), "/");
  EXPECT_EQ(DirName("b"), ".");
  EXPECT_EQ(BaseName("/a/b/"), "b");
  EXPECT_EQ(BaseName("b"), "b");
  EXPECT_EQ(BaseName("/"), "");
}

TEST(PosixFileTest, AFullDiskNamesTheFile) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       PosixFileSystem()->Open("/dev/full", {.write = true}));
  EXPECT_THAT(file->WriteAt(0, AsBytes("x")),
              StatusIs(Code::kResourceExhausted, HasSubstr("/dev/full")));
}

// A character device refuses fdatasync, which stands for a failing disk.
TEST(PosixFileTest, AFailedSyncStaysFailed) {
  ASSERT_OK_AND_ASSIGN(const auto file,
                       PosixFileSystem()->Open("/dev/null", {.write = true}));
  EXPECT_FALSE(file->Sync().ok());
  EXPECT_THAT(file->Sync(),
              StatusIs(Code::kDataLoss, HasSubstr("earlier sync failed")));
}

TEST(PosixFileTest, AReservationBeyondTheDiskIsRefused) {
  const TempDir directory;
  ASSERT_OK_AND_ASSIGN(const auto file,
                       PosixFileSystem()->Open(directory / "f", kNew));
  EXPECT_THAT(file->Allocate(int64_t{1} << 60),
              StatusIs(Code::kResourceExhausted, HasSubstr("/f")));
}

TEST(PosixFileTest, RemoveTreeDoesNotFollowLinks) {
  const TempDir directory;
  FileSystem* fs = PosixFileSystem();
  ASSERT_THAT(fs->MakeDirs(directory / "kept"), IsOk());
  ASSERT_THAT(fs->MakeDirs(directory / "gone"), IsOk());
  ASSERT_THAT(WriteFileAtomic(fs, directory / "kept/f", AsBytes("x")), IsOk());
  ASSERT_EQ(::symlink((directory / "kept").c_str(),
                      (directory / "gone/link").c_str()),
            0);
  EXPECT_THAT(fs->RemoveTree(directory / "gone"), IsOk());
  EXPECT_TRUE(fs->Exists(directory / "kept/f"));
}

TEST(PosixFileTest, DescriptorsDoNotReachChildProcesses) {
  const TempDir directory;
  ASSERT_OK_AND_ASSIGN(const auto file,
                       PosixFileSystem()->Open(directory / "marker", kNew));
  // The shell lists what it inherited.
  const std::string command =
      Cat("ls -l /proc/self/fd | grep -q ", directory / "marker");
  const int result = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(result));
  EXPECT_EQ(WEXITSTATUS(result), 1);
}

TEST(PosixFileTest, ALockEndsWithItsProcess) {
  const TempDir directory;
  FileSystem* fs = PosixFileSystem();
  const std::string path = directory / "lock";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto lock = fs->LockFile(path);
    const char answer = lock.ok() ? 'y' : 'n';
    (void)!::write(ready[1], &answer, 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_THAT(fs->LockFile(path), StatusIs(Code::kFailedPrecondition,
                                           HasSubstr(Cat("process ", child))));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_THAT(fs->LockFile(path), IsOk());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(MappedFileTest, ShowsTheBytes) {
  const TempDir directory;
  FileSystem* fs = PosixFileSystem();
  ASSERT_THAT(WriteFileAtomic(fs, directory / "f", AsBytes("hello")), IsOk());
  ASSERT_OK_AND_ASSIGN(MappedFile map, MappedFile::Open(directory / "f"));
  EXPECT_EQ(AsChars(map.bytes()), "hello");
  // A replaced file does not disturb a mapping of the old one.
  ASSERT_THAT(WriteFileAtomic(fs, directory / "f", AsBytes("other")), IsOk());
  MappedFile moved = std::move(map);
  EXPECT_EQ(AsChars(moved.bytes()), "hello");
  ASSERT_OK_AND_ASSIGN(moved, MappedFile::Open(directory / "f"));
  EXPECT_EQ(AsChars(moved.bytes()), "other");
}

TEST(MappedFileTest, KnowsWhatIsMapped) {
  const TempDir directory;
  FileSystem* fs = PosixFileSystem();
  const std::string path = directory / "f";
  ASSERT_THAT(WriteFileAtomic(fs, path, AsBytes("hello")), IsOk());
  EXPECT_FALSE(MappedFile::IsMapped(path));
  {
    ASSERT_OK_AND_ASSIGN(const MappedFile one, MappedFile::Open(path));
    {
      ASSERT_OK_AND_ASSIGN(MappedFile two, MappedFile::Open(path));
      const MappedFile moved = std::move(two);
      EXPECT_TRUE(MappedFile::IsMapped(path));
    }
    EXPECT_TRUE(MappedFile::IsMapped(path));
    ASSERT_THAT(fs->Rename(path, directory / "g"), IsOk());
    EXPECT_TRUE(MappedFile::IsMapped(directory / "g"));
    EXPECT_FALSE(MappedFile::IsMapped(path));
  }
  EXPECT_FALSE(MappedFile::IsMapped(directory / "g"));
}

TEST(MappedFileTest, EmptyMissingAndDirectory) {
  const TempDir directory;
  ASSERT_THAT(WriteFileAtomic(PosixFileSystem(), directory / "f", {}), IsOk());
  ASSERT_OK_AND_ASSIGN(const MappedFile map, MappedFile::Open(directory / "f"));
  EXPECT_TRUE(map.bytes().empty());
  EXPECT_THAT(MappedFile::Open(directory / "none"), StatusIs(Code::kNotFound));
  EXPECT_THAT(MappedFile::Open(directory.path()),
              StatusIs(Code::kFailedPrecondition));
}

}  // namespace
}  // namespace consilium

#include "consilium/secure/key_file.h"

#include <string>

#include "consilium/base/bytes.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(KeyFileTest, WritesModeAndReadsBack) {
  FaultFileSystem fs;
  const SecretBytes secret = SecretBytes::CopyOf("the secret");
  ASSERT_OK(WriteKeyFile(&fs, "/a.key", secret));
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs.Stat("/a.key"));
  EXPECT_EQ(info.mode, 0600u);
  EXPECT_FALSE(fs.HasUnsynced());
  ASSERT_OK_AND_ASSIGN(const SecretBytes read, ReadKeyFile(&fs, "/a.key"));
  EXPECT_TRUE(read == secret);
}

TEST(KeyFileTest, RefusesWhatOthersMayUseAndSaysHowToMendIt) {
  FaultFileSystem fs;
  for (const uint32_t mode : {0644u, 0640u, 0604u, 0620u, 0602u, 0610u}) {
    ASSERT_OK(WriteFileAtomic(&fs, "/a.key", AsBytes("secret"), mode));
    EXPECT_THAT(
        ReadKeyFile(&fs, "/a.key"),
        StatusIs(absl::StatusCode::kPermissionDenied,
                 AllOf(HasSubstr("/a.key"), HasSubstr("chmod 600 '/a.key'"))));
    EXPECT_THAT(CheckKeyFileMode(&fs, "/a.key"),
                StatusIs(absl::StatusCode::kPermissionDenied));
  }
  for (const uint32_t mode : {0600u, 0400u}) {
    ASSERT_OK(WriteFileAtomic(&fs, "/a.key", AsBytes("secret"), mode));
    EXPECT_OK(ReadKeyFile(&fs, "/a.key"));
  }
}

TEST(KeyFileTest, MissingLargeAndDirectoryAreTyped) {
  FaultFileSystem fs;
  EXPECT_THAT(ReadKeyFile(&fs, "/none"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(WriteFileAtomic(
      &fs, "/big", AsBytes(std::string(kMaxKeyFileBytes + 1, 'x')), 0600));
  EXPECT_THAT(ReadKeyFile(&fs, "/big"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(fs.MakeDirs("/dir"));
  EXPECT_THAT(ReadKeyFile(&fs, "/dir"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace consilium

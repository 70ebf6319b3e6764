#include "consilium/secure/storage_key.h"

#include "consilium/base/bytes.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class StorageKeyTest : public ::testing::Test {
 protected:
  SeededRandom random_;
  FaultFileSystem fs_;
  const StorageKey key_ = StorageKey::Generate(random_);
  const std::string purpose_ = RoundKeyPurpose("cards", 7, 1);
};

TEST_F(StorageKeyTest, ASecretUnwrapsWithKeyAndPurposeOnly) {
  const SecretBytes secret = SecretBytes::CopyOf("round private key");
  ASSERT_OK_AND_ASSIGN(std::string wrapped,
                       key_.WrapSecret(AsBytes(purpose_), secret, random_));
  ASSERT_OK_AND_ASSIGN(const SecretBytes read,
                       key_.UnwrapSecret(AsBytes(purpose_), AsBytes(wrapped)));
  EXPECT_TRUE(read == secret);

  for (const std::string& other :
       {RoundKeyPurpose("loans", 7, 1), RoundKeyPurpose("cards", 8, 1),
        RoundKeyPurpose("cards", 7, 2)}) {
    EXPECT_THAT(key_.UnwrapSecret(AsBytes(other), AsBytes(wrapped)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  const StorageKey stranger = StorageKey::Generate(random_);
  EXPECT_THAT(stranger.UnwrapSecret(AsBytes(purpose_), AsBytes(wrapped)),
              StatusIs(absl::StatusCode::kDataLoss));
  for (size_t i = 0; i < wrapped.size(); ++i) {
    std::string changed = wrapped;
    changed[i] ^= 1;
    EXPECT_THAT(key_.UnwrapSecret(AsBytes(purpose_), AsBytes(changed)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  for (size_t size = 0; size < wrapped.size(); ++size) {
    EXPECT_THAT(
        key_.UnwrapSecret(AsBytes(purpose_), AsBytes(wrapped).first(size)),
        StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST_F(StorageKeyTest, NoncesDiffer) {
  const SecretBytes secret = SecretBytes::CopyOf("round private key");
  ASSERT_OK_AND_ASSIGN(const std::string a,
                       key_.WrapSecret(AsBytes(purpose_), secret, random_));
  ASSERT_OK_AND_ASSIGN(const std::string b,
                       key_.WrapSecret(AsBytes(purpose_), secret, random_));
  EXPECT_NE(a, b);
}

TEST_F(StorageKeyTest, GoesThroughItsFile) {
  ASSERT_OK(key_.SaveFile(&fs_, "/storage.key"));
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       ReadWholeFile(&fs_, "/storage.key", 100));
  EXPECT_EQ(text.size(), 65u);
  ASSERT_OK_AND_ASSIGN(const StorageKey loaded,
                       StorageKey::LoadFile(&fs_, "/storage.key"));
  ASSERT_OK_AND_ASSIGN(const std::string wrapped,
                       key_.WrapSecret({}, SecretBytes::CopyOf("x"), random_));
  EXPECT_OK(loaded.UnwrapSecret({}, AsBytes(wrapped)));
}

TEST_F(StorageKeyTest, BadFilesAreRefusedWithoutShowingThem) {
  ASSERT_OK(WriteFileAtomic(&fs_, "/bad", AsBytes("abcd1234\n"), 0600));
  const absl::Status bad = StorageKey::LoadFile(&fs_, "/bad").status();
  EXPECT_THAT(bad,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/bad")));
  EXPECT_THAT(std::string(bad.message()),
              ::testing::Not(HasSubstr("abcd1234")));
  ASSERT_OK(
      WriteFileAtomic(&fs_, "/open", AsBytes(std::string(64, 'a')), 0644));
  EXPECT_THAT(StorageKey::LoadFile(&fs_, "/open"),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

}  // namespace
}  // namespace consilium

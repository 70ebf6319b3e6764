#include "coordinator/store/round_keys.h"

#include <sys/stat.h>

#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class RoundKeysTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(keys_.Prepare()); }

  static RoundKeyRecord Key(int64_t round, int64_t attempt) {
    RoundKeyRecord key;
    key.round = round;
    key.attempt = attempt;
    key.public_key.fill(std::byte{7});
    key.wrapped_private_key = std::string("\1wrapped\0bytes", 14);
    return key;
  }

  FaultFileSystem fs_;
  RoundKeyFiles keys_{&fs_, "/data/round-keys"};
};

TEST_F(RoundKeysTest, ComesBackAsItWas) {
  ASSERT_OK(keys_.Create(Key(12, 2)));
  EXPECT_THAT(keys_.Load(12, 2), IsOkAndHolds(Key(12, 2)));
  EXPECT_TRUE(keys_.Exists(12, 2));
  EXPECT_FALSE(keys_.Exists(12, 1));
  ASSERT_OK_AND_ASSIGN(const FileInfo info,
                       fs_.Stat("/data/round-keys/12-2.key"));
  EXPECT_EQ(info.mode, 0600u);
  EXPECT_THAT(keys_.Create(Key(12, 2)),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(RoundKeysTest, IsDurableBeforeItIsUsed) {
  ASSERT_OK(keys_.Create(Key(1, 1)));
  EXPECT_FALSE(fs_.HasUnsynced());
  fs_.CrashKeepingNothingUnsynced();
  EXPECT_OK(keys_.Load(1, 1).status());
}

TEST_F(RoundKeysTest, DestroyedIsGoneForGood) {
  ASSERT_OK(keys_.Create(Key(1, 1)));
  ASSERT_OK(keys_.Destroy(1, 1));
  fs_.CrashKeepingNothingUnsynced();
  EXPECT_THAT(keys_.Load(1, 1).status(),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("destroyed when its retention ended")));
  EXPECT_OK(keys_.Destroy(1, 1));
}

// At no step of the destruction does a file with the old bytes come back under
// its name once the call has returned, whatever the crash keeps.
TEST_F(RoundKeysTest, DestroyCanBeRepeatedAfterACrashAnywhere) {
  for (int64_t k = 1;; ++k) {
    FaultFileSystem fs;
    RoundKeyFiles keys(&fs, "/k");
    ASSERT_OK(keys.Prepare());
    ASSERT_OK(keys.Create(Key(1, 1)));
    fs.CrashAt(k);
    const bool done = keys.Destroy(1, 1).ok();
    fs.Crash(static_cast<uint64_t>(k));
    const absl::Status loaded = keys.Load(1, 1).status();
    if (done) {
      EXPECT_THAT(loaded, StatusIs(absl::StatusCode::kNotFound));
    }
    EXPECT_OK(keys.Destroy(1, 1));
    EXPECT_FALSE(keys.Exists(1, 1));
    if (done) break;
  }
}

TEST_F(RoundKeysTest, DamageIsDataLoss) {
  const std::string path = "/data/round-keys/3-1.key";
  ASSERT_OK(keys_.Create(Key(3, 1)));
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs_.Stat(path));
  for (int64_t at = 0; at < info.size; ++at) {
    ASSERT_OK(fs_.Corrupt(path, at, 0x10));
    EXPECT_THAT(keys_.Load(3, 1).status(),
                StatusIs(absl::StatusCode::kDataLoss))
        << at;
    ASSERT_OK(fs_.Corrupt(path, at, 0x10));
  }
  EXPECT_OK(keys_.Load(3, 1).status());
  // A file under another round's name.
  ASSERT_OK(fs_.Rename(path, "/data/round-keys/4-1.key"));
  EXPECT_THAT(
      keys_.Load(4, 1).status(),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("belongs to round 3")));
  ASSERT_OK(fs_.Truncate("/data/round-keys/4-1.key", 10));
  EXPECT_THAT(keys_.Load(4, 1).status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut off")));
}

TEST_F(RoundKeysTest, ListsKeysAndRemovesTemps) {
  for (const auto& [round, attempt] :
       std::vector<std::pair<int64_t, int64_t>>{{10, 1}, {2, 2}, {2, 1}}) {
    ASSERT_OK(keys_.Create(Key(round, attempt)));
  }
  ASSERT_OK(
      WriteFileAtomic(&fs_, "/data/round-keys/5-1.key.tmp", AsBytes("half")));
  ASSERT_OK(WriteFileAtomic(&fs_, "/data/round-keys/README", AsBytes("hm")));
  EXPECT_THAT(keys_.List(),
              IsOkAndHolds(ElementsAre(Pair(2, 1), Pair(2, 2), Pair(10, 1))));
  EXPECT_THAT(keys_.RemoveTemps(), IsOkAndHolds(1));
  EXPECT_FALSE(fs_.Exists("/data/round-keys/5-1.key.tmp"));
  EXPECT_TRUE(fs_.Exists("/data/round-keys/README"));
}

TEST_F(RoundKeysTest, ValuesOutOfRangeAreRefused) {
  RoundKeyRecord key = Key(1, 1);
  key.wrapped_private_key.clear();
  EXPECT_THAT(keys_.Create(key), StatusIs(absl::StatusCode::kInvalidArgument));
  key.wrapped_private_key = std::string(5000, 'x');
  EXPECT_THAT(keys_.Create(key), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(RoundKeysOnDiskTest, RefusesAKeyThatOthersCanRead) {
  TempDir dir;
  FileSystem* fs = PosixFileSystem();
  RoundKeyFiles keys(fs, dir / "keys");
  ASSERT_OK(keys.Prepare());
  RoundKeyRecord key;
  key.round = 1;
  key.attempt = 1;
  key.wrapped_private_key = "wrapped";
  ASSERT_OK(keys.Create(key));
  EXPECT_OK(keys.Load(1, 1).status());
  ASSERT_EQ(::chmod((dir / "keys/1-1.key").c_str(), 0644), 0);
  EXPECT_THAT(
      keys.Load(1, 1).status(),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("chmod 600")));
}

}  // namespace
}  // namespace consilium

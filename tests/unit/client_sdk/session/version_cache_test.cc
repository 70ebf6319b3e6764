// Downloads: resumed, checked, cached, dropped. On the real file system, since
// versions are mapped.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "consilium/base/bytes.h"
#include "consilium/client/client.h"
#include "consilium/secure/sha256.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class VersionCacheTest : public ::testing::Test {
 protected:
  VersionCacheTest() {
    h_.options.state_dir = directory_ / "state";
    session_ = *h_.Connect();
    before_ = h_.coordinator.downloaded();
  }
  Version Publish(uint64_t number, float value) {
    return PublishVersion(h_.coordinator, directory_ / "scratch", number,
                          value);
  }
  absl::StatusOr<Parameters> Open(const Version& version) {
    CONSILIUM_ASSIGN_OR_RETURN(auto opened,
                               session_->OpenVersion(version, {}, {}));
    return Parameters(std::move(opened));
  }
  uint64_t Downloaded() { return h_.coordinator.downloaded() - before_; }
  std::vector<std::string> Files() {
    return *PosixFileSystem()->List(directory_ / "state/versions");
  }
  void Restart() {
    session_.reset();
    session_ = *h_.Connect();
  }

  TempDir directory_;
  Harness h_{PosixFileSystem()};
  std::unique_ptr<Session> session_;
  uint64_t before_ = 0;
};

TEST_F(VersionCacheTest, IsDownloadedOnceAndMapped) {
  const Version version = Publish(1, 0.5f);
  std::vector<uint64_t> seen;
  ASSERT_OK_AND_ASSIGN(
      auto opened,
      session_->OpenVersion(version,
                            [&](const TransferProgress& progress) {
                              EXPECT_EQ(progress.phase,
                                        TransferProgress::Phase::kDownload);
                              seen.push_back(progress.done_bytes);
                            },
                            {}));
  const Parameters parameters(opened);
  ASSERT_OK_AND_ASSIGN(const auto trunk, parameters.Tensor("trunk"));
  EXPECT_THAT(trunk, SizeIs(700000));
  EXPECT_EQ(trunk[699999], 0.5f);
  EXPECT_THAT(parameters.Tensor("nobody"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(parameters.Shape("nobody"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(parameters.Names(),
              ElementsAre("trunk", "head", "expert.0", "expert.1"));
  EXPECT_EQ(parameters.version(), version);
  EXPECT_EQ(seen.back(), version.bytes);
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), version.bytes);
}

TEST_F(VersionCacheTest, GoesOnWhereItStopped) {
  const Version version = Publish(1, 0.5f);
  h_.coordinator.cuts() = {10'500, 0, 2'000'000, 999};
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), version.bytes);
  EXPECT_THAT(h_.sleeper.slept(), SizeIs(4));
}

TEST_F(VersionCacheTest, GoesOnInALaterProcess) {
  const Version version = Publish(1, 0.5f);
  h_.coordinator.cuts() = {1'000'500};
  h_.options.retry.give_up_after = absl::Nanoseconds(1);
  Restart();
  h_.coordinator.FailAt(2, Fault::kRequestLost);
  EXPECT_FALSE(Open(version).ok());
  Restart();
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), version.bytes);
}

TEST_F(VersionCacheTest, ADamagedPrefixIsFetchedAgain) {
  const Version version = Publish(1, 0.5f);
  const std::string part =
      JoinPath(directory_ / "state/versions", version.digest.Hex() + ".part");
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), part,
                            AsBytes(std::string(5000, '?'))));
  const std::string mark = std::string("\x88\x13\0\0\0\0\0\0", 8);  // 5000
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(),
                            part.substr(0, part.size() - 5) + ".done",
                            AsBytes(mark)));
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), 2 * version.bytes - 5000);
}

TEST_F(VersionCacheTest, APrefixOfUnknownLengthIsNotBelieved) {
  const Version version = Publish(1, 0.5f);
  const std::string part =
      JoinPath(directory_ / "state/versions", version.digest.Hex() + ".part");
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), part,
                            AsBytes(std::string(5000, '?'))));
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), version.bytes);
}

// The file of a version that was dropped takes the next one, also over two
// processes.
TEST_F(VersionCacheTest, ADownloadIntoASpareGoesOnInALaterProcess) {
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_OK(Open(Publish(i, static_cast<float>(i))));
  }
  ASSERT_THAT(PosixFileSystem()->List(directory_ / "state/spare"),
              IsOkAndHolds(SizeIs(1)));
  const Version next = Publish(4, 4.0f);
  before_ = h_.coordinator.downloaded();
  h_.coordinator.cuts() = {1'000'500};
  h_.options.retry.give_up_after = absl::Nanoseconds(1);
  Restart();
  before_ = h_.coordinator.downloaded();
  h_.coordinator.FailAt(2, Fault::kRequestLost);
  EXPECT_FALSE(Open(next).ok());
  EXPECT_THAT(PosixFileSystem()->List(directory_ / "state/spare"),
              IsOkAndHolds(IsEmpty()));
  Restart();
  ASSERT_OK_AND_ASSIGN(const Parameters opened, Open(next));
  EXPECT_EQ(Downloaded(), next.bytes);
  ASSERT_OK_AND_ASSIGN(const auto trunk, opened.Tensor("trunk"));
  EXPECT_THAT(trunk, ::testing::Each(4.0f));
}

TEST_F(VersionCacheTest, WhatHasAnotherDigestIsNotUsed) {
  const Version version = Publish(1, 0.5f);
  h_.coordinator.objects()[version.digest][9000] ^= 1;
  EXPECT_THAT(Open(version), StatusIs(absl::StatusCode::kDataLoss,
                                      HasSubstr(version.digest.Hex())));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(VersionCacheTest, WhatHasAnotherLengthIsNotUsed) {
  Version version = Publish(1, 0.5f);
  version.bytes -= 1;
  EXPECT_THAT(Open(version), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(h_.sleeper.slept(), IsEmpty());
}

TEST_F(VersionCacheTest, ARottenCacheIsNoticedByTheNextProcess) {
  const Version version = Publish(1, 0.5f);
  std::string path;
  {
    ASSERT_OK_AND_ASSIGN(const Parameters parameters, Open(version));
    path = parameters.path();
  }
  ASSERT_OK_AND_ASSIGN(std::string bytes,
                       ReadWholeFile(PosixFileSystem(), path, 1 << 30));
  bytes[123456] ^= 1;
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), path, AsBytes(bytes)));
  Restart();
  ASSERT_OK_AND_ASSIGN(const Parameters again, Open(version));
  ASSERT_OK_AND_ASSIGN(const auto trunk, again.Tensor("trunk"));
  EXPECT_EQ(trunk[20000], 0.5f);
  EXPECT_EQ(Downloaded(), 2 * version.bytes);
}

TEST_F(VersionCacheTest, KeepsTheLastTwoAndWhatIsMappedStaysReadable) {
  const Version v1 = Publish(1, 1.0f), v2 = Publish(2, 2.0f),
                v3 = Publish(3, 3.0f);
  ASSERT_OK_AND_ASSIGN(const Parameters first, Open(v1));
  ASSERT_OK(Open(v2));
  ASSERT_OK(Open(v1));
  ASSERT_OK(Open(v3));  // v2 was used longest ago
  EXPECT_THAT(Files(), ::testing::UnorderedElementsAre(
                           v1.digest.Hex() + ".safetensors",
                           v3.digest.Hex() + ".safetensors"));
  ASSERT_OK(Open(v2));
  EXPECT_FALSE(PosixFileSystem()->Exists(first.path()));
  ASSERT_OK_AND_ASSIGN(const auto head, first.Tensor("head"));
  EXPECT_EQ(head[14], 1.0f);
}

// The file of a version that was dropped becomes another one's; what a caller
// still holds of it must not.
TEST_F(VersionCacheTest, ParametersOutliveTheirSession) {
  ASSERT_OK_AND_ASSIGN(const Parameters held, Open(Publish(1, 1.0f)));
  Restart();
  for (uint64_t i = 2; i <= 5; ++i) {
    ASSERT_OK(Open(Publish(i, static_cast<float>(i))));
  }
  ASSERT_OK_AND_ASSIGN(const auto trunk, held.Tensor("trunk"));
  EXPECT_THAT(trunk, ::testing::Each(1.0f));
}

TEST_F(VersionCacheTest, OneFileUnderTwoNumbersIsHeldByBoth) {
  const Version first = Publish(1, 1.0f);
  Version again = first;
  again.number = 2;
  ASSERT_OK_AND_ASSIGN(const Parameters held, Open(first));
  ASSERT_OK(Open(again));
  for (uint64_t i = 3; i <= 6; ++i) {
    ASSERT_OK(Open(Publish(i, static_cast<float>(i))));
  }
  ASSERT_OK_AND_ASSIGN(const auto trunk, held.Tensor("trunk"));
  EXPECT_THAT(trunk, ::testing::Each(1.0f));
}

TEST_F(VersionCacheTest, ADownloadCutShortGoesOnAfterAnotherVersion) {
  const Version version = Publish(1, 0.5f);
  const Version other = Publish(2, 2.0f);
  h_.options.retry.give_up_after = absl::Nanoseconds(1);
  Restart();
  h_.coordinator.cuts() = {1'000'500};
  h_.coordinator.FailAt(2, Fault::kRequestLost);
  EXPECT_FALSE(Open(version).ok());
  ASSERT_OK(Open(other));
  before_ = h_.coordinator.downloaded();
  ASSERT_OK(Open(version));
  EXPECT_EQ(Downloaded(), version.bytes - 1'000'000);
  EXPECT_THAT(Files(), SizeIs(2));
}

TEST_F(VersionCacheTest, NoMoreDownloadsCutShortThanVersionsAreKept) {
  h_.options.retry.give_up_after = absl::Nanoseconds(1);
  Restart();
  for (uint64_t i = 1; i <= 5; ++i) {
    h_.coordinator.cuts() = {1'000'500};
    h_.coordinator.FailAt(2, Fault::kRequestLost);
    EXPECT_FALSE(Open(Publish(i, static_cast<float>(i))).ok());
  }
  ASSERT_OK(Open(Publish(6, 6.0f)));
  EXPECT_THAT(Files(), SizeIs(1 + 2 * 2));  // a mark beside each part
}

TEST_F(VersionCacheTest, AMissingVersionIsNotRetried) {
  EXPECT_THAT(Open({9, Sha256("nothing"), 100}),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(h_.sleeper.slept(), IsEmpty());
}

TEST_F(VersionCacheTest, AFileThatIsNoVersionOfThisLayoutIsRefused) {
  const std::string junk(5000, 'j');
  h_.coordinator.objects()[Sha256(junk)] = junk;
  EXPECT_FALSE(Open({9, Sha256(junk), junk.size()}).ok());
}

}  // namespace
}  // namespace consilium::client::internal

#include "coordinator/store/blob_store.h"

#include <atomic>
#include <thread>

#include "tests/support/forwarding_file_system.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BlobStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(blobs_.Prepare()); }

  // Collects with these digests alive.
  BlobStore::Collected Collect(std::vector<BlobRef> live) {
    const auto collected = blobs_.Collect(
        [&]() -> absl::StatusOr<std::vector<BlobRef>> { return live; });
    EXPECT_OK(collected.status());
    return collected.ok() ? *collected : BlobStore::Collected{};
  }

  FaultFileSystem fs_;
  BlobStore blobs_{&fs_, "/data/blobs", "/data/tmp"};
};

TEST_F(BlobStoreTest, PutAndOpen) {
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest, blobs_.Put(AsBytes("hello")));
  EXPECT_EQ(digest, Sha256("hello"));
  const std::string hex = digest.Hex();
  EXPECT_EQ(blobs_.PathOf(digest),
            Cat("/data/blobs/", hex.substr(0, 2), "/", hex));
  ASSERT_OK_AND_ASSIGN(const auto file, blobs_.Open(digest, 5));
  std::string text(5, ' ');
  ASSERT_OK(
      ReadExactlyAt(file.get(), 0, std::as_writable_bytes(std::span(text))));
  EXPECT_EQ(text, "hello");
  EXPECT_OK(blobs_.Verify(digest, 5));
  EXPECT_OK(blobs_.Put({}).status());
}

TEST_F(BlobStoreTest, APublishedBlobIsDurable) {
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest, blobs_.Put(AsBytes("hello")));
  EXPECT_FALSE(fs_.HasUnsynced());
  fs_.CrashKeepingNothingUnsynced();
  EXPECT_OK(blobs_.Verify(digest, 5));
}

TEST_F(BlobStoreTest, TheFoldWritesInPlace) {
  ASSERT_OK_AND_ASSIGN(BlobWriter writer, blobs_.NewWriter(6));
  ASSERT_OK(writer.file()->WriteAt(3, AsBytes("def")));
  ASSERT_OK(writer.file()->WriteAt(0, AsBytes("abc")));
  const std::string temp = writer.path();
  ASSERT_OK(std::move(writer).Publish(Sha256("abcdef"), 6));
  EXPECT_FALSE(fs_.Exists(temp));
  EXPECT_OK(blobs_.Verify(Sha256("abcdef"), 6));
  EXPECT_THAT(std::move(writer).Publish(Sha256("abcdef"), 6),  // NOLINT
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(BlobStoreTest, ABlobThatIsCollectedIsOverwrittenUnlessItIsOpen) {
  SpareFiles spares(&fs_, "/data/spare", 1 << 20);
  ASSERT_OK(spares.Prepare());
  BlobStore blobs(&fs_, "/data/blobs", "/data/tmp", &spares);
  const auto drop_all = [&] {
    return blobs.Collect([] { return std::vector<BlobRef>(); }).status();
  };
  ASSERT_OK_AND_ASSIGN(const Sha256Digest old, blobs.Put(AsBytes("old bytes")));
  blobs.Release(old);
  {
    ASSERT_OK_AND_ASSIGN(const auto reader, blobs.Open(old, 9));
    ASSERT_OK(drop_all());
    EXPECT_EQ(spares.bytes(), 0);
    ASSERT_OK(blobs.Put(AsBytes("new text!")).status());
    std::string text(9, ' ');
    ASSERT_OK(ReadExactlyAt(reader.get(), 0,
                            std::as_writable_bytes(std::span(text))));
    EXPECT_EQ(text, "old bytes");
  }
  blobs.Release(Sha256("new text!"));
  ASSERT_OK(drop_all());
  EXPECT_EQ(spares.bytes(), 9);
  // A writer that was promised more bytes than it publishes.
  ASSERT_OK_AND_ASSIGN(BlobWriter writer, blobs.NewWriter(12));
  EXPECT_EQ(spares.bytes(), 0);
  ASSERT_OK(writer.file()->WriteAt(0, AsBytes("abc")));
  ASSERT_OK(std::move(writer).Publish(Sha256("abc"), 3));
  EXPECT_OK(blobs.Verify(Sha256("abc"), 3));
}

TEST_F(BlobStoreTest, SparesAreGivenUpBeforeTheDiskIsFull) {
  SpareFiles spares(&fs_, "/data/spare", 1 << 20);
  ASSERT_OK(spares.Prepare());
  BlobStore blobs(&fs_, "/data/blobs", "/data/tmp", &spares);
  for (const size_t bytes : {100, 60}) {
    ASSERT_OK_AND_ASSIGN(const Sha256Digest digest,
                         blobs.Put(AsBytes(std::string(bytes, 'x'))));
    blobs.Release(digest);
  }
  ASSERT_OK(blobs.Collect([] { return std::vector<BlobRef>(); }).status());
  EXPECT_EQ(spares.bytes(), 160);
  fs_.FailWithNoSpaceAfter(0);
  // The larger spare becomes the file, the smaller one the rest of it.
  EXPECT_OK(blobs.NewWriter(150).status());
  EXPECT_EQ(spares.bytes(), 0);
}

TEST_F(BlobStoreTest, AnAbandonedWriterLeavesNothing) {
  std::string temp;
  {
    ASSERT_OK_AND_ASSIGN(const BlobWriter writer, blobs_.NewWriter(0));
    temp = writer.path();
    EXPECT_TRUE(fs_.Exists(temp));
  }
  EXPECT_FALSE(fs_.Exists(temp));
}

TEST_F(BlobStoreTest, AWrongSizeIsNotPublished) {
  ASSERT_OK_AND_ASSIGN(BlobWriter writer, blobs_.NewWriter(0));
  ASSERT_OK(writer.file()->WriteAt(0, AsBytes("abc")));
  EXPECT_THAT(std::move(writer).Publish(Sha256("abcd"), 4),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected 4")));
  ASSERT_OK_AND_ASSIGN(const auto listing, blobs_.List());
  EXPECT_TRUE(listing.blobs.empty());
  EXPECT_TRUE(listing.temps.empty());
}

TEST_F(BlobStoreTest, DamageIsTypedAndSaysWhatToDo) {
  const Sha256Digest digest = Sha256("hello");
  EXPECT_THAT(blobs_.Open(digest, 5).status(),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr(digest.Hex()), HasSubstr("is missing"),
                             HasSubstr("db restore"))));
  ASSERT_OK(blobs_.Put(AsBytes("hello")).status());
  EXPECT_THAT(blobs_.Open(digest, 6).status(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("holds 5 bytes, the history says 6")));
  ASSERT_OK(fs_.Corrupt(blobs_.PathOf(digest), 2));
  EXPECT_OK(blobs_.Open(digest, 5).status());  // cheap check: size only
  EXPECT_THAT(
      blobs_.Verify(digest, 5),
      StatusIs(absl::StatusCode::kDataLoss,
               AllOf(HasSubstr("is damaged"), HasSubstr("db restore"))));
  // Publishing the same bytes again heals it.
  ASSERT_OK(blobs_.Put(AsBytes("hello")).status());
  EXPECT_OK(blobs_.Verify(digest, 5));
}

TEST_F(BlobStoreTest, DiskFullShowsBeforeTheFold) {
  fs_.FailWithNoSpaceAfter(100);
  EXPECT_THAT(blobs_.NewWriter(101).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const auto listing, blobs_.List());
  EXPECT_TRUE(listing.temps.empty());
  EXPECT_OK(blobs_.NewWriter(100).status());
}

TEST_F(BlobStoreTest, CollectRemovesWhatNobodyNames) {
  ASSERT_OK_AND_ASSIGN(const Sha256Digest kept, blobs_.Put(AsBytes("kept")));
  ASSERT_OK_AND_ASSIGN(const Sha256Digest lost, blobs_.Put(AsBytes("lost!")));
  ASSERT_OK_AND_ASSIGN(const Sha256Digest pending,
                       blobs_.Put(AsBytes("pending")));
  blobs_.Release(kept);
  blobs_.Release(lost);
  ASSERT_OK(WriteFileAtomic(&fs_, "/data/tmp/9.blob-tmp", AsBytes("old")));
  ASSERT_OK_AND_ASSIGN(const BlobWriter writer, blobs_.NewWriter(0));

  BlobStore::Collected collected = Collect({{kept, 4}});
  EXPECT_EQ(collected.blobs, 1);
  EXPECT_EQ(collected.temps, 1);
  EXPECT_EQ(collected.bytes, 5 + 3);
  EXPECT_OK(blobs_.Open(kept, 4).status());
  EXPECT_OK(blobs_.Open(pending, 7).status());
  EXPECT_TRUE(fs_.Exists(writer.path()));

  // Its row was never written after all.
  EXPECT_TRUE(blobs_.IsPending(pending));
  blobs_.Release(pending);
  EXPECT_FALSE(blobs_.IsPending(pending));
  EXPECT_EQ(Collect({{kept, 4}}).blobs, 1);
}

TEST_F(BlobStoreTest, APublishOfTheSameBytesTwiceIsPendingTwice) {
  ASSERT_OK_AND_ASSIGN(const Sha256Digest digest, blobs_.Put(AsBytes("x")));
  ASSERT_OK(blobs_.Put(AsBytes("x")).status());
  blobs_.Release(digest);
  EXPECT_EQ(Collect({}).blobs, 0);
  blobs_.Release(digest);
  EXPECT_EQ(Collect({}).blobs, 1);
}

TEST_F(BlobStoreTest, StraysAreListedAndLeftAlone) {
  ASSERT_OK(fs_.MakeDirs("/data/blobs/zz"));
  ASSERT_OK(fs_.MakeDirs("/data/blobs/ab"));
  ASSERT_OK(WriteFileAtomic(&fs_, "/data/blobs/ab/notes", AsBytes("hm")));
  // A digest in the wrong folder.
  const std::string hex = Sha256("q").Hex();
  ASSERT_NE(hex.substr(0, 2), "ab");
  ASSERT_OK(WriteFileAtomic(&fs_, Cat("/data/blobs/ab/", hex), AsBytes("q")));
  ASSERT_OK_AND_ASSIGN(const auto listing, blobs_.List());
  EXPECT_EQ(listing.strays.size(), 3u);
  Collect({});
  EXPECT_TRUE(fs_.Exists("/data/blobs/ab/notes"));
}

// A collection in the middle of publishing would be the end of a version.
TEST_F(BlobStoreTest, PublishAndCollectDoNotMeet) {
  std::thread collector([this] {
    for (int i = 0; i < 50; ++i) Collect({});
  });
  for (int i = 0; i < 50; ++i) {
    const std::string text = Cat("blob ", i);
    ASSERT_OK_AND_ASSIGN(const Sha256Digest digest, blobs_.Put(AsBytes(text)));
    EXPECT_OK(blobs_.Verify(digest, static_cast<int64_t>(text.size())));
    blobs_.Release(digest);
  }
  collector.join();
  Collect({});
  ASSERT_OK_AND_ASSIGN(const auto listing, blobs_.List());
  EXPECT_TRUE(listing.blobs.empty());
}

// Notices when folders are made by two at a time.
class OneMaker final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  absl::Status MakeDirs(const std::string& directory, uint32_t mode) override {
    met_ = met_ || makers_.fetch_add(1) > 0;
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    const absl::Status status = ForwardingFileSystem::MakeDirs(directory, mode);
    makers_.fetch_sub(1);
    return status;
  }
  bool met() const { return met_; }

 private:
  std::atomic<int> makers_{0};
  std::atomic<bool> met_{false};
};

// A folder that is there and not yet durable would be taken for durable.
TEST(BlobStoreFolderTest, OnePublisherAtATimeMakesFolders) {
  FaultFileSystem disk;
  OneMaker fs(&disk);
  BlobStore blobs(&fs, "/b", "/t");
  ASSERT_OK(blobs.Prepare());
  const auto publish = [&blobs](std::string_view who) {
    for (int i = 0; i < 50; ++i) {
      EXPECT_OK(blobs.Put(AsBytes(Cat(who, i))).status());
    }
  };
  std::thread other([&] { publish("other"); });
  publish("this");
  other.join();
  EXPECT_FALSE(fs.met());
}

// A spare that became a blob is not a spare again after a loss of power.
TEST(BlobStoreCrashTest, ABlobOverASpareIsItsOwnFile) {
  const std::string text(1000, 'p');
  for (int64_t k = 1;; ++k) {
    bool published = false;
    for (uint64_t seed = 0; seed < 12; ++seed) {
      FaultFileSystem fs;
      {
        SpareFiles spares(&fs, "/spare", 1 << 20);
        ASSERT_OK(spares.Prepare());
        BlobStore blobs(&fs, "/b", "/t", &spares);
        ASSERT_OK(blobs.Prepare());
        ASSERT_OK_AND_ASSIGN(const Sha256Digest old,
                             blobs.Put(AsBytes(std::string(1000, 'o'))));
        blobs.Release(old);
        ASSERT_OK(
            blobs.Collect([] { return std::vector<BlobRef>(); }).status());
        ASSERT_EQ(spares.bytes(), 1000);
        fs.CrashAt(k);
        published = blobs.Put(AsBytes(text)).ok();
        fs.Crash(seed);
      }
      SpareFiles spares(&fs, "/spare", 1 << 20);
      ASSERT_OK(spares.Prepare());
      BlobStore blobs(&fs, "/b", "/t", &spares);
      ASSERT_OK(blobs.Prepare());
      ASSERT_OK(blobs.Put(AsBytes(std::string(1000, 'q'))).status());
      if (published) {
        EXPECT_OK(blobs.Verify(Sha256(text), 1000)) << k << " " << seed;
      }
    }
    if (published) break;
    ASSERT_LT(k, 100);
  }
}

// For every step of a publish and several crashes: either the blob is whole
// under its name, or it is not there, and what is left over is collected.
TEST(BlobStoreCrashTest, PublishIsAllOrNothing) {
  const std::string text(10'000, 'p');
  for (int64_t k = 1;; ++k) {
    bool published = false;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      FaultFileSystem fs;
      {
        BlobStore blobs(&fs, "/b", "/t");
        ASSERT_OK(blobs.Prepare());
        fs.CrashAt(k);
        published = blobs.Put(AsBytes(text)).ok();
        fs.Crash(seed);
      }
      BlobStore blobs(&fs, "/b", "/t");
      ASSERT_OK(blobs.Prepare());
      const Sha256Digest digest = Sha256(text);
      const auto size = static_cast<int64_t>(text.size());
      if (published || fs.Exists(blobs.PathOf(digest))) {
        EXPECT_OK(blobs.Verify(digest, size)) << k << " " << seed;
      }
      const auto collected =
          blobs.Collect([]() -> absl::StatusOr<std::vector<BlobRef>> {
            return std::vector<BlobRef>();
          });
      EXPECT_OK(collected.status());
      ASSERT_OK_AND_ASSIGN(const auto listing, blobs.List());
      EXPECT_TRUE(listing.blobs.empty());
      EXPECT_TRUE(listing.temps.empty());
    }
    if (published) break;
    ASSERT_LT(k, 100);
  }
}

}  // namespace
}  // namespace consilium

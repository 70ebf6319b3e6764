// Uploads and the threads that make them durable.

#include "coordinator/store/spool.h"

#include <atomic>
#include <thread>

#include "coordinator/store/spool_format.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

// Waits for a count without a clock.
class Counter {
 public:
  void Set(uint64_t value) {
    MutexLock lock(&mu_);
    value_ = value;
    changed_.SignalAll();
  }
  void WaitFor(uint64_t value) {
    MutexLock lock(&mu_);
    while (value_ < value) changed_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  uint64_t value_ = 0;
};

SpoolHeader BigHeader(uint64_t chunks) {
  SpoolHeader header;
  header.sealed = false;
  header.total_chunks = chunks;
  header.payload_bytes = chunks * 1000;
  header.max_record_bytes = 1024;
  header.manifest = "m";
  return header;
}

TEST(SpoolSyncerTest, ManyUploadsAreAckedInOrderAndCompletely) {
  TempDir dir;
  std::atomic<int64_t> syncs{0};
  std::atomic<int64_t> synced_bytes{0};
  SpoolSyncer syncer(2, [&](absl::Duration took, int64_t bytes) {
    EXPECT_GE(took, absl::ZeroDuration());
    ++syncs;
    synced_bytes += bytes;
  });
  SpoolDir spools(PosixFileSystem(), dir.path(), &syncer);
  ASSERT_OK(spools.Prepare());
  constexpr uint64_t kChunks = 200;
  std::vector<std::thread> uploads;
  for (int u = 0; u < 6; ++u) {
    uploads.emplace_back([&, u] {
      uint64_t last = 0;  // the syncer calls back one at a time
      Counter acked;
      auto writer =
          spools.Create({1, 1, Cat("bank-", u), "aa"}, BigHeader(kChunks),
                        [&](absl::StatusOr<uint64_t> records) {
                          ASSERT_OK(records.status());
                          EXPECT_GT(*records, last);
                          last = *records;
                          acked.Set(last);
                        });
      ASSERT_OK(writer.status());
      const std::string body(1000, static_cast<char>('a' + u));
      for (uint64_t i = 0; i < kChunks; ++i) {
        ASSERT_OK((*writer)->Append(i, AsBytes(body)));
        if (i % 50 == 17) acked.WaitFor(i + 1);
      }
      acked.WaitFor(kChunks);
      EXPECT_OK((*writer)->Flush());
      EXPECT_EQ((*writer)->durable_records(), kChunks);
    });
  }
  for (std::thread& upload : uploads) upload.join();
  const SpoolSyncer::Stats stats = syncer.stats();
  EXPECT_EQ(stats.records, 6 * 200);
  EXPECT_LE(stats.syncs, stats.records);
  EXPECT_EQ(syncs.load(), stats.syncs);
  EXPECT_EQ(synced_bytes.load(), stats.bytes);
  EXPECT_GE(stats.bytes, 6 * 200 * 1000);
  for (int u = 0; u < 6; ++u) {
    ASSERT_OK_AND_ASSIGN(
        const auto reader,
        spools.OpenReader(SpoolDir::PathOf({1, 1, Cat("bank-", u), "aa"})));
    EXPECT_TRUE(reader->complete());
  }
}

TEST(SpoolSyncerTest, ClosingInTheMiddleIsSafeAndSilent) {
  TempDir dir;
  SpoolSyncer syncer(3);
  SpoolDir spools(PosixFileSystem(), dir.path(), &syncer);
  ASSERT_OK(spools.Prepare());
  for (int round = 1; round <= 30; ++round) {
    auto alive = std::make_unique<std::atomic<bool>>(true);
    auto writer = spools.Create(
        {round, 1, "bank", "aa"}, BigHeader(50),
        [&](absl::StatusOr<uint64_t>) { EXPECT_TRUE(alive->load()); });
    ASSERT_OK(writer.status());
    for (uint64_t i = 0; i < static_cast<uint64_t>(round); ++i) {
      ASSERT_OK((*writer)->Append(i, AsBytes("body")));
    }
    writer->reset();
    alive->store(false);  // no callback runs after the destructor
    alive.reset();
  }
}

TEST(SpoolSyncerTest, FlushWaitsForTheSyncer) {
  FaultFileSystem fs;
  SpoolSyncer syncer(1);
  SpoolDir spools(&fs, "/data", &syncer);
  ASSERT_OK(spools.Prepare());
  std::atomic<uint64_t> told{0};
  ASSERT_OK_AND_ASSIGN(auto writer,
                       spools.Create({1, 1, "bank", "aa"}, BigHeader(10),
                                     [&](absl::StatusOr<uint64_t> records) {
                                       if (records.ok()) told = *records;
                                     }));
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_OK(writer->Append(i, AsBytes("body")));
  }
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(told.load(), 10u);
  EXPECT_FALSE(fs.HasUnsynced());
}

TEST(SpoolSyncerTest, AFailedSyncBreaksOnlyItsOwnSpool) {
  FaultFileSystem fs;
  SpoolSyncer syncer(1);
  SpoolDir spools(&fs, "/data", &syncer);
  ASSERT_OK(spools.Prepare());
  std::atomic<int> errors{0};
  const auto count = [&](absl::StatusOr<uint64_t> records) {
    errors += records.ok() ? 0 : 1;
  };
  ASSERT_OK_AND_ASSIGN(auto bad,
                       spools.Create({1, 1, "bad", "aa"}, BigHeader(4), count));
  ASSERT_OK_AND_ASSIGN(
      auto good, spools.Create({1, 1, "good", "aa"}, BigHeader(4), count));
  ASSERT_OK(bad->Append(0, AsBytes("x")));
  ASSERT_OK(bad->Flush());
  fs.FailAt(3, absl::DataLossError("bad sector"));  // after its two writes
  ASSERT_OK(bad->Append(1, AsBytes("y")));
  EXPECT_THAT(bad->Flush(), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK(good->Append(0, AsBytes("z")));
  EXPECT_OK(good->Flush());
  EXPECT_EQ(errors.load(), 1);
  EXPECT_EQ(bad->durable_records(), 1u);
}

}  // namespace
}  // namespace consilium

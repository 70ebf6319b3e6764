#include "coordinator/store/spool.h"

#include <atomic>
#include <thread>

#include "coordinator/store/spool_format.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::Status AcceptAll(uint64_t, uint32_t, std::span<const std::byte>) {
  return absl::OkStatus();
}

// What the engine's check does, in small: the body says its own index.
std::string Body(uint64_t index) {
  return Cat("chunk ", index, " ", std::string(index % 7 * 5, 'x'), ".");
}
absl::Status CheckBody(uint64_t index, uint32_t,
                       std::span<const std::byte> body) {
  if (AsChars(body) == Body(index)) return absl::OkStatus();
  return absl::DataLossError("not what was sent");
}

class SpoolTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(spools_.Prepare()); }

  static SpoolHeader Header(uint64_t chunks) {
    SpoolHeader header;
    header.sealed = false;
    header.total_chunks = chunks;
    header.payload_bytes = chunks * 50;
    header.max_record_bytes = 64;
    header.manifest = "manifest";
    return header;
  }
  static SpoolKey Key() { return {7, 2, "bank-a", "00ff"}; }

  std::unique_ptr<SpoolWriter> Create(uint64_t chunks,
                                      DurableFn on_durable = nullptr) {
    auto writer = spools_.Create(Key(), Header(chunks), std::move(on_durable));
    EXPECT_OK(writer.status());
    return *std::move(writer);
  }
  static void Append(SpoolWriter& writer, uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; ++i) {
      ASSERT_OK(writer.Append(i, AsBytes(Body(i))));
    }
  }
  std::vector<std::string> ReadAll() {
    std::vector<std::string> out;
    const auto reader = spools_.OpenReader(path_);
    EXPECT_OK(reader.status());
    std::vector<std::byte> buffer(64);
    for (uint64_t i = 0; i < (*reader)->records(); ++i) {
      const auto record = (*reader)->ReadRecord(i, buffer);
      EXPECT_OK(record.status());
      out.emplace_back(AsChars(std::span(buffer).first(record->bytes)));
    }
    return out;
  }

  const std::string path_ = "spool/7-2/bank-a-00ff.spool";
  FaultFileSystem fs_;
  SpoolDir spools_{&fs_, "/data", nullptr};
};

TEST_F(SpoolTest, WhatWasAppendedIsReadBack) {
  auto writer = Create(4);
  EXPECT_EQ(writer->path(), path_);
  Append(*writer, 0, 3);
  EXPECT_FALSE(writer->complete());
  EXPECT_EQ(writer->durable_records(), 0u);
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(writer->durable_records(), 3u);
  Append(*writer, 3, 4);
  EXPECT_TRUE(writer->complete());
  ASSERT_OK(writer->Flush());
  EXPECT_THAT(ReadAll(), ElementsAre(Body(0), Body(1), Body(2), Body(3)));
  ASSERT_OK_AND_ASSIGN(const auto reader, spools_.OpenReader(path_));
  EXPECT_TRUE(reader->complete());
  EXPECT_EQ(reader->header(), Header(4));
  EXPECT_EQ(reader->record_bytes(2), Body(2).size());
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs_.Stat("/data/" + path_));
  EXPECT_EQ(reader->file_bytes(), info.size);
}

TEST_F(SpoolTest, ReadersCheckIndexAndBuffer) {
  auto writer = Create(2);
  Append(*writer, 0, 1);
  ASSERT_OK_AND_ASSIGN(const auto reader, spools_.OpenReader(path_));
  EXPECT_EQ(reader->records(), 1u);
  EXPECT_FALSE(reader->complete());
  std::vector<std::byte> buffer(64);
  EXPECT_THAT(reader->ReadRecord(1, buffer).status(),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_EQ(reader->record_bytes(1), 0u);
  EXPECT_THAT(reader->ReadRecord(0, std::span(buffer).first(3)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(fs_.Truncate("/data/" + path_, 4100));
  EXPECT_THAT(reader->ReadRecord(0, buffer).status(),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(spools_.OpenReader("spool/none.spool").status(),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SpoolTest, MaskedUploadsKeepTheVectorOfEachRecord) {
  SpoolHeader header = Header(3);
  header.masked = true;
  header.vectors = 3;
  ASSERT_OK_AND_ASSIGN(auto writer, spools_.Create(Key(), header, nullptr));
  ASSERT_OK(writer->Append(0, AsBytes("counts"), 0));
  ASSERT_OK(writer->Append(1, AsBytes("group 1"), 1));
  ASSERT_OK(writer->Append(2, AsBytes("group 2"), 2));
  ASSERT_OK_AND_ASSIGN(const auto reader, spools_.OpenReader(path_));
  std::vector<std::byte> buffer(64);
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto record, reader->ReadRecord(i, buffer));
    EXPECT_EQ(record.vector, i);
  }
}

TEST_F(SpoolTest, WrongAppendsChangeNothing) {
  auto writer = Create(3);
  Append(*writer, 0, 1);
  const auto refused = [&](uint64_t index, size_t bytes, uint32_t vector,
                           absl::StatusCode code) {
    const std::vector<std::byte> body(bytes);
    EXPECT_THAT(writer->Append(index, body, vector), StatusIs(code))
        << index << " " << bytes;
  };
  refused(0, 5, 0, absl::StatusCode::kFailedPrecondition);  // again
  refused(2, 5, 0, absl::StatusCode::kFailedPrecondition);  // skipped one
  refused(1, 0, 0, absl::StatusCode::kInvalidArgument);
  refused(1, 65, 0, absl::StatusCode::kInvalidArgument);
  refused(1, 5, 1, absl::StatusCode::kInvalidArgument);
  Append(*writer, 1, 3);
  EXPECT_THAT(
      writer->Append(3, AsBytes("one too many")),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("of 3")));
  EXPECT_THAT(ReadAll(), ElementsAre(Body(0), Body(1), Body(2)));
}

TEST_F(SpoolTest, CreateIsDurableAndExclusive) {
  auto writer = Create(2);
  EXPECT_FALSE(fs_.HasUnsynced());
  EXPECT_THAT(spools_.Create(Key(), Header(2), nullptr).status(),
              StatusIs(absl::StatusCode::kAlreadyExists));
  fs_.CrashKeepingNothingUnsynced();
  ASSERT_OK_AND_ASSIGN(auto again, spools_.Resume(path_, AcceptAll, nullptr));
  EXPECT_EQ(again->next_index(), 0u);
  EXPECT_EQ(again->header(), Header(2));
}

TEST_F(SpoolTest, NamesThatAreNoFileNamesAreRefused) {
  for (const SpoolKey& key : std::vector<SpoolKey>{{0, 1, "a", "b"},
                                                   {1, 0, "a", "b"},
                                                   {1, 1, "../a", "b"},
                                                   {1, 1, "a", "b/c"},
                                                   {1, 1, "", "b"},
                                                   {1, 1, "a", ""},
                                                   {1, 1, "A", "b"}}) {
    EXPECT_THAT(spools_.Create(key, Header(1), nullptr).status(),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(spools_.List(), IsOkAndHolds(IsEmpty()));
}

TEST_F(SpoolTest, DiskFullAtCreateLeavesNothing) {
  fs_.FailWithNoSpaceAfter(100);
  EXPECT_THAT(spools_.Create(Key(), Header(2), nullptr).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(spools_.List(), IsOkAndHolds(IsEmpty()));
}

TEST_F(SpoolTest, AfterDiskFullTheSameChunkIsAcceptedLater) {
  auto writer = Create(4);
  // Room for one record, not for the run ahead of it.
  fs_.FailWithNoSpaceAfter(16 + static_cast<int64_t>(Body(0).size()));
  Append(*writer, 0, 1);
  EXPECT_THAT(writer->Append(1, AsBytes(Body(1))),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(writer->next_index(), 1u);
  fs_.FailWithNoSpaceAfter(-1);
  Append(*writer, 1, 4);
  ASSERT_OK(writer->Flush());
  EXPECT_THAT(ReadAll(), ElementsAre(Body(0), Body(1), Body(2), Body(3)));
}

// The same at every single write of an append.
TEST_F(SpoolTest, AnAppendThatFailsHalfwayCanBeRepeated) {
  for (int64_t k = 1; k <= 3; ++k) {
    FaultFileSystem fs;
    SpoolDir spools(&fs, "/data", nullptr);
    ASSERT_OK(spools.Prepare());
    ASSERT_OK_AND_ASSIGN(auto writer, spools.Create(Key(), Header(3), nullptr));
    Append(*writer, 0, 1);
    ASSERT_OK(writer->Flush());
    fs.FailAt(k, absl::ResourceExhaustedError("full"));
    bool failed = false;
    for (uint64_t i = 1; i < 3; ++i) {
      absl::Status status = writer->Append(i, AsBytes(Body(i)));
      if (!status.ok()) {
        failed = true;
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
        status = writer->Append(i, AsBytes(Body(i)));
      }
      EXPECT_OK(status);
    }
    EXPECT_TRUE(failed);
    ASSERT_OK(writer->Flush());
    ASSERT_OK_AND_ASSIGN(auto resumed,
                         spools.Resume(path_, CheckBody, nullptr));
    EXPECT_TRUE(resumed->complete());
  }
}

TEST_F(SpoolTest, AfterAFailedSyncNothingBehindTheLastGoodOneIsBelieved) {
  std::vector<absl::StatusOr<uint64_t>> told;
  auto writer = Create(
      5, [&](absl::StatusOr<uint64_t> records) { told.push_back(records); });
  Append(*writer, 0, 2);
  ASSERT_OK(writer->Flush());
  Append(*writer, 2, 4);
  fs_.FailAt(1, absl::DataLossError("bad sector"));
  EXPECT_THAT(writer->Flush(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(writer->durable_records(), 2u);
  EXPECT_THAT(
      writer->Append(4, AsBytes(Body(4))),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("bad sector")));
  EXPECT_FALSE(writer->Flush().ok());
  EXPECT_THAT(told, ElementsAre(IsOkAndHolds(2u),
                                StatusIs(absl::StatusCode::kDataLoss)));
  writer.reset();
  ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, CheckBody, nullptr));
  EXPECT_EQ(writer->next_index(), 2u);
  Append(*writer, 2, 5);
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(ReadAll().size(), 5u);
}

TEST_F(SpoolTest, FlushTellsOnceAndNothingWhenThereIsNothing) {
  std::vector<uint64_t> told;
  auto writer = Create(
      5, [&](absl::StatusOr<uint64_t> records) { told.push_back(*records); });
  ASSERT_OK(writer->Flush());
  Append(*writer, 0, 3);
  ASSERT_OK(writer->Flush());
  ASSERT_OK(writer->Flush());
  EXPECT_THAT(told, ElementsAre(3u));
}

// --- Resume ------------------------------------------------------------------

TEST_F(SpoolTest, ResumeGoesOnWhereTheFileEnds) {
  auto writer = Create(5);
  Append(*writer, 0, 3);
  writer.reset();
  ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, CheckBody, nullptr));
  EXPECT_EQ(writer->next_index(), 3u);
  EXPECT_EQ(writer->durable_records(), 3u);  // resume synced what it kept
  EXPECT_FALSE(fs_.HasUnsynced());
  Append(*writer, 3, 5);
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(ReadAll().size(), 5u);
  EXPECT_THAT(spools_.Resume("spool/7-2/no.spool", CheckBody, nullptr).status(),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SpoolTest, ResumeCutsATornTailAtEveryByte) {
  auto writer = Create(3);
  Append(*writer, 0, 3);
  ASSERT_OK(writer->Flush());
  writer.reset();
  const std::string full = "/data/" + path_;
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadWholeFile(&fs_, full, 1 << 20));
  std::vector<int64_t> ends = {4096};
  for (uint64_t i = 0; i < 3; ++i) {
    ends.push_back(ends.back() + 16 + static_cast<int64_t>(Body(i).size()));
  }
  ASSERT_EQ(ends.back(), static_cast<int64_t>(bytes.size()));
  for (int64_t cut = 4096; cut <= ends.back(); ++cut) {
    ASSERT_OK(WriteFileAtomic(
        &fs_, full, AsBytes(bytes.substr(0, static_cast<size_t>(cut)))));
    ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, CheckBody, nullptr));
    uint64_t whole = 0;
    while (whole < 3 && ends[whole + 1] <= cut) ++whole;
    EXPECT_EQ(writer->next_index(), whole) << cut;
    ASSERT_OK_AND_ASSIGN(const FileInfo info, fs_.Stat(full));
    EXPECT_EQ(info.size, ends[whole]);
  }
}

TEST_F(SpoolTest, ResumeCutsWhatTheCheckRefuses) {
  auto writer = Create(4);
  Append(*writer, 0, 4);
  ASSERT_OK(writer->Flush());
  writer.reset();
  // A flipped bit in the body of record 2: only the check can see it.
  const auto offset =
      static_cast<int64_t>(4096 + 3 * 16 + Body(0).size() + Body(1).size() + 2);
  ASSERT_OK(fs_.Corrupt("/data/" + path_, offset));
  ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, CheckBody, nullptr));
  EXPECT_EQ(writer->next_index(), 2u);
  Append(*writer, 2, 4);
  ASSERT_OK(writer->Flush());
  EXPECT_THAT(ReadAll(), ElementsAre(Body(0), Body(1), Body(2), Body(3)));
}

TEST_F(SpoolTest, ResumeCutsAnImpossibleRecordHead) {
  const auto body_bytes = static_cast<int64_t>(Body(0).size());
  // Length, vector, index of record 1; one of them damaged at a time.
  for (const int64_t field : {0, 3, 4, 8, 15}) {
    ASSERT_OK(spools_.Remove(path_));
    auto writer = Create(3);
    Append(*writer, 0, 3);
    ASSERT_OK(writer->Flush());
    writer.reset();
    ASSERT_OK(
        fs_.Corrupt("/data/" + path_, 4096 + 16 + body_bytes + field, 0x80));
    ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, CheckBody, nullptr));
    EXPECT_EQ(writer->next_index(), 1u) << field;
  }
}

TEST_F(SpoolTest, ResumeIgnoresRecordsBeyondTheDeclaredTotal) {
  auto writer = Create(2);
  Append(*writer, 0, 2);
  ASSERT_OK(writer->Flush());
  writer.reset();
  ASSERT_OK_AND_ASSIGN(const auto file,
                       fs_.Open("/data/" + path_, {.write = true}));
  ASSERT_OK_AND_ASSIGN(const int64_t size, file->Size());
  const auto head = EncodeRecordHead({3, 0, 2});
  ASSERT_OK(file->WriteAt(size, head));
  ASSERT_OK(file->WriteAt(size + 16, AsBytes("abc")));
  ASSERT_OK_AND_ASSIGN(writer, spools_.Resume(path_, AcceptAll, nullptr));
  EXPECT_EQ(writer->next_index(), 2u);
  EXPECT_THAT(file->Size(), IsOkAndHolds(size));
}

TEST_F(SpoolTest, ResumeOfADamagedHeaderSaysSo) {
  Create(2).reset();
  ASSERT_OK(fs_.Corrupt("/data/" + path_, 20));
  EXPECT_THAT(spools_.Resume(path_, CheckBody, nullptr).status(),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SpoolTest, RemovalsAreDurableAndRepeatable) {
  Create(2).reset();
  EXPECT_THAT(spools_.List(), IsOkAndHolds(ElementsAre(path_)));
  ASSERT_OK(spools_.RemoveEmptyFolders());
  EXPECT_TRUE(fs_.Exists("/data/" + path_));
  ASSERT_OK(spools_.Remove(path_));
  ASSERT_OK(spools_.Remove(path_));
  fs_.CrashKeepingNothingUnsynced();
  EXPECT_THAT(spools_.List(), IsOkAndHolds(IsEmpty()));
  ASSERT_OK(spools_.RemoveEmptyFolders());
  EXPECT_FALSE(fs_.Exists("/data/spool/7-2"));
}

// Every step of an upload, every kind of loss: what was told to be durable is
// there, what is there is what was sent.
TEST(SpoolCrashTest, AcknowledgedRecordsSurvive) {
  const SpoolKey key{1, 1, "bank-a", "aa"};
  const std::string path = SpoolDir::PathOf(key);
  constexpr uint64_t kChunks = 6;
  bool finished = false;
  for (int64_t k = 1; !finished; ++k) {
    ASSERT_LT(k, 200);
    for (uint64_t seed = 0; seed < 12; ++seed) {
      FaultFileSystem fs;
      SpoolDir spools(&fs, "/data", nullptr);
      ASSERT_OK(spools.Prepare());
      fs.CrashAt(k);
      uint64_t acked = 0;
      bool created = false;
      {
        SpoolHeader header;
        header.sealed = false;
        header.total_chunks = kChunks;
        header.payload_bytes = 100;
        header.max_record_bytes = 64;
        header.manifest = "m";
        auto writer =
            spools.Create(key, header, [&](absl::StatusOr<uint64_t> records) {
              if (records.ok()) acked = *records;
            });
        created = writer.ok();
        for (uint64_t i = 0; created && i < kChunks; ++i) {
          if (!(*writer)->Append(i, AsBytes(Body(i))).ok()) break;
          if (i % 2 == 1 && !(*writer)->Flush().ok()) break;
        }
        finished = acked == kChunks;
      }
      fs.Crash(seed);
      auto resumed = spools.Resume(path, CheckBody, nullptr);
      if (!created) continue;
      ASSERT_OK(resumed.status());
      EXPECT_GE((*resumed)->next_index(), acked) << k << " " << seed;
      for (uint64_t i = (*resumed)->next_index(); i < kChunks; ++i) {
        ASSERT_OK((*resumed)->Append(i, AsBytes(Body(i))));
      }
      ASSERT_OK((*resumed)->Flush());
      fs.CrashKeepingNothingUnsynced();
      ASSERT_OK_AND_ASSIGN(const auto reader, spools.OpenReader(path));
      EXPECT_TRUE(reader->complete());
      std::vector<std::byte> buffer(64);
      for (uint64_t i = 0; i < kChunks; ++i) {
        ASSERT_OK_AND_ASSIGN(const auto record, reader->ReadRecord(i, buffer));
        EXPECT_EQ(AsChars(std::span(buffer).first(record.bytes)), Body(i));
      }
    }
  }
}

// --- with syncer threads -----------------------------------------------------

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

#include "coordinator/store/spool.h"

#include <thread>

#include "coordinator/store/spool_format.h"
#include "tests/support/resume_spool.h"
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

// As an upload has them: metadata, whole frames, a short one. However many
// frames there are, the index stays small.
TEST_F(SpoolTest, ReadersIndexRecordsOfOneLengthTogether) {
  constexpr uint64_t kRecords = 500;
  const auto body = [](uint64_t i) {
    const size_t filler = i == 0 ? 7 : i + 1 == kRecords ? 3 : 20;
    return Cat(1000 + i, std::string(filler, '.'));
  };
  auto writer = Create(kRecords);
  for (uint64_t i = 0; i < kRecords; ++i) {
    ASSERT_OK(writer->Append(i, AsBytes(body(i))));
  }
  ASSERT_OK(writer->Flush());
  const std::vector<std::string> all = ReadAll();
  ASSERT_EQ(all.size(), kRecords);
  ASSERT_OK_AND_ASSIGN(const auto reader, spools_.OpenReader(path_));
  EXPECT_EQ(reader->runs(), 3u);
  for (uint64_t i = 0; i < kRecords; ++i) {
    EXPECT_EQ(all[i], body(i));
    EXPECT_EQ(reader->record_bytes(i), body(i).size());
    std::string part(3, '\0');
    ASSERT_OK(reader->ReadPart(i, 2, std::as_writable_bytes(std::span(part))));
    EXPECT_EQ(part, body(i).substr(2, 3));
  }
  EXPECT_THAT(reader->ReadPart(kRecords, 0, {}),
              StatusIs(absl::StatusCode::kOutOfRange));
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
  ASSERT_OK_AND_ASSIGN(auto again,
                       ResumeSpool(spools_, path_, AcceptAll, nullptr));
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
                         ResumeSpool(spools, path_, CheckBody, nullptr));
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
  ASSERT_OK_AND_ASSIGN(writer, ResumeSpool(spools_, path_, CheckBody, nullptr));
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

TEST_F(SpoolTest, WhatIsReadInPiecesIsTheSame) {
  auto writer = Create(5);
  Append(*writer, 0, 4);
  writer.reset();
  ASSERT_OK_AND_ASSIGN(const auto resumer, spools_.OpenToResume(path_));
  const int64_t steps = fs_.ops();
  std::vector<uint64_t> read;
  const auto check = [&](uint64_t index, uint32_t vector,
                         std::span<const std::byte> body) {
    read.push_back(index);
    return CheckBody(index, vector, body);
  };
  EXPECT_THAT(resumer->Read(check, 1), IsOkAndHolds(false));
  EXPECT_THAT(read, ElementsAre(0u));
  EXPECT_THAT(resumer->Read(check, 0), IsOkAndHolds(false));
  EXPECT_THAT(read, ElementsAre(0u, 1u));
  EXPECT_THAT(resumer->Read(check, 1 << 20), IsOkAndHolds(true));
  EXPECT_THAT(read, ElementsAre(0u, 1u, 2u, 3u));
  EXPECT_EQ(fs_.ops(), steps) << "the file changed before Finish";
  ASSERT_OK_AND_ASSIGN(writer, resumer->Finish(nullptr));
  EXPECT_EQ(writer->next_index(), 4u);
  Append(*writer, 4, 5);
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(ReadAll().size(), 5u);
}

TEST_F(SpoolTest, ResumeGoesOnWhereTheFileEnds) {
  auto writer = Create(5);
  Append(*writer, 0, 3);
  writer.reset();
  ASSERT_OK_AND_ASSIGN(writer, ResumeSpool(spools_, path_, CheckBody, nullptr));
  EXPECT_EQ(writer->next_index(), 3u);
  EXPECT_EQ(writer->durable_records(), 3u);  // resume synced what it kept
  EXPECT_FALSE(fs_.HasUnsynced());
  Append(*writer, 3, 5);
  ASSERT_OK(writer->Flush());
  EXPECT_EQ(ReadAll().size(), 5u);
  EXPECT_THAT(
      ResumeSpool(spools_, "spool/7-2/no.spool", CheckBody, nullptr).status(),
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
    ASSERT_OK_AND_ASSIGN(writer,
                         ResumeSpool(spools_, path_, CheckBody, nullptr));
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
  ASSERT_OK_AND_ASSIGN(writer, ResumeSpool(spools_, path_, CheckBody, nullptr));
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
    ASSERT_OK_AND_ASSIGN(writer,
                         ResumeSpool(spools_, path_, CheckBody, nullptr));
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
  ASSERT_OK_AND_ASSIGN(writer, ResumeSpool(spools_, path_, AcceptAll, nullptr));
  EXPECT_EQ(writer->next_index(), 2u);
  EXPECT_THAT(file->Size(), IsOkAndHolds(size));
}

TEST_F(SpoolTest, ResumeOfADamagedHeaderSaysSo) {
  Create(2).reset();
  ASSERT_OK(fs_.Corrupt("/data/" + path_, 20));
  EXPECT_THAT(ResumeSpool(spools_, path_, CheckBody, nullptr).status(),
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

constexpr uint64_t kChunks = 6;

SpoolHeader SealedHeader() {
  SpoolHeader header;
  header.total_chunks = kChunks;
  header.payload_bytes = 100;
  header.max_record_bytes = 64;
  header.manifest = "m";
  header.wrapped_key = "k";
  return header;
}

// A whole upload of records that look right and are another's, done with.
void LeaveASpare(SpoolDir& spools) {
  const SpoolKey key{1, 1, "bank-b", "bb"};
  {
    ASSERT_OK_AND_ASSIGN(const auto writer,
                         spools.Create(key, SealedHeader(), nullptr));
    for (uint64_t i = 0; i < kChunks; ++i) {
      ASSERT_OK(writer->Append(i, AsBytes(std::string(Body(i).size(), '?'))));
    }
    ASSERT_OK(writer->Flush());
  }
  ASSERT_OK(spools.Remove(SpoolDir::PathOf(key)));
}

TEST(SpoolSpareTest, OnlySealedUploadsOverwriteOthers) {
  FaultFileSystem fs;
  SpareFiles spares(&fs, "/data/spare", 1 << 20);
  ASSERT_OK(spares.Prepare());
  SpoolDir spools(&fs, "/data", nullptr, &spares);
  ASSERT_OK(spools.Prepare());
  LeaveASpare(spools);
  const int64_t bytes = spares.bytes();
  EXPECT_GT(bytes, 0);
  SpoolHeader plain = SealedHeader();
  plain.sealed = false;
  plain.wrapped_key.clear();
  ASSERT_OK_AND_ASSIGN(auto writer,
                       spools.Create({1, 1, "bank-a", "aa"}, plain, nullptr));
  EXPECT_EQ(spares.bytes(), bytes);
  ASSERT_OK(writer->Append(0, AsBytes(Body(0))));
  writer.reset();
  ASSERT_OK(spools.Remove(SpoolDir::PathOf({1, 1, "bank-a", "aa"})));
  EXPECT_EQ(spares.bytes(), bytes);
  ASSERT_OK_AND_ASSIGN(
      writer, spools.Create({1, 1, "bank-a", "ab"}, SealedHeader(), nullptr));
  EXPECT_EQ(spares.bytes(), 0);
}

TEST(SpoolSpareTest, ASpoolThatIsOpenIsNotOverwritten) {
  FaultFileSystem fs;
  SpareFiles spares(&fs, "/data/spare", 1 << 20);
  ASSERT_OK(spares.Prepare());
  SpoolDir spools(&fs, "/data", nullptr, &spares);
  ASSERT_OK(spools.Prepare());
  const SpoolKey key{1, 1, "bank-a", "aa"};
  const std::string path = SpoolDir::PathOf(key);
  ASSERT_OK_AND_ASSIGN(auto writer,
                       spools.Create(key, SealedHeader(), nullptr));
  ASSERT_OK(writer->Append(0, AsBytes(Body(0))));
  ASSERT_OK_AND_ASSIGN(const auto reader, spools.OpenReader(path));
  writer.reset();
  ASSERT_OK(spools.Remove(path));
  EXPECT_EQ(spares.bytes(), 0);
  std::vector<std::byte> buffer(64);
  ASSERT_OK_AND_ASSIGN(const auto record, reader->ReadRecord(0, buffer));
  EXPECT_EQ(AsChars(std::span(buffer).first(record.bytes)), Body(0));
}

// Every step of an upload, every kind of loss, in a new file and over another
// upload's: what was told to be durable is there, what is there is what was
// sent.
class SpoolCrashTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(OverASpare, SpoolCrashTest, ::testing::Bool());

TEST_P(SpoolCrashTest, AcknowledgedRecordsSurvive) {
  const SpoolKey key{1, 1, "bank-a", "aa"};
  const std::string path = SpoolDir::PathOf(key);
  bool finished = false;
  for (int64_t k = 1; !finished; ++k) {
    ASSERT_LT(k, 200);
    for (uint64_t seed = 0; seed < 12; ++seed) {
      FaultFileSystem fs;
      SpareFiles spares(&fs, "/data/spare", GetParam() ? 1 << 20 : 0);
      ASSERT_OK(spares.Prepare());
      SpoolDir spools(&fs, "/data", nullptr, &spares);
      ASSERT_OK(spools.Prepare());
      LeaveASpare(spools);
      EXPECT_EQ(spares.bytes() > 0, GetParam());
      fs.CrashAt(k);
      uint64_t acked = 0;
      bool created = false;
      {
        auto writer = spools.Create(key, SealedHeader(),
                                    [&](absl::StatusOr<uint64_t> records) {
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
      auto resumed = ResumeSpool(spools, path, CheckBody, nullptr);
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

}  // namespace
}  // namespace consilium

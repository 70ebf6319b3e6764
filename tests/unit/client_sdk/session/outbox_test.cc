// The outbox on disks that lose power, fill up and rot.

#include "client_sdk/session/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client_sdk/session/outbox_meta.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr SecretAccess kForTest("a test looks for keys left behind");

OutboxRecord Record(const std::string& payload, RandomSource& random) {
  OutboxRecord record;
  record.federation = "cards";
  record.institution = "bank-a";
  record.frame_bytes = {
      static_cast<uint32_t>(payload.size() / 2),
      static_cast<uint32_t>(payload.size() - payload.size() / 2)};
  record.content_key = ContentKey::Generate(random);
  Manifest& m = record.manifest;
  m.round = {4, 2};
  m.upload_id = "0123456789abcdef";
  m.layout_digest = Sha256("layout");
  m.base = {3, Sha256("base"), 77};
  m.coverage = "\x03";
  m.elements = 12;
  m.elements_per_frame = 6;
  m.payload_bytes = payload.size();
  m.chunk_count = 2;
  m.payload_digest = Sha256(payload);
  m.wrapped_key.emplace();
  m.wrapped_key->ciphertext[3] = std::byte{9};
  return record;
}

// What stands in the payload file of `record`.
std::string Sealed(const OutboxRecord& record, std::string_view payload) {
  auto sealer = *ChunkSealer::Create(*record.content_key, record.seal_context(),
                                     record.frame_bytes.size());
  std::string chunks;
  size_t at = 0;
  for (size_t i = 0; i < record.frame_bytes.size(); ++i) {
    std::string chunk(record.frame_bytes[i] + kAeadTagBytes, '\0');
    CONSILIUM_CHECK(
        sealer
            .Seal(i, AsBytes(payload.substr(at, record.frame_bytes[i])),
                  std::as_writable_bytes(std::span(chunk)))
            .ok());
    at += record.frame_bytes[i];
    chunks += chunk;
  }
  return chunks;
}

class OutboxTest : public ::testing::Test {
 protected:
  std::unique_ptr<Outbox> Open(FileSystem* fs, bool sync = true) {
    auto outbox = Outbox::Create({.directory = "/outbox",
                                  .sync = sync,
                                  .sync_delay = absl::Seconds(2),
                                  .spares = spares_.get()},
                                 {.fs = fs,
                                  .clock = &clock_,
                                  .sleeper = &sleeper_,
                                  .random = &random_,
                                  .later = &later_},
                                 &events_);
    CONSILIUM_CHECK(outbox.ok());
    return *std::move(outbox);
  }
  absl::StatusOr<std::shared_ptr<OutboxEntry>> Put(Outbox& outbox,
                                                   const std::string& payload) {
    OutboxRecord record = Record(payload, random_);
    CONSILIUM_ASSIGN_OR_RETURN(
        OutboxDraft draft,
        outbox.Begin(record.manifest.round, payload.size(), 2, true));
    CONSILIUM_RETURN_IF_ERROR(
        draft.payload()->WriteAt(0, AsBytes(Sealed(record, payload))));
    return outbox.Commit(std::move(draft), std::move(record));
  }

  FakeClock clock_;
  FakeSleeper sleeper_{&clock_};
  SeededRandom random_{3};
  HeldTasks later_;
  std::unique_ptr<SpareFiles> spares_;
  EventSink events_{nullptr};
};

TEST_F(OutboxTest, MetaRoundTripsAndNoticesEveryFlippedBit) {
  const OutboxRecord record = Record("payload of eleven", random_);
  const SecretBytes meta = EncodeOutboxMeta(record);
  ASSERT_OK_AND_ASSIGN(OutboxRecord back,
                       DecodeOutboxMeta(meta.Bytes(kForTest)));
  EXPECT_EQ(back.content_key, record.content_key);
  EXPECT_EQ(back.frame_bytes, record.frame_bytes);
  EXPECT_EQ(back.federation, "cards");
  EXPECT_EQ(back.manifest.round, record.manifest.round);
  EXPECT_EQ(back.manifest.base, record.manifest.base);
  EXPECT_EQ(back.manifest.coverage, record.manifest.coverage);
  EXPECT_EQ(back.manifest.payload_digest, record.manifest.payload_digest);
  EXPECT_EQ(back.manifest.wrapped_key->Serialize(),
            record.manifest.wrapped_key->Serialize());
  SecretBytes damaged = meta.Clone();
  for (size_t i = 0; i < meta.size(); ++i) {
    damaged.MutableBytes(kForTest)[i] ^= std::byte{0x10};
    EXPECT_THAT(DecodeOutboxMeta(damaged.Bytes(kForTest)),
                StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(DecodeOutboxMeta(meta.Bytes(kForTest).first(i)),
                StatusIs(absl::StatusCode::kDataLoss));
    damaged.MutableBytes(kForTest)[i] ^= std::byte{0x10};
  }
}

TEST_F(OutboxTest, KeyFilesAreForTheOwnerOnly) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  for (const char* name : {"meta", "payload"}) {
    ASSERT_OK_AND_ASSIGN(const FileInfo info,
                         fs.Stat(JoinPath(entry->directory(), name)));
    EXPECT_EQ(info.mode, 0600u);
  }
}

TEST_F(OutboxTest, ADamagedPayloadIsDiscardedWithItsKey) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  ASSERT_OK(fs.Corrupt(JoinPath(entry->directory(), "payload"), 5));
  ASSERT_OK_AND_ASSIGN(auto found, outbox->Load());
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].entry,
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("payload: ")));
  EXPECT_THAT(fs.List("/outbox"), IsOkAndHolds(IsEmpty()));
}

TEST_F(OutboxTest, TheKeyIsOverwrittenBeforeItsFileIsRemoved) {
  FaultFileSystem clean;
  auto counting = Open(&clean);
  ASSERT_OK_AND_ASSIGN(auto counted, Put(*counting, "some payload"));
  const int64_t before = clean.ops();
  ASSERT_OK(counting->Wipe(*counted));
  const int64_t steps = clean.ops() - before;

  int seen_without_key = 0;
  for (int64_t k = 1; k <= steps; ++k) {
    FaultFileSystem fs;
    auto outbox = Open(&fs);
    ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
    const std::string meta = JoinPath(entry->directory(), "meta");
    const SecretBytes key = entry->record().content_key->secret().Clone();
    fs.FailAt(k, absl::DataLossError("disk"));
    outbox->Wipe(*entry).IgnoreError();
    if (!fs.Exists(meta)) continue;
    ASSERT_OK_AND_ASSIGN(const std::string bytes,
                         ReadWholeFile(&fs, meta, 1 << 20));
    if (bytes.find(key.Text(kForTest)) == std::string::npos) {
      ++seen_without_key;
      EXPECT_EQ(bytes.substr(8, 32), std::string(32, '\0'));
    }
    // Whatever the point of failure, the next start finishes the wipe.
    if (!fs.Exists(JoinPath(entry->directory(), "payload"))) {
      ASSERT_OK(outbox->Load());
      EXPECT_FALSE(fs.Exists(meta));
    }
  }
  EXPECT_GT(seen_without_key, 0);
}

TEST_F(OutboxTest, SyncedInTheBackgroundItSurvivesALossOfPower) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  EXPECT_EQ(later_.delays(), std::vector<absl::Duration>{absl::Seconds(2)});
  later_.RunAll();
  fs.CrashKeepingNothingUnsynced();
  ASSERT_OK_AND_ASSIGN(auto found, Open(&fs)->Load());
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].entry, IsOk());
}

TEST_F(OutboxTest, AFolderThatAKilledProcessMadeSurvivesALossOfPower) {
  FaultFileSystem fs;
  fs.CrashAt(2);  // the folder is made and not synced
  EXPECT_FALSE(fs.MakeDirs("/outbox").ok());
  fs.KillProcess();
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  later_.RunAll();
  fs.CrashKeepingNothingUnsynced();
  ASSERT_OK_AND_ASSIGN(auto found, Open(&fs)->Load());
  EXPECT_THAT(found, SizeIs(1));
}

TEST_F(OutboxTest, AnUploadThatEndedBeforeTheDelayIsNotSynced) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  ASSERT_OK(outbox->Wipe(*entry));
  entry.reset();
  const int64_t before = fs.ops();
  later_.RunAll();
  EXPECT_EQ(fs.ops(), before);
}

TEST_F(OutboxTest, SaysWhenTheDiskIsTooSmall) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  fs.FailWithNoSpaceAfter(1000);
  EXPECT_THAT(
      outbox->Begin({1, 1}, 5000, 2, true),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("state_dir")));
}

TEST_F(OutboxTest, APayloadStandsOnlySealedOnTheDisk) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "some payload"));
  ASSERT_OK_AND_ASSIGN(
      const std::string bytes,
      ReadWholeFile(&fs, JoinPath(entry->directory(), "payload"), 1 << 20));
  EXPECT_EQ(bytes, Sealed(entry->record(), "some payload"));
  std::string chunk(entry->ChunkBytesOf(1), '\0');
  ASSERT_OK(entry->ReadChunk(1, std::as_writable_bytes(std::span(chunk))));
  EXPECT_EQ(chunk, bytes.substr(entry->ChunkBytesOf(0)));
}

TEST_F(OutboxTest, ASentPayloadIsOverwrittenByTheNext) {
  FaultFileSystem fs;
  spares_ = std::make_unique<SpareFiles>(&fs, "/spare", 1 << 20);
  ASSERT_OK(spares_->Prepare());
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, "a payload that is longer"));
  ASSERT_OK(outbox->Wipe(*entry));
  EXPECT_GT(spares_->bytes(), 0);
  ASSERT_OK_AND_ASSIGN(entry, Put(*outbox, "some payload"));
  EXPECT_EQ(spares_->bytes(), 0);
  ASSERT_OK_AND_ASSIGN(auto found, outbox->Load());
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].entry, IsOk());
  // Without sealing nothing is left to lie about.
  OutboxRecord plain = Record("some payload", random_);
  plain.content_key.reset();
  plain.manifest.wrapped_key.reset();
  plain.manifest.round = {5, 1};
  ASSERT_OK_AND_ASSIGN(OutboxDraft draft, outbox->Begin({5, 1}, 12, 2, false));
  ASSERT_OK(draft.payload()->WriteAt(0, AsBytes("some payload")));
  ASSERT_OK_AND_ASSIGN(entry,
                       outbox->Commit(std::move(draft), std::move(plain)));
  ASSERT_OK(outbox->Wipe(*entry));
  EXPECT_EQ(spares_->bytes(), 0);
}

TEST_F(OutboxTest, SparesMakeRoomOnAFullDisk) {
  FaultFileSystem fs;
  spares_ = std::make_unique<SpareFiles>(&fs, "/spare", 1 << 20);
  ASSERT_OK(spares_->Prepare());
  auto outbox = Open(&fs);
  ASSERT_OK_AND_ASSIGN(auto entry, Put(*outbox, std::string(400, 'p')));
  ASSERT_OK(outbox->Wipe(*entry));
  fs.FailWithNoSpaceAfter(300);
  EXPECT_OK(outbox->Begin({1, 1}, 600, 2, true).status());
  EXPECT_EQ(spares_->bytes(), 0);
}

TEST_F(OutboxTest, OnlyTheNewestUploadOfARoundCounts) {
  FaultFileSystem fs;
  auto outbox = Open(&fs);
  ASSERT_OK(Put(*outbox, "the first payload"));
  // Killed after the second was complete, before the first was wiped.
  const int64_t before = fs.ops();
  ASSERT_OK(Put(*outbox, "the second payload"));
  const int64_t steps = fs.ops() - before;
  for (int64_t k = 1; k <= steps; ++k) {
    FaultFileSystem other;
    auto dying = Open(&other);
    ASSERT_OK(Put(*dying, "the first payload"));
    other.CrashAt(k);
    EXPECT_FALSE(Put(*dying, "the second payload").ok());
    other.KillProcess();
    ASSERT_OK_AND_ASSIGN(auto found, Open(&other)->Load());
    ASSERT_THAT(found, SizeIs(1)) << "step " << k;
    EXPECT_THAT(found[0].entry, IsOk());
    ASSERT_OK_AND_ASSIGN(const auto names, other.List("/outbox"));
    EXPECT_THAT(names, SizeIs(1));
  }
}

// Leaves a spare for the next round.
void SubmitOnce(Harness& h, Session& session, uint64_t round) {
  h.coordinator.OpenRound(round);
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(session));
  ASSERT_OK(session.Submit(task, h.FullUpdate(), {}, {}));
}

// Power fails at step k of an upload, for every k; afterwards the institution
// resumes or hands in again, and no nonce ever met two plaintexts.
TEST(OutboxPowerLossTest, AtEveryStepOfAnUpload) {
  int64_t steps = 0;
  {
    Harness h;
    h.later.set_at_once(true);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    SubmitOnce(h, *session, 1);
    h.coordinator.OpenRound(2);
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    const int64_t before = h.memory.ops();
    ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
    steps = h.memory.ops() - before;
  }
  ASSERT_GT(steps, 10);
  for (int64_t k = 1; k <= steps; ++k) {
    SCOPED_TRACE(Cat("step ", k));
    Harness h;
    h.later.set_at_once(true);
    {
      h.options.retry.give_up_after = absl::Nanoseconds(1);
      ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
      SubmitOnce(h, *session, 1);
      h.coordinator.OpenRound(2);
      ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
      // The connection dies too, so that most uploads are left half done.
      h.coordinator.FailForGoodAt(4, Fault::kReplyLost);
      h.memory.CrashAt(k);
      session->Submit(task, h.FullUpdate(), {}, h.stop.token())
          .status()
          .IgnoreError();
    }
    h.memory.Crash(static_cast<uint64_t>(k));
    h.coordinator.ClearFaults();
    h.options.retry.give_up_after = absl::ZeroDuration();
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK(session->ResumePending({}, {}));
    if (!h.coordinator.Committed(2)) {
      ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
      // Trained again, the delta need not be the same.
      ASSERT_OK(session->Submit(task, h.FullUpdate(3.0f), {}, {}));
    }
    EXPECT_EQ(h.coordinator.commits(2), 1);
    EXPECT_FALSE(h.coordinator.NonceReused());
    EXPECT_THAT(h.OutboxFiles(), IsEmpty());
  }
}

TEST(OutboxPowerLossTest, EntriesOfAnotherFederationAreDropped) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  EventSink events(nullptr);
  ASSERT_OK_AND_ASSIGN(auto outbox,
                       Outbox::Create({.directory = "/state/outbox"},
                                      {.fs = &h.memory,
                                       .clock = &h.clock,
                                       .sleeper = &h.sleeper,
                                       .random = &h.random,
                                       .later = &h.later},
                                      &events));
  OutboxRecord record = Record("some payload", h.random);
  record.federation = "hospitals";
  ASSERT_OK_AND_ASSIGN(OutboxDraft draft, outbox->Begin({4, 2}, 12, 2, true));
  ASSERT_OK(
      draft.payload()->WriteAt(0, AsBytes(Sealed(record, "some payload"))));
  ASSERT_OK(outbox->Commit(std::move(draft), std::move(record)));
  ASSERT_OK_AND_ASSIGN(auto resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(1));
  EXPECT_THAT(std::get<ResumedUpload::Discarded>(resumed[0].outcome).reason,
              HasSubstr("hospitals"));
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
}

}  // namespace
}  // namespace consilium::client::internal

#include "coordinator/engine/upload_session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_upload.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What a stream was told.
class RecordingSink final : public UploadSink {
 public:
  void OnDurable(uint64_t next_chunk) override { durable = next_chunk; }
  void OnRefused(const Refused& refused) override {
    refusals.push_back(refused.code);
  }
  void OnBroken(const absl::Status& status) override {
    broken.push_back(status.code());
  }

  uint64_t durable = 0;
  std::vector<RefusalCode> refusals;
  std::vector<absl::StatusCode> broken;
};

MATCHER_P(RefusedWith, code, "") {
  return arg.ok() && arg->has_value() && (*arg)->code == code;
}
MATCHER(Taken, "") { return arg.ok() && !arg->has_value(); }

// Coverage "\x0c": the two small groups, so metadata and one frame. "\x05": a
// whole frame beside a small one, so three chunks.
class UploadSessionTest : public ::testing::Test {
 protected:
  UploadSessionTest() : peer_(std::make_shared<PeerState>()) {
    peer_->name = "bank-a";
  }
  void SetUp() override { ASSERT_OK(spools_.Prepare()); }

  TestUpload Upload(std::string_view coverage = "\x0c", uint8_t id = 1,
                    uint64_t examples = 100) {
    return MakeTestUpload(*round_, "bank-a", coverage, id, examples);
  }
  std::shared_ptr<UploadSession> Begin(const TestUpload& upload,
                                       SpaceReservation space = {}) {
    auto session = UploadSession::Create(round_, peer_, upload.manifest,
                                         std::move(space), spools_);
    EXPECT_OK(session.status());
    return *std::move(session);
  }
  static void SendAll(UploadSession& session, const TestUpload& upload) {
    for (size_t i = 0; i < upload.chunks.size(); ++i) {
      ASSERT_THAT(session.Append(i, upload.chunks[i]), Taken()) << i;
    }
  }

  std::shared_ptr<const RoundContext> round_ = MakeTestRound();
  std::shared_ptr<PeerState> peer_;
  FaultFileSystem fs_;
  SpoolDir spools_{&fs_, "/d", nullptr};
};

TEST_F(UploadSessionTest, WhatIsSentIsKeptSealedAndCounted) {
  const TestUpload upload = Upload("\x05");
  auto session = Begin(upload);
  const auto sink = std::make_shared<RecordingSink>();
  session->Attach(sink);
  EXPECT_TRUE(session->attached());
  SendAll(*session, upload);
  EXPECT_EQ(sink->durable, 0u);
  ASSERT_OK_AND_ASSIGN(const UploadResult result, session->Finish());
  EXPECT_EQ(sink->durable, 3u);
  EXPECT_EQ(result.payload_digest, upload.manifest.payload_digest);
  EXPECT_EQ(result.stats.metadata.examples, 100u);
  EXPECT_EQ(result.stats.payload_bytes, upload.manifest.payload_bytes);
  // 0.5 in each of 63 * 4096 + 5 elements.
  EXPECT_NEAR(result.stats.norm, 0.5 * std::sqrt(258053.0), 1e-6);
  // Asking again gives the same.
  ASSERT_OK_AND_ASSIGN(const UploadResult again, session->Finish());
  EXPECT_EQ(again.payload_digest, result.payload_digest);

  ASSERT_OK_AND_ASSIGN(const auto reader,
                       spools_.OpenReader(session->spool_path()));
  std::vector<std::byte> body(reader->header().max_record_bytes);
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto record, reader->ReadRecord(i, body));
    EXPECT_TRUE(std::ranges::equal(std::span(body).first(record.bytes),
                                   upload.chunks[i]));
  }
}

TEST_F(UploadSessionTest, ChunksComeInOrderAndTwiceIsOnce) {
  const TestUpload upload = Upload("\x05");
  auto session = Begin(upload);
  EXPECT_THAT(session->Append(1, upload.chunks[1]),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("chunk 0 is next")));
  EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
  EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
  EXPECT_THAT(session->Append(2, upload.chunks[2]),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(session->Finish(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          HasSubstr("1 of 3 chunks")));
  EXPECT_THAT(session->Append(1, upload.chunks[1]), Taken());
  EXPECT_THAT(session->Append(2, upload.chunks[2]), Taken());
  EXPECT_THAT(session->Append(3, upload.chunks[2]),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(session->received_bytes(),
            upload.manifest.payload_bytes + 3 * int64_t{kAeadTagBytes});
  EXPECT_OK(session->Finish().status());
}

TEST_F(UploadSessionTest, AChangedChunkIsRefusedAndTheRightOneStillTaken) {
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  std::vector<std::byte> flipped = upload.chunks[0];
  flipped[7] ^= std::byte{0x10};
  EXPECT_THAT(session->Append(0, flipped),
              RefusedWith(RefusalCode::kAuthentication));
  // Another upload of the same institution, and another place.
  EXPECT_THAT(session->Append(0, Upload("\x0c", 2).chunks[0]),
              RefusedWith(RefusalCode::kAuthentication));
  EXPECT_THAT(session->Append(0, upload.chunks[1]),
              RefusedWith(RefusalCode::kAuthentication));
  EXPECT_THAT(session->Append(0, std::vector<std::byte>(16)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  std::vector<std::byte> longer = upload.chunks[0];
  longer.resize(longer.size() + 1000);
  EXPECT_THAT(session->Append(0, longer),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("declared payload_bytes")));
  SendAll(*session, upload);
  EXPECT_OK(session->Finish().status());
}

TEST_F(UploadSessionTest, AnUpdateThatFailsACheckIsQuarantined) {
  const TestUpload upload = Upload("\x0c", 1, /*examples=*/20'000'000);
  SpaceLedger ledger(&fs_, "/d", 0);
  fs_.FailWithNoSpaceAfter(int64_t{1} << 30);
  ASSERT_OK_AND_ASSIGN(SpaceReservation space,
                       ledger.Reserve(SpoolBytesFor(upload.manifest), "test"));
  auto session = Begin(upload, std::move(space));
  EXPECT_GT(ledger.reserved_bytes(), 0);
  EXPECT_THAT(session->Append(0, upload.chunks[0]),
              RefusedWith(RefusalCode::kQuarantined));
  // What will not follow needs no space, though the stream may still be there.
  EXPECT_EQ(ledger.reserved_bytes(), 0);
  // It lies in the spool, so that an operator can look at it.
  EXPECT_EQ(session->received_bytes(),
            static_cast<int64_t>(upload.chunks[0].size()));
  EXPECT_FALSE(session->Finish().ok());
}

TEST_F(UploadSessionTest, ADigestThatIsNotThePayloadsFailsAtTheEnd) {
  TestUpload upload = Upload();
  upload.manifest.payload_digest = Sha256("something else");
  auto session = Begin(upload);
  SendAll(*session, upload);
  EXPECT_THAT(session->Finish(), StatusIs(absl::StatusCode::kDataLoss,
                                          HasSubstr("manifest declares")));
}

TEST_F(UploadSessionTest, WithoutSealsTheChecksumStandsIn) {
  round_ = MakeTestRound(kTestUploadLayout, /*sealed=*/false);
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  std::vector<std::byte> flipped = upload.chunks[0];
  flipped.back() ^= std::byte{1};
  EXPECT_THAT(session->Append(0, flipped),
              RefusedWith(RefusalCode::kAuthentication));
  SendAll(*session, upload);
  EXPECT_OK(session->Finish().status());
}

TEST_F(UploadSessionTest, AResumedUploadContinuesHashAndChecks) {
  const TestUpload upload = Upload("\x05");
  std::string path;
  {
    auto session = Begin(upload);
    path = session->spool_path();
    EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
    EXPECT_THAT(session->Append(1, upload.chunks[1]), Taken());
  }
  fs_.KillProcess();
  ASSERT_OK_AND_ASSIGN(
      auto session,
      ResumeTestUpload(round_, peer_, upload.manifest, spools_, path));
  EXPECT_EQ(session->durable_chunks(), 2u);
  EXPECT_EQ(
      session->received_bytes(),
      static_cast<int64_t>(upload.chunks[0].size() + upload.chunks[1].size()));
  EXPECT_THAT(session->Append(2, upload.chunks[2]), Taken());
  ASSERT_OK_AND_ASSIGN(const UploadResult result, session->Finish());
  EXPECT_EQ(result.payload_digest, upload.manifest.payload_digest);
}

TEST_F(UploadSessionTest, ResumingDropsWhatTheDiskChanged) {
  const TestUpload upload = Upload("\x05");
  std::string path;
  {
    auto session = Begin(upload);
    path = session->spool_path();
    SendAll(*session, upload);
    ASSERT_OK(session->Finish().status());
  }
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs_.Stat("/d/" + path));
  const auto last = static_cast<int64_t>(upload.chunks[2].size());
  ASSERT_OK(fs_.Corrupt("/d/" + path, info.size - last / 2));
  ASSERT_OK_AND_ASSIGN(
      auto session,
      ResumeTestUpload(round_, peer_, upload.manifest, spools_, path));
  EXPECT_EQ(session->durable_chunks(), 2u);
  EXPECT_THAT(session->Append(2, upload.chunks[2]), Taken());
  EXPECT_OK(session->Finish().status());
}

TEST_F(UploadSessionTest, ANewStreamTakesOver) {
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  session->Attach(first);
  session->Attach(second);
  EXPECT_THAT(first->broken, ElementsAre(absl::StatusCode::kAborted));
  EXPECT_THAT(second->broken, IsEmpty());
  EXPECT_FALSE(session->Detach(first.get()));
  EXPECT_TRUE(session->Break(absl::DeadlineExceededError("idle")));
  EXPECT_THAT(second->broken, ElementsAre(absl::StatusCode::kDeadlineExceeded));
  EXPECT_FALSE(session->attached());
  EXPECT_FALSE(session->Break(absl::DeadlineExceededError("idle")));
  EXPECT_FALSE(session->Detach(second.get()));
}

TEST_F(UploadSessionTest, AClosedUploadAnswersWithItsReason) {
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  const auto sink = std::make_shared<RecordingSink>();
  session->Attach(sink);
  session->Close(Refused{RefusalCode::kLate, "round 7 closed"});
  session->Close(Refused{RefusalCode::kSuperseded, "too late to say"});
  EXPECT_THAT(sink->refusals, ElementsAre(RefusalCode::kLate));
  EXPECT_THAT(session->Append(0, upload.chunks[0]),
              RefusedWith(RefusalCode::kLate));
  const auto late = std::make_shared<RecordingSink>();
  session->Attach(late);
  EXPECT_THAT(late->refusals, ElementsAre(RefusalCode::kLate));
}

TEST_F(UploadSessionTest, RevocationActsOnTheNextChunk) {
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
  peer_->revoked.store(true);
  EXPECT_THAT(session->Append(1, upload.chunks[1]),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(UploadSessionTest, AFullDiskIsATypedAnswerAndTheUploadGoesOn) {
  const TestUpload upload = Upload("\x05");
  auto session = Begin(upload);
  fs_.FailWithNoSpaceAfter(1000);
  EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
  const auto answer = session->Append(1, upload.chunks[1]);
  EXPECT_THAT(answer, RefusedWith(RefusalCode::kNoSpace));
  EXPECT_GT((*answer)->retry_after, absl::ZeroDuration());
  fs_.FailWithNoSpaceAfter(-1);
  EXPECT_THAT(session->Append(1, upload.chunks[1]), Taken());
  EXPECT_THAT(session->Append(2, upload.chunks[2]), Taken());
  EXPECT_OK(session->Finish().status());
}

TEST_F(UploadSessionTest, AFailedSyncBreaksTheStreamAndAcknowledgesNothing) {
  const TestUpload upload = Upload();
  auto session = Begin(upload);
  const auto sink = std::make_shared<RecordingSink>();
  session->Attach(sink);
  SendAll(*session, upload);
  fs_.FailAt(1, absl::DataLossError("the disk said so"));
  EXPECT_THAT(session->Finish(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(sink->broken, ElementsAre(absl::StatusCode::kDataLoss));
  EXPECT_EQ(sink->durable, 0u);
  EXPECT_EQ(session->durable_chunks(), 0u);
}

TEST_F(UploadSessionTest, ReservedSpaceIsUsedUpAndGivenBack) {
  const TestUpload upload = Upload("\x05");
  SpaceLedger ledger(&fs_, "/d", 0);
  fs_.FailWithNoSpaceAfter(int64_t{1} << 30);
  ASSERT_OK_AND_ASSIGN(SpaceReservation space,
                       ledger.Reserve(SpoolBytesFor(upload.manifest), "test"));
  auto session = Begin(upload, std::move(space));
  const int64_t before = ledger.reserved_bytes();
  EXPECT_GT(before, upload.manifest.payload_bytes);
  EXPECT_THAT(session->Append(0, upload.chunks[0]), Taken());
  EXPECT_EQ(ledger.reserved_bytes(),
            before - static_cast<int64_t>(upload.chunks[0].size()));
  EXPECT_THAT(session->Append(1, upload.chunks[1]), Taken());
  EXPECT_THAT(session->Append(2, upload.chunks[2]), Taken());
  ASSERT_OK(session->Finish().status());
  EXPECT_EQ(ledger.reserved_bytes(), 0);
}

TEST_F(UploadSessionTest, AContentKeyForAnotherRoundDoesNotUnwrap) {
  TestUpload upload = Upload();
  upload.manifest.wrapped_content_key[5] ^= 1;
  EXPECT_THAT(
      UploadSession::Create(round_, peer_, upload.manifest, {}, spools_),
      StatusIs(absl::StatusCode::kDataLoss));
  upload.manifest.wrapped_content_key = "short";
  EXPECT_THAT(
      UploadSession::Create(round_, peer_, upload.manifest, {}, spools_),
      StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const auto left, spools_.List());
  EXPECT_THAT(left, IsEmpty());
}

TEST(CheckManifestTest, EachFieldIsComparedWithTheRound) {
  const auto round = MakeTestRound();
  const UploadManifest good = MakeTestUpload(*round, "bank-a", "\x0c").manifest;
  EXPECT_FALSE(CheckManifest(good, *round).has_value());
  const auto refused = [&](auto edit) {
    UploadManifest m = good;
    edit(m);
    const auto answer = CheckManifest(m, *round);
    EXPECT_TRUE(answer.has_value() && !answer->message.empty());
    return answer.has_value() ? answer->code : RefusalCode::kLate;
  };
  using M = UploadManifest;
  constexpr auto kBad = RefusalCode::kBadManifest;
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(refused([](M& m) { m.layout_digest = Sha256("x"); }),
            RefusalCode::kWrongLayout);
  EXPECT_EQ(refused([](M& m) { m.base_digest = Sha256("x"); }),
            RefusalCode::kWrongBase);
  EXPECT_EQ(refused([](M& m) { m.base_version = 2; }), RefusalCode::kWrongBase);
  EXPECT_EQ(refused([](M& m) { m.coverage = ""; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.coverage = std::string(1, '\0'); }), kBad);
  EXPECT_EQ(refused([](M& m) { m.coverage = "\x1c"; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.coverage = "\x0e"; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.codec = 1; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.elements = -1; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.elements = kHuge; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.elements_per_frame = 1; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.chunk_count = kHuge; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.chunk_count = 1; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.payload_bytes = 0; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.payload_bytes = kHuge; }),
            RefusalCode::kTooLarge);
  EXPECT_EQ(refused([](M& m) { m.payload_bytes = 40 << 20; }), kBad);
  EXPECT_EQ(refused([](M& m) { m.sealed = false; }), RefusalCode::kUnsealed);
}

// Each round has its own: another size is refused even where it is a good one,
// and what the frames can hold follows from it.
TEST(CheckManifestTest, FramesAreOfTheSizeThatTheRoundAnnounced) {
  for (const int64_t size : kFrameSizes) {
    SCOPED_TRACE(size);
    const auto round =
        MakeTestRound(kTestUploadLayout, true, int64_t{64} << 20, size);
    const UploadManifest good =
        MakeTestUpload(*round, "bank-a", "\x01").manifest;
    EXPECT_EQ(good.chunk_count, 1 + kMaxElementsPerFrame / size);
    EXPECT_FALSE(CheckManifest(good, *round).has_value());
    const auto message = [&](UploadManifest m) {
      const auto refused = CheckManifest(m, *round);
      return refused.has_value() ? refused->message : "taken";
    };
    for (const int64_t other : kFrameSizes) {
      if (other == size) continue;
      const auto other_round =
          MakeTestRound(kTestUploadLayout, true, int64_t{64} << 20, other);
      EXPECT_EQ(
          message(MakeTestUpload(*other_round, "bank-a", "\x01").manifest),
          Cat("elements_per_frame is ", other, ", round 7 announced ", size));
    }
    // Metadata fill a chunk at most, parameters their frames.
    UploadManifest most = good;
    const int64_t frames = kMaxElementsPerFrame / size;
    most.payload_bytes = (1 << 20) - 16 + 4 * kMaxElementsPerFrame +
                         frames * static_cast<int64_t>(kFrameHeaderBytes);
    EXPECT_EQ(message(most), "taken");
    ++most.payload_bytes;
    EXPECT_THAT(message(most), HasSubstr("frames hold"));
  }
}

TEST(CheckManifestTest, ARoundOfAFrameSizeThatThereIsNotTakesNothing) {
  const auto good = MakeTestRound();
  auto round = std::make_shared<RoundContext>();
  round->statement = good->statement;
  round->statement.elements_per_frame = 1000;
  round->layout = good->layout;
  UploadManifest m = MakeTestUpload(*good, "bank-a", "\x0c").manifest;
  m.elements_per_frame = 1000;
  const auto refused = CheckManifest(m, *round);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, RefusalCode::kBadManifest);
  EXPECT_THAT(refused->message, HasSubstr("is 1000, must be one of 258048"));
}

}  // namespace
}  // namespace consilium

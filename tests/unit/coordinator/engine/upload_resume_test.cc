// Uploads that are read again from their spools, and what is given back when
// nobody goes on with them.

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/unit/coordinator/engine/upload_hub_fixture.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// One frame takes about 1 MiB; a piece is 8 MiB.
constexpr int kFrames = 20;
std::string LongLayout() {
  return Cat("consilium-layout 1\nshared F32 ", 63 * kFrames, "x4096 a\n");
}

class UploadResumeTest : public UploadHubTest {
 protected:
  void SetUp() override {
    UploadHubTest::SetUp();
    round_ = MakeTestRound(LongLayout());
    Restart({});
  }
  // A new process.
  void Restart(UploadHub::Options options) {
    UploadHubTest::Restart(options);
    host_->round = round_;
  }
  TestUpload Long(const std::string& institution = "bank-a", uint8_t id = 1) {
    return MakeTestUpload(*round_, institution, "\x01", id);
  }
  // All but the last chunk, as an earlier process took them.
  void LeaveHalf(const Caller& caller, const TestUpload& upload) {
    ASSERT_THAT(Begin(caller, upload), AcceptedAt(0u));
    const auto sink = std::make_shared<CodeSink>();
    ASSERT_OK_AND_ASSIGN(const auto session,
                         hub_->Attach(caller, RawId(upload), sink));
    for (size_t i = 0; i + 1 < upload.chunks.size(); ++i) {
      ASSERT_OK(hub_->Append(caller, *session, i, upload.chunks[i]).status());
    }
    hub_->Detach(*session, sink.get(), "the process ends");
  }
  std::shared_ptr<TestWaiter> Ask(const Caller& caller,
                                  const TestUpload& upload) {
    auto waiter = std::make_shared<TestWaiter>();
    hub_->BeginUpload(caller, upload.manifest, waiter);
    return waiter;
  }
  int64_t reserved() { return store_->space().reserved_bytes(); }

  std::shared_ptr<const RoundContext> round_;
};

MATCHER_P(ToldAcceptedAt, next_chunk, "") {
  const auto outcome = arg->outcome();
  if (!outcome.has_value() || !outcome->ok()) return false;
  const auto* accepted = std::get_if<UploadAccepted>(&**outcome);
  return accepted != nullptr && accepted->next_chunk == next_chunk;
}
MATCHER(NotTold, "") { return !arg->outcome().has_value(); }
MATCHER_P2(ToldRefused, code, text, "") {
  const auto outcome = arg->outcome();
  if (!outcome.has_value() || !outcome->ok()) return false;
  const auto* refused = std::get_if<Refused>(&**outcome);
  if (refused == nullptr) return false;
  *result_listener << refused->message;
  return refused->code == code &&
         refused->message.find(text) != std::string::npos;
}

TEST_F(UploadResumeTest, ReadingAgainIsLeftToIngestInPieces) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  EXPECT_THAT(waiter, NotTold());
  size_t pieces = 0;
  while (ingest_.RunOne()) ++pieces;
  EXPECT_EQ(pieces, 3u);  // of 8 MiB
  EXPECT_THAT(waiter, ToldAcceptedAt(upload.chunks.size() - 1));
  EXPECT_THAT(host_->resumed, ElementsAre("bank-a"));
  Send(*Attach(upload), upload, upload.chunks.size() - 1);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
  EXPECT_EQ(reserved(), 0);
}

// What the disk cannot read now, it may read later; the sender does not begin
// from nothing.
TEST_F(UploadResumeTest, ADiskThatCannotReadLosesNoChunks) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const std::string spool = JoinPath(store_->data_dir(), Spools().at(0));
  disk_.fs().FailReads(spool, ErrnoStatus(EIO, "read", spool));
  EXPECT_THAT(Begin(upload), StatusIs(absl::StatusCode::kDataLoss));
  disk_.fs().CancelFaults();
  EXPECT_THAT(Begin(upload), AcceptedAt(upload.chunks.size() - 1));
}

// The admission lock is free meanwhile, also for the institution itself.
TEST_F(UploadResumeTest, OthersAreAdmittedWhileOneIsReadAgain) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  ASSERT_TRUE(ingest_.RunOne());
  EXPECT_THAT(Ask(b_, Long("bank-b", 2)), ToldAcceptedAt(0u));
  EXPECT_THAT(Commit(upload),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("call BeginUpload to resume")));
  EXPECT_THAT(waiter, NotTold());
  ingest_.RunAll();
  EXPECT_THAT(waiter, ToldAcceptedAt(upload.chunks.size() - 1));
}

TEST_F(UploadResumeTest, AllWhoAskWaitForTheSameReading) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto first = Ask(a_, upload);
  ASSERT_TRUE(ingest_.RunOne());
  const auto second = Ask(a_, upload);
  EXPECT_EQ(ingest_.queued(), 1u);
  EXPECT_EQ(ingest_.RunAll(), 2u);
  EXPECT_THAT(first, ToldAcceptedAt(upload.chunks.size() - 1));
  EXPECT_THAT(second, ToldAcceptedAt(upload.chunks.size() - 1));
}

TEST_F(UploadResumeTest, ItStopsWhenNobodyWaitsAndGoesOnWhereItWas) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  ASSERT_TRUE(ingest_.RunOne());
  waiter->Leave(*hub_);
  EXPECT_EQ(waiter->Await().status().code(), absl::StatusCode::kCancelled);
  // The piece that was on its way is the last one.
  EXPECT_EQ(ingest_.RunAll(), 1u);
  const auto again = Ask(a_, upload);
  EXPECT_EQ(ingest_.RunAll(), 1u);  // not from the beginning
  EXPECT_THAT(again, ToldAcceptedAt(upload.chunks.size() - 1));
  Send(*Attach(upload), upload, upload.chunks.size() - 1);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

TEST_F(UploadResumeTest, ACallerThatLeftBeforeHoldsNothing) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({.max_uploads = 1});
  const auto waiter = std::make_shared<TestWaiter>();
  waiter->Leave(*hub_);
  hub_->BeginUpload(a_, upload.manifest, waiter);
  EXPECT_EQ(waiter->Await().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ingest_.queued(), 0u);
  EXPECT_EQ(reserved(), 0);
  EXPECT_THAT(Begin(b_, Long("bank-b", 2)), AcceptedAt(0u));
}

TEST_F(UploadResumeTest, OnlySoManyAreReadAtOnce) {
  const TestUpload one = Long("bank-a", 1);
  const TestUpload two = Long("bank-b", 2);
  LeaveHalf(a_, one);
  LeaveHalf(b_, two);
  Restart({.max_resumes = 1});
  const auto first = Ask(a_, one);
  const auto second = Ask(b_, two);
  EXPECT_EQ(ingest_.queued(), 1u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ingest_.RunOne());
  EXPECT_THAT(first, ToldAcceptedAt(one.chunks.size() - 1));
  EXPECT_THAT(second, NotTold());
  ingest_.RunAll();
  EXPECT_THAT(second, ToldAcceptedAt(two.chunks.size() - 1));
}

// One that nobody waits for does not keep others from their turn.
TEST_F(UploadResumeTest, WhoLeftLosesTheTurn) {
  const TestUpload one = Long("bank-a", 1);
  const TestUpload two = Long("bank-b", 2);
  LeaveHalf(a_, one);
  LeaveHalf(b_, two);
  Restart({.max_resumes = 1});
  const auto first = Ask(a_, one);
  const auto second = Ask(b_, two);
  first->Leave(*hub_);
  ingest_.RunAll();
  EXPECT_THAT(second, ToldAcceptedAt(two.chunks.size() - 1));
}

TEST_F(UploadResumeTest, ItHasASlotFromTheFirstMoment) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({.max_uploads = 1});
  const auto waiter = Ask(a_, upload);
  EXPECT_THAT(Ask(b_, Long("bank-b", 2)),
              ToldRefused(RefusalCode::kBusy, "limits.max_uploads 1"));
  ingest_.RunAll();
  EXPECT_THAT(waiter, ToldAcceptedAt(upload.chunks.size() - 1));
}

TEST_F(UploadResumeTest, ARoundThatClosesEndsIt) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  ASSERT_TRUE(ingest_.RunOne());
  hub_->CloseUploads(6, {"bank-a"}, Refused{RefusalCode::kLate, "round 6"});
  EXPECT_THAT(waiter, NotTold());
  hub_->CloseUploads(7, {"bank-a"}, Refused{RefusalCode::kLate, "round 7"});
  EXPECT_THAT(waiter, ToldRefused(RefusalCode::kLate, "round 7"));
  EXPECT_THAT(Ask(a_, upload),
              ToldRefused(RefusalCode::kBusy, "is being closed: round 7"));
  EXPECT_EQ(ingest_.RunAll(), 1u);
  EXPECT_EQ(reserved(), 0);
  EXPECT_FALSE(hub_->active());
}

TEST_F(UploadResumeTest, ShuttingDownEndsIt) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  hub_->CloseAll(Refused{RefusalCode::kBusy, "shutting down"});
  EXPECT_THAT(waiter, ToldRefused(RefusalCode::kBusy, "shutting down"));
  EXPECT_EQ(ingest_.RunAll(), 1u);
  EXPECT_THAT(Ask(a_, upload),
              ToldRefused(RefusalCode::kBusy, "shutting down"));
  EXPECT_EQ(ingest_.queued(), 0u);
}

TEST_F(UploadResumeTest, AnotherUploadReplacesOneThatIsReadAgain) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const auto waiter = Ask(a_, upload);
  ASSERT_TRUE(ingest_.RunOne());
  const TestUpload other = Long("bank-a", 2);
  EXPECT_THAT(Ask(a_, other), ToldAcceptedAt(0u));
  EXPECT_THAT(waiter, ToldRefused(RefusalCode::kSuperseded, "was replaced"));
  ingest_.RunAll();
  EXPECT_THAT(Spools(), SizeIs(1));
  Send(*Attach(other), other);
  EXPECT_THAT(Commit(other), ReceiptFor(other));
  EXPECT_EQ(reserved(), 0);
}

TEST_F(UploadResumeTest, WhatIsOnTheDiskNeedsNoMoreRoom) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  const int64_t rest = static_cast<int64_t>(upload.chunks.back().size());
  // Room for what is missing, and not for the whole of it.
  disk_.fs().FailWithNoSpaceAfter(rest + (1 << 20));
  EXPECT_THAT(Begin(upload), AcceptedAt(upload.chunks.size() - 1));
  EXPECT_GE(reserved(), rest);
  EXPECT_LT(reserved(), rest + (1 << 20));
  Send(*Attach(upload), upload, upload.chunks.size() - 1);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
  EXPECT_EQ(reserved(), 0);
}

TEST_F(UploadResumeTest, ASpoolThatTheDiskLostBeginsAnew) {
  const TestUpload upload = Long();
  LeaveHalf(a_, upload);
  Restart({});
  ASSERT_THAT(Spools(), SizeIs(1));
  ASSERT_OK(store_->spools().Remove(Spools()[0]));
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  EXPECT_EQ(reserved(), SpoolBytesFor(upload.manifest));
  Send(*Attach(upload), upload);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

class UploadSlotTest : public UploadHubTest {
 protected:
  void Expire() {
    hub_->ExpireIdle(clock_.Monotonic());
    ingest_.RunAll();
  }
  int64_t reserved() { return store_->space().reserved_bytes(); }
};

TEST_F(UploadSlotTest, AnUploadWithoutAStreamGivesItsPlaceBack) {
  Restart({.max_uploads = 1, .slot_timeout = absl::Minutes(10)});
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  ASSERT_OK(hub_->Append(a_, *Attach(upload), 0, upload.chunks[0]).status());
  auto session = Attach(upload);
  hub_->Detach(*session, sink_.get(), "connection reset");
  session.reset();
  clock_.Advance(absl::Minutes(9));
  EXPECT_EQ(hub_->ExpireIdle(clock_.Monotonic()),
            clock_.Monotonic() + absl::Minutes(1));
  EXPECT_EQ(ingest_.queued(), 0u);
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")),
              RefusedWith(RefusalCode::kBusy));
  EXPECT_GT(reserved(), 0);
  clock_.Advance(absl::Minutes(1));
  Expire();
  EXPECT_EQ(reserved(), 0);
  EXPECT_FALSE(hub_->active());
  EXPECT_THAT(host_->lost,
              ElementsAre("bank-a: connection reset",
                          HasSubstr("limits.upload_slot_timeout 10m")));
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
  EXPECT_THAT(hub_->Attach(a_, RawId(upload), sink_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("call BeginUpload first")));
  EXPECT_THAT(Commit(upload), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("limits.upload_slot_timeout "
                                                 "10m")));
  // It comes back once there is room, and nothing durable was lost.
  EXPECT_THAT(Begin(upload), RefusedWith(RefusalCode::kBusy));
  hub_->CloseUploads(7, {"bank-b"}, Refused{RefusalCode::kLate, "closed"});
  EXPECT_THAT(Begin(upload), AcceptedAt(1u));
  Send(*Attach(upload), upload, 1);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
  EXPECT_EQ(reserved(), 0);
}

TEST_F(UploadSlotTest, OneThatNeverHadAStreamGivesItsPlaceBack) {
  Restart({.max_uploads = 1, .slot_timeout = absl::Minutes(10)});
  ASSERT_THAT(Begin(Upload()), AcceptedAt(0u));
  clock_.Advance(absl::Minutes(10));
  Expire();
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
}

// However slow it is, a stream with a chunk now and then keeps its upload.
TEST_F(UploadSlotTest, ASlowUploadKeepsItsPlace) {
  Restart({.idle_timeout = absl::Minutes(2), .slot_timeout = absl::Minutes(1)});
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  for (size_t i = 0; i < upload.chunks.size(); ++i) {
    clock_.Advance(absl::Seconds(119));
    Expire();
    ASSERT_OK(hub_->Append(a_, *session, i, upload.chunks[i]).status());
  }
  EXPECT_THAT(sink_->broken, IsEmpty());
  EXPECT_THAT(host_->lost, IsEmpty());
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

// The stream's end may take as long as its peer likes.
TEST_F(UploadSlotTest, ABrokenStreamHoldsNoPlaceThoughItHasNotEnded) {
  Restart({.max_uploads = 1,
           .idle_timeout = absl::Minutes(2),
           .slot_timeout = absl::Minutes(10)});
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  clock_.Advance(absl::Minutes(2));
  Expire();
  EXPECT_THAT(sink_->broken, ElementsAre(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(host_->lost, ElementsAre(HasSubstr("upload_idle_timeout 2m")));
  clock_.Advance(absl::Minutes(10));
  Expire();
  EXPECT_EQ(reserved(), 0);
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
  EXPECT_THAT(hub_->Append(a_, *session, 0, upload.chunks[0]),
              StatusIs(absl::StatusCode::kAborted));
}

TEST_F(UploadSlotTest, AskingAgainKeepsThePlace) {
  Restart({.slot_timeout = absl::Minutes(10)});
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Minutes(9));
    Expire();
    EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  }
  EXPECT_THAT(host_->lost, IsEmpty());
}

TEST_F(UploadSlotTest, AReadingThatNobodyWaitsForGivesItsPlaceBack) {
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  Restart({.max_uploads = 1, .slot_timeout = absl::Minutes(10)});
  const auto waiter = std::make_shared<TestWaiter>();
  // Another reading is before it.
  Restart(
      {.max_uploads = 1, .slot_timeout = absl::Minutes(10), .max_resumes = 0});
  hub_->BeginUpload(a_, upload.manifest, waiter);
  waiter->Leave(*hub_);
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")),
              RefusedWith(RefusalCode::kBusy));
  clock_.Advance(absl::Minutes(10));
  Expire();
  EXPECT_EQ(reserved(), 0);
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
}

TEST_F(UploadSlotTest, AStreamThatNamesNoUploadIsBroken) {
  Restart({.idle_timeout = absl::Minutes(2)});
  const auto silent = std::make_shared<CodeSink>();
  const auto gone = std::make_shared<CodeSink>();
  hub_->Expect(silent);
  hub_->Expect(gone);
  hub_->Expect(sink_);
  hub_->Unexpect(gone.get());
  ASSERT_THAT(Begin(Upload()), AcceptedAt(0u));
  clock_.Advance(absl::Minutes(1));
  Attach(Upload());
  EXPECT_EQ(hub_->ExpireIdle(clock_.Monotonic()),
            clock_.Monotonic() + absl::Minutes(1));
  clock_.Advance(absl::Minutes(1));
  hub_->ExpireIdle(clock_.Monotonic());
  EXPECT_THAT(silent->broken, ElementsAre(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(silent->words,
              ElementsAre(HasSubstr("limits.upload_idle_timeout 2m")));
  EXPECT_THAT(gone->broken, IsEmpty());
  EXPECT_THAT(sink_->broken, IsEmpty());
}

TEST_F(UploadSlotTest, OnlySoManyUploadsAreReplacedInARound) {
  Restart({.max_superseded = 3});
  for (uint8_t id = 1; id <= 4; ++id) {
    ASSERT_THAT(Begin(Upload(id)), AcceptedAt(0u)) << static_cast<int>(id);
  }
  const auto answer = Begin(Upload(5));
  EXPECT_THAT(answer, RefusedWith(RefusalCode::kTooMany));
  EXPECT_THAT(std::get<Refused>(*answer).message,
              HasSubstr("limits.max_superseded_uploads 3"));
  EXPECT_THAT(std::get<Refused>(*answer).message,
              HasSubstr(Cat("resume upload ", Upload(4).manifest.IdHex())));
  EXPECT_THAT(Spools(), SizeIs(1));
  // A new process counts the same, and others are not concerned.
  Restart({.max_superseded = 3});
  EXPECT_THAT(Begin(Upload(5)), RefusedWith(RefusalCode::kTooMany));
  EXPECT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
  // The one that is live goes on.
  EXPECT_THAT(Begin(Upload(4)), AcceptedAt(0u));
  Send(*Attach(Upload(4)), Upload(4));
  EXPECT_THAT(Commit(Upload(4)), ReceiptFor(Upload(4)));
}

// An upload id is part of an answer; it may not be as long as a message.
TEST_F(UploadSlotTest, AnUploadIdOfAnotherLengthIsNotLookedFor) {
  EXPECT_THAT(hub_->Attach(a_, std::string(1 << 20, 'x'), sink_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "upload_id has 1048576 bytes, must have 16"));
}

}  // namespace
}  // namespace consilium

#include "coordinator/engine/upload_hub.h"

#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "consilium/base/local_error.h"
#include "tests/unit/coordinator/engine/upload_hub_fixture.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(UploadHubTest, BeginSendCommit) {
  const TestUpload upload = Upload();
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  EXPECT_EQ(StateOf(upload), ContributionState::kUploading);
  auto session = Attach(upload);
  EXPECT_THAT(Commit(upload), StatusIs(absl::StatusCode::kFailedPrecondition));
  Send(*session, upload);
  const auto progress = hub_->ProgressOf(7);
  ASSERT_THAT(progress, SizeIs(1));
  EXPECT_TRUE(progress.at("bank-a").attached);
  EXPECT_EQ(progress.at("bank-a").payload_bytes, upload.manifest.payload_bytes);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
  EXPECT_EQ(StateOf(upload), ContributionState::kCommitted);
  EXPECT_THAT(hub_->ProgressOf(7), IsEmpty());
}

TEST_F(UploadHubTest, AfterCommitTheReceiptComesBackWhateverTheRoundDoes) {
  const TestUpload upload = Upload();
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  Send(*Attach(upload), upload);
  ASSERT_THAT(Commit(upload), ReceiptFor(upload));
  Restart({});
  host_->refuse_admission = Refused{RefusalCode::kLate, "round 7 is promoted"};
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
  EXPECT_THAT(Begin(upload), ReceiptFor(upload));
  // So does one for another upload of the same round.
  EXPECT_THAT(Begin(Upload(2)), ReceiptFor(upload));
}

TEST_F(UploadHubTest, TheSameManifestResumesALiveUpload) {
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  ASSERT_OK(hub_->Append(a_, *session, 0, upload.chunks[0]).status());
  // Nothing is durable yet: the spools of this store sync when asked.
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  EXPECT_THAT(host_->resumed, ElementsAre("bank-a"));
  EXPECT_THAT(Spools(), SizeIs(1));
  Send(*session, upload);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

TEST_F(UploadHubTest, AnUploadGoesOnAfterARestart) {
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  ASSERT_OK(hub_->Append(a_, *Attach(upload), 0, upload.chunks[0]).status());
  Restart({});
  EXPECT_THAT(hub_->Attach(a_, RawId(upload), sink_),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("call BeginUpload first")));
  EXPECT_THAT(Commit(upload),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("call BeginUpload to resume")));
  EXPECT_THAT(Begin(upload), AcceptedAt(1u));
  Send(*Attach(upload), upload, 1);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

TEST_F(UploadHubTest, AChangedPayloadNeedsANewId) {
  ASSERT_THAT(Begin(Upload(1)), AcceptedAt(0u));
  TestUpload changed = Upload(1);
  changed.manifest.payload_digest = Sha256("another");
  EXPECT_THAT(Begin(changed), RefusedWith(RefusalCode::kBadManifest));
}

TEST_F(UploadHubTest, ANewIdSupersedesTheLiveUpload) {
  const TestUpload first = Upload(1);
  const TestUpload second = Upload(2);
  ASSERT_THAT(Begin(first), AcceptedAt(0u));
  auto session = Attach(first);
  ASSERT_THAT(Begin(second), AcceptedAt(0u));
  EXPECT_THAT(sink_->refusals, ElementsAre(RefusalCode::kSuperseded));
  EXPECT_EQ(StateOf(first), ContributionState::kSuperseded);
  EXPECT_THAT(Spools(), SizeIs(1));
  EXPECT_THAT(Commit(first), RefusedWith(RefusalCode::kSuperseded));
  EXPECT_THAT(Begin(first), RefusedWith(RefusalCode::kSuperseded));
  Send(*Attach(second), second);
  EXPECT_THAT(Commit(second), ReceiptFor(second));
}

TEST_F(UploadHubTest, NobodyTouchesTheUploadOfAnother) {
  const TestUpload upload = Upload();
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  const auto denied = [](auto message) {
    return StatusIs(absl::StatusCode::kPermissionDenied, message);
  };
  EXPECT_THAT(Begin(b_, upload), denied(HasSubstr("another institution")));
  EXPECT_THAT(hub_->Attach(b_, RawId(upload), sink_),
              denied(HasSubstr("another institution")));
  EXPECT_THAT(
      hub_->CommitUpload(b_, RawId(upload), upload.manifest.payload_digest),
      denied(HasSubstr("another institution")));
  EXPECT_THAT(hub_->CommitUpload(a_, "nonsense", Sha256("x")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(UploadHubTest, WhatTheRoundRefusesLeavesNothingBehind) {
  host_->refuse_admission = Refused{RefusalCode::kNotInCohort, "not invited"};
  EXPECT_THAT(Begin(Upload()), RefusedWith(RefusalCode::kNotInCohort));
  host_->refuse_admission.reset();
  host_->refuse_begin = Refused{RefusalCode::kLate, "closed meanwhile"};
  EXPECT_THAT(Begin(Upload()), RefusedWith(RefusalCode::kLate));
  host_->refuse_begin.reset();
  TestUpload other = Upload();
  other.manifest.layout_digest = Sha256("x");
  EXPECT_THAT(Begin(other), RefusedWith(RefusalCode::kWrongLayout));
  TestUpload garbled = Upload();
  garbled.manifest.wrapped_content_key[0] ^= 1;
  EXPECT_THAT(Begin(garbled), RefusedWith(RefusalCode::kAuthentication));
  EXPECT_THAT(Spools(), IsEmpty());
  EXPECT_EQ(store_->space().reserved_bytes(), 0);
}

TEST_F(UploadHubTest, EachLimitIsNamed) {
  const TestUpload upload = Upload();
  Restart({.max_uploads = 1});
  ASSERT_THAT(Begin(b_, Upload(9, "\x0c", "bank-b")), AcceptedAt(0u));
  auto answer = Begin(upload);
  EXPECT_THAT(answer, RefusedWith(RefusalCode::kBusy));
  EXPECT_THAT(std::get<Refused>(*answer).message,
              HasSubstr("limits.max_uploads 1"));

  Restart({.max_spool_bytes = 1000});
  answer = Begin(upload);
  EXPECT_THAT(answer, RefusedWith(RefusalCode::kNoSpace));
  EXPECT_THAT(std::get<Refused>(*answer).message,
              HasSubstr("storage.max_spool_bytes"));

  Restart({});
  disk_.fs().FailWithNoSpaceAfter(1000);
  answer = Begin(upload);
  EXPECT_THAT(answer, RefusedWith(RefusalCode::kNoSpace));
  EXPECT_GT(std::get<Refused>(*answer).retry_after, absl::ZeroDuration());
  disk_.fs().FailWithNoSpaceAfter(-1);
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
}

TEST_F(UploadHubTest, AQuarantinedUploadIsOver) {
  const TestUpload upload = MakeTestUpload(*host_->round, "bank-a", "\x0c", 1,
                                           /*examples=*/20'000'000);
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  ASSERT_OK_AND_ASSIGN(const auto refused,
                       hub_->Append(a_, *session, 0, upload.chunks[0]));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, RefusalCode::kQuarantined);
  EXPECT_EQ(StateOf(upload), ContributionState::kQuarantined);
  EXPECT_THAT(hub_->Attach(a_, RawId(upload), sink_),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Begin(upload), RefusedWith(RefusalCode::kQuarantined));
  EXPECT_THAT(Commit(upload), RefusedWith(RefusalCode::kQuarantined));
  // An operator can look at what came.
  EXPECT_THAT(Spools(), SizeIs(1));
}

TEST_F(UploadHubTest, ACommitThatNamesAnotherDigestIsQuarantined) {
  const TestUpload upload = Upload();
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  Send(*Attach(upload), upload);
  EXPECT_THAT(hub_->CommitUpload(a_, RawId(upload), Sha256("x")),
              RefusedWith(RefusalCode::kDigestMismatch));
  EXPECT_EQ(StateOf(upload), ContributionState::kQuarantined);
}

// A disk that fails once says nothing about the upload: whatever step it hits,
// the institution is not told that its work is refused.
TEST_F(UploadHubTest, AFailingDiskIsNoRefusal) {
  UploadHub::Options options;
  options.max_superseded = 100;
  int64_t k = 0;
  for (bool failed = true; failed;) {
    ++k;
    SCOPED_TRACE(Cat("step ", k));
    ASSERT_LT(k, 100);
    const TestUpload upload = Upload(static_cast<uint8_t>(k));
    disk_.fs().FailAt(k, absl::DataLossError("the disk failed"));
    const auto begun = Begin(upload);
    disk_.fs().CancelFaults();
    failed = !begun.ok();
    EXPECT_TRUE(begun.ok() || IsLocalError(begun.status())) << begun.status();
    // A file of which a sync failed is not to be trusted again.
    hub_.reset();
    Reopen();
    Restart(options);
    EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  }
  EXPECT_GT(k, 3);
}

TEST_F(UploadHubTest, AFailingDiskIsNoWrongDigest) {
  UploadHub::Options options;
  options.max_superseded = 100;
  int64_t k = 0;
  for (bool failed = true; failed;) {
    ++k;
    SCOPED_TRACE(Cat("step ", k));
    ASSERT_LT(k, 100);
    const TestUpload upload = Upload(static_cast<uint8_t>(k));
    ASSERT_THAT(Begin(upload), AcceptedAt(0u));
    Send(*Attach(upload), upload);
    disk_.fs().FailAt(k, absl::DataLossError("the disk failed"));
    const auto outcome = Commit(upload);
    disk_.fs().CancelFaults();
    if (!outcome.ok()) {
      EXPECT_TRUE(IsLocalError(outcome.status()) ||
                  absl::IsUnavailable(outcome.status()))
          << outcome.status();
    }
    hub_.reset();
    Reopen();
    Restart(options);
    // The row may be there though its sync has failed.
    failed = StateOf(upload) == ContributionState::kUploading;
    if (!failed) {
      EXPECT_EQ(StateOf(upload), ContributionState::kCommitted);
    }
  }
  EXPECT_GT(k, 3);
}

TEST_F(UploadHubTest, AStreamThatEndsEarlyIsReported) {
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  const auto other = std::make_shared<CodeSink>();
  hub_->Detach(*session, other.get(), "not the attached one");
  EXPECT_THAT(host_->lost, IsEmpty());
  hub_->Detach(*session, sink_.get(), "connection reset");
  EXPECT_THAT(host_->lost, ElementsAre("bank-a: connection reset"));
}

TEST_F(UploadHubTest, SilentStreamsAreBrokenAndTheUploadStays) {
  Restart({.idle_timeout = absl::Minutes(2)});
  EXPECT_EQ(hub_->ExpireIdle(clock_.Monotonic()), absl::InfiniteDuration());
  const TestUpload upload = Upload(1, "\x05");
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  clock_.Advance(absl::Minutes(1));
  ASSERT_OK(hub_->Append(a_, *session, 0, upload.chunks[0]).status());
  clock_.Advance(absl::Minutes(1));
  EXPECT_EQ(hub_->ExpireIdle(clock_.Monotonic()),
            clock_.Monotonic() + absl::Minutes(1));
  EXPECT_THAT(sink_->broken, IsEmpty());
  clock_.Advance(absl::Minutes(1));
  hub_->ExpireIdle(clock_.Monotonic());
  EXPECT_THAT(sink_->broken, ElementsAre(absl::StatusCode::kDeadlineExceeded));
  hub_->Detach(*session, sink_.get(), "idle");
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  Send(*Attach(upload), upload);
  EXPECT_THAT(Commit(upload), ReceiptFor(upload));
}

TEST_F(UploadHubTest, ARoundThatClosesEndsTheStreamsItNames) {
  const TestUpload upload = Upload();
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  auto session = Attach(upload);
  hub_->CloseUploads(6, {"bank-a"}, Refused{RefusalCode::kLate, "closed"});
  hub_->CloseUploads(7, {"bank-b"}, Refused{RefusalCode::kLate, "closed"});
  EXPECT_THAT(sink_->refusals, IsEmpty());
  hub_->CloseUploads(7, {"bank-a"}, Refused{RefusalCode::kLate, "closed"});
  EXPECT_THAT(sink_->refusals, ElementsAre(RefusalCode::kLate));
  ASSERT_OK_AND_ASSIGN(const auto refused,
                       hub_->Append(a_, *session, 0, upload.chunks[0]));
  EXPECT_EQ(refused.value().code, RefusalCode::kLate);
  EXPECT_THAT(hub_->ProgressOf(7), IsEmpty());
}

TEST_F(UploadHubTest, ShuttingDownEndsEveryStream) {
  ASSERT_THAT(Begin(Upload()), AcceptedAt(0u));
  Attach(Upload());
  hub_->CloseAll(Refused{RefusalCode::kBusy, "shutting down"});
  EXPECT_THAT(sink_->refusals, ElementsAre(RefusalCode::kBusy));
}

TEST_F(UploadHubTest, SpoolBytesAreThoseOnDisk) {
  EXPECT_EQ(hub_->SpoolBytes(), 0);
  const TestUpload upload = Upload();
  ASSERT_THAT(Begin(upload), AcceptedAt(0u));
  Send(*Attach(upload), upload);
  EXPECT_GT(hub_->SpoolBytes(), upload.manifest.payload_bytes);
}

TEST(SignedReceiptTest, RoundTripsAndNothingElseDecodes) {
  SignedReceipt receipt;
  receipt.statement.federation = "cards";
  receipt.statement.round = 7;
  receipt.statement.attempt = 2;
  receipt.statement.institution = "bank-a";
  receipt.statement.upload_id = std::string(16, '\x05');
  receipt.statement.payload_digest = Sha256("payload");
  receipt.statement.payload_bytes = 1234;
  receipt.statement.committed_at = kTestNow;
  receipt.signature.bytes.fill(std::byte{9});
  const std::string bytes = receipt.Encode();
  ASSERT_OK_AND_ASSIGN(const SignedReceipt again, SignedReceipt::Decode(bytes));
  EXPECT_EQ(again.Encode(), bytes);
  EXPECT_EQ(again.statement.institution, "bank-a");
  EXPECT_EQ(again.statement.committed_at, kTestNow);
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(SignedReceipt::Decode(bytes.substr(0, n)).ok()) << n;
  }
  EXPECT_FALSE(SignedReceipt::Decode(bytes + "x").ok());
  std::string newer = bytes;
  newer[0] = 2;
  EXPECT_THAT(SignedReceipt::Decode(newer),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("version 2")));
}

// The round may close while the spool is made.
TEST_F(UploadHubTest, AnUploadThatBeginsAsItsRoundClosesIsClosedToo) {
  const TestUpload upload = Upload();
  host_->after_begin = [this] {
    host_->refuse_admission = Refused{RefusalCode::kLate, "the round closed"};
  };
  EXPECT_THAT(Begin(upload), RefusedWith(RefusalCode::kLate));
  EXPECT_THAT(hub_->Attach(a_, RawId(upload), sink_),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(store_->space().reserved_bytes(), 0);
}

// An old file that becomes a spool has its size from the start.
TEST_F(UploadHubTest, ASpoolOnAnOldFileIsNotCountedTwice) {
  const TestUpload first = Upload(1);
  ASSERT_THAT(Begin(first), AcceptedAt(0u));
  Send(*Attach(first), first);
  ASSERT_THAT(Commit(first), ReceiptFor(first));
  const int64_t whole = hub_->SpoolBytes();
  hub_->CloseUploads(7, {"bank-a"}, {});
  ASSERT_OK(store_->spools().Remove(Spools().at(0)));

  const TestUpload second = Upload(2, "\x0c", "bank-b");
  ASSERT_THAT(Begin(b_, second), AcceptedAt(0u));
  ASSERT_EQ(hub_->SpoolBytes(), whole) << "it does not stand on the old file";
  EXPECT_LE(store_->space().reserved_bytes(),
            SpoolBytesFor(second.manifest) - second.manifest.payload_bytes);
}

// What a round promises its version is no spool.
TEST_F(UploadHubTest, TheLimitOfSpoolsDoesNotCountTheRoundsVersion) {
  const TestUpload upload = Upload();
  UploadHub::Options options;
  options.max_spool_bytes = SpoolBytesFor(upload.manifest);
  Restart(options);
  ASSERT_OK_AND_ASSIGN(
      const SpaceReservation version,
      store_->space().Reserve(1 << 20, "the version", SpaceUse::kVersion));
  EXPECT_THAT(Begin(upload), AcceptedAt(0u));
  EXPECT_GT(store_->space().reserved_bytes(),
            store_->space().reserved_for_uploads());
}

}  // namespace
}  // namespace consilium

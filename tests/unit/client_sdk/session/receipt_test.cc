// Receipts: their text, their store, and uploads that an ended process left.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client_sdk/session/receipt_store.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Receipt SubmitTo(Harness& h, Session& session, uint64_t round) {
  h.coordinator.OpenRound(round);
  const auto task = h.Task(session);
  EXPECT_OK(task.status());
  const auto outcome = session.Submit(*task, h.FullUpdate(), {}, {});
  EXPECT_OK(outcome.status());
  return std::get<Receipt>(*outcome);
}

// Leaves an upload in the outbox that the coordinator has seen nothing of.
void LeaveBehind(Harness& h, Session& session, uint64_t round) {
  h.coordinator.OpenRound(round);
  const auto task = h.Task(session);
  ASSERT_OK(task.status());
  h.coordinator.FailForGoodAt(1, Fault::kRequestLost);
  EXPECT_FALSE(session.Submit(*task, h.FullUpdate(), {}, {}).ok());
  h.coordinator.ClearFaults();
}

void ExpectSame(const Receipt& a, const Receipt& b) {
  EXPECT_EQ(ReceiptText(a), ReceiptText(b));
}

TEST(ReceiptTest, AStoredReceiptIsAProof) {
  Harness h;
  const VerifyKey key = h.coordinator.Identity().signing_key;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  const Receipt given = SubmitTo(h, *session, 7);
  EXPECT_OK(VerifyReceipt(key, given));
  const ReceiptStore store(h.fs, "/state/receipts");
  ASSERT_OK_AND_ASSIGN(const auto found, store.Find({7, 1}, "", key));
  ASSERT_TRUE(found.has_value());
  ExpectSame(*found, given);
  ASSERT_OK_AND_ASSIGN(const auto same,
                       store.Find({7, 1}, given.upload_id, key));
  EXPECT_TRUE(same.has_value());
  ASSERT_OK_AND_ASSIGN(const auto other,
                       store.Find({7, 1}, std::string(32, '0'), key));
  EXPECT_FALSE(other.has_value());
  ASSERT_OK_AND_ASSIGN(const auto none, store.Find({8, 1}, "", key));
  EXPECT_FALSE(none.has_value());
  // A loss of power does not take it away.
  h.memory.Crash(1);
  ASSERT_OK_AND_ASSIGN(const auto after, store.List(key));
  ASSERT_THAT(after, SizeIs(1));
  ASSERT_OK(after[0].receipt.status());
  ExpectSame(*after[0].receipt, given);
}

TEST(ReceiptTest, EveryFieldIsUnderTheSignature) {
  Harness h;
  const VerifyKey key = h.coordinator.Identity().signing_key;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  const std::string text = ReceiptText(SubmitTo(h, *session, 7));
  ASSERT_OK_AND_ASSIGN(const Receipt whole, ParseReceipt(text));
  EXPECT_EQ(ReceiptText(whole), text);
  int fields = 0;
  for (size_t at = text.find(" = "); at != std::string::npos;
       at = text.find(" = ", at + 1)) {
    // The last character of each value, in quotes or not.
    size_t end = text.find('\n', at) - 1;
    if (text[end] == '"') --end;
    std::string changed = text;
    changed[end] = changed[end] == '1' ? '2' : '1';
    const auto parsed = ParseReceipt(changed);
    EXPECT_FALSE(parsed.ok() && VerifyReceipt(key, *parsed).ok()) << changed;
    ++fields;
  }
  EXPECT_EQ(fields, 10);
  for (const char* line : {"", "round = 7", "form = 3", "= ["}) {
    EXPECT_THAT(ParseReceipt(line),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << line;
  }
}

TEST(ReceiptTest, DamagedFilesAreListedWithWhatIsWrong) {
  Harness h;
  const VerifyKey key = h.coordinator.Identity().signing_key;
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  SubmitTo(h, *session, 12);
  SubmitTo(h, *session, 3);
  ASSERT_OK(WriteFileAtomic(h.fs, "/state/receipts/9-1-x.toml",
                            AsBytes(std::string("round = 9\n"))));
  ASSERT_OK(WriteFileAtomic(h.fs, "/state/receipts/notes.txt",
                            AsBytes(std::string("mine"))));
  ASSERT_OK_AND_ASSIGN(const auto all,
                       ReceiptStore(h.fs, "/state/receipts").List(key));
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_THAT(all[0].receipt, StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("9-1-x.toml")));
  EXPECT_EQ(all[1].receipt->round, 3u);
  EXPECT_EQ(all[2].receipt->round, 12u);
  EXPECT_THAT(ReceiptStore(h.fs, "/nowhere").List(key),
              IsOkAndHolds(IsEmpty()));
}

TEST(ResumeTest, OneThatCannotBeSentHidesNoOther) {
  Harness h;
  h.options.retry.give_up_after = absl::Nanoseconds(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  LeaveBehind(h, *session, 1);
  LeaveBehind(h, *session, 2);
  h.coordinator.OnCommit([&h] {
    h.coordinator.Answer("BeginUpload", absl::InvalidArgumentError("broken"));
  });
  ASSERT_OK_AND_ASSIGN(auto resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(2));
  EXPECT_EQ(std::get<Receipt>(resumed[0].outcome).round, 1u);
  EXPECT_EQ(resumed[1].round, 2u);
  EXPECT_THAT(std::get<absl::Status>(resumed[1].outcome),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(h.OutboxFiles(), SizeIs(1));

  h.coordinator.Answer("BeginUpload", absl::OkStatus());
  ASSERT_OK_AND_ASSIGN(resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(1));
  EXPECT_EQ(std::get<Receipt>(resumed[0].outcome).round, 2u);
}

// Killed at every step after the coordinator has it: the contribution is never
// said to be lost.
TEST(ResumeTest, AnUploadWithAReceiptIsCommitted) {
  bool whole = false;
  int told = 0;
  for (int64_t k = 1; !whole; ++k) {
    SCOPED_TRACE(Cat("step ", k));
    ASSERT_LT(k, 100);
    Harness h;
    {
      ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
      h.coordinator.OpenRound(1);
      ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
      int64_t before = 0;
      h.coordinator.OnCommit([&] {
        before = h.memory.ops();
        h.memory.CrashAt(k);
      });
      // What the coordinator said stands, whatever the disk does.
      ASSERT_OK_AND_ASSIGN(const SubmitOutcome outcome,
                           session->Submit(task, h.FullUpdate(), {}, {}));
      EXPECT_TRUE(std::holds_alternative<Receipt>(outcome));
      whole = h.memory.ops() - before < k;
    }
    h.memory.KillProcess();
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(const auto resumed, session->ResumePending({}, {}));
    for (const ResumedUpload& upload : resumed) {
      ASSERT_TRUE(std::holds_alternative<Receipt>(upload.outcome));
      ++told;
    }
    EXPECT_EQ(h.coordinator.commits(1), 1);
    EXPECT_THAT(h.OutboxFiles(), IsEmpty());
    EXPECT_THAT(ReceiptStore(h.fs, "/state/receipts")
                    .Find({1, 1}, "", h.coordinator.Identity().signing_key),
                IsOkAndHolds(testing::Ne(std::nullopt)));
  }
  EXPECT_GT(told, 3);
}

// Round numbers come again when a coordinator was restored from a backup.
TEST(ResumeTest, AReceiptOfAnotherUploadOfTheRoundSaysNothing) {
  Harness h;
  h.options.retry.give_up_after = absl::Nanoseconds(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  const Receipt old = SubmitTo(h, *session, 1);
  h.coordinator.ForgetRound(1);
  LeaveBehind(h, *session, 1);
  ASSERT_OK_AND_ASSIGN(const auto resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(1));
  const Receipt& now = std::get<Receipt>(resumed[0].outcome);
  EXPECT_NE(now.upload_id, old.upload_id);
  EXPECT_THAT(ReceiptStore(h.fs, "/state/receipts")
                  .List(h.coordinator.Identity().signing_key),
              IsOkAndHolds(SizeIs(2)));
}

// Nobody wants many copies of a payload on a disk that is full already.
TEST(ResumeTest, AnUploadThatTheDiskCannotHoldLeavesNothing) {
  int failures = 0;
  for (int64_t k = 1;; ++k) {
    SCOPED_TRACE(Cat("step ", k));
    ASSERT_LT(k, 100);
    Harness h;
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    h.coordinator.OpenRound(1);
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    const int64_t before = h.memory.ops();
    h.memory.FailAt(k, absl::ResourceExhaustedError("the disk is full"));
    const auto outcome = session->Submit(task, h.FullUpdate(), {}, {});
    if (h.memory.ops() - before < k) break;
    if (outcome.ok()) continue;  // the receipt, or a later cleaning
    ++failures;
    EXPECT_THAT(h.OutboxFiles(), IsEmpty());
  }
  EXPECT_GT(failures, 5);
}

}  // namespace
}  // namespace consilium::client::internal

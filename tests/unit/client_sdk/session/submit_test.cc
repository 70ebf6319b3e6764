// Handing in a contribution, with every fault at every step.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "consilium/aggregation/codec.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "tests/unit/client_sdk/session/session_harness.h"

namespace consilium::client::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The delta that a payload holds, decoded frame by frame.
std::vector<float> Decode(const std::string& payload,
                          const std::vector<size_t>& frame_ends) {
  std::vector<float> values;
  size_t at = frame_ends.front();
  for (size_t i = 1; i < frame_ends.size(); ++i) {
    std::vector<float> scratch;
    auto frame = DecodeParameterFrame(
        AsBytes(std::string_view(payload).substr(at, frame_ends[i] - at)),
        CrcCheck::kVerify, &scratch);
    EXPECT_THAT(frame, IsOk());
    if (!frame.ok()) break;
    values.insert(values.end(), frame->values.begin(), frame->values.end());
    at = frame_ends[i];
  }
  return values;
}

struct Undisturbed {
  Sha256Digest digest;
  int64_t steps = 0;
};

// What a run without faults sends, and in how many steps.
const Undisturbed& Reference() {
  static const Undisturbed* const reference = [] {
    Harness h;
    h.coordinator.OpenRound(1);
    auto session = h.Connect();
    CONSILIUM_CHECK(session.ok());
    auto task = h.Task(**session);
    CONSILIUM_CHECK(task.ok());
    CONSILIUM_CHECK((*session)->Submit(*task, h.FullUpdate(), {}, {}).ok());
    return new Undisturbed{Sha256(h.coordinator.CommittedPayload(1)),
                           h.coordinator.steps()};
  }();
  return *reference;
}

TEST(SubmitTest, CarriesEveryElementOnce) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  std::vector<TransferProgress> seen;
  SubmitOptions options;
  options.progress = [&](const TransferProgress& p) { seen.push_back(p); };
  ASSERT_OK_AND_ASSIGN(SubmitOutcome outcome,
                       session->Submit(task, h.FullUpdate(), options, {}));

  const auto& receipt = std::get<Receipt>(outcome);
  EXPECT_EQ(receipt.round, 1u);
  EXPECT_EQ(receipt.institution, "bank-a");
  const std::string payload = h.coordinator.CommittedPayload(1);
  EXPECT_EQ(receipt.payload_bytes, payload.size());
  EXPECT_EQ(receipt.payload_digest, Sha256(payload));

  const Manifest manifest = h.coordinator.CommittedManifest(1);
  EXPECT_EQ(manifest.elements, 1100015u);
  ASSERT_EQ(manifest.chunk_count, 6u);  // metadata and five frames
  std::vector<size_t> ends;
  const size_t full = 32 + 4 * size_t{kMaxElementsPerFrame};
  const size_t last = 32 + 4 * (1100015 - 4 * size_t{kMaxElementsPerFrame});
  ends.push_back(payload.size() - 4 * full - last);
  for (int i = 0; i < 4; ++i) ends.push_back(ends.back() + full);
  ends.push_back(payload.size());
  std::vector<float> want;
  for (const TensorSlot& slot : h.coordinator.layout().slots()) {
    const std::vector<float> part = Delta(slot);
    want.insert(want.end(), part.begin(), part.end());
  }
  EXPECT_TRUE(Decode(payload, ends) == want);

  ASSERT_OK_AND_ASSIGN(
      const FrameView frame0,
      ParseFrame(AsBytes(std::string_view(payload).substr(0, ends[0]))));
  ASSERT_OK_AND_ASSIGN(
      const ContributionMetadata metadata,
      DecodeMetadata(frame0, h.coordinator.layout().groups().size()));
  EXPECT_EQ(metadata.examples, 120u);
  EXPECT_THAT(metadata.group_tokens, SizeIs(2));

  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().done_bytes, payload.size());
  EXPECT_EQ(seen.back().total_bytes, payload.size());
}

// The frames are those of the round; the elements in them are the same.
TEST(SubmitTest, CutsFramesOfTheSizeThatTheRoundAnnounced) {
  for (const int64_t size : kFrameSizes) {
    SCOPED_TRACE(size);
    Harness h;
    h.coordinator.set_elements_per_frame(static_cast<uint32_t>(size));
    h.coordinator.OpenRound(1);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
    const std::string payload = h.coordinator.CommittedPayload(1);
    const Manifest manifest = h.coordinator.CommittedManifest(1);
    EXPECT_EQ(manifest.elements_per_frame, size);
    ASSERT_EQ(manifest.chunk_count, 2 + 1100015 / static_cast<uint64_t>(size));
    const size_t full = 32 + 4 * static_cast<size_t>(size);
    const size_t last = 32 + 4 * static_cast<size_t>(1100015 % size);
    std::vector<size_t> ends = {payload.size() - last -
                                (manifest.chunk_count - 2) * full};
    while (ends.size() + 1 < manifest.chunk_count) {
      ends.push_back(ends.back() + full);
    }
    ends.push_back(payload.size());
    std::vector<float> want;
    for (const TensorSlot& slot : h.coordinator.layout().slots()) {
      const std::vector<float> part = Delta(slot);
      want.insert(want.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(Decode(payload, ends) == want);
  }
}

TEST(SubmitTest, RefusesAnAnnouncedFrameSizeThatThereIsNot) {
  Harness h;
  h.coordinator.set_elements_per_frame(100'000);
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_THAT(session->Submit(task, h.FullUpdate(), {}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("announcement of round 1"),
                                        HasSubstr("100000, must be one of"))));
  EXPECT_EQ(h.coordinator.uploads_seen(), 0u);
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
}

// Before the upload begins, and without losing it.
TEST(SubmitTest, SendsNoChunkLargerThanTheCoordinatorTakes) {
  Harness h;
  constexpr uint64_t kChunk = 32 + 4 * 258048 + 16;
  h.coordinator.set_max_chunk(kChunk - 1);
  h.coordinator.OpenRound(1);
  {
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    EXPECT_THAT(session->Submit(task, h.FullUpdate(), {}, {}),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         ::testing::AllOf(
                             HasSubstr("chunk 1 of the upload for round 1 has "
                                       "1032240 bytes"),
                             HasSubstr("at most 1032239 (max_chunk_bytes)"))));
  }
  EXPECT_EQ(h.coordinator.uploads_seen(), 0u);
  EXPECT_THAT(h.OutboxFiles(), SizeIs(1));
  {
    h.coordinator.set_max_chunk(kChunk);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK(session->ResumePending({}, {}));
    EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
  }
  // One that says nothing takes any.
  h.coordinator.set_max_chunk(0);
  h.coordinator.OpenRound(2);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
}

TEST(SubmitTest, SourceAndUpdateGiveTheSameBytes) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  UpdateSource source;
  source.report = h.FullUpdate().report;
  source.fill = [&](std::string_view name, int64_t first,
                    std::span<float> out) {
    const auto& slots = h.coordinator.layout().slots();
    const auto values = Delta(slots[*h.coordinator.layout().FindSlot(name)]);
    std::memcpy(out.data(), values.data() + first, out.size_bytes());
    return absl::OkStatus();
  };
  ASSERT_OK(session->Submit(task, source, {}, {}));
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
}

TEST(SubmitTest, SendsOnlyTheGroupsHandedIn) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  Update update = h.FullUpdate();
  update.tensors = {update.tensors[2]};  // expert.0
  ASSERT_OK(session->Submit(task, update, {}, {}));
  const Manifest manifest = h.coordinator.CommittedManifest(1);
  EXPECT_EQ(manifest.elements, 100000u);
  EXPECT_EQ(manifest.coverage, std::string("\x02"));
}

TEST(SubmitTest, WithoutSealingThePayloadTravelsAsItIs) {
  Harness h;
  h.coordinator.OpenRound(1, /*sealed=*/false);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  EXPECT_FALSE(task.sealed);
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
}

class FaultTest : public ::testing::TestWithParam<Fault> {};

// The connection, or the coordinator, dies once at step k, for every k.
TEST_P(FaultTest, AtAnyStepChangesNothing) {
  for (int64_t k = 1; k <= Reference().steps; ++k) {
    SCOPED_TRACE(Cat("step ", k));
    Harness h;
    h.coordinator.OpenRound(1);
    h.coordinator.FailAt(k, GetParam());
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    ASSERT_OK_AND_ASSIGN(SubmitOutcome outcome,
                         session->Submit(task, h.FullUpdate(), {}, {}));
    EXPECT_TRUE(std::holds_alternative<Receipt>(outcome));
    EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
    EXPECT_EQ(h.coordinator.commits(1), 1);
    EXPECT_EQ(h.coordinator.uploads_seen(), 1u);
    EXPECT_FALSE(h.coordinator.NonceReused());
    EXPECT_THAT(h.OutboxFiles(), IsEmpty());
    EXPECT_THAT(h.sleeper.slept(), SizeIs(1));
  }
}

// The institution's process dies at step k; the next one picks it up.
TEST_P(FaultTest, AndAKilledProcessChangesNothing) {
  for (int64_t k = 1; k <= Reference().steps; ++k) {
    SCOPED_TRACE(Cat("step ", k));
    Harness h;
    h.coordinator.OpenRound(1);
    {
      h.coordinator.FailForGoodAt(k, GetParam());
      h.options.retry.give_up_after = absl::Nanoseconds(1);
      auto session = h.Connect();
      if (session.ok()) {
        auto task = h.Task(**session);
        if (task.ok()) {
          (*session)
              ->Submit(*task, h.FullUpdate(), {}, {})
              .status()
              .IgnoreError();
        }
      }
    }
    h.memory.KillProcess();
    h.coordinator.ClearFaults();
    h.options.retry.give_up_after = absl::ZeroDuration();
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK(session->ResumePending({}, {}));
    if (!h.coordinator.Committed(1)) {
      // Killed before the outbox was complete.
      ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
      ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
    }
    EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
    EXPECT_EQ(h.coordinator.commits(1), 1);
    EXPECT_FALSE(h.coordinator.NonceReused());
    EXPECT_THAT(h.OutboxFiles(), IsEmpty());
  }
}

INSTANTIATE_TEST_SUITE_P(AllFaults, FaultTest,
                         ::testing::Values(Fault::kRequestLost,
                                           Fault::kReplyLost, Fault::kRestart),
                         [](const auto& info) {
                           switch (info.param) {
                             case Fault::kRequestLost:
                               return "RequestLost";
                             case Fault::kReplyLost:
                               return "ReplyLost";
                             default:
                               return "Restart";
                           }
                         });

TEST(SubmitTest, CoordinatorAwayForAWhile) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  for (int64_t k = 1; k <= 12; ++k) {
    h.coordinator.FailAt(k, Fault::kRequestLost);
  }
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
  // Full jitter under a growing ceiling, never above the cap.
  const std::vector<absl::Duration> slept = h.sleeper.slept();
  ASSERT_THAT(slept, SizeIs(12));
  absl::Duration ceiling = h.options.retry.initial;
  for (const absl::Duration wait : slept) {
    EXPECT_LE(wait, ceiling);
    ceiling = std::min(ceiling * 2, h.options.retry.cap);
  }
}

TEST(SubmitTest, GivesUpWhenThePolicySaysSo) {
  Harness h;
  h.options.retry.give_up_after = absl::Minutes(3);
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.SetUnreachable(true);
  const absl::Duration before = h.clock.Monotonic();
  EXPECT_THAT(session->Submit(task, h.FullUpdate(), {}, {}),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("retry.give_up_after")));
  EXPECT_EQ(h.clock.Monotonic() - before, absl::Minutes(3));
  EXPECT_THAT(h.OutboxFiles(), SizeIs(1));

  h.coordinator.SetUnreachable(false);
  ASSERT_OK_AND_ASSIGN(auto resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<Receipt>(resumed[0].outcome));
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
}

TEST(SubmitTest, TheSameUpdateAgainResumesAnotherOneReplaces) {
  Harness h;
  h.options.retry.give_up_after = absl::Nanoseconds(1);
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  for (const int step : {4, 2}) {
    h.coordinator.FailForGoodAt(step, Fault::kReplyLost);
    EXPECT_FALSE(session->Submit(task, h.FullUpdate(), {}, {}).ok());
    h.coordinator.ClearFaults();
  }
  EXPECT_EQ(h.coordinator.uploads_seen(), 1u);

  ASSERT_OK(session->Submit(task, h.FullUpdate(2.0f), {}, {}));
  EXPECT_EQ(h.coordinator.uploads_seen(), 2u);
  EXPECT_NE(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
  EXPECT_FALSE(h.coordinator.NonceReused());
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
}

TEST(SubmitTest, AfterCommitTheOriginalReceiptComesBack) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  ASSERT_OK_AND_ASSIGN(SubmitOutcome first,
                       session->Submit(task, h.FullUpdate(), {}, {}));
  ASSERT_OK_AND_ASSIGN(SubmitOutcome second,
                       session->Submit(task, h.FullUpdate(2.0f), {}, {}));
  EXPECT_EQ(std::get<Receipt>(first).upload_id,
            std::get<Receipt>(second).upload_id);
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
}

TEST(SubmitTest, ARefusalThatStandsEmptiesTheOutbox) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.RefuseBegin({RefusalCode::kLate, "closed", {}});
  ASSERT_OK_AND_ASSIGN(SubmitOutcome outcome,
                       session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(std::get<Refused>(outcome).code, RefusalCode::kLate);
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());

  h.coordinator.RefuseInStreamAfter(
      3, {RefusalCode::kQuarantined, "norm of 1e9", {}});
  ASSERT_OK_AND_ASSIGN(outcome, session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(std::get<Refused>(outcome).message, "norm of 1e9");
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
}

TEST(SubmitTest, ARefusalThatPassesIsWaitedFor) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.RefuseBegin({RefusalCode::kBusy, "busy", absl::Seconds(7)}, 2);
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_THAT(h.sleeper.slept(),
              ElementsAre(absl::Seconds(7), absl::Seconds(7)));
}

TEST(SubmitTest, ASuspendedInstitutionKeepsItsWork) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.RefuseBegin({RefusalCode::kSuspended, "suspended", {}});
  ASSERT_OK_AND_ASSIGN(SubmitOutcome outcome,
                       session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(std::get<Refused>(outcome).code, RefusalCode::kSuspended);
  EXPECT_THAT(h.OutboxFiles(), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(auto resumed, session->ResumePending({}, {}));
  ASSERT_THAT(resumed, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<Receipt>(resumed[0].outcome));
}

// A coordinator that acknowledges nothing until the stream is cut gets as much
// as the window lets out, whether it named that at once or in its greeting.
TEST(SubmitTest, NeverMoreInFlightThanTheWindow) {
  for (const bool at_begin : {true, false}) {
    Harness h;
    h.options.stall_timeout = absl::Milliseconds(20);
    h.coordinator.SetMute(true);
    // Two chunks with their tags, but for a byte.
    constexpr uint64_t kWindow = uint64_t{2} * (32 + 4 * 258048 + 16) - 1;
    h.coordinator.set_window(kWindow);
    h.coordinator.set_window_at_begin(at_begin);
    h.coordinator.OpenRound(1);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
    EXPECT_GT(h.coordinator.max_in_flight(), 0u);
    EXPECT_LE(h.coordinator.max_in_flight(), kWindow);
  }
}

TEST(SubmitTest, AWindowSmallerThanAChunkStillMoves) {
  Harness h;
  h.coordinator.set_ack_every(1);
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  // A window smaller than a chunk still moves, one at a time.
  h.coordinator.set_window(1000);
  h.coordinator.OpenRound(2);
  ASSERT_OK_AND_ASSIGN(task, h.Task(*session));
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
}

TEST(SubmitTest, AStreamThatMovesNothingIsCutAndResumed) {
  Harness h;
  h.options.stall_timeout = absl::Milliseconds(20);
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  h.coordinator.SetMute(true);
  ASSERT_OK(session->Submit(task, h.FullUpdate(), {}, {}));
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
  EXPECT_THAT(h.events, ::testing::Contains(HasSubstr("stall_timeout")));
}

TEST(SubmitTest, CancellingEndsItAndKeepsTheOutbox) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  CancelSource cancel;
  SubmitOptions options;
  options.progress = [&](const TransferProgress& progress) {
    if (progress.phase == TransferProgress::Phase::kUpload &&
        progress.done_bytes > 0) {
      cancel.Cancel("the operator said stop");
    }
  };
  const auto outcome =
      session->Submit(task, h.FullUpdate(), options, cancel.token());
  // The last acknowledgement may have been quicker.
  if (!outcome.ok()) {
    EXPECT_THAT(outcome,
                StatusIs(absl::StatusCode::kCancelled, HasSubstr("operator")));
    EXPECT_THAT(h.OutboxFiles(), SizeIs(1));
    ASSERT_OK(session->ResumePending({}, {}));
  }
  EXPECT_EQ(Sha256(h.coordinator.CommittedPayload(1)), Reference().digest);
  session->Cancel("closing");
  EXPECT_THAT(session->WaitForWork(absl::Minutes(1), {}),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST(SubmitTest, AReceiptThatDoesNotVerifyIsAnError) {
  for (const int which : {0, 1, 2}) {
    Harness h;
    h.coordinator.Edit([which](SignedReceipt& receipt) {
      if (which == 0) receipt.signature.bytes[5] ^= std::byte{1};
      if (which == 1) receipt.statement.payload_bytes += 1;
      if (which == 2) receipt.statement.institution = "bank-b";
    });
    h.coordinator.OpenRound(1);
    ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
    ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
    EXPECT_THAT(session->Submit(task, h.FullUpdate(), {}, {}),
                StatusIs(absl::StatusCode::kUnauthenticated));
    EXPECT_THAT(h.sleeper.slept(), IsEmpty());
  }
}

TEST(SubmitTest, BadUpdatesAreNamedBeforeAnythingIsSent) {
  Harness h;
  h.coordinator.OpenRound(1);
  ASSERT_OK_AND_ASSIGN(auto session, h.Connect());
  ASSERT_OK_AND_ASSIGN(TrainTask task, h.Task(*session));
  const int64_t steps = h.coordinator.steps();
  const auto refused_with = [&](const Update& update, const std::string& text) {
    EXPECT_THAT(session->Submit(task, update, {}, {}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  Update update = h.FullUpdate();
  h.storage[3][1234] = std::numeric_limits<float>::quiet_NaN();
  refused_with(update, "expert.1 has nan at element 1234");

  update = h.FullUpdate();
  update.tensors[0].delta = update.tensors[0].delta.first(10);
  refused_with(update, "trunk has 10 elements; the layout has 700000");

  update = h.FullUpdate();
  update.tensors[1].name = "nobody";
  refused_with(update, "nobody");

  update = h.FullUpdate();
  update.tensors.erase(update.tensors.begin());  // half of "shared"
  refused_with(update, "shared");

  update = h.FullUpdate();
  update.tensors.push_back(update.tensors[0]);
  refused_with(update, "trunk");

  update = h.FullUpdate();
  update.report.examples = 2;
  refused_with(update, "min_examples");

  update = h.FullUpdate();
  update.report.examples = 1'000'001;
  refused_with(update, "weight_max");

  update = h.FullUpdate();
  update.report.group_tokens = {{"expert/0/9", 1}};
  refused_with(update, "expert/0/9");

  update = h.FullUpdate();
  update.report.metrics = {{"loss", std::numeric_limits<double>::infinity()}};
  refused_with(update, "loss");

  TrainTask forged;
  EXPECT_THAT(
      session->Submit(forged, h.FullUpdate(), {}, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("WaitForWork")));
  task.max_update_bytes = 1000;
  EXPECT_THAT(session->Submit(task, h.FullUpdate(), {}, {}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("max_update_bytes")));
  EXPECT_EQ(h.coordinator.steps(), steps);
  EXPECT_THAT(h.OutboxFiles(), IsEmpty());
}

}  // namespace
}  // namespace consilium::client::internal

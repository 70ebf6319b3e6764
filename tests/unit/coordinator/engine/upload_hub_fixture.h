// A hub over a store in memory, with a host that keeps rows as the engine does.
#ifndef CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_UPLOAD_HUB_FIXTURE_H_
#define CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_UPLOAD_HUB_FIXTURE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/engine/upload_hub.h"
#include "coordinator/store/tables.h"
#include "tests/support/begin_upload.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_executor.h"
#include "tests/support/test_upload.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {

// Admits everybody to one round, and keeps rows as the engine does.
class FakeHost final : public UploadHost {
 public:
  explicit FakeHost(Store* store) : store_(store) {}

  std::variant<std::shared_ptr<const RoundContext>, Refused> AdmitUpload(
      const Caller&, int64_t, int64_t) override {
    if (refuse_admission.has_value()) return *refuse_admission;
    return round;
  }
  std::variant<absl::Status, Refused> UploadBegan(
      const Caller&, const ContributionRow& row,
      const std::string& superseded) override {
    if (refuse_begin.has_value()) return *refuse_begin;
    if (after_begin) after_begin();
    return store_->history().Write([&](WriteTx& tx) -> absl::Status {
      if (!superseded.empty()) {
        CONSILIUM_RETURN_IF_ERROR(SetContributionState(
            tx, superseded, ContributionState::kSuperseded, "replaced"));
      }
      return InsertContribution(tx, row);
    });
  }
  void UploadResumed(const Caller& caller, int64_t) override {
    resumed.push_back(caller.name());
  }
  void UploadLost(const Caller& caller, int64_t,
                  const std::string& reason) override {
    lost.push_back(Cat(caller.name(), ": ", reason));
  }
  absl::StatusOr<CommitOutcome> CommitContribution(
      const Caller& caller, const ContributionRow& row,
      const UploadResult& result) override {
    SignedReceipt receipt;
    receipt.statement.federation = "cards";
    receipt.statement.institution = caller.name();
    receipt.statement.payload_digest = result.payload_digest;
    ContributionRow committed = row;
    committed.state = ContributionState::kCommitted;
    committed.receipt = receipt.Encode();
    committed.committed_at = kTestNow;
    CONSILIUM_RETURN_IF_ERROR(store_->history().Write(
        [&](WriteTx& tx) { return UpdateContribution(tx, committed); }));
    return CommitOutcome(std::move(receipt));
  }
  absl::Status QuarantineUpload(const Caller&, int64_t, const std::string& id,
                                const std::string& reason) override {
    return store_->history().Write([&](WriteTx& tx) {
      return SetContributionState(tx, id, ContributionState::kQuarantined,
                                  reason);
    });
  }

  std::shared_ptr<const RoundContext> round = MakeTestRound();
  std::optional<Refused> refuse_admission;
  std::optional<Refused> refuse_begin;
  std::function<void()> after_begin;
  std::vector<std::string> resumed;
  std::vector<std::string> lost;

 private:
  Store* const store_;
};

class CodeSink final : public UploadSink {
 public:
  void OnDurable(uint64_t) override {}
  void OnRefused(const Refused& refused) override {
    refusals.push_back(refused.code);
  }
  void OnBroken(const absl::Status& status) override {
    broken.push_back(status.code());
    words.emplace_back(status.message());
  }
  std::vector<RefusalCode> refusals;
  std::vector<absl::StatusCode> broken;
  std::vector<std::string> words;  // of broken
};

inline std::string RawId(const TestUpload& upload) {
  return std::string(AsChars(upload.manifest.upload_id));
}

MATCHER_P(AcceptedAt, next_chunk, "") {
  if (!arg.ok()) return false;
  const auto* accepted = std::get_if<UploadAccepted>(&*arg);
  return accepted != nullptr && accepted->next_chunk == next_chunk;
}
MATCHER_P(RefusedWith, code, "") {
  if (!arg.ok()) return false;
  const auto* refused = std::get_if<Refused>(&*arg);
  if (refused != nullptr) *result_listener << refused->message;
  return refused != nullptr && refused->code == code;
}
MATCHER_P(ReceiptFor, upload, "") {
  if (!arg.ok()) return false;
  const auto* receipt = std::get_if<SignedReceipt>(&*arg);
  return receipt != nullptr &&
         receipt->statement.payload_digest == upload.manifest.payload_digest;
}

class UploadHubTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    RoundRow row = Round(7);
    row.attempt = 2;
    ASSERT_OK(
        Write([&](WriteTx& tx) { return InsertRound(tx, row).status(); }));
    Restart({});
  }
  void TearDown() override {
    // Sessions hold files of the store.
    hub_.reset();
  }

  // A new process over the same store.
  void Restart(UploadHub::Options options) {
    hub_.reset();
    host_ = std::make_unique<FakeHost>(store_.get());
    hub_ = std::make_unique<UploadHub>(store_.get(), host_.get(), &listener_,
                                       &clock_, &ingest_, options);
  }
  static Caller CallerOf(std::string name, int64_t id) {
    auto peer = std::make_shared<PeerState>();
    peer->name = std::move(name);
    peer->institution_id = id;
    return Caller{std::move(peer), "01"};
  }
  TestUpload Upload(uint8_t id = 1, std::string_view coverage = "\x0c",
                    const std::string& institution = "bank-a") {
    return MakeTestUpload(*host_->round, institution, coverage, id);
  }
  absl::StatusOr<BeginOutcome> Begin(const Caller& caller,
                                     const TestUpload& upload) {
    return BeginUploadHere(*hub_, ingest_, caller, upload.manifest);
  }
  absl::StatusOr<BeginOutcome> Begin(const TestUpload& upload) {
    return Begin(a_, upload);
  }
  std::shared_ptr<UploadSession> Attach(const TestUpload& upload) {
    auto session = hub_->Attach(a_, RawId(upload), sink_);
    EXPECT_OK(session.status());
    return session.ok() ? *session : nullptr;
  }
  void Send(UploadSession& session, const TestUpload& upload, size_t from = 0) {
    for (size_t i = from; i < upload.chunks.size(); ++i) {
      ASSERT_OK_AND_ASSIGN(const auto refused,
                           hub_->Append(a_, session, i, upload.chunks[i]));
      ASSERT_FALSE(refused.has_value());
    }
  }
  absl::StatusOr<CommitOutcome> Commit(const TestUpload& upload) {
    return hub_->CommitUpload(a_, RawId(upload),
                              upload.manifest.payload_digest);
  }
  ContributionState StateOf(const TestUpload& upload) {
    ContributionState state{};
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row,
                                 FindContribution(tx, upload.manifest.IdHex()));
      state = row.value().state;
      return absl::OkStatus();
    }));
    return state;
  }
  std::vector<std::string> Spools() {
    const auto paths = store_->spools().List();
    EXPECT_OK(paths.status());
    return paths.value_or(std::vector<std::string>());
  }

  FakeClock clock_;
  ManualExecutor ingest_;
  NullListener listener_;
  const Caller a_ = CallerOf("bank-a", 1);
  const Caller b_ = CallerOf("bank-b", 2);
  const std::shared_ptr<CodeSink> sink_ = std::make_shared<CodeSink>();
  std::unique_ptr<FakeHost> host_;
  std::unique_ptr<UploadHub> hub_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_COORDINATOR_ENGINE_UPLOAD_HUB_FIXTURE_H_

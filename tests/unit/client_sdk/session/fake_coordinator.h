// A coordinator in memory behind the Transport interface, with faults.
//
// It keeps what a real one keeps on disk across restarts, and remembers every
// sealed chunk it ever saw, so that a test can tell whether a nonce met two
// plaintexts. Every unary call and every chunk is a step, numbered from 1 in
// the order of arrival; a fault hits one step.
#ifndef CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_COORDINATOR_H_
#define CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_COORDINATOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client_sdk/session/identity.h"
#include "client_sdk/session/statements.h"
#include "client_sdk/session/transport.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/mutex.h"
#include "tests/support/fake_clock.h"
#include "tests/support/seeded_random.h"

namespace consilium::client::internal {

enum class Fault {
  kNone,
  kRequestLost,  // nothing happened
  kReplyLost,    // it happened, the caller hears nothing
  kRestart,      // as kReplyLost, and chunks not acknowledged are gone
};

class FakeCoordinator {
 public:
  explicit FakeCoordinator(FakeClock* clock);

  // Each session of a test gets its own end of the wire.
  std::unique_ptr<Transport> NewTransport();

  InstitutionIdentity Identity() const;
  const Layout& layout() const { return layout_; }
  const Sha256Digest& layout_digest() const { return layout_digest_; }

  // What a fault hits: step `step`, counted from now.
  void FailAt(int64_t step, Fault fault);
  // As FailAt(step, fault), and from then on nothing gets through.
  void FailForGoodAt(int64_t step, Fault fault);
  void ClearFaults();
  // Every step fails with UNAVAILABLE while on.
  void SetUnreachable(bool on);
  int64_t steps() const;

  // From now on every unary call of this name fails with this status; OK: no
  // more.
  void Answer(const std::string& call, const absl::Status& status);
  // As of a federation without a version: greetings name no layout.
  void HideLayout(bool on);

  // Opens a round; the next WaitForWork offers it.
  void OpenRound(uint64_t round, bool sealed = true);
  // The same from a base that the coordinator can hand out.
  void OpenRoundOn(uint64_t round, const Version& base);
  // No round is offered any more; uploads of earlier ones are still taken.
  void CloseRound();
  // As a coordinator restored from a backup that is older than the round.
  void ForgetRound(uint64_t round);
  void Edit(const std::function<void(TrainOffer&)>& edit) { edit_ = edit; }
  void Edit(const std::function<void(SignedReceipt&)>& edit) {
    edit_receipt_ = edit;
  }
  void OfferEvaluation(EvaluateOffer offer);
  // An offer that it has signed.
  EvaluateOffer EvaluationOf(uint64_t round, const Version& candidate) const;
  Signature Sign(const VersionStatement& statement) const;

  // Called after such a call was answered, on the caller's thread.
  using Hook = std::function<void()>;
  void OnBegin(Hook hook) { on_begin_ = std::move(hook); }
  void OnCommit(Hook hook) { on_commit_ = std::move(hook); }
  void OnDecline(Hook hook) { on_decline_ = std::move(hook); }
  void OnProgress(Hook hook) { on_progress_ = std::move(hook); }
  void OnIdle(Hook hook) { on_idle_ = std::move(hook); }

  // The next BeginUpload (or, in_stream, the stream after so many chunks)
  // answers with this.
  void RefuseBegin(Refused refused, int times = 1);
  void RefuseInStreamAfter(int chunks, Refused refused);
  // Chunks between two acknowledgements.
  void set_ack_every(int chunks) { ack_every_ = chunks; }
  void set_window(uint64_t bytes) { window_ = bytes; }
  // Whether answers to BeginUpload name the window, as greetings do.
  void set_window_at_begin(bool on) { window_at_begin_ = on; }
  // Of rounds opened from now on.
  void set_elements_per_frame(uint32_t elements) {
    elements_per_frame_ = elements;
  }
  // As greetings say; 0: they do not.
  void set_max_chunk(uint64_t bytes) { max_chunk_ = bytes; }
  // Streams take chunks and say nothing while on.
  void SetMute(bool on);

  std::map<Sha256Digest, std::string>& objects() { return objects_; }
  // Download cuts the stream after so many bytes, once each.
  std::deque<size_t>& cuts() { return cuts_; }
  // Bytes that Download sent.
  uint64_t downloaded() const { return downloaded_; }

  // The committed payload of a round, opened; fails the test when none is.
  std::string CommittedPayload(uint64_t round);
  Manifest CommittedManifest(uint64_t round);
  bool Committed(uint64_t round) const;
  // Distinct sealed bytes ever seen under one (wrapped key, index).
  bool NonceReused() const;
  size_t uploads_seen() const;
  uint64_t max_in_flight() const;
  int commits(uint64_t round) const;
  std::vector<std::string> log() const;

 private:
  friend class FakeTransport;
  friend class FakeStream;

  struct Upload {
    Manifest manifest;
    std::vector<std::string> chunks;
    size_t durable = 0;
  };
  struct Round {
    TrainOffer offer;
    std::optional<Upload> live;
    std::optional<Upload> committed;
    std::optional<SignedReceipt> receipt;
    int commits = 0;
  };

  void Open(uint64_t round, const SignedVersionRef& base, bool sealed);
  Fault NextStep(std::string what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoseUnsynced() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  BeginOutcome BeginLocked(const Manifest& manifest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CommitOutcome CommitLocked(const std::string& upload_id,
                             const Sha256Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SignedReceipt ReceiptFor(const Upload& upload) const;
  absl::StatusOr<std::string> Unseal(const Upload& upload) const;

  FakeClock* const clock_;
  SeededRandom random_;
  const SigningKey signing_key_;
  const X25519PrivateKey round_key_;
  Layout layout_;
  Sha256Digest layout_digest_;
  std::map<Sha256Digest, std::string> objects_;
  std::deque<size_t> cuts_;
  uint64_t downloaded_ = 0;
  Hook on_begin_, on_commit_, on_decline_, on_progress_, on_idle_;
  std::function<void(TrainOffer&)> edit_;
  std::function<void(SignedReceipt&)> edit_receipt_;
  int ack_every_ = 2;
  uint64_t window_ = uint64_t{32} << 20;
  bool window_at_begin_ = true;
  uint64_t max_chunk_ = uint64_t{1} << 20;
  uint32_t elements_per_frame_ = 258048;

  mutable Mutex mutex_;
  CondVar wake_;
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 1;  // streams of older ones are cut
  std::map<int64_t, Fault> faults_ ABSL_GUARDED_BY(mutex_);
  int64_t dead_after_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
  int64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  bool unreachable_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, absl::Status> answers_ ABSL_GUARDED_BY(mutex_);
  bool layout_hidden_ ABSL_GUARDED_BY(mutex_) = false;
  bool mute_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Round> rounds_ ABSL_GUARDED_BY(mutex_);
  uint64_t current_round_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<EvaluateOffer> evaluation_ ABSL_GUARDED_BY(mutex_);
  uint64_t revision_ ABSL_GUARDED_BY(mutex_) = 1;
  std::deque<Refused> refuse_begin_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::pair<int, Refused>> refuse_in_stream_
      ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, uint64_t>, std::set<std::string>> seen_
      ABSL_GUARDED_BY(mutex_);
  std::set<std::string> upload_ids_ ABSL_GUARDED_BY(mutex_);
  uint64_t max_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> log_ ABSL_GUARDED_BY(mutex_);
};

// A version file of the coordinator's layout, every element `value`, which it
// serves from now on. `scratch`: a path for a file.
Version PublishVersion(FakeCoordinator& coordinator, const std::string& scratch,
                       uint64_t number, float value);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_TESTS_UNIT_CLIENT_SDK_SESSION_FAKE_COORDINATOR_H_

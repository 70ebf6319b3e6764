// A coordinator killed at every step of what an operator asks of it: each act
// happened whole or not at all, and can be asked for again.

#ifndef CONSILIUM_TESTS_CRASH_OPERATOR_KILL_H_
#define CONSILIUM_TESTS_CRASH_OPERATOR_KILL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/wire/status.h"
#include "tests/crash/coordinator_kill.h"

namespace consilium {

class OperatorKillTest : public CoordinatorKillTest {
 protected:
  struct Act {
    // Its action in the audit log, of which each act makes one entry.
    std::string audit;
    // Parts of labels of steps that it must pass, and be killed at.
    std::vector<std::string> steps;
    std::function<void()> prepare;
    Call call;
    // What it led to, once it was asked for again.
    std::function<void()> expect;
    // What comes after it, to the end of a round.
    std::function<void()> finish;
    bool changes = true;   // more than the audit log
    bool repeats = false;  // asked for again it is done again
  };

  void SetUp() override;
  // The coordinator dies at each step of it.
  void WalkThrough(const Act& act);
  // The next round is promoted, with the bits of the undisturbed average.
  void NextRound();
  // Starts a round that stays open: bank-a has contributed, bank-b waits.
  void OpenRound() { StartRoundUpToBankB(0); }
  // It ends now.
  void Finish(const std::string& phase, Folded folded = Folded::kBoth);

  template <class Method, class Request, class Response>
  absl::Status Ask(Method method, const Request& request, Response* response) {
    grpc::ClientContext context;
    return FromGrpc(
        (federation_->admin().*method)(&context, request, response));
  }
  v1::ContributionInfo ContributionOf(const std::string& institution);
  v1::VersionInfo Version(uint64_t number);
  v1::VersionInfo CurrentVersion();
  // Of the round's contribution of an institution.
  absl::Status Quarantine(const std::string& id);
  absl::Status Release(const std::string& id);
  absl::Status SetState(const std::string& institution,
                        v1::SetInstitutionStateRequest::Change change);
  // The file with this value in every element.
  absl::Status Import(float value);

  // Of versions that were promoted.
  std::map<uint64_t, float> values_;

 private:
  bool Perform(const Act& act, int64_t step);
  // Whatever an operator's act can change, in words.
  std::string Picture();
  uint64_t LastAudit();
  int AuditedSince(uint64_t sequence, const std::string& action);
  void ExpectWholeStore();

  std::vector<std::string> steps_;  // of the act, until it was answered
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_OPERATOR_KILL_H_

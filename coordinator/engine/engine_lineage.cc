// Which version is served, and what becomes of rounds on versions that no
// longer lead to it.

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/lineage.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

// The version and all that it was made from.
absl::StatusOr<std::set<int64_t>> LineOf(ReadTx& tx, int64_t number) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<int64_t> above,
                             VersionAncestors(tx, number));
  std::set<int64_t> line(above.begin(), above.end());
  line.insert(number);
  return line;
}

// The version for whose sake a round must end, since it leads nowhere. A round
// whose candidate is served already needs that one in the line; any other one
// makes the next version of the one that is served.
std::optional<int64_t> Abandoned(const RoundState& state,
                                 const std::set<int64_t>& line,
                                 std::optional<int64_t> served) {
  if (IsTerminal(state.phase)) return std::nullopt;
  if (state.promoted_early) {
    if (line.contains(*state.candidate)) return std::nullopt;
    return state.candidate;
  }
  if (state.base_version == served) return std::nullopt;
  return state.base_version;
}

absl::Status RollBackIfPromoted(WriteTx& tx, int64_t number,
                                const std::string& reason, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const VersionRow row, GetVersion(tx, number));
  if (row.state != VersionState::kPromoted) return absl::OkStatus();
  return SetVersionState(tx, number, VersionState::kRolledBack, reason, now);
}

}  // namespace

absl::Status RollBackCandidate(WriteTx& tx, int64_t candidate, int64_t base,
                               const std::string& reason, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation, GetFederation(tx));
  CONSILIUM_ASSIGN_OR_RETURN(std::vector<int64_t> fallen,
                             VersionDescendants(tx, candidate));
  fallen.push_back(candidate);
  for (const int64_t number : fallen) {
    CONSILIUM_RETURN_IF_ERROR(RollBackIfPromoted(tx, number, reason, now));
  }
  // An operator may have gone to another line meanwhile.
  const bool served = federation.current_version.has_value() &&
                      std::find(fallen.begin(), fallen.end(),
                                *federation.current_version) != fallen.end();
  return served ? SetCurrentVersion(tx, base) : absl::OkStatus();
}

absl::Status Engine::PromoteVersion(const std::string& actor, int64_t number,
                                    const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  for (const auto& [id, live] : rounds_) {
    if (live->candidate.has_value() && live->candidate->number == number &&
        live->state.phase == RoundPhase::kEvaluating) {
      return absl::FailedPreconditionError(
          Cat("version ", number, " is being evaluated in round ", id,
              "; `consilium round close-now ", id, "` ends that"));
    }
  }
  return Serve(
      number,
      Cat("version ", number, " was promoted in its place",
          reason.empty() ? "" : ": ", reason),
      [&](WriteTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(
            SetVersionState(tx, number, VersionState::kPromoted, reason, now));
        return AppendAudit(tx, NewAudit(now, actor, "version.promote",
                                        Cat("version ", number), reason))
            .status();
      });
}

absl::Status Engine::RollbackVersion(const std::string& actor, int64_t number,
                                     const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  if (current_.has_value() && current_->number == number) {
    return absl::FailedPreconditionError(
        Cat("version ", number, " is the current one"));
  }
  const std::string why = Cat("rolled back to version ", number,
                              reason.empty() ? "" : ": ", reason);
  return Serve(number, why, [&](WriteTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation,
                               GetFederation(tx));
    // All that was made from it, and the line served until now.
    CONSILIUM_ASSIGN_OR_RETURN(std::vector<int64_t> fallen,
                               VersionDescendants(tx, number));
    CONSILIUM_ASSIGN_OR_RETURN(const std::set<int64_t> kept,
                               LineOf(tx, number));
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::set<int64_t> served,
        LineOf(tx, federation.current_version.value_or(number)));
    std::set_difference(served.begin(), served.end(), kept.begin(), kept.end(),
                        std::back_inserter(fallen));
    for (const int64_t version : fallen) {
      CONSILIUM_RETURN_IF_ERROR(RollBackIfPromoted(tx, version, why, now));
    }
    return AppendAudit(tx, NewAudit(now, actor, "version.rollback",
                                    Cat("version ", number), reason))
        .status();
  });
}

absl::Status Engine::Serve(int64_t number, const std::string& why,
                           absl::FunctionRef<absl::Status(WriteTx&)> change) {
  const absl::Time now = deps_.clock->Now();
  std::vector<LiveRound*> rounds;
  for (const auto& [id, live] : rounds_) rounds.push_back(live.get());
  std::vector<Stepped> steps;
  std::optional<VersionRow> served;
  // One transaction: no round goes on, and serves what it makes, on a version
  // that leads nowhere.
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_RETURN_IF_ERROR(change(tx));
        CONSILIUM_RETURN_IF_ERROR(SetCurrentVersion(tx, number));
        CONSILIUM_ASSIGN_OR_RETURN(served, GetVersion(tx, number));
        CONSILIUM_ASSIGN_OR_RETURN(const std::set<int64_t> line,
                                   LineOf(tx, number));
        steps.clear();
        for (LiveRound* const live : rounds) {
          const std::optional<int64_t> version =
              Abandoned(live->state, line, number);
          if (!version.has_value()) continue;
          CONSILIUM_ASSIGN_OR_RETURN(
              Transition t,
              StoreStep(tx, live->state, BaseAbandoned{*version, why}, now,
                        [](WriteTx&, const Transition&) {
                          return absl::OkStatus();
                        }));
          steps.push_back({live, std::move(t)});
        }
        return absl::OkStatus();
      }));
  current_ = std::move(served);
  CarryOut(steps);
  AfterChange(0);
  return absl::OkStatus();
}

absl::Status Engine::LoadCurrent(ReadTx& tx) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<FederationRow> federation,
                             FindFederation(tx));
  if (!federation.has_value()) {
    return absl::FailedPreconditionError(
        "the store has no federation; run `consilium init`");
  }
  if (federation->name != options_.federation) {
    return absl::FailedPreconditionError(
        Cat("the store is that of federation ", Quoted(federation->name),
            ", the configuration says federation.name = ",
            Quoted(options_.federation)));
  }
  if (!federation->current_version.has_value()) return absl::OkStatus();
  CONSILIUM_ASSIGN_OR_RETURN(VersionRow current,
                             GetVersion(tx, *federation->current_version));
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> blob,
      deps_.store->blobs().Open(federation->layout_digest,
                                federation->layout_bytes));
  if (federation->layout_bytes > options_.layout.max_text_bytes) {
    return absl::ResourceExhaustedError(Cat("the layout has ",
                                            federation->layout_bytes,
                                            " bytes, the limit "
                                            "is ",
                                            options_.layout.max_text_bytes));
  }
  auto loaded = std::make_shared<FederationLayout>();
  loaded->text.resize(static_cast<size_t>(federation->layout_bytes));
  CONSILIUM_RETURN_IF_ERROR(
      ReadExactlyAt(blob.get(), 0,
                    std::as_writable_bytes(
                        std::span(loaded->text.data(), loaded->text.size()))));
  loaded->id = Sha256(loaded->text);
  if (loaded->id != federation->layout_digest) {
    return absl::DataLossError(Cat("layout blob ",
                                   federation->layout_digest.Hex(),
                                   " is damaged; restore it from a backup"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(loaded->layout,
                             Layout::Parse(loaded->text, options_.layout));
  layout_.store(std::move(loaded));
  MutexLock lock(&mu_);
  current_ = std::move(current);
  return absl::OkStatus();
}

void Engine::ServeStoredVersion(const std::string& why) {
  std::set<int64_t> line;
  std::optional<VersionRow> served;
  const absl::Status read =
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation,
                                   GetFederation(tx));
        if (!federation.current_version.has_value()) return absl::OkStatus();
        CONSILIUM_ASSIGN_OR_RETURN(
            served, FindVersion(tx, *federation.current_version));
        CONSILIUM_ASSIGN_OR_RETURN(line,
                                   LineOf(tx, *federation.current_version));
        return absl::OkStatus();
      });
  if (!read.ok()) {
    Log("error", 0, "", Cat("current version: ", StdView(read.message())));
    unserved_ = {why, deps_.clock->Now() + options_.failure_pause};
    Kick();
    return;
  }
  unserved_.reset();
  current_ = std::move(served);
  std::optional<int64_t> number;
  if (current_.has_value()) number = current_->number;
  for (const auto& [id, live] : rounds_) {
    const std::optional<int64_t> version = Abandoned(live->state, line, number);
    if (!version.has_value()) continue;
    const RoundEvent event = BaseAbandoned{*version, why};
    const absl::Status ended = Step(*live, event).status();
    if (!ended.ok()) Owe(*live, event, ended);
  }
}

}  // namespace consilium

// Replay, contributions and versions: what happens to what was handed in.

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/group_report.h"
#include "coordinator/engine/spool_source.h"
#include "coordinator/round/round_json.h"
#include "coordinator/store/tables.h"

namespace consilium {
namespace {

absl::StatusOr<ContributionRow> GetContribution(ReadTx& tx,
                                                const std::string& id) {
  CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindContribution(tx, id));
  if (!row.has_value()) {
    return absl::NotFoundError(Cat("there is no contribution ", Quoted(id),
                                   "; see `consilium contribution list`"));
  }
  return *row;
}

// One NaN in a base would be in every version after it.
absl::Status CheckFinite(File* file, const Layout& layout,
                         int64_t data_offset) {
  constexpr int64_t kBlock = int64_t{1} << 18;
  std::vector<float> block;
  for (const TensorSlot& slot : layout.slots()) {
    for (int64_t first = 0; first < slot.elements; first += kBlock) {
      block.resize(
          static_cast<size_t>(std::min(kBlock, slot.elements - first)));
      const int64_t element = slot.first_element + first;
      CONSILIUM_RETURN_IF_ERROR(ReadExactlyAt(
          file, data_offset + element * static_cast<int64_t>(sizeof(float)),
          std::as_writable_bytes(std::span<float>(block))));
      const auto bad = std::find_if(block.begin(), block.end(),
                                    [](float x) { return !std::isfinite(x); });
      if (bad == block.end()) continue;
      return absl::InvalidArgumentError(
          Cat("tensor ", Quoted(slot.name, 512), ": element ",
              first + (bad - block.begin()), " is ", *bad,
              "; every parameter must be finite"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReplayView> Engine::ReplayRound(
    const std::string& actor, int64_t round,
    const std::vector<std::string>& exclude, const std::string& reason) {
  RoundRow row;
  VersionRow base;
  std::optional<VersionRow> recorded;
  FoldJobInput input;
  const std::set<std::string> excluded(exclude.begin(), exclude.end());
  std::set<std::string> seen;
  std::set<std::string> left_out(excluded);
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, GetRound(tx, round));
        CONSILIUM_ASSIGN_OR_RETURN(base, GetVersion(tx, row.base_version));
        if (row.candidate_version.has_value()) {
          CONSILIUM_ASSIGN_OR_RETURN(const VersionRow version,
                                     GetVersion(tx, *row.candidate_version));
          recorded = version;
        }
        if (!recorded.has_value()) return absl::OkStatus();
        CONSILIUM_ASSIGN_OR_RETURN(const auto rows,
                                   VersionContributions(tx, recorded->number));
        for (const ContributionRow& c : rows) {
          CONSILIUM_ASSIGN_OR_RETURN(const InstitutionRow institution,
                                     GetInstitution(tx, c.institution_id));
          seen.insert(institution.name);
          // A new candidate holds nothing that was quarantined since; a replay
          // for comparison holds what the version holds.
          if (!excluded.empty() && c.state == ContributionState::kQuarantined) {
            left_out.insert(institution.name);
          }
          if (left_out.contains(institution.name)) continue;
          input.members.push_back({institution.name, c.id, c.spool_path});
        }
        return absl::OkStatus();
      }));
  if (!recorded.has_value()) {
    return absl::FailedPreconditionError(
        Cat("round ", round, " is ", row.state, " and made no version"));
  }
  for (const std::string& name : excluded) {
    if (!seen.contains(name)) {
      return absl::InvalidArgumentError(Cat(
          Quoted(name), " has no contribution in version ", recorded->number));
    }
  }
  if (input.members.empty()) {
    return absl::FailedPreconditionError("no contribution is left to fold");
  }
  if (row.round_key_state == RoundKeyState::kDestroyed) {
    return absl::FailedPreconditionError(
        Cat("round ", round,
            " cannot be replayed: its key was destroyed when "
            "storage.spool_retention ended"));
  }
  std::sort(input.members.begin(), input.members.end(),
            [](const auto& a, const auto& b) {
              return a.institution < b.institution;
            });
  CONSILIUM_ASSIGN_OR_RETURN(RoundState state,
                             RoundStateFromJson(row.state_json));
  std::optional<X25519PrivateKey> key;
  if (row.round_key_state == RoundKeyState::kLive) {
    CONSILIUM_ASSIGN_OR_RETURN(key, LoadRoundKey(round, row.attempt));
  }
  CONSILIUM_ASSIGN_OR_RETURN(input.context,
                             MakeContext(state, base, std::move(key)));
  input.base = base;
  input.min_contributors = state.config.minimum_group_contributors;
  input.threads = options_.fold_threads;
  input.cancel = stop_token();
  input.clock = deps_.clock;
  for (const FoldJobInput::Member& member : input.members) {
    if (member.spool_path.empty()) {
      return absl::FailedPreconditionError(
          Cat("the spool of ", member.institution,
              " was deleted when "
              "storage.spool_retention ended"));
    }
  }
  FoldJobFailure failure;
  const absl::Duration started = deps_.clock->Monotonic();
  CONSILIUM_ASSIGN_OR_RETURN(
      const FoldJobResult result,
      RunFoldJob(input, *deps_.store, !excluded.empty(), &failure));
  ReplayView view;
  view.recorded = recorded->digest;
  view.replayed = result.digest;
  view.took = deps_.clock->Monotonic() - started;
  for (const FoldJobInput::Member& member : input.members) {
    view.contributions.push_back(member.institution);
  }
  const absl::Time now = deps_.clock->Now();
  std::string detail = Cat("replayed digest ", result.digest.Hex());
  for (const std::string& name : left_out) CatInto(detail, ", without ", name);
  if (!reason.empty()) CatInto(detail, ": ", reason);
  const absl::Status written =
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        if (!excluded.empty()) {
          VersionRow version;
          version.digest = result.digest;
          version.blob_bytes = result.bytes;
          version.parent = base.number;
          version.round = round;
          version.attempt = row.attempt;
          version.state = VersionState::kCandidate;
          CONSILIUM_ASSIGN_OR_RETURN(const VersionRow parent,
                                     GetVersion(tx, base.number));
          version.tainted = parent.tainted;
          version.reason = detail;
          version.report_json = GroupReportToJson(result.groups);
          version.created_at = now;
          CONSILIUM_ASSIGN_OR_RETURN(
              InsertedVersion inserted,
              InsertVersion(tx, version,
                            [this](const VersionRow& complete)
                                -> absl::StatusOr<std::string> {
                              std::string signature;
                              CONSILIUM_RETURN_IF_ERROR(
                                  SignVersion(complete, &signature));
                              return signature;
                            }));
          if (inserted.row.pruned_at.has_value() &&
              inserted.row.state == VersionState::kCandidate) {
            // Its blob has just come back.
            CONSILIUM_RETURN_IF_ERROR(
                UnmarkVersionPruned(tx, inserted.row.number));
            inserted.row.pruned_at.reset();
          }
          if (inserted.row.pruned_at.has_value()) {
            return absl::FailedPreconditionError(
                Cat("the replay gives version ", inserted.row.number,
                    " again, which is ", ToString(inserted.row.state),
                    " and was deleted by storage.version_retention on ",
                    FormatTime(*inserted.row.pruned_at)));
          }
          view.candidate = std::move(inserted.row);
          for (const FoldJobInput::Member& member : input.members) {
            CONSILIUM_ASSIGN_OR_RETURN(
                const ContributionRow row_now,
                GetContribution(tx, member.contribution_id));
            if (row_now.state == ContributionState::kQuarantined) {
              return absl::AbortedError(
                  Cat("the contribution of ", member.institution,
                      " was quarantined while the replay ran; replay again, "
                      "which leaves it out"));
            }
            CONSILIUM_RETURN_IF_ERROR(AddVersionContribution(
                tx, view.candidate->number, member.contribution_id));
          }
        }
        return AppendAudit(tx, NewAudit(now, actor, "round.replay",
                                        Cat("round ", round), detail))
            .status();
      });
  if (!excluded.empty()) deps_.store->blobs().Release(result.digest);
  CONSILIUM_RETURN_IF_ERROR(written);
  return view;
}

absl::Status Engine::QuarantineContribution(const std::string& actor,
                                            const std::string& id,
                                            const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  ContributionRow row;
  InstitutionRow institution;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, GetContribution(tx, id));
        CONSILIUM_ASSIGN_OR_RETURN(institution,
                                   GetInstitution(tx, row.institution_id));
        return absl::OkStatus();
      }));
  if (row.state == ContributionState::kQuarantined) return absl::OkStatus();
  if (row.state != ContributionState::kCommitted &&
      row.state != ContributionState::kFolded &&
      row.state != ContributionState::kUploading) {
    return absl::FailedPreconditionError(Cat("contribution ", id, " is ",
                                             ToString(row.state),
                                             " and counts for nothing"));
  }
  const std::string why =
      reason.empty() ? "quarantined by the operator" : reason;
  const auto mark = [&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(
        SetContributionState(tx, row.id, ContributionState::kQuarantined, why));
    CONSILIUM_RETURN_IF_ERROR(TaintVersionsWith(
        tx, row.id, Cat("contribution of ", institution.name, ": ", why)));
    return AppendAudit(
               tx, NewAudit(now, actor, "contribution.quarantine", row.id, why))
        .status();
  };
  LiveRound* const live = FindLive(row.round);
  if (live != nullptr) {
    CONSILIUM_RETURN_IF_ERROR(
        Step(
            *live,
            [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
              CONSILIUM_RETURN_IF_ERROR(mark(tx));
              return RoundEvent(ContributionQuarantined{institution.name, why});
            },
            [](WriteTx&, const Transition&) { return absl::OkStatus(); })
            .status());
    hub_.CloseUploads(row.round, {institution.name},
                      Refused{RefusalCode::kQuarantined, why});
    return absl::OkStatus();
  }
  CONSILIUM_RETURN_IF_ERROR(deps_.store->history().Write(mark));
  AfterChange(row.round);
  return absl::OkStatus();
}

absl::Status Engine::ReleaseContribution(const std::string& actor,
                                         const std::string& id,
                                         const std::string& reason) {
  const absl::Time now = deps_.clock->Now();
  MutexLock lock(&mu_);
  ContributionRow row;
  InstitutionRow institution;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, GetContribution(tx, id));
        CONSILIUM_ASSIGN_OR_RETURN(institution,
                                   GetInstitution(tx, row.institution_id));
        return absl::OkStatus();
      }));
  if (row.state != ContributionState::kQuarantined || row.receipt.empty()) {
    return absl::FailedPreconditionError(
        Cat("contribution ", id, " is ", ToString(row.state),
            row.receipt.empty() ? " and was never complete" : "",
            "; only a complete, quarantined one can be released"));
  }
  if (institution.state == InstitutionState::kRevoked) {
    return absl::FailedPreconditionError(
        Cat(institution.name, " was revoked, which is final: contribution ", id,
            " stays in quarantine (", row.reason, ")"));
  }
  const auto release = [&](WriteTx& tx, ContributionState to) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(SetContributionState(tx, row.id, to, ""));
    return AppendAudit(
               tx, NewAudit(now, actor, "contribution.release", row.id, reason))
        .status();
  };
  LiveRound* const live = FindLive(row.round);
  if (live != nullptr && !IsTerminal(live->state.phase)) {
    return Step(
               *live,
               [&](WriteTx& tx) -> absl::StatusOr<RoundEvent> {
                 CONSILIUM_RETURN_IF_ERROR(
                     release(tx, ContributionState::kCommitted));
                 return RoundEvent(ContributionReleased{institution.name});
               },
               [](WriteTx&, const Transition&) { return absl::OkStatus(); })
        .status();
  }
  // After the fact: versions that hold it are as good as they were before.
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const std::vector<int64_t> versions,
                                   VersionsWith(tx, row.id));
        if (versions.empty()) {
          return absl::FailedPreconditionError(
              Cat("round ", row.round, " is over, and no version holds ", id,
                  ": it was quarantined before the fold"));
        }
        CONSILIUM_RETURN_IF_ERROR(release(tx, ContributionState::kFolded));
        return ClearTaintWith(
            tx, row.id,
            Cat("contribution of ", institution.name, ": ", row.reason));
      }));
  AfterChange(row.round);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Engine::VerifyContribution(
    const std::string& id, int64_t* chunks) {
  ContributionRow row;
  RoundRow round;
  VersionRow base;
  InstitutionRow institution;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(row, GetContribution(tx, id));
        CONSILIUM_ASSIGN_OR_RETURN(round, GetRound(tx, row.round));
        CONSILIUM_ASSIGN_OR_RETURN(base, GetVersion(tx, round.base_version));
        CONSILIUM_ASSIGN_OR_RETURN(institution,
                                   GetInstitution(tx, row.institution_id));
        return absl::OkStatus();
      }));
  if (row.spool_path.empty()) {
    return absl::FailedPreconditionError(
        Cat("the spool of contribution ", id,
            " was deleted when "
            "storage.spool_retention ended; its receipt remains"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(RoundState state,
                             RoundStateFromJson(round.state_json));
  std::optional<X25519PrivateKey> key;
  if (row.sealed) {
    CONSILIUM_ASSIGN_OR_RETURN(key, LoadRoundKey(row.round, row.attempt));
  }
  CONSILIUM_ASSIGN_OR_RETURN(auto context,
                             MakeContext(state, base, std::move(key)));
  std::vector<std::string> findings;
  const auto source = SpoolSource::Create(
      context, institution.name, deps_.store->spools(), row.spool_path);
  if (!source.ok()) {
    findings.push_back(std::string(source.status().message()));
    return findings;
  }
  *chunks = (*source)->manifest().chunk_count;
  const auto stats = (*source)->Verify(stop_token());
  if (absl::IsCancelled(stats.status())) return stats.status();
  if (!stats.ok()) findings.push_back(std::string(stats.status().message()));
  if ((*source)->manifest().Encode() != row.manifest) {
    findings.push_back("the spool's manifest is not the one in the history");
  }
  if (!row.receipt.empty()) {
    CONSILIUM_ASSIGN_OR_RETURN(const SignedReceipt receipt,
                               SignedReceipt::Decode(row.receipt));
    const absl::Status verified = VerifyStatement(
        deps_.signing_key->verify_key(), receipt.statement, receipt.signature);
    if (!verified.ok()) findings.push_back(std::string(verified.message()));
    if (receipt.statement.payload_digest != row.payload_digest) {
      findings.push_back("the receipt names another payload");
    }
  }
  return findings;
}

absl::Status Engine::CheckImport(const FederationLayout& layout) {
  const std::shared_ptr<const FederationLayout> ours = layout_.load();
  if (ours != nullptr && ours->id != layout.id) {
    return absl::FailedPreconditionError(
        Cat("the file has layout ", layout.id.Hex(), ", this federation's is ",
            ours->id.Hex()));
  }
  for (const auto& [id, live] : rounds_) {
    if (!IsTerminal(live->state.phase)) {
      return absl::FailedPreconditionError(
          Cat("round ", id, " is under way; import after its end"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<VersionRow> Engine::ImportVersion(
    const std::string& actor, const std::string& layout_text, BlobWriter blob,
    const Sha256Digest& digest, int64_t bytes, const std::string& reason) {
  auto parsed = std::make_shared<FederationLayout>();
  CONSILIUM_ASSIGN_OR_RETURN(parsed->layout,
                             Layout::Parse(layout_text, options_.layout));
  parsed->text = layout_text;
  parsed->id = Sha256(layout_text);
  CONSILIUM_ASSIGN_OR_RETURN(
      const VersionFileInfo info,
      ReadVersionFile(blob.file(), parsed->layout, parsed->id));
  CONSILIUM_RETURN_IF_ERROR(
      CheckFinite(blob.file(), parsed->layout, info.data_offset));

  {
    MutexLock lock(&mu_);
    CONSILIUM_RETURN_IF_ERROR(CheckImport(*parsed));
  }
  // Syncing gigabytes takes a while: institutions go on meanwhile.
  CONSILIUM_RETURN_IF_ERROR(std::move(blob).Publish(digest, bytes));
  const absl::StatusOr<Sha256Digest> layout_blob =
      deps_.store->blobs().Put(AsBytes(layout_text));
  absl::StatusOr<VersionRow> row = VersionRow();
  if (!layout_blob.ok()) {
    row = layout_blob.status();
  } else {
    row = AddImported(actor, parsed, digest, bytes, reason);
    deps_.store->blobs().Release(*layout_blob);
  }
  deps_.store->blobs().Release(digest);
  // No row names what was published.
  if (!row.ok()) deps_.store->CollectGarbage().status().IgnoreError();
  return row;
}

absl::StatusOr<VersionRow> Engine::AddImported(
    const std::string& actor,
    const std::shared_ptr<const FederationLayout>& layout,
    const Sha256Digest& digest, int64_t bytes, const std::string& reason) {
  MutexLock lock(&mu_);
  CONSILIUM_RETURN_IF_ERROR(CheckImport(*layout));
  // Asked for again by somebody whose answer was lost: it is there.
  if (current_.has_value() && !current_->round.has_value() &&
      current_->digest == digest) {
    return *current_;
  }
  const std::shared_ptr<const FederationLayout> before = layout_.load();
  layout_.store(layout);
  const absl::Time now = deps_.clock->Now();
  VersionRow row;
  const absl::Status written =
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(FederationRow federation, GetFederation(tx));
        row = VersionRow();
        row.digest = digest;
        row.blob_bytes = bytes;
        row.parent = federation.current_version;
        row.state = VersionState::kCandidate;
        row.reason = reason;
        row.created_at = now;
        CONSILIUM_ASSIGN_OR_RETURN(
            InsertedVersion inserted,
            InsertVersion(
                tx, row,
                [this](
                    const VersionRow& complete) -> absl::StatusOr<std::string> {
                  std::string signature;
                  CONSILIUM_RETURN_IF_ERROR(SignVersion(complete, &signature));
                  return signature;
                }));
        const int64_t number = inserted.row.number;
        CONSILIUM_RETURN_IF_ERROR(
            SetVersionState(tx, number, VersionState::kPromoted, reason, now));
        federation.layout_digest = layout->id;
        federation.layout_bytes = static_cast<int64_t>(layout->text.size());
        CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, federation));
        CONSILIUM_RETURN_IF_ERROR(SetCurrentVersion(tx, number));
        CONSILIUM_ASSIGN_OR_RETURN(row, GetVersion(tx, number));
        return AppendAudit(tx,
                           NewAudit(now, actor, "version.import",
                                    Cat("version ", number),
                                    Cat("digest ", digest.Hex(),
                                        reason.empty() ? "" : ": ", reason)))
            .status();
      });
  if (!written.ok()) {
    layout_.store(before);
    return written;
  }
  current_ = row;
  AfterChange(0);
  return row;
}

}  // namespace consilium

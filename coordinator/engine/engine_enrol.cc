// Certificates: who gets one, and who gets the next one.

#include <string>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/token.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/tables.h"

namespace consilium {

absl::Duration Engine::LifetimeOf(PeerRole role) const {
  return role == PeerRole::kInstitution ? options_.institution_lifetime
                                        : options_.operator_lifetime;
}

namespace {

// Of nobody's row yet: `institution_id` is for the caller.
CertificateRow CertificateRowOf(const CertificateInfo& info, PeerRole role,
                                absl::Time issued_at) {
  CertificateRow row;
  row.serial = info.serial;
  row.subject_uri = info.subject_uri;
  row.role = std::string(PeerRoleName(role));
  row.fingerprint = info.fingerprint.Hex();
  row.not_before = info.not_before;
  row.not_after = info.not_after;
  row.issued_at = issued_at;
  return row;
}

}  // namespace

absl::StatusOr<EnrollResult> Engine::Enroll(std::string_view token_text,
                                            std::string_view csr_pem) {
  // One answer for every way a token can be bad.
  const absl::Status bad = absl::UnauthenticatedError(
      "the enrolment token is wrong, used or expired; ask the operator for a "
      "new one (`consilium institution invite`)");
  const auto token = EnrollmentToken::Parse(token_text);
  if (!token.ok()) return bad;
  CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest key,
                             CertificateRequestKey(csr_pem));
  const std::string token_hash = token->Hash().Hex();
  const absl::Time now = deps_.clock->Now();
  const absl::Time issued_at = WallNow();
  EnrollResult result;
  InstitutionRow institution;
  std::string action = "institution.enrol";
  bool again = false;
  const auto issue = [&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(ConsumeToken(tx, token_hash, now).status());
    CONSILIUM_ASSIGN_OR_RETURN(
        result.chain_pem, deps_.ca->Get()->IssuePeer(
                              csr_pem, result.peer, issued_at,
                              LifetimeOf(result.peer.role), *deps_.random));
    CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                               ParseCertificate(result.chain_pem));
    result.not_after = info.not_after;
    CertificateRow certificate =
        CertificateRowOf(info, result.peer.role, issued_at);
    certificate.institution_id = institution.id;
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, certificate));
    CONSILIUM_RETURN_IF_ERROR(
        SetTokenIssued(tx, token_hash, key.Hex(), result.chain_pem));
    if (institution.state == InstitutionState::kInvited) {
      institution.state = InstitutionState::kActive;
      CONSILIUM_RETURN_IF_ERROR(
          SetInstitutionState(tx, institution.id, institution.state, now));
    }
    return AppendAudit(tx,
                       NewAudit(now, "coordinator", action, institution.name,
                                Cat("certificate ", info.serial)))
        .status();
  };
  // The answer was lost, or its receiver has crashed.
  const auto repeat = [&](WriteTx& tx, const TokenRow& row) -> absl::Status {
    if (row.key_hash != key.Hex() || row.chain_pem.empty()) return bad;
    CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                               ParseCertificate(row.chain_pem));
    CONSILIUM_ASSIGN_OR_RETURN(const auto certificate,
                               FindCertificate(tx, info.serial));
    if (!certificate.has_value() || certificate->revoked_at.has_value()) {
      return bad;
    }
    result.chain_pem = row.chain_pem;
    result.not_after = info.not_after;
    again = true;
    return AppendAudit(
               tx, NewAudit(now, "coordinator", action, institution.name,
                            Cat("certificate ", info.serial,
                                ", sent again to the key it was issued for")))
        .status();
  };
  MutexLock lock(&mu_);  // so that no other state comes in between
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindToken(tx, token_hash));
        if (!row.has_value() || now >= row->expires_at) return bad;
        CONSILIUM_ASSIGN_OR_RETURN(institution,
                                   GetInstitution(tx, row->institution_id));
        if (institution.state == InstitutionState::kRevoked) return bad;
        CONSILIUM_ASSIGN_OR_RETURN(const PeerRole role,
                                   ParsePeerRole(row->role));
        result.peer = {options_.federation, role, institution.name};
        if (role != PeerRole::kInstitution) action = "operator.enrol";
        return row->used_at.has_value() ? repeat(tx, *row) : issue(tx);
      }));
  Log("info", 0, institution.name,
      again ? "enrolled, told once more" : "enrolled");
  if (again) return result;
  peers_.Put(institution);
  deps_.listener->OnCertificateExpiry(CertificateKind::kMember,
                                      institution.name, result.not_after);
  Kick();  // a continuous schedule may have waited for this one
  return result;
}

absl::StatusOr<EnrollResult> Engine::Renew(const PeerName& peer,
                                           std::string_view csr_pem) {
  const absl::Time now = deps_.clock->Now();
  const absl::Time issued_at = WallNow();
  EnrollResult result;
  result.peer = peer;
  CONSILIUM_ASSIGN_OR_RETURN(
      result.chain_pem,
      deps_.ca->Get()->IssuePeer(csr_pem, peer, issued_at,
                                 LifetimeOf(peer.role), *deps_.random));
  CONSILIUM_ASSIGN_OR_RETURN(const CertificateInfo info,
                             ParseCertificate(result.chain_pem));
  result.not_after = info.not_after;
  CONSILIUM_RETURN_IF_ERROR(
      deps_.store->history().Write([&](WriteTx& tx) -> absl::Status {
        CertificateRow row = CertificateRowOf(info, peer.role, issued_at);
        CONSILIUM_ASSIGN_OR_RETURN(const auto known,
                                   FindInstitution(tx, peer.name));
        if (known.has_value() && known->role == PeerRoleName(peer.role)) {
          // It may have been revoked after this call was admitted.
          if (known->state == InstitutionState::kRevoked) {
            return absl::UnauthenticatedError(
                Cat(peer.Uri(), " is revoked, which is final"));
          }
          row.institution_id = known->id;
        }
        CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, row));
        return AppendAudit(
                   tx, NewAudit(now, peer.Uri(), "certificate.renew", peer.name,
                                Cat("certificate ", info.serial)))
            .status();
      }));
  deps_.listener->OnCertificateExpiry(CertificateKind::kMember, peer.name,
                                      result.not_after);
  return result;
}

}  // namespace consilium

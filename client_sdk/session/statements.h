#ifndef CONSILIUM_CLIENT_SDK_SESSION_STATEMENTS_H_
#define CONSILIUM_CLIENT_SDK_SESSION_STATEMENTS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client_sdk/session/transport.h"
#include "consilium/client/types.h"
#include "consilium/secure/ed25519.h"

// What the coordinator signs, checked against the key pinned at enrolment and
// against what this institution asked for. All errors are UNAUTHENTICATED.
namespace consilium::client::internal {

// Who this is and whom it trusts.
struct Trust {
  VerifyKey signing_key;
  std::string federation;
  std::string institution;
};

absl::StatusOr<TrainTask> VerifiedTask(const Trust& trust, TrainOffer offer);

// `layout_digest` is that of the federation.
absl::StatusOr<EvaluateTask> VerifiedTask(const Trust& trust,
                                          const Sha256Digest& layout_digest,
                                          EvaluateOffer offer);

absl::StatusOr<Receipt> VerifiedReceipt(const Trust& trust,
                                        const RoundRef& round,
                                        const SignedReceipt& receipt);
// Also that a receipt for the upload of `manifest` is for its bytes. One for
// an earlier upload of the same round is taken as it is.
absl::StatusOr<Receipt> VerifiedReceipt(const Trust& trust,
                                        const Manifest& manifest,
                                        const SignedReceipt& receipt);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_STATEMENTS_H_

// What is fixed for one attempt of a round, shared by everything that serves
// it: admission, sealing, checks, fold.

#ifndef CONSILIUM_COORDINATOR_ENGINE_ROUND_CONTEXT_H_
#define CONSILIUM_COORDINATOR_ENGINE_ROUND_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "consilium/aggregation/contribution_check.h"
#include "consilium/aggregation/frame.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/weights.h"
#include "consilium/secure/seal.h"
#include "consilium/secure/signing.h"
#include "consilium/secure/x25519.h"

namespace consilium {

// What rounds accept, preferred first.
inline constexpr CodecId kRoundCodecs[] = {CodecId::kF32};

// The layout with its identity. Immutable, shared.
struct FederationLayout {
  Layout layout;
  Sha256Digest id;
  std::string text;  // canonical
};

// Immutable after creation.
struct RoundContext {
  RoundStatement statement;
  Signature signature;  // over `statement`
  std::shared_ptr<const FederationLayout> layout;
  std::optional<X25519PrivateKey> sealing_key;  // unset: sealing is off
  ContributionLimits limits;
  WeightPolicy weights;

  int64_t round() const { return static_cast<int64_t>(statement.round); }
  int64_t attempt() const { return static_cast<int64_t>(statement.attempt); }
  bool sealed() const { return sealing_key.has_value(); }

  SealContext SealContextFor(const std::string& institution,
                             std::span<const std::byte> upload_id) const {
    return SealContext{
        statement.federation, statement.round, statement.attempt, institution,
        std::string(reinterpret_cast<const char*>(upload_id.data()),
                    upload_id.size())};
  }
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_ENGINE_ROUND_CONTEXT_H_

// Messages to the product's own types and back. FromProto checks what a peer
// sent (lengths, ranges, finite numbers) before anything is made of it; ToProto
// cannot fail. Pure; thread-safe.
//
// Errors of every FromProto: INVALID_ARGUMENT naming the field and its value.

#ifndef CONSILIUM_PROTO_WIRE_CONVERT_H_
#define CONSILIUM_PROTO_WIRE_CONVERT_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/secure/signing.h"
#include "consilium/v1/common.pb.h"
#include "consilium/v1/federation.pb.h"

namespace consilium {

// The protocol versions this build speaks.
inline constexpr uint32_t kProtocolMin = 1;
inline constexpr uint32_t kProtocolMax = 1;

v1::ProtocolRange OwnProtocolRange();
// The highest version both speak.
// Errors: FAILED_PRECONDITION naming both ranges and who should upgrade.
absl::StatusOr<uint32_t> NegotiateProtocol(const v1::ProtocolRange& peer);

int64_t MicrosOf(absl::Time time);  // infinite times become 0
absl::Time TimeOf(int64_t micros);

std::string BytesOf(const Sha256Digest& digest);
absl::StatusOr<Sha256Digest> DigestOf(std::string_view bytes,
                                      std::string_view field);

void ToProto(const SignedVersionRef& ref, v1::VersionRef* out);
absl::StatusOr<SignedVersionRef> FromProto(const v1::VersionRef& in);

void ToProto(const RoundStatement& statement, v1::RoundAnnouncement* out);
absl::StatusOr<RoundStatement> FromProto(const v1::RoundAnnouncement& in);

void ToProto(const ReceiptStatement& statement, const Signature& signature,
             v1::Receipt* out);
struct ReceiptAndSignature {
  ReceiptStatement statement;
  Signature signature;
};
absl::StatusOr<ReceiptAndSignature> FromProto(const v1::Receipt& in);

// At most `max_metrics`, names of 1 to 128 bytes, finite values, no repeats.
absl::StatusOr<std::map<std::string, double>> MetricsOf(
    const google::protobuf::RepeatedPtrField<v1::NamedValue>& in,
    int max_metrics);

}  // namespace consilium

#endif  // CONSILIUM_PROTO_WIRE_CONVERT_H_

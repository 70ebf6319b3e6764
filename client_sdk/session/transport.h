#ifndef CONSILIUM_CLIENT_SDK_SESSION_TRANSPORT_H_
#define CONSILIUM_CLIENT_SDK_SESSION_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client_sdk/session/terms.h"
#include "consilium/base/cancel.h"
#include "consilium/base/digest.h"
#include "consilium/client/types.h"
#include "consilium/secure/seal.h"

// What the session needs of a network, in plain structs: one function for each
// RPC of proto/consilium/v1/federation.proto. A transport converts and
// carries; it verifies no signature, keeps no state of a round and retries
// nothing.
namespace consilium::client::internal {

// `timeout` bounds the whole call; infinite for streams, whose progress the
// session watches.
struct CallContext {
  CancelToken cancel;
  absl::Duration timeout = absl::InfiniteDuration();
};

struct HelloCall {
  std::string software;
  std::vector<uint32_t> codecs;
};

struct Greeting {
  uint32_t protocol = 0;
  std::string federation;
  std::string institution;
  Sha256Digest layout_digest;
  uint64_t layout_bytes = 0;
  uint64_t max_update_bytes = 0;
  uint64_t max_chunk_bytes = 0;
  uint64_t upload_window_bytes = 0;
  absl::Duration long_poll;
  absl::Time certificate_not_after;
  absl::Time renew_after;
  std::vector<std::string> features;
};

struct SignedReceipt {
  ReceiptStatement statement;
  Signature signature;
};

struct TrainOffer {
  SignedTerms terms;
  std::map<std::string, std::string> parameters;
  absl::Duration progress_period;
};

struct EvaluateOffer {
  EvaluateTask task;
  Signature signature;
};

struct WorkReply {
  uint64_t revision = 0;
  std::variant<TrainOffer, EvaluateOffer, Idle> work;
};

// A round as messages name it.
struct RoundRef {
  uint64_t round = 0;
  uint32_t attempt = 0;
  friend auto operator<=>(const RoundRef&, const RoundRef&) = default;
};

struct ProgressReply {
  bool go_on = true;
  std::string reason;
};

inline constexpr size_t kUploadIdBytes = 16;

// As UploadManifest of federation.proto, for a plain update.
struct Manifest {
  RoundRef round;
  std::string upload_id;  // kUploadIdBytes raw bytes
  Sha256Digest layout_digest;
  Version base;
  std::string coverage;
  uint32_t codec = 0;
  uint64_t elements = 0;
  uint32_t elements_per_frame = 0;
  uint64_t payload_bytes = 0;
  uint64_t chunk_count = 0;
  Sha256Digest payload_digest;
  std::optional<WrappedKey> wrapped_key;  // unset: not sealed
};

struct UploadAccepted {
  std::string upload_id;
  uint64_t next_chunk = 0;
  uint64_t window_bytes = 0;
};
using BeginOutcome = std::variant<UploadAccepted, SignedReceipt, Refused>;
using CommitOutcome = std::variant<SignedReceipt, Refused>;

// Memory of one chunk, given back to its pool when the last copy goes. A
// transport keeps a copy for as long as it reads the bytes.
struct ChunkBytes {
  std::shared_ptr<std::byte> memory;
  size_t size = 0;
  std::span<const std::byte> bytes() const { return {memory.get(), size}; }
};

// Every chunk below `next_chunk` is durable, or the coordinator gave up.
using UploadReply = std::variant<uint64_t, Refused>;

// One upload stream. Write and Done from one thread, Read and then Finish from
// another, Cancel from any. Destroying an unfinished stream cancels it.
class UploadStream {
 public:
  virtual ~UploadStream() = default;
  // Blocks for flow control. False: the stream is broken.
  virtual bool Write(uint64_t index, ChunkBytes chunk) = 0;
  // No more chunks.
  virtual void Done() = 0;
  // Blocks. Unset: the stream has ended, Finish() says how.
  virtual absl::StatusOr<std::optional<UploadReply>> Read() = 0;
  // Once, after Read() returned unset or an error.
  virtual absl::Status Finish() = 0;
  virtual void Cancel() = 0;
};

struct DownloadCall {
  enum class What { kVersion, kLayout };
  What what = What::kVersion;
  Sha256Digest digest;
  uint64_t offset = 0;
};

// Receives bytes in order, without gaps from `offset` on; `total_bytes` is
// that of the whole object. An error ends the call with that error.
using DownloadSink = std::function<absl::Status(
    uint64_t total_bytes, uint64_t offset, std::span<const std::byte> bytes)>;

// Thread-safe. Every call blocks, for `context.timeout` at most, and returns
// CANCELLED soon after `context.cancel`. Errors: the RPC's; INTERNAL for an
// answer that is malformed.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual absl::StatusOr<Greeting> Hello(const HelloCall& call,
                                         const CallContext& context) = 0;
  // The new chain, leaf first.
  virtual absl::StatusOr<std::string> RenewCertificate(
      const std::string& csr_pem, const CallContext& context) = 0;
  virtual absl::StatusOr<WorkReply> WaitForWork(uint64_t known_revision,
                                                absl::Duration max_wait,
                                                const CallContext& context) = 0;
  virtual absl::StatusOr<ProgressReply> ReportProgress(
      const RoundRef& round, double fraction, std::string_view text,
      const CallContext& context) = 0;
  virtual absl::StatusOr<std::optional<Refused>> Decline(
      const RoundRef& round, std::string_view reason, bool evaluation,
      const CallContext& context) = 0;
  virtual absl::StatusOr<BeginOutcome> BeginUpload(
      const Manifest& manifest, const CallContext& context) = 0;
  virtual absl::StatusOr<CommitOutcome> CommitUpload(
      const std::string& upload_id, const Sha256Digest& payload_digest,
      const CallContext& context) = 0;
  virtual absl::StatusOr<std::optional<Refused>> ReportEvaluation(
      const EvaluateTask& task, uint64_t examples,
      const std::map<std::string, double>& metrics,
      const CallContext& context) = 0;

  virtual std::unique_ptr<UploadStream> OpenUpload(
      const std::string& upload_id) = 0;
  virtual absl::Status Download(const DownloadCall& call,
                                const DownloadSink& sink,
                                const CallContext& context) = 0;

  // Reads the identity files again; later calls use a new connection.
  virtual absl::Status Reconnect() = 0;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_TRANSPORT_H_

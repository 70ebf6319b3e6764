#ifndef CONSILIUM_CLIENT_SDK_SESSION_CHUNK_PUMP_H_
#define CONSILIUM_CLIENT_SDK_SESSION_CHUNK_PUMP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client_sdk/session/outbox.h"
#include "client_sdk/session/transport.h"
#include "consilium/base/cancel.h"
#include "consilium/client/types.h"

namespace consilium::client::internal {

// Buffers of one size that are used again and again. A buffer may outlive its
// pool: the last copy of its ChunkBytes frees it then. Thread-safe.
class ChunkPool {
 public:
  explicit ChunkPool(size_t buffer_bytes);
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  // Needs size <= buffer_bytes. The contents are whatever was there before.
  ChunkBytes Get(size_t size);
  size_t buffer_bytes() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

struct PumpOptions {
  uint64_t first_chunk = 0;
  uint64_t window_bytes = 0;  // sent and not acknowledged, at most
  absl::Duration stall_timeout = absl::Seconds(60);
  // Chunks durable at the coordinator; on the calling thread.
  std::function<void(uint64_t chunks)> on_ack;
};

struct AllDurable {};
using PumpOutcome = std::variant<AllDurable, Refused>;

// Sends the chunks of one upload over one stream, from options.first_chunk to
// the last. Three threads: this one reads from the disk into the buffer that
// goes out; one writes, so that chunk k + 1 is read while chunk k leaves; one
// reads acknowledgements. Both end before this returns.
//
// `*acked` is set to the number of chunks known to be durable, on errors too.
// Errors: the stream's; DEADLINE_EXCEEDED when nothing moved for stall_timeout;
// INTERNAL for acknowledgements that make no sense; DATA_LOSS when the payload
// cannot be read; CANCELLED.
absl::StatusOr<PumpOutcome> PumpChunks(const OutboxEntry& entry,
                                       ChunkPool& pool, UploadStream& stream,
                                       const PumpOptions& options,
                                       const CancelToken& cancel,
                                       uint64_t* acked);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_CHUNK_PUMP_H_

// A v1.UploadChunk as it came from the network, without a copy of its data into
// a message object.

#ifndef CONSILIUM_COORDINATOR_RPC_UPLOAD_CHUNK_H_
#define CONSILIUM_COORDINATOR_RPC_UPLOAD_CHUNK_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"

namespace consilium {

// The largest encoded UploadChunk that is read: 1 MiB of data and its fields.
inline constexpr size_t kMaxUploadMessageBytes = (size_t{1} << 20) + 4096;

// Views into the bytes it was parsed from.
struct UploadChunkView {
  std::string_view upload_id;
  uint64_t index = 0;
  std::span<const std::byte> data;
};

// As protobuf reads it: unknown fields are skipped, the last of several counts.
// Errors: INVALID_ARGUMENT for bytes that are no message.
absl::StatusOr<UploadChunkView> ParseUploadChunk(
    std::span<const std::byte> bytes);

// The bytes of `message` at the front of `out`.
// Errors: INVALID_ARGUMENT when they do not fit, naming both sizes.
absl::StatusOr<std::span<const std::byte>> Gather(
    const grpc::ByteBuffer& message, std::span<std::byte> out);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_UPLOAD_CHUNK_H_

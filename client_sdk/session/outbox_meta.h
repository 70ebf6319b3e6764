#ifndef CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_META_H_
#define CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_META_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "client_sdk/session/outbox.h"
#include "consilium/secure/secret_bytes.h"

namespace consilium::client::internal {

// The `meta` file of an outbox entry, little-endian:
//
//   0    u32       magic 0x584F4243 ("CBOX")
//   4    u32       version, 1
//   8    32 bytes  content key; zero when the upload is not sealed
//   40   u8        1: sealed
//   41   fields of OutboxRecord, see outbox_meta.cc
//   end  32 bytes  SHA-256 of everything before
//
// The key has a fixed place so that it can be overwritten there.
inline constexpr uint32_t kOutboxMagic = 0x584F4243;
inline constexpr uint32_t kOutboxVersion = 1;
inline constexpr int64_t kOutboxKeyOffset = 8;
inline constexpr size_t kOutboxKeyBytes = 32;
inline constexpr int64_t kMaxOutboxMetaBytes = int64_t{64} << 20;

SecretBytes EncodeOutboxMeta(const OutboxRecord& record);

// Errors: DATA_LOSS  torn, wiped or damaged; UNIMPLEMENTED  another version.
absl::StatusOr<OutboxRecord> DecodeOutboxMeta(std::span<const std::byte> bytes);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_OUTBOX_META_H_

// SHA-256 by OpenSSL (SHA-NI where the processor has it).
#ifndef CONSILIUM_SECURE_SHA256_H_
#define CONSILIUM_SECURE_SHA256_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "consilium/base/digest.h"

namespace consilium {

// Finish() also makes it ready for another message, on the same context. One
// thread at a time.
std::unique_ptr<Hasher> NewSha256Hasher();

// NewSha256Hasher as a factory, for code that must not link OpenSSL.
HasherFactory Sha256HasherFactory();

Sha256Digest Sha256(std::span<const std::byte> bytes);
Sha256Digest Sha256(std::string_view bytes);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_SHA256_H_

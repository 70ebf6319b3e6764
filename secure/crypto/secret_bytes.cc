#include "consilium/secure/secret_bytes.h"

#include <openssl/crypto.h>

#include <cstring>
#include <utility>

#include "consilium/base/bytes.h"

namespace consilium {

SecretBytes::SecretBytes(size_t size)
    : data_(size > 0 ? std::make_unique<std::byte[]>(size) : nullptr),
      size_(size) {}

SecretBytes SecretBytes::CopyOf(std::span<const std::byte> bytes) {
  SecretBytes copy(bytes.size());
  if (!bytes.empty()) {
    std::memcpy(copy.data_.get(), bytes.data(), bytes.size());
  }
  return copy;
}

SecretBytes SecretBytes::CopyOf(std::string_view text) {
  return CopyOf(AsBytes(text));
}

SecretBytes SecretBytes::Take(std::string&& text) {
  SecretBytes copy = CopyOf(text);
  WipeString(text);
  return copy;
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this != &other) {
    Wipe();
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

SecretBytes::~SecretBytes() { Wipe(); }

SecretBytes SecretBytes::Clone() const {
  return CopyOf(Bytes(SecretAccess("clones")));
}

void SecretBytes::Wipe() {
  WipeMemory({data_.get(), size_});
  data_.reset();
  size_ = 0;
}

bool operator==(const SecretBytes& a, const SecretBytes& b) {
  const SecretAccess access("compares in constant time");
  return ConstantTimeEquals(a.Bytes(access), b.Bytes(access));
}

bool ConstantTimeEquals(std::span<const std::byte> a,
                        std::span<const std::byte> b) {
  if (a.size() != b.size()) return false;
  return a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void WipeMemory(std::span<std::byte> bytes) {
  if (!bytes.empty()) OPENSSL_cleanse(bytes.data(), bytes.size());
}

void WipeString(std::string& text) {
  // The buffer may be larger than the text and hold earlier, longer contents.
  text.resize(text.capacity());
  WipeMemory(std::as_writable_bytes(std::span(text.data(), text.size())));
  text.clear();
}

}  // namespace consilium

#include "consilium/secure/aead.h"

#include <openssl/core_names.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

using openssl::Data;

enum Direction { kDecrypt = 0, kEncrypt = 1 };

// Fetched once and never freed; see Sha256Method().
const EVP_CIPHER* Method() {
  static const EVP_CIPHER* const method =
      EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  CONSILIUM_CHECK(method != nullptr);
  return method;
}

// Expands the key; the nonce follows with each message.
absl::StatusOr<openssl::CipherContext> NewContext(const SecretBytes& key,
                                                  Direction direction) {
  if (key.size() != kAeadKeyBytes) {
    return absl::InvalidArgumentError(Cat(
        "an AES-256-GCM key has ", kAeadKeyBytes, " bytes, not ", key.size()));
  }
  openssl::CipherContext context(EVP_CIPHER_CTX_new());
  if (context == nullptr ||
      EVP_CipherInit_ex(context.get(), Method(), nullptr,
                        Data(key.Bytes(SecretAccess("AES key schedule"))),
                        nullptr, direction) != 1) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot set an AES-256-GCM key");
  }
  return context;
}

absl::Status CheckSizes(std::span<const std::byte> nonce,
                        std::span<const std::byte> aad,
                        std::span<const std::byte> plain,
                        std::span<const std::byte> sealed) {
  constexpr size_t kMost = std::numeric_limits<int>::max() - kAeadTagBytes;
  if (nonce.size() != kAeadNonceBytes || plain.size() > kMost ||
      aad.size() > kMost || sealed.size() != plain.size() + kAeadTagBytes) {
    return absl::InvalidArgumentError(
        Cat("AES-256-GCM sizes do not fit: nonce ", nonce.size(),
            ", associated data ", aad.size(), ", plaintext ", plain.size(),
            ", sealed ", sealed.size(), " bytes (nonce must be ",
            kAeadNonceBytes, ", sealed = plaintext + ", kAeadTagBytes, ")"));
  }
  return absl::OkStatus();
}

// Sets the nonce, takes in the associated data, transforms the body.
bool Transform(EVP_CIPHER_CTX* context, std::span<const std::byte> nonce,
               std::span<const std::byte> aad, std::span<const std::byte> in,
               std::byte* out) {
  int done = 0;
  return EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, Data(nonce),
                           -1) == 1 &&
         (aad.empty() || EVP_CipherUpdate(context, nullptr, &done, Data(aad),
                                          static_cast<int>(aad.size())) == 1) &&
         (in.empty() ||
          EVP_CipherUpdate(context, reinterpret_cast<unsigned char*>(out),
                           &done, Data(in), static_cast<int>(in.size())) == 1);
}

// After the body. OpenSSL's interface wants a writable tag.
bool TagMatches(EVP_CIPHER_CTX* context, std::span<const std::byte> expected) {
  std::byte tag[kAeadTagBytes];
  std::copy_n(expected.data(), kAeadTagBytes, tag);
  unsigned char none[1];
  int done = 0;
  return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kAeadTagBytes,
                             tag) == 1 &&
         EVP_CipherFinal_ex(context, none, &done) == 1;
}

absl::Status NotAuthentic() {
  openssl::ClearErrors();
  return absl::DataLossError(
      "the authentication tag does not match: another key, nonce or context, "
      "or changed bytes");
}

}  // namespace

struct AeadSealer::Context {
  openssl::CipherContext cipher;
};
struct AeadOpener::Context {
  openssl::CipherContext cipher;
  bool begun = false;
};

AeadSealer::AeadSealer(std::unique_ptr<Context> context)
    : context_(std::move(context)) {}
AeadSealer::AeadSealer(AeadSealer&&) noexcept = default;
AeadSealer& AeadSealer::operator=(AeadSealer&&) noexcept = default;
AeadSealer::~AeadSealer() = default;

AeadOpener::AeadOpener(std::unique_ptr<Context> context)
    : context_(std::move(context)) {}
AeadOpener::AeadOpener(AeadOpener&&) noexcept = default;
AeadOpener& AeadOpener::operator=(AeadOpener&&) noexcept = default;
AeadOpener::~AeadOpener() = default;

absl::StatusOr<AeadSealer> AeadSealer::Create(const SecretBytes& key) {
  CONSILIUM_ASSIGN_OR_RETURN(openssl::CipherContext cipher,
                             NewContext(key, kEncrypt));
  return AeadSealer(std::make_unique<Context>(Context{std::move(cipher)}));
}

absl::StatusOr<AeadOpener> AeadOpener::Create(const SecretBytes& key) {
  CONSILIUM_ASSIGN_OR_RETURN(openssl::CipherContext cipher,
                             NewContext(key, kDecrypt));
  return AeadOpener(std::make_unique<Context>(Context{std::move(cipher)}));
}

absl::Status AeadSealer::Seal(std::span<const std::byte> nonce,
                              std::span<const std::byte> aad,
                              std::span<const std::byte> plaintext,
                              std::span<std::byte> out) {
  CONSILIUM_RETURN_IF_ERROR(CheckSizes(nonce, aad, plaintext, out));
  EVP_CIPHER_CTX* const cipher = context_->cipher.get();
  const std::span<std::byte> tag = out.subspan(plaintext.size());
  int done = 0;
  if (!Transform(cipher, nonce, aad, plaintext, out.data()) ||
      EVP_CipherFinal_ex(cipher, Data(tag), &done) != 1 ||
      EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, kAeadTagBytes,
                          tag.data()) != 1) {
    return openssl::Error(absl::StatusCode::kInternal, "cannot encrypt");
  }
  return absl::OkStatus();
}

absl::Status AeadOpener::Open(std::span<const std::byte> nonce,
                              std::span<const std::byte> aad,
                              std::span<const std::byte> sealed,
                              std::span<std::byte> out) {
  CONSILIUM_RETURN_IF_ERROR(CheckSizes(nonce, aad, out, sealed));
  context_->begun = false;
  EVP_CIPHER_CTX* const cipher = context_->cipher.get();
  if (!Transform(cipher, nonce, aad, sealed.first(out.size()), out.data()) ||
      !TagMatches(cipher, sealed.subspan(out.size()))) {
    // What was decrypted is not what was sealed: nobody may look at it.
    WipeMemory(out);
    return NotAuthentic();
  }
  return absl::OkStatus();
}

absl::Status AeadOpener::Begin(std::span<const std::byte> nonce,
                               std::span<const std::byte> aad) {
  std::byte none[kAeadTagBytes];
  CONSILIUM_RETURN_IF_ERROR(CheckSizes(nonce, aad, {}, none));
  context_->begun = Transform(context_->cipher.get(), nonce, aad, {}, nullptr);
  return context_->begun ? absl::OkStatus()
                         : openssl::Error(absl::StatusCode::kInternal,
                                          "cannot begin to decrypt");
}

absl::Status AeadOpener::Update(std::span<const std::byte> in,
                                std::span<std::byte> out) {
  if (!context_->begun) {
    return absl::FailedPreconditionError("Update before Begin");
  }
  if (in.size() != out.size() || in.empty() ||
      in.size() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError(
        Cat("a piece of ", in.size(), " bytes into ", out.size()));
  }
  int done = 0;
  if (EVP_CipherUpdate(context_->cipher.get(), Data(out), &done, Data(in),
                       static_cast<int>(in.size())) != 1) {
    context_->begun = false;
    return openssl::Error(absl::StatusCode::kInternal, "cannot decrypt");
  }
  return absl::OkStatus();
}

absl::Status AeadOpener::Finish(std::span<const std::byte> tag) {
  if (!std::exchange(context_->begun, false)) {
    return absl::FailedPreconditionError("Finish before Begin");
  }
  if (tag.size() != kAeadTagBytes) {
    return absl::InvalidArgumentError(
        Cat("a tag has ", kAeadTagBytes, " bytes, not ", tag.size()));
  }
  return TagMatches(context_->cipher.get(), tag) ? absl::OkStatus()
                                                 : NotAuthentic();
}

}  // namespace consilium

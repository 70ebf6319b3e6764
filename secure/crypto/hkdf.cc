#include "consilium/secure/hkdf.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include <array>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

constexpr size_t kMaxLength = 255 * 32;  // RFC 5869, section 2.3

// OpenSSL's parameters are not const; it does not write to them.
OSSL_PARAM OctetParam(const char* name, std::span<const std::byte> bytes) {
  static std::byte none{};
  std::byte* const data =
      bytes.empty() ? &none : const_cast<std::byte*>(bytes.data());
  return OSSL_PARAM_construct_octet_string(name, data, bytes.size());
}

EVP_KDF* Method() {
  static EVP_KDF* const method = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  CONSILIUM_CHECK(method != nullptr);
  return method;
}

}  // namespace

absl::StatusOr<SecretBytes> HkdfSha256(std::span<const std::byte> secret,
                                       std::span<const std::byte> salt,
                                       std::span<const std::byte> info,
                                       size_t length) {
  if (length == 0 || length > kMaxLength) {
    return absl::InvalidArgumentError(
        Cat("HKDF-SHA256 gives 1 to ", kMaxLength, " bytes, not ", length));
  }
  const openssl::KdfContext context(EVP_KDF_CTX_new(Method()));
  char digest[] = "SHA256";
  const std::array<OSSL_PARAM, 5> params = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OctetParam(OSSL_KDF_PARAM_KEY, secret),
      OctetParam(OSSL_KDF_PARAM_SALT, salt),
      OctetParam(OSSL_KDF_PARAM_INFO, info), OSSL_PARAM_construct_end()};
  SecretBytes out(length);
  if (context == nullptr ||
      EVP_KDF_derive(context.get(),
                     openssl::Data(out.MutableBytes(SecretAccess("derives"))),
                     length, params.data()) != 1) {
    return openssl::Error(absl::StatusCode::kInternal, "cannot derive a key");
  }
  return out;
}

}  // namespace consilium

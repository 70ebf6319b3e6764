#include <openssl/ec.h>

#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/key_file.h"
#include "secure/tls/x509.h"

namespace consilium {

namespace openssl {

absl::Status CheckP256(const EVP_PKEY& key, std::string_view what) {
  char group[64] = {};
  size_t size = 0;
  if (EVP_PKEY_get_base_id(&key) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(&key, group, sizeof(group), &size) != 1 ||
      std::string_view(group) != "prime256v1") {
    ClearErrors();
    return absl::InvalidArgumentError(
        Cat(what, " is not on P-256 (prime256v1), the only kind in use here"));
  }
  return absl::OkStatus();
}

}  // namespace openssl

TlsKey::TlsKey(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
TlsKey::TlsKey(TlsKey&&) noexcept = default;
TlsKey& TlsKey::operator=(TlsKey&&) noexcept = default;
TlsKey::~TlsKey() = default;

absl::StatusOr<TlsKey> TlsKey::Generate() {
  openssl::Pkey key(EVP_EC_gen("P-256"));
  if (key == nullptr) {
    return openssl::Error(absl::StatusCode::kInternal,
                          "cannot generate a P-256 key");
  }
  return TlsKey(std::make_unique<Handle>(Handle{std::move(key)}));
}

absl::StatusOr<TlsKey> TlsKey::FromPem(const SecretBytes& pem) {
  CONSILIUM_ASSIGN_OR_RETURN(openssl::Pkey key,
                             openssl::PrivateKeyFromPem(pem));
  CONSILIUM_RETURN_IF_ERROR(openssl::CheckP256(*key, "the private key"));
  return TlsKey(std::make_unique<Handle>(Handle{std::move(key)}));
}

absl::StatusOr<TlsKey> TlsKey::LoadFile(FileSystem* fs,
                                        const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes pem, ReadKeyFile(fs, path));
  absl::StatusOr<TlsKey> key = FromPem(pem);
  if (!key.ok()) return Annotate(key.status(), path);
  return key;
}

absl::Status TlsKey::SaveFile(FileSystem* fs, const std::string& path) const {
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes pem, ToPem());
  return WriteKeyFile(fs, path, pem);
}

absl::StatusOr<SecretBytes> TlsKey::ToPem() const {
  return openssl::PrivateKeyToPem(*handle_->key);
}

absl::StatusOr<std::string> TlsKey::PublicKeyPem() const {
  return openssl::PublicKeyToPem(*handle_->key);
}

}  // namespace consilium

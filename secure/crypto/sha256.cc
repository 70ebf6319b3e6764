#include "consilium/secure/sha256.h"

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

// Fetched once: an implicit fetch on every digest costs more than the digest
// of a short message. Lives for ever.
const EVP_MD* Sha256Method() {
  static const EVP_MD* const method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  CONSILIUM_CHECK(method != nullptr);
  return method;
}

class OpensslSha256 final : public Hasher {
 public:
  OpensslSha256() : context_(EVP_MD_CTX_new()) {
    CONSILIUM_CHECK(context_ != nullptr);
    Start();
  }

  void Update(std::span<const std::byte> bytes) override {
    CONSILIUM_CHECK(
        EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }

  Sha256Digest Finish() override {
    Sha256Digest digest;
    CONSILIUM_CHECK(EVP_DigestFinal_ex(context_.get(),
                                       openssl::Data(std::span(digest.bytes)),
                                       nullptr) == 1);
    Start();
    return digest;
  }

 private:
  void Start() {
    CONSILIUM_CHECK(
        EVP_DigestInit_ex2(context_.get(), Sha256Method(), nullptr) == 1);
  }
  openssl::DigestContext context_;
};

}  // namespace

std::unique_ptr<Hasher> NewSha256Hasher() {
  return std::make_unique<OpensslSha256>();
}

HasherFactory Sha256HasherFactory() { return NewSha256Hasher; }

Sha256Digest Sha256(std::span<const std::byte> bytes) {
  OpensslSha256 hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

Sha256Digest Sha256(std::string_view bytes) { return Sha256(AsBytes(bytes)); }

}  // namespace consilium

#include "consilium/secure/grpc/credentials.h"

#include <grpc/grpc_security.h>

#include <algorithm>
#include <string>
#include <utility>

#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "grpcpp/grpcpp.h"

namespace consilium {
namespace {

enum class Listener { kMutual, kEnrollment };

// What one bound port asks its certificate of; gRPC owns it through the
// credentials' destroy hook, since a port outlives the ServerCredentials.
struct Fetcher {
  std::shared_ptr<ReloadableServerIdentity> identity;
  Listener listener;
  Mutex mutex;
  uint64_t served ABSL_GUARDED_BY(mutex) = 0;

  // grpc_ssl_server_certificate_config_callback; called before each handshake.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);
};

grpc_ssl_certificate_config_reload_status Fetcher::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto* const fetcher = static_cast<Fetcher*>(self);
  const std::shared_ptr<const ReloadableServerIdentity::Material> material =
      fetcher->identity->Current();
  {
    const MutexLock lock(&fetcher->mutex);
    if (fetcher->served == material->generation) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    fetcher->served = material->generation;
  }
  const TlsIdentity& identity = material->identity;
  const bool mutual = fetcher->listener == Listener::kMutual;
  const std::string chain =
      mutual ? identity.chain_pem : identity.chain_pem + identity.root_pem;
  SecretBytes key(identity.key_pem.size() + 1);  // gRPC wants a C string
  const SecretAccess access("gives the server's key to gRPC");
  const std::span<const std::byte> bytes = identity.key_pem.Bytes(access);
  std::copy(bytes.begin(), bytes.end(), key.MutableBytes(access).begin());
  const grpc_ssl_pem_key_cert_pair pair = {key.Text(access).data(),
                                           chain.c_str()};
  // Without a client certificate to check the root is idle, yet gRPC insists.
  *config = grpc_ssl_server_certificate_config_create(identity.root_pem.c_str(),
                                                      &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// gRPC's C++ TlsServerCredentials reads files from a thread of its own and
// drops a working certificate when a new pair does not match. The C interface
// asks before each handshake and keeps the old one instead.
class FetchingServerCredentials final : public grpc::ServerCredentials {
 public:
  FetchingServerCredentials(std::shared_ptr<ReloadableServerIdentity> identity,
                            Listener listener)
      : identity_(std::move(identity)), listener_(listener) {}

  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& processor) override {
    // Callers are told apart by certificate alone.
    CONSILIUM_CHECK(processor == nullptr);
  }

 private:
  int AddPortToServer(const std::string& address,
                      grpc_server* server) override {
    auto fetcher = std::make_unique<Fetcher>();
    fetcher->identity = identity_;
    fetcher->listener = listener_;
    const auto request =
        listener_ == Listener::kMutual
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    grpc_server_credentials* const credentials =
        grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                request, &Fetcher::Fetch, fetcher.get()));
    if (credentials == nullptr) return 0;
    // No processor, only its clean-up: it runs when the last port lets go.
    grpc_auth_metadata_processor owner{};
    owner.destroy = [](void* state) { delete static_cast<Fetcher*>(state); };
    owner.state = fetcher.release();
    grpc_server_credentials_set_auth_metadata_processor(credentials, owner);
    const int port =
        grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  const std::shared_ptr<ReloadableServerIdentity> identity_;
  const Listener listener_;
};

}  // namespace

ReloadableServerIdentity::ReloadableServerIdentity(Options options,
                                                   TlsIdentity identity)
    : options_(std::move(options)),
      material_(
          std::make_shared<const Material>(Material{1, std::move(identity)})),
      checked_at_(options_.clock->Monotonic()) {}

absl::StatusOr<std::shared_ptr<ReloadableServerIdentity>>
ReloadableServerIdentity::Create(Options options) {
  CONSILIUM_CHECK(options.fs != nullptr && options.clock != nullptr);
  CONSILIUM_ASSIGN_OR_RETURN(
      TlsIdentity identity,
      LoadTlsIdentity(options.fs, options.files, CertificateUse::kServer,
                      options.clock->Now()));
  return std::shared_ptr<ReloadableServerIdentity>(
      new ReloadableServerIdentity(std::move(options), std::move(identity)));
}

absl::Status ReloadableServerIdentity::Reload() {
  const MutexLock lock(&mutex_);
  return ReloadLocked();
}

absl::Status ReloadableServerIdentity::ReloadLocked() {
  checked_at_ = options_.clock->Monotonic();
  absl::StatusOr<TlsIdentity> loaded =
      LoadTlsIdentity(options_.fs, options_.files, CertificateUse::kServer,
                      options_.clock->Now());
  last_check_ = loaded.status();
  if (!loaded.ok()) return last_check_;
  const TlsIdentity& now = material_->identity;
  const bool changed = loaded->chain_pem != now.chain_pem ||
                       loaded->root_pem != now.root_pem ||
                       !(loaded->key_pem == now.key_pem);
  if (changed) {
    material_ = std::make_shared<const Material>(
        Material{material_->generation + 1, *std::move(loaded)});
  }
  return absl::OkStatus();
}

CertificateInfo ReloadableServerIdentity::leaf() const {
  const MutexLock lock(&mutex_);
  return material_->identity.leaf;
}

absl::Status ReloadableServerIdentity::last_check() const {
  const MutexLock lock(&mutex_);
  return last_check_;
}

std::shared_ptr<const ReloadableServerIdentity::Material>
ReloadableServerIdentity::Current() {
  const MutexLock lock(&mutex_);
  if (options_.clock->Monotonic() - checked_at_ >= options_.check_interval) {
    ReloadLocked().IgnoreError();  // told by last_check()
  }
  return material_;
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<ReloadableServerIdentity> identity) {
  return std::make_shared<FetchingServerCredentials>(std::move(identity),
                                                     Listener::kMutual);
}

std::shared_ptr<grpc::ServerCredentials> MakeEnrollmentServerCredentials(
    std::shared_ptr<ReloadableServerIdentity> identity) {
  return std::make_shared<FetchingServerCredentials>(std::move(identity),
                                                     Listener::kEnrollment);
}

std::shared_ptr<grpc::ChannelCredentials> MakeClientCredentials(
    const TlsIdentity& identity) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = identity.root_pem;
  options.pem_cert_chain = identity.chain_pem;
  options.pem_private_key = std::string(
      identity.key_pem.Text(SecretAccess("gives the client's key to gRPC")));
  std::shared_ptr<grpc::ChannelCredentials> credentials =
      grpc::SslCredentials(options);
  WipeString(options.pem_private_key);
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> MakeEnrollmentChannelCredentials(
    const std::string& root_pem) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = root_pem;
  return grpc::SslCredentials(options);
}

}  // namespace consilium

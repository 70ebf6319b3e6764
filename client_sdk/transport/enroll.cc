#include "consilium/client/enroll.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "client_sdk/session/identity.h"
#include "client_sdk/transport/call_context.h"
#include "client_sdk/transport/config_template.h"
#include "consilium/base/bytes.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/pin_root.h"
#include "consilium/secure/proxy.h"
#include "consilium/secure/random.h"
#include "consilium/secure/token.h"
#include "consilium/v1/enrollment.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"

namespace consilium::client {
namespace {

using internal::IdentityPaths;

constexpr int64_t kMaxPemBytes = 64 * 1024;

// Everything that needs no network, checked first.
struct Request {
  HostPort server;
  Sha256Digest fingerprint;
  EnrollmentToken token;
  std::optional<ProxyAddress> proxy;
};

// A coordinator that listens on every interface may not know its own name; the
// one that led here is good for its other port too. What comes back is safe in
// a configuration file.
absl::StatusOr<std::string> ReachableAddress(const std::string& address,
                                             const std::string& host) {
  auto parsed = HostPort::Parse(address);
  const auto other = [](char c) {
    return !absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
           std::string_view("-._:%").find(c) == std::string_view::npos;
  };
  if (!parsed.ok() || std::ranges::any_of(parsed->host, other)) {
    return absl::UnauthenticatedError(
        Cat("the coordinator's answer is not in order: service address ",
            Quoted(address, 256), " is not host:port"));
  }
  if (parsed->host == "0.0.0.0" || parsed->host == "::") parsed->host = host;
  return parsed->ToString();
}

absl::StatusOr<Request> Check(const EnrollOptions& options) {
  auto server = HostPort::Parse(options.coordinator);
  if (!server.ok()) return Annotate(server.status(), "coordinator");
  std::string hex = options.ca_fingerprint;
  std::erase(hex, ':');
  const auto fingerprint = Sha256Digest::FromHex(hex);
  if (!fingerprint.ok()) {
    return absl::InvalidArgumentError(
        Cat("ca_fingerprint ", Quoted(options.ca_fingerprint, 100),
            " is not a SHA-256 fingerprint: 64 hexadecimal digits"));
  }
  CONSILIUM_ASSIGN_OR_RETURN(EnrollmentToken token,
                             EnrollmentToken::Parse(options.token));
  if (options.directory.empty()) {
    return absl::InvalidArgumentError("directory is empty");
  }
  if (options.timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("timeout must be above zero");
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      std::optional<ProxyAddress> proxy,
      ChooseProxy(options.proxy, server->host, ProcessEnvironment()));
  return Request{*std::move(server), *fingerprint, std::move(token),
                 std::move(proxy)};
}

absl::StatusOr<v1::EnrollResponse> Call(const EnrollOptions& options,
                                        const Request& request,
                                        const std::string& root_pem,
                                        const std::string& csr_pem,
                                        const CancelToken& cancel) {
  ChannelOptions channel_options;
  channel_options.proxy = request.proxy;
  channel_options.server_name = options.server_name;
  channel_options.own_connection = true;
  const auto channel = grpc::CreateCustomChannel(
      request.server.ToString(), MakeEnrollmentChannelCredentials(root_pem),
      MakeChannelArguments(channel_options));
  const auto stub = v1::EnrollmentService::NewStub(channel);

  v1::EnrollRequest message;
  *message.mutable_protocol() = OwnProtocolRange();
  message.set_token(std::string(request.token.ToText().Text(
      SecretAccess("the token goes to the coordinator it is for"))));
  message.set_csr_pem(csr_pem);
  message.set_software(options.software);
  v1::EnrollResponse response;
  internal::GrpcCall call({cancel, options.timeout});
  const absl::Status status =
      call.Result(stub->Enroll(call.grpc(), message, &response));
  WipeString(*message.mutable_token());
  if (!status.ok()) return Annotate(status, "enrolment");
  return response;
}

// How long one Enroll goes on asking.
class Patience {
 public:
  Patience(const EnrollOptions& options, const CancelToken& cancel)
      : options_(options),
        cancel_(cancel),
        backoff_({absl::Seconds(1), absl::Seconds(30), 2.0}, SystemRandom()) {}

  // Calls `attempt` until it succeeds, or fails for another reason than that
  // the coordinator could not answer, or the time is over.
  template <typename T>
  absl::StatusOr<T> Until(const std::function<absl::StatusOr<T>()>& attempt) {
    for (;;) {
      const absl::Duration start = SystemClock()->Monotonic();
      absl::StatusOr<T> result = attempt();
      if (result.ok() || !Passes(result.status())) return result;
      const absl::Duration pause = backoff_.Next();
      spent_ += SystemClock()->Monotonic() - start + pause;
      if (spent_ > options_.retry_for) return result;
      if (options_.on_retry) options_.on_retry(result.status(), pause);
      CONSILIUM_RETURN_IF_ERROR(Pause(pause));
    }
  }

 private:
  static bool Passes(const absl::Status& status) {
    return absl::IsResourceExhausted(status) || absl::IsUnavailable(status) ||
           absl::IsDeadlineExceeded(status);
  }
  absl::Status Pause(absl::Duration pause) const {
    Sleeper* const sleeper =
        options_.sleeper != nullptr ? options_.sleeper : SystemSleeper();
    return sleeper->Sleep(pause, cancel_);
  }

  const EnrollOptions& options_;
  const CancelToken& cancel_;
  Backoff backoff_;
  absl::Duration spent_;
};

// The one that an earlier call left behind, or a new one.
absl::StatusOr<TlsKey> KeyFor(FileSystem* fs, const std::string& path) {
  if (fs->Exists(path)) return TlsKey::LoadFile(fs, path);
  CONSILIUM_ASSIGN_OR_RETURN(TlsKey key, TlsKey::Generate());
  CONSILIUM_RETURN_IF_ERROR(key.SaveFile(fs, path));
  return key;
}

// Whom the certificate that is there was for, when it has expired; nothing
// when there is none.
// Errors: ALREADY_EXISTS  an identity that is good, or cannot be read.
absl::StatusOr<std::optional<PeerName>> ExpiredIdentity(
    FileSystem* fs, const std::string& directory, absl::Time now) {
  const IdentityPaths paths(directory);
  if (!fs->Exists(paths.tls.chain)) return std::nullopt;
  // A renewal that was cut short may have left a newer one. Nobody is at it:
  // who runs with an expired certificate cannot renew.
  const auto read = [&]() -> absl::StatusOr<CertificateInfo> {
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::string pem,
        ReadWholeFile(fs, paths.tls.chain, kMaxPemBytes));
    return ParseCertificate(pem);
  };
  absl::StatusOr<CertificateInfo> leaf = read();
  if (leaf.ok() && leaf->not_after < now && fs->Exists(paths.next_chain)) {
    CONSILIUM_RETURN_IF_ERROR(internal::FinishRenewal(fs, paths));
    leaf = read();
  }
  if (leaf.ok() && leaf->not_after < now) {
    CONSILIUM_ASSIGN_OR_RETURN(PeerName name,
                               PeerName::Parse(leaf->subject_uri));
    return std::optional<PeerName>(std::move(name));
  }
  return absl::AlreadyExistsError(
      Cat(directory, " already holds an identity (", paths.tls.chain,
          "); choose another directory, or use `consilium-client renew`. Once "
          "its certificate has expired, enrol in this directory again"));
}

// In place only as the same peer of the same federation: state and outbox are
// theirs, and what is pinned stays pinned.
absl::Status CheckSamePeer(FileSystem* fs, const IdentityPaths& paths,
                           const PeerName& before, const PeerName& after,
                           const std::string& root_pem,
                           const VerifyKey& signing_key) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::string pinned_root,
                             ReadWholeFile(fs, paths.tls.root, kMaxPemBytes));
  CONSILIUM_ASSIGN_OR_RETURN(const VerifyKey pinned_key,
                             VerifyKey::LoadFile(fs, paths.signing_key));
  const auto fingerprint = CertificateFingerprint(root_pem);
  const auto pinned = CertificateFingerprint(pinned_root);
  if (before == after && fingerprint.ok() && pinned.ok() &&
      *fingerprint == *pinned && signing_key == pinned_key) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      Cat("the expired identity in this directory is ", before.Uri(),
          before == after ? " of another coordinator" : ", the token's is ",
          before == after ? std::string() : after.Uri(),
          "; enrol in another directory, with a new token"));
}

absl::Status Wrong(std::string_view what) {
  return absl::UnauthenticatedError(
      Cat("what the coordinator issued does not verify: ", what));
}

// The identity as issued, or why it is not to be trusted.
absl::StatusOr<std::pair<PeerName, CertificateInfo>> Verify(
    const v1::EnrollResponse& response, const Sha256Digest& fingerprint,
    const SecretBytes& key_pem, absl::Time now) {
  if (response.protocol() < kProtocolMin ||
      response.protocol() > kProtocolMax) {
    return absl::FailedPreconditionError(
        Cat("the coordinator chose protocol version ", response.protocol(),
            "; this build speaks ", kProtocolMin, " to ", kProtocolMax));
  }
  const auto root = CertificateFingerprint(response.root_ca_pem());
  if (!root.ok() || *root != fingerprint) {
    return Wrong("its root CA is not the pinned one");
  }
  const auto identity =
      MakeTlsIdentity(response.root_ca_pem(), response.certificate_chain_pem(),
                      key_pem.Clone(), CertificateUse::kClient, now);
  if (!identity.ok()) return Wrong(StdView(identity.status().message()));
  const auto name = PeerName::Parse(identity->leaf.subject_uri);
  if (!name.ok() || name->Uri() != response.uri() ||
      name->federation != response.federation()) {
    return Wrong(Cat("the certificate is for ",
                     Quoted(identity->leaf.subject_uri), ", the answer says ",
                     Quoted(response.uri())));
  }
  return std::pair(*name, identity->leaf);
}

}  // namespace

absl::StatusOr<Enrollment> Enroll(const EnrollOptions& options,
                                  const CancelToken& cancel) {
  CONSILIUM_ASSIGN_OR_RETURN(const Request request, Check(options));
  FileSystem* const fs = PosixFileSystem();
  const absl::Time now = SystemClock()->Now();
  const IdentityPaths paths(options.directory);
  CONSILIUM_ASSIGN_OR_RETURN(const std::optional<PeerName> expired,
                             ExpiredIdentity(fs, options.directory, now));
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(options.directory));

  Patience patience(options, cancel);
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string root_pem, patience.Until<std::string>([&] {
        return FetchAndPinRoot({.server = request.server,
                                .server_name = options.server_name,
                                .fingerprint = request.fingerprint,
                                .proxy = request.proxy,
                                .timeout = options.timeout,
                                .cancel = cancel,
                                .now = now});
      }));
  // On disk before the token is spent: only this key can ask for the
  // certificate again.
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, KeyFor(fs, paths.tls.key));
  CONSILIUM_ASSIGN_OR_RETURN(const SecretBytes key_pem, key.ToPem());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string csr,
                             CreateCertificateRequest(key, "institution"));
  // With the same token and key, so that a lost answer comes once more.
  CONSILIUM_ASSIGN_OR_RETURN(
      const v1::EnrollResponse response,
      patience.Until<v1::EnrollResponse>(
          [&] { return Call(options, request, root_pem, csr, cancel); }));
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto issued, Verify(response, request.fingerprint, key_pem, now));
  const auto& [name, leaf] = issued;
  auto signing_key =
      VerifyKey::FromBytes(std::string_view(response.signing_public_key()));
  if (!signing_key.ok()) return Wrong("its signing key has another length");
  CONSILIUM_ASSIGN_OR_RETURN(const std::string signing_pem,
                             signing_key->ToPem());

  if (expired.has_value()) {
    CONSILIUM_RETURN_IF_ERROR(CheckSamePeer(
        fs, paths, *expired, name, response.root_ca_pem(), *signing_key));
  }

  Enrollment enrollment;
  enrollment.federation = name.federation;
  enrollment.institution = name.name;
  enrollment.uri = name.Uri();
  CONSILIUM_ASSIGN_OR_RETURN(
      enrollment.service_address,
      ReachableAddress(response.service_address(), request.server.host));
  enrollment.signing_key = signing_key->Hex();
  enrollment.certificate_serial = leaf.serial;
  enrollment.not_after = leaf.not_after;
  const bool staff = name.role != PeerRole::kInstitution;
  enrollment.config_path = JoinPath(
      options.directory, staff ? "config.toml" : "consilium-client.toml");
  CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(
      fs, paths.tls.root, AsBytes(response.root_ca_pem()), 0644));
  CONSILIUM_RETURN_IF_ERROR(
      WriteFileAtomic(fs, paths.signing_key, AsBytes(signing_pem), 0644));
  if (!fs->Exists(enrollment.config_path)) {
    const std::string config =
        staff ? internal::StaffConfigText(name, enrollment.service_address)
              : internal::ClientConfigText(name.federation, name.name,
                                           enrollment.service_address);
    CONSILIUM_RETURN_IF_ERROR(
        WriteFileAtomic(fs, enrollment.config_path, AsBytes(config), 0644));
  }
  // Last: with the certificate the identity is there.
  CONSILIUM_RETURN_IF_ERROR(WriteFileAtomic(
      fs, paths.tls.chain, AsBytes(response.certificate_chain_pem()), 0644));
  return enrollment;
}

}  // namespace consilium::client

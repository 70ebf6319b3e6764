#include "coordinator/cli/remote_admin.h"

#include <chrono>
#include <optional>
#include <utility>

#include "consilium/base/strings.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/v1/admin.grpc.pb.h"
#include "coordinator/cli/exit_codes.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/status.h"

namespace consilium {
namespace {

constexpr uint64_t kShortCallSeconds = 30;
// A list may name every release group of a large model.
constexpr int kMaxMessageBytes = 64 << 20;
constexpr int64_t kMaxPemBytes = 64 << 10;

// The coordinator itself says UNAVAILABLE, and not gRPC on this side. Nothing
// else tells the two apart.
bool IsAnswer(const grpc::Status& status, const grpc::ClientContext& context) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         context.debug_error_string().find("Error received from peer") !=
             std::string::npos;
}

class RemoteAdmin final : public AdminApi {
 public:
  RemoteAdmin(std::shared_ptr<grpc::Channel> channel, std::string address,
              uint64_t timeout_seconds)
      : address_(std::move(address)),
        timeout_seconds_(timeout_seconds),
        stub_(v1::AdminService::NewStub(std::move(channel))) {}

#define CONSILIUM_REMOTE_CALL(Method, Request, Response, is_long)         \
  absl::Status Method(const v1::Request& request, v1::Response* response) \
      override {                                                          \
    grpc::ClientContext context;                                          \
    SetDeadline(is_long, context);                                        \
    return Told(stub_->Method(&context, request, response), context);     \
  }
  CONSILIUM_ADMIN_CALLS(CONSILIUM_REMOTE_CALL)
#undef CONSILIUM_REMOTE_CALL

  absl::Status WatchRound(
      const v1::WatchRoundRequest& request,
      absl::FunctionRef<bool(const v1::RoundInfo&)> on_change) override {
    grpc::ClientContext context;
    // One limit for all streams of a watch that is begun again.
    if (timeout_seconds_ > 0) {
      if (!watch_until_.has_value()) {
        watch_until_ = std::chrono::system_clock::now() +
                       std::chrono::seconds(timeout_seconds_);
      }
      context.set_deadline(*watch_until_);
    }
    const auto stream = stub_->WatchRound(&context, request);
    v1::RoundInfo info;
    bool live = false;
    while (stream->Read(&info)) {
      live = info.round() > 0 && !info.terminal();
      if (on_change(info)) continue;
      context.TryCancel();
      stream->Finish();
      return absl::OkStatus();
    }
    const absl::Status end = Told(stream->Finish(), context);
    if (!absl::IsDeadlineExceeded(end)) return end;
    return absl::DeadlineExceededError(
        live ? Cat("--timeout passed, and round ", info.round(), " goes on")
             : std::string("--timeout passed, and no round is under way"));
  }

  absl::Status DownloadVersion(
      const v1::DownloadRequest& request,
      absl::FunctionRef<absl::Status(const v1::DownloadChunk&)> on_chunk)
      override {
    grpc::ClientContext context;
    SetDeadline(/*is_long=*/true, context);
    const auto stream = stub_->DownloadVersion(&context, request);
    v1::DownloadChunk chunk;
    while (stream->Read(&chunk)) {
      const absl::Status status = on_chunk(chunk);
      if (status.ok()) continue;
      context.TryCancel();
      stream->Finish();
      return status;
    }
    return Told(stream->Finish(), context);
  }

  absl::Status ImportVersion(
      absl::FunctionRef<absl::StatusOr<bool>(v1::ImportVersionChunk*)> next,
      v1::VersionInfo* response) override {
    grpc::ClientContext context;
    SetDeadline(/*is_long=*/true, context);
    const auto stream = stub_->ImportVersion(&context, response);
    v1::ImportVersionChunk chunk;
    for (;;) {
      const absl::StatusOr<bool> more = next(&chunk);
      if (!more.ok()) {
        context.TryCancel();
        stream->Finish();
        return more.status();
      }
      // A failed write: Finish() has the reason.
      if (!*more || !stream->Write(chunk)) break;
      chunk.Clear();
    }
    stream->WritesDone();
    return Told(stream->Finish(), context);
  }

 protected:
  absl::Status NotHere(std::string_view method) const override {
    return absl::UnimplementedError(Cat(method, " is not a call"));
  }

 private:
  void SetDeadline(bool is_long, grpc::ClientContext& context) const {
    if (timeout_seconds_ == 0 && is_long) return;
    const uint64_t seconds =
        timeout_seconds_ > 0 ? timeout_seconds_ : kShortCallSeconds;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(seconds));
  }

  // Only for calls that were not cancelled here.
  absl::Status Told(const grpc::Status& from,
                    const grpc::ClientContext& context) const {
    const absl::Status status = FromPeer(from);
    if (absl::IsUnavailable(status) && !IsAnswer(from, context)) {
      return ConnectionError(
          Annotate(status, Cat("cannot reach the coordinator at ", address_)));
    }
    if (absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) {
      return ConnectionError(status);
    }
    if (absl::IsDeadlineExceeded(status)) {
      return absl::DeadlineExceededError(
          Cat("the coordinator at ", address_,
              " did not answer in time; --timeout sets how long to wait"));
    }
    return status;
  }

  const std::string address_;
  const uint64_t timeout_seconds_;
  std::optional<std::chrono::system_clock::time_point> watch_until_;
  const std::unique_ptr<v1::AdminService::Stub> stub_;
};

// Renewal takes a certificate that is still good; what helps now is said here.
absl::Status CheckNotExpired(FileSystem* fs, const std::string& path,
                             absl::Time now) {
  const auto pem = ReadWholeFile(fs, path, kMaxPemBytes);
  if (!pem.ok()) return absl::OkStatus();  // told better by whoever needs it
  const auto info = ParseCertificate(*pem);
  if (!info.ok() || now <= info->not_after) return absl::OkStatus();
  return absl::UnauthenticatedError(
      Cat(path, ": your certificate expired at ", FormatTime(info->not_after),
          "; ask another operator for `consilium operator invite` and enrol "
          "again, or stop the coordinator and run `consilium --offline DIR "
          "cert renew` on its host"));
}

}  // namespace

absl::StatusOr<AdminSession> ConnectRemote(const OperatorConfig& config,
                                           uint64_t timeout_seconds,
                                           FileSystem* fs, absl::Time now,
                                           const Environment& variables) {
  CONSILIUM_ASSIGN_OR_RETURN(const HostPort address,
                             HostPort::Parse(config.coordinator));
  CONSILIUM_RETURN_IF_ERROR(CheckNotExpired(fs, config.certificate, now));
  CONSILIUM_ASSIGN_OR_RETURN(
      const TlsIdentity identity,
      LoadTlsIdentity(fs, {config.ca, config.certificate, config.key},
                      CertificateUse::kClient, now));
  ChannelOptions options;
  options.max_message_bytes = kMaxMessageBytes;
  options.own_connection = true;
  // Whoever watches tries again this often, and so must the connection.
  options.reconnect_cap = kLongestPause;
  CONSILIUM_ASSIGN_OR_RETURN(options.proxy,
                             ChooseProxy("", address.host, variables));
  AdminSession session;
  session.config = config;
  session.own = identity.leaf;
  if (!config.signing_key.empty()) {
    CONSILIUM_ASSIGN_OR_RETURN(session.signing_key,
                               VerifyKey::LoadFile(fs, config.signing_key));
  }
  session.api = std::make_unique<RemoteAdmin>(
      grpc::CreateCustomChannel(address.ToString(),
                                MakeClientCredentials(identity),
                                MakeChannelArguments(options)),
      address.ToString(), timeout_seconds);
  return session;
}

}  // namespace consilium

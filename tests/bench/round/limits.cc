#include "tests/bench/round/limits.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/strings.h"
#include "consilium/secure/aead.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/sha256.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/server_builder.h"

namespace consilium::bench {
namespace {

constexpr int64_t kPiece = (int64_t{1} << 20) - 16;

SecretBytes Key() { return SecretBytes(kAeadKeyBytes); }

// AES-GCM with a counting nonce, in place.
class Sealer {
 public:
  Sealer() : sealer_(*AeadSealer::Create(Key())) {}
  void Seal(uint64_t index, std::span<std::byte> buffer) {
    std::byte nonce[kAeadNonceBytes] = {};
    StoreBigEndian<uint64_t>(index, nonce + 4);
    sealer_.Seal(nonce, {}, buffer.first(buffer.size() - kAeadTagBytes), buffer)
        .IgnoreError();
  }

 private:
  AeadSealer sealer_;
};

class Opener {
 public:
  Opener() : opener_(*AeadOpener::Create(Key())) {}
  bool Open(uint64_t index, std::span<const std::byte> sealed,
            std::span<std::byte> out) {
    std::byte nonce[kAeadNonceBytes] = {};
    StoreBigEndian<uint64_t>(index, nonce + 4);
    return opener_.Open(nonce, {}, sealed, out).ok();
  }

 private:
  AeadOpener opener_;
};

// Synchronous: one thread for each stream, the fastest simple form.
class LimitService final : public v1::FederationService::Service {
 public:
  explicit LimitService(bool crypto) : crypto_(crypto) {}

  grpc::Status Upload(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::UploadReply, v1::UploadChunk>* stream)
      override {
    v1::UploadChunk chunk;
    Opener opener;
    std::vector<std::byte> plain(size_t{1} << 20);
    const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
    uint64_t count = 0;
    while (stream->Read(&chunk)) {
      if (crypto_) {
        const std::span<std::byte> out(plain.data(),
                                       chunk.data().size() - kAeadTagBytes);
        if (!opener.Open(count, AsBytes(chunk.data()), out)) {
          return grpc::Status(grpc::StatusCode::DATA_LOSS, "seal");
        }
        hasher->Update(out);
      }
      ++count;
    }
    if (crypto_) hasher->Finish();
    v1::UploadReply reply;
    reply.set_next_chunk(count);
    stream->Write(reply);
    return grpc::Status::OK;
  }

  grpc::Status Download(
      grpc::ServerContext*, const v1::DownloadRequest* request,
      grpc::ServerWriter<v1::DownloadChunk>* writer) override {
    v1::DownloadChunk chunk;
    chunk.mutable_data()->resize(static_cast<size_t>(kPiece));
    const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
    for (int64_t left = static_cast<int64_t>(request->offset()); left > 0;
         left -= kPiece) {
      if (left < kPiece) {
        chunk.mutable_data()->resize(static_cast<size_t>(left));
      }
      if (crypto_) hasher->Update(AsBytes(chunk.data()));
      if (!writer->Write(chunk)) break;
    }
    if (crypto_) hasher->Finish();
    return grpc::Status::OK;
  }

 private:
  const bool crypto_;
};

absl::Status MoveOnce(v1::FederationService::Stub& stub, int64_t payload_bytes,
                      bool crypto) {
  {
    grpc::ClientContext context;
    const auto stream = stub.Upload(&context);
    Sealer sealer;
    const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
    v1::UploadChunk chunk;
    uint64_t index = 0;
    for (int64_t left = payload_bytes; left > 0; left -= kPiece) {
      std::string& data = *chunk.mutable_data();
      const size_t size = static_cast<size_t>(std::min(left, kPiece));
      if (data.size() != size + kAeadTagBytes) {
        data.resize(size + kAeadTagBytes);
      }
      const std::span<std::byte> buffer =
          std::as_writable_bytes(std::span(data.data(), data.size()));
      if (crypto) {
        hasher->Update(buffer.first(size));
        sealer.Seal(index, buffer);
      }
      chunk.set_index(index++);
      if (!stream->Write(chunk)) break;
    }
    stream->WritesDone();
    v1::UploadReply reply;
    while (stream->Read(&reply)) {
    }
    const grpc::Status status = stream->Finish();
    if (!status.ok()) return absl::InternalError(status.error_message());
  }
  grpc::ClientContext context;
  v1::DownloadRequest request;
  request.set_offset(static_cast<uint64_t>(payload_bytes));
  const auto reader = stub.Download(&context, request);
  const std::unique_ptr<Hasher> hasher = NewSha256Hasher();
  v1::DownloadChunk chunk;
  int64_t bytes = 0;
  while (reader->Read(&chunk)) {
    if (crypto) hasher->Update(AsBytes(chunk.data()));
    bytes += static_cast<int64_t>(chunk.data().size());
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return absl::InternalError(status.error_message());
  if (bytes != payload_bytes) return absl::InternalError("short download");
  return absl::OkStatus();
}

}  // namespace

int RunLimitServer(const std::string& coordinator_dir,
                   const std::string& address, bool crypto) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const std::string folder = JoinPath(coordinator_dir, "identity");
  ReloadableServerIdentity::Options options;
  options.files = {JoinPath(folder, "root-ca.pem"),
                   JoinPath(folder, "server.pem"),
                   JoinPath(folder, "server.key")};
  options.fs = PosixFileSystem();
  options.clock = SystemClock();
  const auto identity = ReloadableServerIdentity::Create(options);
  if (!identity.ok()) {
    std::fprintf(stderr, "limit server: %s\n",
                 identity.status().ToString().c_str());
    return 1;
  }
  LimitService service(crypto);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, MakeServerCredentials(*identity));
  ApplyServerOptions({}, builder);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  int received = 0;
  sigwait(&signals, &received);
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

int RunLimitClient(const std::string& identity_dir, const std::string& address,
                   int64_t payload_bytes, bool crypto) {
  const auto identity = LoadTlsIdentity(PosixFileSystem(),
                                        {JoinPath(identity_dir, "root-ca.pem"),
                                         JoinPath(identity_dir, "client.pem"),
                                         JoinPath(identity_dir, "client.key")},
                                        CertificateUse::kClient, absl::Now());
  if (!identity.ok()) {
    std::fprintf(stderr, "limit client: %s\n",
                 identity.status().ToString().c_str());
    return 1;
  }
  const auto channel = grpc::CreateCustomChannel(
      address, MakeClientCredentials(*identity), MakeChannelArguments({}));
  if (!channel->WaitForConnected(std::chrono::system_clock::now() +
                                 std::chrono::seconds(20))) {
    return 1;
  }
  const auto stub = v1::FederationService::NewStub(channel);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const absl::Status moved = MoveOnce(*stub, payload_bytes, crypto);
    if (!moved.ok()) {
      std::fprintf(stderr, "limit client: %s\n", moved.ToString().c_str());
      return 1;
    }
    std::cout << "done" << std::endl;
  }
  return 0;
}

}  // namespace consilium::bench

// An institution that speaks the protocol by hand, so that a test can break
// any part of it. Nothing here checks what the SDK would check.

#ifndef CONSILIUM_TESTS_INTEGRATION_RAW_CLIENT_H_
#define CONSILIUM_TESTS_INTEGRATION_RAW_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/metadata.h"
#include "consilium/secure/seal.h"
#include "consilium/v1/federation.grpc.pb.h"
#include "tests/integration/checks.h"
#include "tests/integration/harness.h"

namespace consilium {

// One upload as an honest client makes it, open to every change.
struct RawUpload {
  v1::UploadManifest manifest;
  std::vector<std::string> frames;  // plaintext; frame 0 is the metadata
  SealContext context;
  std::optional<ContentKey> key;  // unset: not sealed

  // Sets counts, sizes and digest of the manifest to those of `frames`.
  void Redeclare();
  // A frame as it travels as chunk `index`: sealed, or as it is.
  std::string Seal(uint64_t index, const std::string& frame) const;
  std::string Chunk(uint64_t index) const { return Seal(index, frames[index]); }
  uint64_t chunks() const { return frames.size(); }
};

// How a stream ended.
struct StreamEnd {
  uint64_t acked = 0;
  std::optional<v1::Refusal> refusal;
  absl::Status status;
};

// One upload stream, for one thread.
class RawStream {
 public:
  explicit RawStream(v1::FederationService::Stub& stub)
      : stream_(stub.Upload(&context_)) {}
  ~RawStream();

  // False: the stream is broken.
  bool Send(const std::string& upload_id, uint64_t index, std::string data);
  // Blocks until chunks below `next` are durable. False: the stream ended
  // before; Close() says how.
  bool AwaitAck(uint64_t next);
  // Half-closes, reads to the end.
  StreamEnd Close();
  // Reads to the end without telling the other side that this one is done.
  StreamEnd AwaitEnd();

 private:
  bool ReadOne();

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::UploadChunk, v1::UploadReply>>
      stream_;
  StreamEnd end_;
  bool ended_ = false;
};

class RawClient {
 public:
  // With the identity that `name` got when it enrolled.
  RawClient(TestFederation& federation, std::string name);
  RawClient(TestFederation& federation, std::string name,
            const TlsIdentity& identity);

  const std::string& name() const { return name_; }
  v1::FederationService::Stub& stub() { return *stub_; }

  absl::StatusOr<v1::WaitForWorkResponse> Work();
  // The task of an open round; fails the test when there is none.
  v1::TrainTask Task();
  // An honest upload of the whole layout. `metadata` replaces what the delta
  // says of examples.
  RawUpload Make(const v1::TrainTask& task, const Delta& delta) const;
  RawUpload Make(const v1::TrainTask& task, const Delta& delta,
                 const ContributionMetadata& metadata) const;

  absl::StatusOr<v1::BeginUploadResponse> Begin(
      const v1::UploadManifest& manifest);
  absl::StatusOr<v1::CommitUploadResponse> Commit(const std::string& upload_id,
                                                  const std::string& sha256);
  std::unique_ptr<RawStream> Open() {
    return std::make_unique<RawStream>(*stub_);
  }
  // Begin and expect to be accepted at chunk `next`.
  void ExpectBegins(const RawUpload& upload, uint64_t next = 0);
  // Begins or resumes, sends what is missing, commits; expects a receipt.
  v1::Receipt SendAll(const RawUpload& upload);

 private:
  TestFederation& federation_;
  const std::string name_;
  std::unique_ptr<v1::FederationService::Stub> stub_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_RAW_CLIENT_H_

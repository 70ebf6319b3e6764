#include "tests/integration/raw_client.h"

#include <gtest/gtest.h>

#include <utility>

#include "consilium/aggregation/codec.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/random.h"
#include "consilium/secure/sha256.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

std::span<std::byte> WritableBytes(std::string& text) {
  return std::as_writable_bytes(std::span(text.data(), text.size()));
}

// No call of a test takes this long; one that hangs fails instead.
void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
}

}  // namespace

void RawUpload::Redeclare() {
  std::string payload;
  for (const std::string& frame : frames) payload += frame;
  manifest.set_payload_bytes(payload.size());
  manifest.set_chunk_count(frames.size());
  manifest.mutable_vectors(0)->set_frames(frames.size() - 1);
  manifest.set_payload_sha256(BytesOf(Sha256(payload)));
}

std::string RawUpload::Seal(uint64_t index, const std::string& frame) const {
  if (!key.has_value()) return frame;
  auto sealer = ChunkSealer::Create(*key, context, manifest.chunk_count());
  std::string out(frame.size() + kAeadTagBytes, '\0');
  EXPECT_OK(sealer.status());
  EXPECT_OK(sealer->Seal(index, AsBytes(frame), WritableBytes(out)));
  return out;
}

RawStream::~RawStream() {
  if (ended_) return;
  context_.TryCancel();
  AwaitEnd();
}

bool RawStream::Send(const std::string& upload_id, uint64_t index,
                     std::string data) {
  v1::UploadChunk chunk;
  chunk.set_upload_id(upload_id);
  chunk.set_index(index);
  chunk.set_data(std::move(data));
  return stream_->Write(chunk);
}

bool RawStream::ReadOne() {
  v1::UploadReply reply;
  if (!stream_->Read(&reply)) return false;
  if (reply.has_refusal()) {
    end_.refusal = reply.refusal();
  } else {
    EXPECT_GE(reply.next_chunk(), end_.acked) << "acks are cumulative";
    end_.acked = reply.next_chunk();
  }
  return true;
}

bool RawStream::AwaitAck(uint64_t next) {
  while (end_.acked < next) {
    if (!ReadOne()) return false;
  }
  return true;
}

StreamEnd RawStream::Close() {
  if (!ended_) stream_->WritesDone();
  return AwaitEnd();
}

StreamEnd RawStream::AwaitEnd() {
  if (ended_) return end_;
  while (ReadOne()) {
  }
  ended_ = true;
  end_.status = FromGrpc(stream_->Finish());
  return end_;
}

RawClient::RawClient(TestFederation& federation, std::string name)
    : RawClient(federation, name, federation.IdentityOf(name)) {}

RawClient::RawClient(TestFederation& federation, std::string name,
                     const TlsIdentity& identity)
    : federation_(federation),
      name_(std::move(name)),
      stub_(v1::FederationService::NewStub(federation.ChannelWith(identity))) {}

absl::StatusOr<v1::WaitForWorkResponse> RawClient::Work() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::WaitForWorkResponse response;
  const absl::Status status =
      FromGrpc(stub_->WaitForWork(&context, {}, &response));
  if (!status.ok()) return status;
  return response;
}

v1::TrainTask RawClient::Task() {
  const auto work = Work();
  EXPECT_THAT(work, IsOk()) << name_;
  if (!work.ok()) return {};
  EXPECT_TRUE(work->has_train()) << name_ << ": " << work->idle().reason();
  return work->train();
}

RawUpload RawClient::Make(const v1::TrainTask& task, const Delta& delta) const {
  ContributionMetadata metadata;
  metadata.examples = delta.examples;
  return Make(task, delta, metadata);
}

RawUpload RawClient::Make(const v1::TrainTask& task, const Delta& delta,
                          const ContributionMetadata& metadata) const {
  const v1::RoundAnnouncement& round = task.announcement();
  const Layout& layout = federation_.layout();
  const Codec* const codec =
      *FindCodec(CodecId::kF32, round.elements_per_frame());
  RawUpload upload;
  PayloadWriter writer(layout.total_elements(), codec,
                       [&](std::span<const std::byte> frame) {
                         upload.frames.emplace_back(AsChars(frame));
                         return absl::OkStatus();
                       });
  EXPECT_OK(writer.WriteMetadata(metadata));
  std::vector<float> values(static_cast<size_t>(layout.total_elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = delta.At(static_cast<int64_t>(i));
  }
  EXPECT_OK(writer.Append(values));
  EXPECT_OK(writer.Finish());

  std::string id(16, '\0');
  SystemRandom()->Fill(WritableBytes(id));
  v1::UploadManifest& manifest = upload.manifest;
  manifest.set_manifest_version(1);
  manifest.set_round(round.round());
  manifest.set_attempt(round.attempt());
  manifest.set_upload_id(id);
  manifest.set_layout_digest(round.layout_digest());
  *manifest.mutable_base() = round.base();
  manifest.set_coverage(Coverage::All(layout).bytes());
  v1::VectorSpec& vector = *manifest.add_vectors();
  vector.set_name("parameters");
  vector.set_codec(static_cast<uint32_t>(CodecId::kF32));
  vector.set_elements(static_cast<uint64_t>(layout.total_elements()));
  manifest.set_elements_per_frame(round.elements_per_frame());
  manifest.set_sealed(round.sealed());
  upload.Redeclare();

  upload.context = {round.federation(), round.round(), round.attempt(), name_,
                    id};
  if (round.sealed()) {
    upload.key = ContentKey::Generate(*SystemRandom());
    const auto public_key =
        X25519PublicKey::FromBytes(AsBytes(round.sealing_public_key()));
    EXPECT_OK(public_key.status());
    const auto wrapped = WrapContentKey(*upload.key, *public_key,
                                        upload.context, *SystemRandom());
    EXPECT_OK(wrapped.status());
    v1::WrappedKey& out = *manifest.mutable_wrapped_key();
    out.set_ephemeral_public(
        std::string(AsChars(wrapped->ephemeral_public.bytes)));
    out.set_ciphertext(std::string(AsChars(wrapped->ciphertext)));
  }
  return upload;
}

absl::StatusOr<v1::BeginUploadResponse> RawClient::Begin(
    const v1::UploadManifest& manifest) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::BeginUploadRequest request;
  *request.mutable_manifest() = manifest;
  v1::BeginUploadResponse response;
  const absl::Status status =
      FromGrpc(stub_->BeginUpload(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::CommitUploadResponse> RawClient::Commit(
    const std::string& upload_id, const std::string& sha256) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::CommitUploadRequest request;
  request.set_upload_id(upload_id);
  request.set_payload_sha256(sha256);
  v1::CommitUploadResponse response;
  const absl::Status status =
      FromGrpc(stub_->CommitUpload(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

void RawClient::ExpectBegins(const RawUpload& upload, uint64_t next) {
  const auto begun = Begin(upload.manifest);
  ASSERT_THAT(begun, IsOk()) << name_;
  ASSERT_TRUE(begun->has_accepted())
      << name_ << ": " << begun->ShortDebugString();
  EXPECT_EQ(begun->accepted().next_chunk(), next) << name_;
}

v1::Receipt RawClient::SendAll(const RawUpload& upload) {
  const auto begun = Begin(upload.manifest);
  EXPECT_THAT(begun, IsOk()) << name_;
  if (!begun.ok()) return {};
  if (!begun->has_accepted()) {
    ADD_FAILURE() << name_ << ": " << begun->ShortDebugString();
    return {};
  }
  const auto stream = Open();
  std::string id = upload.manifest.upload_id();
  const uint64_t first = begun->accepted().next_chunk();
  for (uint64_t i = first; i < upload.chunks(); ++i) {
    if (!stream->Send(std::exchange(id, ""), i, upload.Chunk(i))) break;
  }
  const StreamEnd end = stream->Close();
  EXPECT_OK(end.status) << name_;
  if (end.refusal) ADD_FAILURE() << name_ << ": " << end.refusal->message();
  if (first < upload.chunks()) {
    EXPECT_EQ(end.acked, upload.chunks()) << name_;
  }
  const auto committed =
      Commit(upload.manifest.upload_id(), upload.manifest.payload_sha256());
  EXPECT_THAT(committed, IsOk()) << name_;
  if (!committed.ok()) return {};
  EXPECT_TRUE(committed->has_receipt())
      << name_ << ": " << committed->refusal().message();
  return committed->receipt();
}

}  // namespace consilium

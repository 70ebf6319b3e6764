// What one enrolled institution may ask for, however it goes about it: the size
// of its requests, their number, streams without an upload, uploads replaced,
// certificates renewed. Each limit is named by the refusal.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/random.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;

using Stub = v1::FederationService::Stub;

// A request that is well formed and `bytes` larger than it needs to be.
template <typename Request>
Request Padded(size_t bytes) {
  Request request;
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      1000, std::string(bytes, 'x'));
  return request;
}

template <typename Request, typename Response>
absl::Status CallWith(Stub& stub,
                      grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                   const Request&, Response*),
                      const Request& request) {
  grpc::ClientContext context;
  Response response;
  return FromGrpc((stub.*method)(&context, request, &response));
}

template <typename Request, typename Response>
absl::Status PaddedCall(Stub& stub,
                        grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                     const Request&, Response*),
                        size_t bytes) {
  return CallWith(stub, method, Padded<Request>(bytes));
}

absl::Status Hello(Stub& stub) {
  v1::HelloRequest request;
  request.mutable_protocol()->set_min(1);
  request.mutable_protocol()->set_max(1);
  return CallWith(stub, &Stub::Hello, request);
}

TEST(RequestLimitsTest, NoRequestIsLargerThanItsLimit) {
  TestFederation federation;
  federation.Enroll("bank-a");
  RawClient client(federation, "bank-a");
  Stub& stub = client.stub();
  const auto too_large =
      StatusIs(StatusCode::kInvalidArgument,
               HasSubstr("the limit is limits.max_control_bytes 262144"));
  constexpr size_t kBytes = 300'000;
  EXPECT_THAT(PaddedCall(stub, &Stub::Hello, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::RenewCertificate, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::WaitForWork, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::ReportProgress, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::Decline, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::BeginUpload, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::CommitUpload, kBytes), too_large);
  EXPECT_THAT(PaddedCall(stub, &Stub::ReportEvaluation, kBytes), too_large);
  grpc::ClientContext context;
  const auto reader =
      stub.Download(&context, Padded<v1::DownloadRequest>(kBytes));
  v1::DownloadChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_THAT(FromGrpc(reader->Finish()), too_large);
  // Just below it a request is looked at.
  EXPECT_THAT(PaddedCall(stub, &Stub::WaitForWork, 262'000), IsOk());
  EXPECT_THAT(PaddedCall(stub, &Stub::Hello, 262'000),
              StatusIs(StatusCode::kFailedPrecondition));
}

TEST(RequestLimitsTest, TheLimitMayBeBelowAnUploadMessage) {
  TestFederation::Options options;
  options.configure = [](CoordinatorConfig& config) {
    config.limits.max_control_bytes = 64 << 10;
  };
  options.policy["quorum"] = "1";
  TestFederation federation(std::move(options));
  federation.Enroll("bank-a");
  RawClient client(federation, "bank-a");
  EXPECT_THAT(PaddedCall(client.stub(), &Stub::Hello, 66'000),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("limits.max_control_bytes 65536")));
  federation.StartRound();
  const RawUpload upload = client.Make(client.Task(), {"bank-a", 1, 1});
  client.SendAll(upload);
}

TEST(RequestLimitsTest, MetricsAreCountedBeforeTheyAreTaken) {
  TestFederation federation;
  federation.Enroll("bank-a");
  RawClient client(federation, "bank-a");
  v1::ReportEvaluationRequest request;
  request.set_round(1);
  request.set_candidate_digest(std::string(32, 'x'));
  for (int i = 0; i < 100'000; ++i) request.add_metrics();
  EXPECT_THAT(CallWith(client.stub(), &Stub::ReportEvaluation, request),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("100000 metrics, the limit is "
                                 "limits.max_metrics 1024")));
}

TEST(RequestLimitsTest, AnInstitutionHasOnlySoManyCalls) {
  TestFederation federation;
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  RawClient a(federation, "bank-a");
  RawClient b(federation, "bank-b");
  // None of them is counted for longer than it lasts.
  for (int i = 0; i < 50; ++i) ASSERT_OK(Hello(a.stub())) << i;
  const auto peer = federation.engine().peers().Find("bank-a");
  peer->calls += 16;
  EXPECT_THAT(Hello(a.stub()),
              StatusIs(StatusCode::kResourceExhausted,
                       HasSubstr("the limit is "
                                 "limits.max_calls_per_institution 16")));
  EXPECT_OK(Hello(b.stub()));
  peer->calls -= 16;
  EXPECT_OK(Hello(a.stub()));
}

TEST(RequestLimitsTest, AStreamThatNamesNoUploadIsClosed) {
  TimedFederation federation({{"quorum", "1"}}, {"bank-a"});
  RawClient client(*federation, "bank-a");
  const auto stream = client.Open();
  const auto peer = federation->engine().peers().Find("bank-a");
  while (peer->streams.load() == 0) ASSERT_THAT(client.Work(), IsOk());
  federation.Advance(federation->config().limits.upload_idle_timeout);
  ExpectEnds(stream->AwaitEnd(),
             Fails(StatusCode::kDeadlineExceeded,
                   {"named no upload for limits.upload_idle_timeout 2m"}));
}

TEST(RequestLimitsTest, ADownloadThatNobodyReadsIsEnded) {
  TimedFederation federation({{"quorum", "1"}}, {"bank-a"});
  RawClient client(*federation, "bank-a");
  v1::DownloadRequest request;
  request.set_version_digest(
      BytesOf(federation->engine().current_version()->digest));
  // gRPC reads ahead no more than it must, however long nobody reads.
  grpc::ChannelArguments arguments = MakeChannelArguments({});
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  const auto stub = v1::FederationService::NewStub(grpc::CreateCustomChannel(
      federation->address(),
      MakeClientCredentials(federation->IdentityOf("bank-a")), arguments));
  grpc::ClientContext context;
  const auto stream = stub->Download(&context, request);
  const auto peer = federation->engine().peers().Find("bank-a");
  while (peer->streams.load() == 0) ASSERT_THAT(client.Work(), IsOk());
  // A piece may be on its way still, whose time begins then.
  for (int i = 0; i < 2000 && peer->streams.load() > 0; ++i) {
    federation.Advance(federation->config().limits.upload_idle_timeout);
    ASSERT_THAT(client.Work(), IsOk());
  }
  EXPECT_EQ(peer->streams.load(), 0);
  v1::DownloadChunk chunk;
  while (stream->Read(&chunk)) {
  }
  EXPECT_FALSE(stream->Finish().ok());
}

TEST(RequestLimitsTest, AnAbandonedUploadGoesOnAtItsLastChunk) {
  TimedFederation federation({{"quorum", "1"}, {"deadline", "1h"}}, {"bank-a"});
  RawClient client(*federation, "bank-a");
  federation->StartRound();
  const RawUpload upload = client.Make(client.Task(), {"bank-a", 1, 1});
  client.ExpectBegins(upload);
  const auto stream = client.Open();
  ASSERT_TRUE(stream->Send(upload.manifest.upload_id(), 0, upload.Chunk(0)));
  ASSERT_TRUE(stream->AwaitAck(1));
  const auto& limits = federation->config().limits;
  federation.Advance(limits.upload_idle_timeout);
  ExpectEnds(stream->AwaitEnd(),
             Fails(StatusCode::kDeadlineExceeded,
                   {"limits.upload_idle_timeout 2m", "BeginUpload"}));
  UploadHub& uploads = federation->engine().uploads();
  ASSERT_TRUE(uploads.active());
  federation.Advance(limits.upload_slot_timeout);
  // An ingest thread does it.
  while (uploads.active()) ASSERT_THAT(client.Work(), IsOk());
  // Only the version that the round will make.
  EXPECT_EQ(federation->engine().store().space().reserved_bytes(),
            federation->engine().current_version().value().blob_bytes);
  client.ExpectBegins(upload, 1);
  client.SendAll(upload);
}

TEST(RequestLimitsTest, UploadsAreReplacedOnlySoOften) {
  TestFederation::Options options;
  options.policy["quorum"] = "1";
  options.configure = [](CoordinatorConfig& config) {
    config.limits.max_superseded_uploads = 2;
  };
  TestFederation federation(std::move(options));
  federation.Enroll("bank-a");
  federation.StartRound();
  RawClient client(federation, "bank-a");
  const v1::TrainTask task = client.Task();
  RawUpload live;
  for (int i = 0; i < 3; ++i) {
    live = client.Make(task, {"bank-a", 1, 1});
    client.ExpectBegins(live);
  }
  ExpectRefused(
      client.Begin(client.Make(task, {"bank-a", 1, 1}).manifest),
      Refuses(v1::Refusal::TOO_MANY, {"limits.max_superseded_uploads 2",
                                      "resume upload", "next round"}));
  client.SendAll(live);
}

TEST(RequestLimitsTest, CertificatesAreRenewedOnlySoOften) {
  TestFederation::Options options;
  options.configure = [](CoordinatorConfig& config) {
    config.limits.renewals_per_hour = 2;
  };
  TestFederation federation(std::move(options));
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  const auto a = federation.Connect("bank-a");
  EXPECT_OK(a->Renew());
  EXPECT_OK(a->Renew());
  RawClient raw(federation, "bank-a");
  EXPECT_THAT(CallWith(raw.stub(), &Stub::RenewCertificate,
                       v1::RenewCertificateRequest()),
              StatusIs(StatusCode::kResourceExhausted,
                       HasSubstr("too many renewals from bank-a: "
                                 "limits.renewals_per_hour is 2; try again")));
  EXPECT_OK(federation.Connect("bank-b")->Renew());
}

}  // namespace
}  // namespace consilium

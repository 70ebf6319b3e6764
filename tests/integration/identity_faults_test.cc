// Callers who are not who they must be: no certificate, a foreign one, an
// expired one, another role, another institution, one that is revoked while
// it sends.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "grpcpp/create_channel.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_pki.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using Change = v1::SetInstitutionStateRequest;

// Hello on a channel: the first thing anybody may ask.
absl::Status Greet(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  v1::HelloRequest request;
  request.mutable_protocol()->set_min(1);
  request.mutable_protocol()->set_max(1);
  v1::HelloResponse response;
  return FromGrpc(v1::FederationService::NewStub(channel)->Hello(
      &context, request, &response));
}

TEST(StrangersTest, OnlyMembersGetIn) {
  TestFederation federation;
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  const TlsIdentity member = federation.IdentityOf("bank-a");
  const PeerName name{"cards", PeerRole::kInstitution, "bank-a"};
  const absl::Time now = absl::Now();
  const absl::Duration day = absl::Hours(24);
  const TestPki foreign = TestPki::Create(now, "cards");
  const auto refused = StatusIs(StatusCode::kUnavailable);

  // No certificate at all.
  ChannelOptions options;
  options.own_connection = true;
  EXPECT_THAT(Greet(grpc::CreateCustomChannel(
                  federation.address(),
                  MakeEnrollmentChannelCredentials(member.root_pem),
                  MakeChannelArguments(options))),
              refused);
  // The right name from another CA; and a coordinator of another CA.
  TlsIdentity stranger = foreign.Peer("bank-a");
  stranger.root_pem = member.root_pem;
  EXPECT_THAT(Greet(federation.ChannelWith(stranger)), refused);
  TlsIdentity misled = federation.IdentityOf("bank-a");
  misled.root_pem = foreign.ca.root_pem();
  EXPECT_THAT(Greet(federation.ChannelWith(misled)),
              StatusIs(StatusCode::kUnavailable,
                       HasSubstr("certificate verify failed")));
  // The right CA at the wrong time.
  EXPECT_OK(Greet(federation.ChannelWith(federation.Issue(name, now, day))));
  for (const absl::Time issued_at : {now - 2 * day, now + day}) {
    EXPECT_THAT(
        Greet(federation.ChannelWith(federation.Issue(name, issued_at, day))),
        refused);
  }
  // Signed by the right CA, and still nobody.
  EXPECT_THAT(Greet(federation.ChannelWith(federation.Issue(
                  {"cards", PeerRole::kInstitution, "bank-z"}, now, day))),
              StatusIs(StatusCode::kUnauthenticated,
                       HasSubstr("institution \"bank-z\" is not known; ask the "
                                 "operator for an invitation")));

  // Whoever knocked: the two members make their round.
  EXPECT_OK(Greet(federation.ChannelWith(member)));
  const uint64_t round = federation.StartRound();
  const Delta a{"bank-a", 1, 3};
  const Delta b{"bank-b", 2, 5};
  SubmitTask(federation, *federation.Connect("bank-a"), a);
  SubmitTask(federation, *federation.Connect("bank-b"), b);
  ExpectExactMean(federation, round, {a, b});
  ExpectStoreIsWhole(federation);
}

TEST(StrangersTest, AnExpiredIdentityIsNamedBeforeItIsUsed) {
  TestFederation federation;
  federation.Enroll("bank-a");
  const TlsIdentity old =
      federation.Issue({"cards", PeerRole::kInstitution, "bank-a"},
                       absl::Now() - absl::Hours(48), absl::Hours(24));
  const std::string folder = JoinPath(federation.dir(), "bank-a");
  ASSERT_OK(WriteFileAtomic(federation.fs(), JoinPath(folder, "client.pem"),
                            AsBytes(old.chain_pem), 0644));
  ASSERT_OK(WriteFileAtomic(
      federation.fs(), JoinPath(folder, "client.key"),
      AsBytes(old.key_pem.Text(SecretAccess("a test's own key"))), 0600));
  EXPECT_THAT(client::Client::Connect(federation.OptionsFor("bank-a")).status(),
              StatusIs(StatusCode::kUnauthenticated, HasSubstr("expired")));
}

// The name comes from the certificate. What another institution sends stays
// its own, whoever learns its upload id.
TEST(ImpersonationTest, NobodyWritesIntoAnothersUpload) {
  TestFederation federation;
  federation.Enroll("bank-a");
  federation.Enroll("bank-b");
  const uint64_t round = federation.StartRound();
  RawClient a(federation, "bank-a");
  RawClient b(federation, "bank-b");
  const Delta delta_a{"bank-a", 1, 30};
  const Delta delta_b{"bank-b", 2, 40};
  const v1::TrainTask task = b.Task();
  const RawUpload victim = b.Make(task, delta_b);
  b.ExpectBegins(victim);
  const auto open = b.Open();
  const std::string id = victim.manifest.upload_id();
  open->Send(id, 0, victim.Chunk(0));
  ASSERT_TRUE(open->AwaitAck(1));

  const Wrong not_yours =
      Fails(StatusCode::kPermissionDenied,
            {HexEncode(AsBytes(id)), "belongs to another institution"});
  ExpectRefused(a.Begin(victim.manifest), not_yours);
  const auto stream = a.Open();
  stream->Send(id, 1, victim.Chunk(1));
  ExpectEnds(stream->Close(), not_yours);
  ExpectRefused(a.Commit(id, victim.manifest.payload_sha256()), not_yours);
  // Its bytes under another id do not open: key and chunks are bound to it.
  v1::UploadManifest copied = victim.manifest;
  copied.set_upload_id(std::string(16, 'a'));
  ExpectRefused(a.Begin(copied), Refuses(v1::Refusal::AUTHENTICATION,
                                         {"content key does not unwrap"}));

  // The victim's stream goes on where it was, and both count once.
  for (uint64_t i = 1; i < victim.chunks(); ++i) {
    open->Send("", i, victim.Chunk(i));
  }
  EXPECT_EQ(open->Close().acked, victim.chunks());
  b.SendAll(victim);
  ExpectRefused(a.Commit(id, victim.manifest.payload_sha256()), not_yours);
  a.SendAll(a.Make(task, delta_a));
  ExpectExactMean(federation, round, {delta_a, delta_b});
  ExpectStoreIsWhole(federation);
}

TEST(RevocationTest, ActsOnTheNextMessageOfALiveConnection) {
  TestFederation::Options options;
  SlotSpec slot;  // 12 MiB: more than connections buffer
  slot.name = "trunk.lora_b";
  slot.shape = {3, 1 << 20};
  slot.group = *GroupName::Parse("shared");
  options.layout = *Layout::Create({slot});
  TestFederation federation(options);
  for (const char* name : {"bank-a", "bank-b", "sent", "sending", "waiting"}) {
    federation.Enroll(name);
  }
  const uint64_t round = federation.StartRound();
  const Delta a{"bank-a", 1, 30};
  const Delta b{"bank-b", 2, 40};

  RawClient sent(federation, "sent");
  sent.SendAll(sent.Make(sent.Task(), {"sent", 3, 1000}));

  RawClient sending(federation, "sending");
  const v1::TrainTask task = sending.Task();
  const RawUpload upload = sending.Make(task, {"sending", 4, 1000});
  sending.ExpectBegins(upload);
  const auto stream = sending.Open();
  stream->Send(upload.manifest.upload_id(), 0, upload.Chunk(0));
  stream->Send("", 1, upload.Chunk(1));
  ASSERT_TRUE(stream->AwaitAck(2));
  v1::DownloadRequest download;
  download.set_version_digest(task.announcement().base().digest());
  grpc::ClientContext download_context;
  const auto reader = sending.stub().Download(&download_context, download);
  v1::DownloadChunk piece;
  ASSERT_TRUE(reader->Read(&piece));
  const uint64_t total = piece.total_bytes();
  uint64_t read = piece.data().size();

  RawClient waiting(federation, "waiting");
  const uint64_t revision = waiting.Work()->revision();
  grpc::ClientContext poll_context;
  grpc::CompletionQueue queue;
  v1::WaitForWorkRequest poll;
  poll.set_known_revision(revision);
  poll.set_max_wait_millis(25'000);
  const auto call =
      waiting.stub().AsyncWaitForWork(&poll_context, poll, &queue);
  v1::WaitForWorkResponse answer;
  grpc::Status polled;
  call->Finish(&answer, &polled, nullptr);

  for (const char* name : {"sent", "sending", "waiting"}) {
    ASSERT_OK(federation.SetState(name, Change::REVOKE, "key lost"));
  }
  ExpectEnds(stream->AwaitEnd(), Refuses(v1::Refusal::SUSPENDED,
                                         {"sending was revoked: key lost"}));
  const Wrong revoked =
      Fails(StatusCode::kUnauthenticated,
            {"institution \"sending\" is revoked", "another name"});
  while (reader->Read(&piece)) read += piece.data().size();
  ExpectWrong(FromGrpc(reader->Finish()), nullptr, revoked);
  EXPECT_LT(read, total);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_THAT(FromGrpc(polled), StatusIs(StatusCode::kUnauthenticated,
                                         HasSubstr("\"waiting\" is revoked")));
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  // The connection still lives; nothing more is heard on it.
  const auto again = sending.Open();
  again->Send(upload.manifest.upload_id(), 2, upload.Chunk(2));
  ExpectEnds(again->Close(), revoked);
  ExpectRefused(sending.Begin(upload.manifest), revoked);
  ExpectRefused(sending.Commit(upload.manifest.upload_id(),
                               upload.manifest.payload_sha256()),
                revoked);
  EXPECT_THAT(sending.Work().status(), StatusIs(StatusCode::kUnauthenticated));

  for (const v1::ContributionInfo& info : ContributionsOf(federation, round)) {
    EXPECT_EQ(info.state(), "quarantined") << info.institution();
    EXPECT_THAT(info.reason(), HasSubstr("revoked: key lost"));
  }
  for (const char* name : {"sent", "sending", "waiting"}) {
    EXPECT_EQ(MemberOf(federation, round, name).state(), "removed");
  }
  ExpectStoreIsWhole(federation);
  SubmitTask(federation, *federation.Connect("bank-a"), a);
  SubmitTask(federation, *federation.Connect("bank-b"), b);
  ExpectExactMean(federation, round, {a, b});
  ExpectStoreIsWhole(federation);

  // Also over a restart, and for good.
  federation.Restart();
  EXPECT_THAT(Greet(federation.ChannelWith(federation.IdentityOf("sending"))),
              StatusIs(StatusCode::kUnauthenticated, HasSubstr("revoked")));
}

TEST(RevocationTest, CoversCertificatesFromBeforeARenewal) {
  TestFederation federation;
  federation.Enroll("bank-a");
  const TlsIdentity before = federation.IdentityOf("bank-a");
  const auto client = federation.Connect("bank-a");
  ASSERT_OK(client->Renew());
  const TlsIdentity after = federation.IdentityOf("bank-a");
  EXPECT_NE(before.leaf.serial, after.leaf.serial);
  // Both are good until they end, so that a renewal cuts no upload.
  EXPECT_OK(Greet(federation.ChannelWith(before)));
  EXPECT_OK(Greet(federation.ChannelWith(after)));
  ASSERT_OK(federation.SetState("bank-a", Change::REVOKE, "key lost"));
  for (const TlsIdentity* const identity : {&before, &after}) {
    EXPECT_THAT(Greet(federation.ChannelWith(*identity)),
                StatusIs(StatusCode::kUnauthenticated));
  }
  EXPECT_THAT(client->WaitForWork(absl::ZeroDuration()).status(),
              StatusIs(StatusCode::kUnauthenticated,
                       HasSubstr("\"bank-a\" is revoked")));
  ExpectStoreIsWhole(federation);
}

// A certificate that ends while its connection lives: TLS does not look again,
// the coordinator does.
TEST(ExpiryTest, ActsOnALiveConnection) {
  FakeClock clock(absl::Now());
  TestFederation::Options options;
  options.clock = &clock;
  TestFederation federation(options);
  federation.Enroll("bank-a");
  const auto channel = federation.ChannelWith(federation.IdentityOf("bank-a"));
  EXPECT_OK(Greet(channel));
  clock.Advance(absl::Hours(24 * 90) - absl::Minutes(1));
  EXPECT_OK(Greet(channel));
  clock.Advance(absl::Minutes(2));
  EXPECT_THAT(
      Greet(channel),
      StatusIs(StatusCode::kUnauthenticated,
               testing::AllOf(HasSubstr("consilium://cards/institution/bank-a"),
                              HasSubstr("expired at"), HasSubstr("renew it"))));
  ExpectStoreIsWhole(federation);
}

}  // namespace
}  // namespace consilium

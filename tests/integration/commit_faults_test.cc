// Commits that come twice, too early, too late or for something else; uploads
// that replace each other; rounds that close over an upload.

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "proto/wire/convert.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;

// Sends chunks [0, end) and waits until they are durable.
void SendSome(RawStream& stream, const RawUpload& upload, uint64_t end) {
  for (uint64_t i = 0; i < end; ++i) {
    stream.Send(upload.manifest.upload_id(), i, upload.Chunk(i));
  }
  ASSERT_TRUE(stream.AwaitAck(end));
}

std::string IdOf(const RawUpload& upload) {
  return HexEncode(AsBytes(upload.manifest.upload_id()));
}

class CommitFaultsTest : public testing::TestWithParam<bool> {
 protected:
  CommitFaultsTest() {
    federation_.Enroll("bank-a");
    federation_.Enroll("bank-b");
  }
  static TestFederation::Options Options() {
    TestFederation::Options options;
    options.sealing = GetParam();
    return options;
  }
  absl::StatusOr<v1::CommitUploadResponse> Commit(RawClient& client,
                                                  const RawUpload& upload) {
    return client.Commit(upload.manifest.upload_id(),
                         upload.manifest.payload_sha256());
  }
  // The other institution hands in honestly; the round ends.
  void Finish(uint64_t round, const Delta& a) {
    const Delta b{"bank-b", 77, 12};
    SubmitTask(federation_, *federation_.Connect("bank-b"), b);
    ExpectExactMean(federation_, round, {a, b});
    ExpectStoreIsWhole(federation_);
  }

  TestFederation federation_{Options()};
};

TEST_P(CommitFaultsTest, TheOriginalReceiptComesBackForEver) {
  const uint64_t round = federation_.StartRound();
  const Delta delta{"bank-a", 1, 30};
  RawClient client(federation_, "bank-a");
  const v1::TrainTask task = client.Task();
  const RawUpload upload = client.Make(task, delta);
  const v1::Receipt receipt = client.SendAll(upload);
  EXPECT_EQ(receipt.upload_id(), upload.manifest.upload_id());
  EXPECT_EQ(receipt.payload_sha256(), upload.manifest.payload_sha256());
  EXPECT_EQ(receipt.payload_bytes(), upload.manifest.payload_bytes());

  const RawUpload other = client.Make(task, {"bank-a", 2, 99});
  const auto expect_same = [&] {
    const auto again = Commit(client, upload);
    ASSERT_OK(again.status());
    EXPECT_EQ(again->receipt().SerializeAsString(),
              receipt.SerializeAsString());
    // Also for a commit that names another digest, the same manifest, and a
    // second one.
    const auto digest =
        client.Commit(upload.manifest.upload_id(), BytesOf(Sha256("other")));
    ASSERT_OK(digest.status());
    EXPECT_EQ(digest->receipt().SerializeAsString(),
              receipt.SerializeAsString());
    for (const RawUpload* const manifest : {&upload, &other}) {
      const auto begun = client.Begin(manifest->manifest);
      ASSERT_OK(begun.status());
      EXPECT_EQ(begun->committed().SerializeAsString(),
                receipt.SerializeAsString());
    }
  };
  expect_same();
  federation_.Restart();
  RawClient after(federation_, "bank-a");
  const auto again = Commit(after, upload);
  ASSERT_OK(again.status());
  EXPECT_EQ(again->receipt().SerializeAsString(), receipt.SerializeAsString());
  Finish(round, delta);
  expect_same();
}

TEST_P(CommitFaultsTest, ACommitBeforeTheLastChunkWaitsForIt) {
  const uint64_t round = federation_.StartRound();
  const Delta delta{"bank-a", 1, 30};
  RawClient client(federation_, "bank-a");
  const RawUpload upload = client.Make(client.Task(), delta);
  client.ExpectBegins(upload);
  ExpectRefused(Commit(client, upload),
                Fails(StatusCode::kFailedPrecondition,
                      {"0 of 4 chunks", "send the rest"}));
  const auto stream = client.Open();
  SendSome(*stream, upload, 3);
  ExpectRefused(Commit(client, upload),
                Fails(StatusCode::kFailedPrecondition,
                      {"3 of 4 chunks", "send the rest"}));
  // The stream is none the worse.
  stream->Send("", 3, upload.Chunk(3));
  EXPECT_EQ(stream->Close().acked, 4u);
  client.SendAll(upload);
  Finish(round, delta);
}

TEST_P(CommitFaultsTest, ACommitOfAnotherDigestIsRefused) {
  federation_.Enroll("bank-c");
  const uint64_t round = federation_.StartRound();
  RawClient client(federation_, "bank-c");
  const RawUpload upload = client.Make(client.Task(), {"bank-c", 3, 30});
  client.ExpectBegins(upload);
  const auto stream = client.Open();
  SendSome(*stream, upload, upload.manifest.chunk_count());
  const Wrong wrong{StatusCode::kOk,
                    v1::Refusal::DIGEST_MISMATCH,
                    {Sha256("other").Hex(), "the payload has"}};
  ExpectRefused(
      client.Commit(upload.manifest.upload_id(), BytesOf(Sha256("other"))),
      wrong);
  // It stands as refused, with the reason.
  ExpectRefused(Commit(client, upload),
                Refuses(v1::Refusal::QUARANTINED, wrong.says));
  EXPECT_EQ(MemberOf(federation_, round, "bank-c").state(), "failed");
  const Delta a{"bank-a", 1, 30};
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  Finish(round, a);
}

TEST_P(CommitFaultsTest, CommitsOfNothingAreErrors) {
  RawClient client(federation_, "bank-a");
  ExpectRefused(client.Commit(std::string(16, 'x'), BytesOf(Sha256("x"))),
                Fails(StatusCode::kNotFound,
                      {"78787878787878787878787878787878", "BeginUpload"}));
  ExpectRefused(client.Commit("short", BytesOf(Sha256("x"))),
                Fails(StatusCode::kInvalidArgument,
                      {"upload_id has 5 bytes", "must have 16"}));
  ExpectRefused(client.Commit(std::string(16, 'x'), "short"),
                Fails(StatusCode::kInvalidArgument,
                      {"payload_sha256 has 5 bytes", "has 32"}));
}

TEST_P(CommitFaultsTest, ASecondManifestReplacesTheFirstBeforeCommit) {
  const uint64_t round = federation_.StartRound();
  RawClient client(federation_, "bank-a");
  const v1::TrainTask task = client.Task();
  const RawUpload first = client.Make(task, {"bank-a", 1, 30});
  client.ExpectBegins(first);
  const auto stream = client.Open();
  SendSome(*stream, first, 2);

  const Delta delta{"bank-a", 2, 40};
  const RawUpload second = client.Make(task, delta);
  client.ExpectBegins(second);
  const Wrong replaced =
      Refuses(v1::Refusal::SUPERSEDED, {IdOf(first), IdOf(second)});
  ExpectEnds(stream->AwaitEnd(), replaced);
  ExpectRefused(client.Begin(first.manifest),
                Refuses(v1::Refusal::SUPERSEDED,
                        {IdOf(first), "superseded", "new upload id"}));
  ExpectRefused(Commit(client, first),
                Refuses(v1::Refusal::SUPERSEDED, {IdOf(second)}));
  // Nor does a stream for it find anything.
  const auto late = client.Open();
  late->Send(first.manifest.upload_id(), 2, first.Chunk(2));
  ExpectEnds(late->Close(), Fails(StatusCode::kNotFound, {IdOf(first)}));
  ExpectStoreIsWhole(federation_);

  client.SendAll(second);
  Finish(round, delta);
}

TEST_P(CommitFaultsTest, AClosedRoundTakesNothingMore) {
  federation_.Enroll("bank-c");
  federation_.Enroll("bank-d");
  const uint64_t round = federation_.StartRound();
  RawClient slow(federation_, "bank-c");
  RawClient asleep(federation_, "bank-d");
  const RawUpload upload = slow.Make(slow.Task(), {"bank-c", 3, 30});
  const RawUpload never = asleep.Make(asleep.Task(), {"bank-d", 4, 30});
  slow.ExpectBegins(upload);
  const auto stream = slow.Open();
  SendSome(*stream, upload, 3);
  const Delta a{"bank-a", 1, 30};
  const Delta b{"bank-b", 2, 12};
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);

  v1::CloseRoundRequest close;
  close.set_round(round);
  v1::RoundInfo info;
  grpc::ClientContext context;
  ASSERT_TRUE(federation_.admin().CloseRound(&context, close, &info).ok());
  // The stream is told at once, without another chunk.
  ExpectEnds(stream->AwaitEnd(),
             Refuses(v1::Refusal::LATE, {"an operator closed the round"}));
  ExpectExactMean(federation_, round, {a, b});

  const std::string name = Cat("round ", round);
  ExpectRefused(Commit(slow, upload),
                Refuses(v1::Refusal::LATE, {name, "closed before"}));
  for (const auto& [client, late] :
       {std::pair(&slow, &upload), std::pair(&asleep, &never)}) {
    ExpectRefused(client->Begin(late->manifest),
                  Refuses(v1::Refusal::LATE, {name, "is over: promoted"}));
  }
  EXPECT_EQ(MemberOf(federation_, round, "bank-c").state(), "missing");
  ExpectStoreIsWhole(federation_);

  // And the next round does not mind.
  const uint64_t next = federation_.StartRound({}, {"bank-a", "bank-b"});
  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);
  ExpectExactMean(federation_, next, {a, b});
  ExpectStoreIsWhole(federation_);
}

INSTANTIATE_TEST_SUITE_P(Sealing, CommitFaultsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

// Chunks that do not come as they should, on the raw stream. Each fault has an
// institution of its own in one round; each of them then goes on honestly, and
// the average over all must be exact.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "consilium/base/strings.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;

// Two parameter frames: a full one and a shorter one.
Layout TwoFrameLayout() {
  SlotSpec slot;
  slot.name = "trunk.lora_b";
  slot.shape = {2, 200'000};
  slot.group = *GroupName::Parse("shared");
  return *Layout::Create({slot});
}

struct ChunkFault {
  const char* name;
  // Sends what is wrong, after the honest chunks that it needs before it.
  std::function<void(const RawUpload&, RawStream&)> send;
  Wrong sealed;
  Wrong open;  // where sealing is off
};

void SendUpTo(const RawUpload& u, RawStream& stream, uint64_t end) {
  for (uint64_t i = 0; i < end; ++i) {
    stream.Send(i == 0 ? u.manifest.upload_id() : "", i, u.Chunk(i));
  }
}

std::function<void(const RawUpload&, RawStream&)> Flipped(size_t byte,
                                                          bool from_end) {
  return [=](const RawUpload& u, RawStream& stream) {
    SendUpTo(u, stream, 1);
    std::string chunk = u.Chunk(1);
    char& c = chunk[from_end ? chunk.size() - 1 - byte : byte];
    c = static_cast<char>(c ^ 0x10);
    stream.Send("", 1, chunk);
  };
}

std::function<void(const RawUpload&, RawStream&)> CutTo(size_t size) {
  return [=](const RawUpload& u, RawStream& stream) {
    SendUpTo(u, stream, 1);
    stream.Send("", 1, u.Chunk(1).substr(0, size));
  };
}

const Wrong kForged =
    Refuses(v1::Refusal::AUTHENTICATION,
            {"chunk 1", "resume from the last acknowledged chunk"});

std::vector<ChunkFault> ChunkFaults() {
  std::vector<ChunkFault> all;
  const auto add = [&all](const char* name, auto send, Wrong sealed,
                          Wrong open) {
    all.push_back({name, send, std::move(sealed), std::move(open)});
  };
  const auto both = [&add](const char* name, auto send, StatusCode code,
                           std::vector<std::string> says) {
    add(name, send, Fails(code, says), Fails(code, says));
  };
  both("gap",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send("", 2, u.Chunk(2));
       },
       StatusCode::kInvalidArgument,
       {"chunk 2 of 3 is out of order", "chunk 1 is next", "BeginUpload"});
  both("begins-in-the-middle",
       [](const RawUpload& u, RawStream& s) {
         s.Send(u.manifest.upload_id(), 1, u.Chunk(1));
       },
       StatusCode::kInvalidArgument,
       {"chunk 1 of 3 is out of order", "chunk 0 is next"});
  both("more-than-declared",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 3);
         s.Send("", 3, u.Chunk(2));
       },
       StatusCode::kInvalidArgument, {"chunk 3", "chunk_count 3"});
  both("index-overflows",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 3);
         s.Send("", ~uint64_t{0}, u.Chunk(2));
       },
       StatusCode::kInvalidArgument,
       {"chunk 18446744073709551615", "chunk_count 3"});
  both("unknown-upload",
       [](const RawUpload& u, RawStream& s) {
         s.Send(std::string(16, 'x'), 0, u.Chunk(0));
       },
       StatusCode::kNotFound,
       {"78787878787878787878787878787878", "is not open", "BeginUpload"});
  both("no-upload",
       [](const RawUpload& u, RawStream& s) { s.Send("", 0, u.Chunk(0)); },
       StatusCode::kNotFound, {"upload \"\" is not open", "BeginUpload"});
  both("another-upload-in-mid-stream",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send(std::string(16, 'x'), 1, u.Chunk(1));
       },
       StatusCode::kInvalidArgument,
       {"chunk 1 names upload 7878", "one stream carries one upload"});
  both("empty",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send("", 1, "");
       },
       StatusCode::kInvalidArgument, {"0 bytes"});
  add("truncated-below-a-header", CutTo(10),
      Fails(StatusCode::kInvalidArgument,
            {"chunk 1 has 10 bytes", "17 to 1048576"}),
      Fails(StatusCode::kInvalidArgument, {"chunk 1", "10 bytes"}));
  add("truncated-to-half", CutTo(500'000), kForged, kForged);
  add("last-byte-missing", CutTo(1'032'223), kForged, kForged);
  add("bit-of-the-first-byte-flipped", Flipped(0, false), kForged,
      Fails(StatusCode::kInvalidArgument, {"chunk 1", "magic"}));
  add("bit-in-the-middle-flipped", Flipped(300'000, false), kForged, kForged);
  add("bit-of-the-last-byte-flipped", Flipped(0, true), kForged, kForged);
  both("above-one-mebibyte",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send("", 1, u.Chunk(1) + std::string(20'000, '\0'));
       },
       StatusCode::kInvalidArgument, {"chunk 1", "1048"});
  both("above-the-size-of-upload-messages",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send("", 1, u.Chunk(1) + std::string(40'000, '\0'));
       },
       StatusCode::kInvalidArgument,
       {"an upload message has", "chunks have at most 1 MiB"});
  both("above-the-size-of-messages",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 1);
         s.Send("", 1, std::string(5 << 20, 'x'));
       },
       StatusCode::kResourceExhausted, {"larger than max", "1118208"});
  both("beyond-the-declared-bytes",
       [](const RawUpload& u, RawStream& s) {
         SendUpTo(u, s, 2);
         s.Send("", 2, u.Seal(2, u.frames[2] + std::string(100, '\0')));
       },
       StatusCode::kInvalidArgument,
       {"chunk 2", "declared payload_bytes 1600", "by 100 bytes"});
  return all;
}

class UploadFaultsTest : public testing::TestWithParam<bool> {
 protected:
  // Enrols one institution for each name and opens a round of all of them.
  uint64_t OpenRound(const std::vector<std::string>& names) {
    for (const std::string& name : names) federation_.Enroll(name);
    return federation_.StartRound({{"quorum", Cat(names.size())}});
  }
  static TestFederation::Options Options() {
    TestFederation::Options options;
    options.sealing = GetParam();
    options.layout = TwoFrameLayout();
    // Frames of full size, however many take part.
    options.configure = [](CoordinatorConfig& config) {
      config.limits.frame_memory = int64_t{1} << 30;
    };
    return options;
  }

  TestFederation federation_{Options()};
};

TEST_P(UploadFaultsTest, AfterEachChunkFaultTheUploadGoesOn) {
  const std::vector<ChunkFault> faults = ChunkFaults();
  std::vector<std::string> names;
  for (const ChunkFault& fault : faults) names.push_back(fault.name);
  const uint64_t round = OpenRound(names);
  std::vector<Delta> deltas;
  for (const ChunkFault& fault : faults) {
    SCOPED_TRACE(fault.name);
    const Delta delta{fault.name, deltas.size() + 1, 100 + deltas.size()};
    deltas.push_back(delta);
    RawClient client(federation_, fault.name);
    const RawUpload upload = client.Make(client.Task(), delta);
    client.ExpectBegins(upload);
    const auto stream = client.Open();
    fault.send(upload, *stream);
    ExpectEnds(stream->Close(), GetParam() ? fault.sealed : fault.open);
    ExpectStoreIsWhole(federation_);
    client.SendAll(upload);
  }
  ExpectExactMean(federation_, round, deltas);
  ExpectStoreIsWhole(federation_);
  EXPECT_EQ(federation_.engine().store().space().reserved_bytes(), 0);
}

// What was taken once is not taken again, whatever comes in its place.
TEST_P(UploadFaultsTest, RepeatedChunksCountOnce) {
  const uint64_t round = OpenRound({"same-bytes", "other-bytes"});
  const Delta same{"same-bytes", 1, 10};
  const Delta other{"other-bytes", 2, 30};
  {
    RawClient client(federation_, same.institution);
    const RawUpload upload = client.Make(client.Task(), same);
    client.ExpectBegins(upload);
    const auto stream = client.Open();
    for (const uint64_t index : {0, 0, 1, 0, 1, 1, 2, 2, 0}) {
      stream->Send(upload.manifest.upload_id(), index, upload.Chunk(index));
    }
    const StreamEnd end = stream->Close();
    EXPECT_OK(end.status);
    EXPECT_EQ(end.acked, 3u);
    client.SendAll(upload);
  }
  {
    RawClient client(federation_, other.institution);
    const RawUpload upload = client.Make(client.Task(), other);
    const RawUpload forged = client.Make(client.Task(), same);
    client.ExpectBegins(upload);
    const auto stream = client.Open();
    SendUpTo(upload, *stream, 2);
    ASSERT_TRUE(stream->AwaitAck(2));
    stream->Send("", 1, upload.Seal(1, forged.frames[1]));
    stream->Send("", 2, upload.Chunk(2));
    const StreamEnd end = stream->Close();
    EXPECT_OK(end.status);
    EXPECT_EQ(end.acked, 3u);
    client.SendAll(upload);
  }
  ExpectExactMean(federation_, round, {same, other});
  ExpectStoreIsWhole(federation_);
}

TEST_P(UploadFaultsTest, AnotherStreamTakesOver) {
  const uint64_t round = OpenRound({"bank-a"});
  const Delta delta{"bank-a", 5, 7};
  RawClient client(federation_, "bank-a");
  const RawUpload upload = client.Make(client.Task(), delta);
  client.ExpectBegins(upload);
  const auto first = client.Open();
  SendUpTo(upload, *first, 1);
  ASSERT_TRUE(first->AwaitAck(1));
  const auto second = client.Open();
  second->Send(upload.manifest.upload_id(), 1, upload.Chunk(1));
  ASSERT_TRUE(second->AwaitAck(2));
  ExpectEnds(first->AwaitEnd(),
             Fails(StatusCode::kAborted, {"another stream", "took over"}));
  second->Send("", 2, upload.Chunk(2));
  EXPECT_EQ(second->Close().acked, 3u);
  client.SendAll(upload);
  ExpectExactMean(federation_, round, {delta});
  ExpectStoreIsWhole(federation_);
}

// Streams of one upload that race each other, and a commit that races them.
TEST_P(UploadFaultsTest, RacingStreamsOfOneUploadDoNoHarm) {
  const uint64_t round = OpenRound({"bank-a"});
  const Delta delta{"bank-a", 6, 7};
  RawClient client(federation_, "bank-a");
  const RawUpload upload = client.Make(client.Task(), delta);
  client.ExpectBegins(upload);
  std::vector<std::thread> senders;
  for (int i = 0; i < 4; ++i) {
    senders.emplace_back([&client, &upload] {
      const auto stream = client.Open();
      for (uint64_t index = 0; index < upload.chunks(); ++index) {
        stream->Send(upload.manifest.upload_id(), index, upload.Chunk(index));
      }
      stream->Close();
      // Too early, perhaps; never wrong.
      client
          .Commit(upload.manifest.upload_id(), upload.manifest.payload_sha256())
          .status()
          .IgnoreError();
    });
  }
  for (std::thread& sender : senders) sender.join();
  const auto begun = client.Begin(upload.manifest);
  ASSERT_OK(begun.status());
  if (!begun->has_committed()) client.SendAll(upload);
  ExpectExactMean(federation_, round, {delta});
  ExpectStoreIsWhole(federation_);
}

INSTANTIATE_TEST_SUITE_P(Sealing, UploadFaultsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

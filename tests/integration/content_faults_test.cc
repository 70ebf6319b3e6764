// Contributions whose content is wrong though every chunk arrives as sent.
// Each fault has an institution of its own in one round: it is quarantined
// with the reason, told so again whenever it asks, and counts for nothing.

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/frame.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "proto/wire/convert.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Settings of the round.
constexpr uint64_t kMinExamples = 5;
constexpr uint64_t kMaxExamples = 1'000'000;

struct ContentFault {
  const char* name;
  std::function<void(RawUpload&)> spoil;
  v1::Refusal::Code code;
  std::vector<std::string> says;
  // When it comes to light: while chunks arrive, or only at commit.
  bool at_commit = false;
};

// Writes the header anew, with a checksum that fits.
void Rehead(std::string& frame, const FrameHeader& header) {
  SealFrameHeader(
      header, std::as_writable_bytes(std::span(frame.data(), frame.size())));
}

FrameHeader HeaderOf(const std::string& frame) {
  const auto view = ParseFrame(AsBytes(frame), CrcCheck::kSkip);
  EXPECT_OK(view.status());
  return view->header;
}

std::function<void(RawUpload&)> Element(size_t frame, size_t element,
                                        float value) {
  return [=](RawUpload& u) {
    std::string& bytes = u.frames[frame];
    std::memcpy(&bytes[kFrameHeaderBytes + element * sizeof(float)], &value,
                sizeof(float));
    Rehead(bytes, HeaderOf(bytes));
  };
}

std::function<void(RawUpload&)> Header(
    size_t frame, std::function<void(FrameHeader&)> change) {
  return [=](RawUpload& u) {
    FrameHeader header = HeaderOf(u.frames[frame]);
    change(header);
    Rehead(u.frames[frame], header);
  };
}

// Frame 0 with these bytes after the header.
std::function<void(RawUpload&)> Metadata(std::string body) {
  return [body = std::move(body)](RawUpload& u) {
    u.frames[0] = std::string(kFrameHeaderBytes, '\0') + body;
    Rehead(u.frames[0], {.kind = FrameKind::kMetadata});
  };
}

std::string Fields(const std::function<void(ByteWriter&)>& rest,
                   uint64_t examples = 10) {
  ByteWriter out;
  out.U16(1);
  ByteWriter value;
  value.U64(examples);
  out.U16(1);
  out.LengthPrefixed(value.bytes());
  if (rest) rest(out);
  return out.ToString();
}

std::function<void(RawUpload&)> Examples(uint64_t examples) {
  return Metadata(Fields(nullptr, examples));
}

std::function<void(RawUpload&)> Tokens(uint32_t group, uint64_t tokens) {
  return Metadata(Fields([=](ByteWriter& out) {
    ByteWriter value;
    value.U32(group);
    value.U64(tokens);
    out.U16(2);
    out.LengthPrefixed(value.bytes());
  }));
}

std::function<void(RawUpload&)> Metrics(
    const std::vector<std::pair<std::string, double>>& metrics) {
  return Metadata(Fields([=](ByteWriter& out) {
    ByteWriter value;
    for (const auto& [name, number] : metrics) {
      value.U16(static_cast<uint16_t>(name.size()));
      value.Text(name);
      value.F64(number);
    }
    out.U16(3);
    out.LengthPrefixed(value.bytes());
  }));
}

std::string Garbage() {
  SeededRandom random(20240601);
  std::string bytes(300, '\0');
  random.Fill(std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

std::vector<ContentFault> ContentFaults(bool sealed) {
  const auto quarantined = v1::Refusal::QUARANTINED;
  std::vector<std::pair<std::string, double>> many;
  for (int i = 1000; i < 1000 + 1025; ++i) many.emplace_back(Cat("m", i), 1.0);
  std::vector<ContentFault> all = {
      {"nan",
       Element(2, 5, kNan),
       quarantined,
       {"frame 2", "tensor \"trunk.lora_b\"", "element 255653", "not finite"}},
      {"infinity",
       Element(1, 0, kInfinity),
       quarantined,
       {"frame 1", "tensor \"trunk.lora_a\"", "element 0", "not finite"}},
      {"minus-infinity-at-the-end",
       Element(3, 90'143, -kInfinity),
       quarantined,
       {"frame 3", "tensor \"experts.1.up\"", "element 1919", "not finite"}},
      {"norm-too-large",
       Element(1, 7, 5000.0f),
       quarantined,
       {"norm is above", "maximum_norm 1000", "5002.15"}},
      {"no-examples", Examples(0), quarantined, {"frame 0", "examples are 0"}},
      {"examples-above-the-cap",
       Examples(kMaxExamples + 1),
       quarantined,
       {"1000001 examples exceed", "maximum_weight 1000000"}},
      {"examples-minus-one",
       Examples(~uint64_t{0}),
       quarantined,
       {"18446744073709551615 examples exceed", "maximum_weight"}},
      {"examples-below-the-minimum",
       Examples(kMinExamples - 1),
       quarantined,
       {"4 examples", "at least 5", "minimum_examples"},
       true},
      {"tokens-of-unknown-group",
       Tokens(1'000'000'000, 1),
       quarantined,
       {"tokens for group 1000000000 of 3"}},
      {"tokens-above-the-cap",
       Tokens(1, uint64_t{1} << 50),
       quarantined,
       {"1125899906842624 tokens", "expert/0/0", "limits.max_tokens"}},
      {"metric-nan",
       Metrics({{"loss", std::nan("")}}),
       quarantined,
       {"metric \"loss\"", "not finite"}},
      {"metric-twice",
       Metrics({{"loss", 1.0}, {"loss", 2.0}}),
       quarantined,
       {"metric \"loss\"", "out of order"}},
      {"too-many-metrics",
       Metrics(many),
       quarantined,
       {"1025 metrics", "limits.max_metrics 1024"}},
      {"metadata-garbage",
       Metadata(Garbage()),
       quarantined,
       {"frame 0", "metadata"}},
      {"metadata-cut-short",
       Metadata(Fields(nullptr).substr(0, 9)),
       quarantined,
       {"frame 0", "metadata"}},
      {"metadata-empty", Metadata(""), quarantined, {"frame 0", "metadata"}},
      {"parameters-instead-of-metadata",
       [](RawUpload& u) { u.frames[0] = u.frames[3]; },
       quarantined,
       {"frame 0", "holds no metadata"}},
      {"metadata-instead-of-parameters",
       [](RawUpload& u) { u.frames[3] = u.frames[0]; },
       quarantined,
       {"frame 3", "kind 0", "instead of parameters"}},
      {"frames-swapped",
       [](RawUpload& u) { std::swap(u.frames[1], u.frames[2]); },
       quarantined,
       {"frame 1", "[258048, +258048) instead of [0, +258048)"}},
      {"frame-of-another-codec",
       Header(1, [](FrameHeader& h) { h.codec = CodecId::kBF16; }),
       quarantined,
       {"frame 1", "codec 1 instead of parameters as f32"}},
      {"first-element-minus-one",
       Header(2, [](FrameHeader& h) { h.first_element = uint64_t{1} << 61; }),
       quarantined,
       {"frame 2", "instead of [258048, +258048)"}},
      {"fewer-elements-than-it-says",
       Header(3, [](FrameHeader& h) { h.elements -= 1; }),
       quarantined,
       {"frame 3", "+90143) instead of [516096, +90144)"}},
      {"element-count-overflows",
       Header(3, [](FrameHeader& h) { h.elements = ~uint32_t{0}; }),
       quarantined,
       {"frame 3", "+4294967295) instead of"}},
      {"body-shorter-than-its-elements",
       [](RawUpload& u) {
         const FrameHeader header = HeaderOf(u.frames[3]);
         u.frames[3].resize(u.frames[3].size() - 4);
         Rehead(u.frames[3], header);
       },
       quarantined,
       {"frame 3", "90144"}},
      {"another-digest",
       [](RawUpload& u) {
         u.manifest.set_payload_sha256(BytesOf(Sha256("other")));
       },
       v1::Refusal::DIGEST_MISMATCH,
       {"payload has digest", "declares", Sha256("other").Hex()},
       true},
      {"more-bytes-declared",
       [](RawUpload& u) {
         u.manifest.set_payload_bytes(u.manifest.payload_bytes() + 100);
       },
       v1::Refusal::DIGEST_MISMATCH,
       {"payload has 2425", "declares"},
       true},
  };
  if (sealed) {
    // Where sealing is off a wrong checksum is a damaged chunk.
    all.push_back({"checksum-wrong-under-the-seal",
                   [](RawUpload& u) { u.frames[1][5000] ^= 1; },
                   quarantined,
                   {"frame 1", "checksum"}});
  }
  return all;
}

class ContentFaultsTest : public testing::TestWithParam<bool> {
 protected:
  static TestFederation::Options Options() {
    TestFederation::Options options;
    options.sealing = GetParam();
    // Many institutions, and yet the frames that the faults are made for.
    options.configure = [](CoordinatorConfig& config) {
      config.limits.frame_memory = int64_t{1} << 30;
    };
    return options;
  }
  // Sends everything and commits; the refusal may come in the stream already.
  void SendFaulty(RawClient& client, const RawUpload& upload,
                  const ContentFault& fault) {
    client.ExpectBegins(upload);
    const auto stream = client.Open();
    for (uint64_t i = 0; i < upload.chunks(); ++i) {
      if (!stream->Send(upload.manifest.upload_id(), i, upload.Chunk(i))) break;
    }
    const StreamEnd end = stream->Close();
    const Wrong wrong = Refuses(fault.code, fault.says);
    if (fault.at_commit) {
      EXPECT_OK(end.status);
      EXPECT_EQ(end.acked, upload.chunks());
      ExpectRefused(client.Commit(upload.manifest.upload_id(),
                                  upload.manifest.payload_sha256()),
                    wrong);
    } else {
      ExpectEnds(end, wrong);
    }
  }

  TestFederation federation_{Options()};
};

TEST_P(ContentFaultsTest, EachIsQuarantinedAndCountsForNothing) {
  std::vector<ContentFault> faults = ContentFaults(GetParam());
  for (const ContentFault& fault : faults) federation_.Enroll(fault.name);
  federation_.Enroll("bank-b");
  federation_.Enroll("bank-a");
  const uint64_t round =
      federation_.StartRound({{"minimum_examples", Cat(kMinExamples)},
                              {"maximum_weight", Cat(kMaxExamples)},
                              {"maximum_norm", "1000"}});
  const Delta a{"bank-a", 1, kMaxExamples};
  const Delta b{"bank-b", 2, kMinExamples};
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);

  uint64_t seed = 10;
  for (const ContentFault& fault : faults) {
    SCOPED_TRACE(fault.name);
    RawClient client(federation_, fault.name);
    const v1::TrainTask task = client.Task();
    RawUpload upload = client.Make(task, {fault.name, ++seed, 10});
    fault.spoil(upload);
    // What only the manifest says wrongly stays wrong.
    if (fault.code == v1::Refusal::QUARANTINED) upload.Redeclare();
    SendFaulty(client, upload, fault);

    // Whatever it asks now, it hears the reason.
    const Wrong again = Refuses(v1::Refusal::QUARANTINED, fault.says);
    ExpectRefused(client.Commit(upload.manifest.upload_id(),
                                upload.manifest.payload_sha256()),
                  again);
    if (!fault.at_commit || fault.code == v1::Refusal::DIGEST_MISMATCH) {
      ExpectRefused(client.Begin(upload.manifest), again);
    }
    const v1::MemberInfo member = MemberOf(federation_, round, fault.name);
    EXPECT_EQ(member.state(), "failed");
    for (const std::string& word : fault.says) {
      EXPECT_THAT(member.reason(), testing::HasSubstr(word));
    }
    const auto work = client.Work();
    ASSERT_OK(work.status());
    EXPECT_TRUE(work->has_idle()) << work->ShortDebugString();
  }
  ExpectStoreIsWhole(federation_);
  // Only the version that the round will make.
  EXPECT_EQ(federation_.engine().store().space().reserved_bytes(),
            federation_.engine().current_version().value().blob_bytes);
  for (const v1::ContributionInfo& info : ContributionsOf(federation_, round)) {
    if (info.institution() == "bank-b") continue;
    EXPECT_EQ(info.state(), "quarantined") << info.institution();
    EXPECT_NE(info.reason(), "") << info.institution();
  }

  SubmitTask(federation_, *federation_.Connect("bank-a"), a);
  ExpectExactMean(federation_, round, {a, b});
  ExpectStoreIsWhole(federation_);
}

INSTANTIATE_TEST_SUITE_P(Sealing, ContentFaultsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

// Manifests that contradict themselves, the round or every limit: refused
// before any byte of the body, with nothing left behind.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "consilium/secure/random.h"
#include "consilium/secure/sha256.h"
#include "proto/wire/convert.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;

constexpr uint64_t kHuge = ~uint64_t{0};
constexpr uint64_t kMinusOne = kHuge;  // what -1 is on the wire

struct ManifestFault {
  const char* name;
  std::function<void(v1::UploadManifest&)> spoil;
  Wrong wrong;
};

std::vector<ManifestFault> ManifestFaults() {
  std::vector<ManifestFault> all;
  const auto fails = [&all](const char* name, auto spoil,
                            std::vector<std::string> says) {
    all.push_back(
        {name, spoil, Fails(StatusCode::kInvalidArgument, std::move(says))});
  };
  const auto refused = [&all](const char* name, auto spoil,
                              v1::Refusal::Code code,
                              std::vector<std::string> says) {
    all.push_back({name, spoil, Refuses(code, std::move(says))});
  };
  using M = v1::UploadManifest;

  // Not a manifest at all.
  fails("empty", [](M& m) { m.Clear(); }, {"manifest_version is 0", "reads 1"});
  fails("newer version", [](M& m) { m.set_manifest_version(2); },
        {"manifest_version is 2", "reads 1"});

  // Another round.
  refused("no round", [](M& m) { m.set_round(0); }, v1::Refusal::ROUND_NOT_OPEN,
          {"round 0 is not under way"});
  refused("later round", [](M& m) { m.set_round(999); },
          v1::Refusal::ROUND_NOT_OPEN,
          {"round 999 is not under way", "wait for work"});
  fails("round -1", [](M& m) { m.set_round(kMinusOne); },
        {"manifest.round is 18446744073709551615", "2^63 - 1"});
  refused("later attempt", [](M& m) { m.set_attempt(2); },
          v1::Refusal::ROUND_NOT_OPEN,
          {"attempt 1", "the upload is for attempt 2"});
  refused("attempt -1", [](M& m) { m.set_attempt(~uint32_t{0}); },
          v1::Refusal::ROUND_NOT_OPEN, {"is for attempt 4294967295"});

  // Names of the upload.
  fails("no upload id", [](M& m) { m.clear_upload_id(); },
        {"upload_id has 0 bytes, must have 16"});
  fails("short upload id", [](M& m) { m.mutable_upload_id()->pop_back(); },
        {"upload_id has 15 bytes, must have 16"});
  fails("long upload id", [](M& m) { m.set_upload_id(std::string(4096, 'x')); },
        {"upload_id has 4096 bytes, must have 16"});

  // What the delta belongs to.
  refused("another layout",
          [](M& m) { m.set_layout_digest(BytesOf(Sha256("other"))); },
          v1::Refusal::WRONG_LAYOUT,
          {Sha256("other").Hex(), "is not this federation's layout",
           "download the layout again"});
  fails("short layout id", [](M& m) { m.mutable_layout_digest()->pop_back(); },
        {"manifest.layout_digest has 31 bytes", "has 32"});
  refused("another base number", [](M& m) { m.mutable_base()->set_number(7); },
          v1::Refusal::WRONG_BASE,
          {"starts from version 7", "based on version 0",
           "train on the announced base"});
  refused("another base digest",
          [](M& m) { m.mutable_base()->set_digest(BytesOf(Sha256("x"))); },
          v1::Refusal::WRONG_BASE, {Sha256("x").Hex().substr(0, 12)});
  fails("no base", [](M& m) { m.clear_base(); }, {"digest has 0 bytes"});
  fails("base -1", [](M& m) { m.mutable_base()->set_number(kMinusOne); },
        {"base.number is 18446744073709551615"});
  fails("base of 2^64 bytes", [](M& m) { m.mutable_base()->set_bytes(kHuge); },
        {"version.bytes is 18446744073709551615"});

  // Groups: an unknown one, a missing one, all of them claimed a billion times.
  refused("unknown group", [](M& m) { m.set_coverage("\x0f"); },
          v1::Refusal::BAD_MANIFEST, {"coverage"});
  refused("coverage too long",
          [](M& m) { m.set_coverage(std::string(1000, '\xff')); },
          v1::Refusal::BAD_MANIFEST, {"coverage", "1000"});
  fails("coverage of a billion groups",
        [](M& m) { m.set_coverage(std::string(1 << 20, '\xff')); },
        {"the request has 10", "limits.max_control_bytes 262144"});
  refused("no coverage", [](M& m) { m.clear_coverage(); },
          v1::Refusal::BAD_MANIFEST, {"coverage"});
  refused("covers nothing", [](M& m) { m.set_coverage(std::string(1, '\0')); },
          v1::Refusal::BAD_MANIFEST, {"coverage is empty", "decline"});
  refused("covers less than it counts", [](M& m) { m.set_coverage("\x01"); },
          v1::Refusal::BAD_MANIFEST, {"elements is", "hold"});

  // Vectors, which are the only named parts of a manifest.
  fails("no vector", [](M& m) { m.clear_vectors(); },
        {"vectors has 0 entries", "one vector, \"parameters\""});
  fails("the same vector twice", [](M& m) { *m.add_vectors() = m.vectors(0); },
        {"vectors has 2 entries", "one vector, \"parameters\""});
  fails("a hundred thousand vectors",
        [](M& m) {
          for (int i = 0; i < 100'000; ++i) m.add_vectors();
        },
        {"vectors has 100001 entries"});
  fails("unknown vector",
        [](M& m) { m.mutable_vectors(0)->set_name("optimizer"); },
        {"vectors[0].name is \"optimizer\"", "\"parameters\""});

  // Shapes and sizes.
  const auto elements = [](uint64_t n) {
    return [n](M& m) { m.mutable_vectors(0)->set_elements(n); };
  };
  fails("elements -1", elements(kMinusOne),
        {"vectors[0].elements is 18446744073709551615", "2^63 - 1"});
  for (const uint64_t n : {uint64_t{0}, uint64_t{1'000'000'000},
                           (uint64_t{1} << 63) - 1, uint64_t{606'241}}) {
    refused("elements", elements(n), v1::Refusal::BAD_MANIFEST,
            {Cat("elements is ", n), "covered groups hold 606240"});
  }
  for (const uint32_t n : {0u, 1u, 258'047u, 129'024u, ~0u}) {
    refused("elements per frame", [n](M& m) { m.set_elements_per_frame(n); },
            v1::Refusal::BAD_MANIFEST,
            {Cat("elements_per_frame is ", n), "announced 258048"});
  }
  const auto chunks = [](uint64_t n) {
    return [n](M& m) {
      m.set_chunk_count(n);
      m.mutable_vectors(0)->set_frames(n - 1);
    };
  };
  for (const uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{5},
                           uint64_t{1'000'000'000}}) {
    refused("chunk count", chunks(n), v1::Refusal::BAD_MANIFEST,
            {Cat("chunk_count is ", n), "606240 elements need 4"});
  }
  fails("chunk count -1", chunks(kMinusOne),
        {"chunk_count is 18446744073709551615", "2^63 - 1"});
  fails("frames and chunks differ",
        [](M& m) { m.mutable_vectors(0)->set_frames(7); },
        {"chunk_count is 4", "7 frames and the metadata make 8"});
  refused("no payload", [](M& m) { m.set_payload_bytes(0); },
          v1::Refusal::BAD_MANIFEST, {"payload_bytes is 0"});
  refused("payload above the limit",
          [](M& m) { m.set_payload_bytes(uint64_t{1} << 40); },
          v1::Refusal::TOO_LARGE,
          {"upload of 1 TiB exceeds max_update_bytes 64 MiB",
           "federation \"cards\""});
  refused("payload of 2^63 - 1",
          [](M& m) { m.set_payload_bytes((uint64_t{1} << 63) - 1); },
          v1::Refusal::TOO_LARGE, {"max_update_bytes"});
  fails("payload -1", [](M& m) { m.set_payload_bytes(kMinusOne); },
        {"payload_bytes is 18446744073709551615", "2^63 - 1"});
  refused("payload above its frames",
          [](M& m) { m.set_payload_bytes(32 << 20); },
          v1::Refusal::BAD_MANIFEST,
          {"payload_bytes is 33554432", "more than 4 frames hold"});
  fails("short digest", [](M& m) { m.mutable_payload_sha256()->resize(20); },
        {"payload_sha256 has 20 bytes", "has 32"});

  for (const uint32_t codec : {1u, 64u, 65u, 77u, ~0u}) {
    refused("codec", [codec](M& m) { m.mutable_vectors(0)->set_codec(codec); },
            v1::Refusal::BAD_MANIFEST, {Cat("codec ", codec), "not accepted"});
  }
  return all;
}

// Only where uploads are sealed.
std::vector<ManifestFault> KeyFaults(const v1::WrappedKey& of_another_upload) {
  using M = v1::UploadManifest;
  const Wrong forged =
      Refuses(v1::Refusal::AUTHENTICATION,
              {"the content key does not unwrap", "announcement"});
  const auto edit = [](auto change) {
    return [change](M& m) { change(*m.mutable_wrapped_key()); };
  };
  return {
      {"not sealed", [](M& m) { m.set_sealed(false); },
       Refuses(v1::Refusal::UNSEALED,
               {"demands sealed uploads", "sealing.mode = \"on\""})},
      {"no key", [](M& m) { m.clear_wrapped_key(); }, forged},
      {"short key",
       edit([](v1::WrappedKey& k) { k.mutable_ciphertext()->pop_back(); }),
       forged},
      {"a bit of the key flipped",
       edit([](v1::WrappedKey& k) { (*k.mutable_ciphertext())[5] ^= 1; }),
       forged},
      {"low-order point", edit([](v1::WrappedKey& k) {
         k.set_ephemeral_public(std::string(32, '\0'));
       }),
       forged},
      {"key of another upload",
       [of_another_upload](M& m) {
         *m.mutable_wrapped_key() = of_another_upload;
       },
       forged},
      {"key of 4096 bytes", edit([](v1::WrappedKey& k) {
         k.set_ciphertext(std::string(4096, 'k'));
       }),
       Fails(StatusCode::kInvalidArgument,
             {"wrapped_key is longer than 1024 bytes"})},
  };
}

class ManifestFaultsTest : public testing::TestWithParam<bool> {
 protected:
  static TestFederation::Options Options() {
    TestFederation::Options options;
    options.sealing = GetParam();
    options.configure = [](CoordinatorConfig& config) {
      config.storage.max_update_bytes = int64_t{64} << 20;
    };
    return options;
  }
  // Nothing of what was refused is on disk, promised or in the history.
  void ExpectNothingBegan(uint64_t round) {
    EXPECT_THAT(ContributionsOf(federation_, round), testing::IsEmpty());
    // Only the version that the round will make.
    EXPECT_EQ(federation_.engine().store().space().reserved_bytes(),
              federation_.engine().current_version().value().blob_bytes);
    const auto spools = federation_.engine().store().spools().List();
    ASSERT_OK(spools.status());
    EXPECT_THAT(*spools, testing::IsEmpty());
    ExpectStoreIsWhole(federation_);
  }

  TestFederation federation_{Options()};
};

TEST_P(ManifestFaultsTest, EachIsRefusedAndLeavesNothing) {
  federation_.Enroll("bank-b");
  federation_.Enroll("bank-a");
  const uint64_t round = federation_.StartRound();
  const Delta a{"bank-a", 1, 20};
  const Delta b{"bank-b", 2, 50};
  RawClient client(federation_, "bank-a");
  const v1::TrainTask task = client.Task();
  const RawUpload upload = client.Make(task, a);

  std::vector<ManifestFault> faults = ManifestFaults();
  if (GetParam()) {
    for (ManifestFault& fault :
         KeyFaults(client.Make(task, a).manifest.wrapped_key())) {
      faults.push_back(std::move(fault));
    }
  } else {
    faults.push_back({"sealed", [](auto& m) { m.set_sealed(true); },
                      Refuses(v1::Refusal::UNSEALED,
                              {"sealing off", "sealing.mode = \"off\""})});
  }
  for (const ManifestFault& fault : faults) {
    SCOPED_TRACE(fault.name);
    v1::UploadManifest manifest = upload.manifest;
    fault.spoil(manifest);
    ExpectRefused(client.Begin(manifest), fault.wrong);
  }
  ExpectNothingBegan(round);

  // The institution is still welcome.
  client.SendAll(upload);
  SubmitTask(federation_, *federation_.Connect("bank-b"), b);
  ExpectExactMean(federation_, round, {a, b});
  ExpectStoreIsWhole(federation_);
}

// The same id with other content would reuse nonces, so it is refused even
// when each manifest alone is good.
TEST_P(ManifestFaultsTest, AChangedManifestNeedsANewId) {
  federation_.Enroll("bank-a");
  const uint64_t round = federation_.StartRound({{"quorum", "1"}});
  const Delta delta{"bank-a", 1, 20};
  RawClient client(federation_, "bank-a");
  const v1::TrainTask task = client.Task();
  const RawUpload upload = client.Make(task, delta);
  client.ExpectBegins(upload);
  v1::UploadManifest changed = upload.manifest;
  changed.set_payload_sha256(BytesOf(Sha256("other bytes")));
  ExpectRefused(client.Begin(changed),
                Refuses(v1::Refusal::BAD_MANIFEST,
                        {"was begun with another manifest", "new upload id"}));
  client.SendAll(upload);
  ExpectExactMean(federation_, round, {delta});
  ExpectStoreIsWhole(federation_);
}

INSTANTIATE_TEST_SUITE_P(Sealing, ManifestFaultsTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "On" : "Off";
                         });

}  // namespace
}  // namespace consilium

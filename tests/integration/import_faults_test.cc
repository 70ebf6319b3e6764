// Layouts and version files that no honest operator sends: refused by name,
// and nothing of them stays.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "proto/wire/convert.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;

constexpr char kFirst[] = "consilium-layout 1\n";
constexpr char kGood[] =
    "consilium-layout 1\nshared F32 2x3 w\nexpert/0/7 F32 4 x\n";
constexpr size_t kElements = 10;

Layout SmallLayout() { return *Layout::Parse(kGood); }

std::string WithLength(uint64_t length, const std::string& rest) {
  std::array<std::byte, 8> bytes;
  StoreLittleEndian(length, bytes.data());
  return std::string(AsChars(bytes)) + rest;
}

std::string Floats(const std::vector<float>& values) {
  std::string out(values.size() * sizeof(float), '\0');
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

std::string GoodHeader() {
  const Layout layout = SmallLayout();
  return *BuildVersionHeader(layout, layout.ComputeId(Sha256HasherFactory()));
}

std::string FileOf(const std::vector<float>& values) {
  return GoodHeader() + Floats(values);
}

std::vector<float> Values(float value) {
  return std::vector<float>(kElements, value);
}

// A file whose header says something else in one place.
std::string Edited(const std::string& from, const std::string& to) {
  std::string json = GoodHeader().substr(8);
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from << " in " << json;
  json.replace(at, from.size(), to);
  return WithLength(json.size(), json + Floats(Values(1.0f)));
}

struct ImportFault {
  const char* name;
  std::string layout;
  std::string file;
  StatusCode code;
  std::vector<std::string> says;
};

std::vector<ImportFault> LayoutFaults() {
  std::vector<ImportFault> all;
  const auto add = [&all](const char* name, std::string lines, StatusCode code,
                          std::vector<std::string> says) {
    all.push_back(
        {name, std::move(lines), FileOf(Values(1.0f)), code, std::move(says)});
  };
  const auto kInvalid = StatusCode::kInvalidArgument;
  const auto kTooMuch = StatusCode::kResourceExhausted;
  add("empty", "", kInvalid, {"layout line 1"});
  add("another format", "consilium-layout 2\nshared F32 4 w\n", kInvalid,
      {"layout line 1"});
  add("no slots", kFirst, kInvalid, {"no slots"});
  add("garbage", Cat(kFirst, "\x01\x02\x03\n"), kInvalid, {"line 2"});
  add("cut short", Cat(kFirst, "shared F32 4 w"), kInvalid,
      {"line 2", "no line feed"});
  add("negative shape", Cat(kFirst, "shared F32 -2x3 w\n"), kInvalid,
      {"line 2"});
  add("zero in a shape", Cat(kFirst, "shared F32 2x0 w\n"), kInvalid,
      {"\"w\"", "dimension 0 is below 1"});
  add("shape overflows",
      Cat(kFirst, "shared F32 9223372036854775807x9223372036854775807 w\n"),
      kTooMuch, {"\"w\"", "max_elements_per_slot"});
  add("dimension beyond 2^63",
      Cat(kFirst, "shared F32 99999999999999999999 w\n"), kInvalid, {"line 2"});
  std::string sum = kFirst;
  for (int i = 0; i < 129; ++i) {
    CatInto(sum, "shared F32 8589934592 w", i, "\n");
  }
  add("sum of shapes overflows", sum, kTooMuch,
      {"\"w128\"", "max_total_elements 1099511627776"});
  add("too many dimensions", Cat(kFirst, "shared F32 1x1x1x1x1x1x1x1x1 w\n"),
      kTooMuch, {"9 dimensions exceed max_rank 8"});
  add("the same name twice",
      Cat(kFirst, "shared F32 4 w\nexpert/0/1 F32 4 w\n"), kInvalid,
      {"\"w\"", "appears twice"});
  add("unknown group", Cat(kFirst, "everything F32 4 w\n"), kInvalid,
      {"\"everything\"", "expert/<layer>/<id>"});
  add("unknown type", Cat(kFirst, "shared F99 4 w\n"), kInvalid,
      {"dtype \"F99\" is not known"});
  std::string many = kFirst;
  for (int i = 0; i < 1001; ++i) CatInto(many, "shared F32 1 w", i, "\n");
  add("too many tensors", many, kTooMuch,
      {"1001 slots", "limits.max_layout_slots 1000"});
  add("a billion tensors' worth of text",
      Cat(kFirst, std::string(3 << 20, 'x')), kTooMuch,
      {"limits.max_layout_bytes 1048576"});
  add("another layout", Cat(kFirst, "shared F32 4 w\n"),
      StatusCode::kFailedPrecondition, {"layout"});
  return all;
}

std::vector<ImportFault> FileFaults() {
  std::vector<ImportFault> all;
  const auto add = [&all](const char* name, std::string file, StatusCode code,
                          std::vector<std::string> says) {
    all.push_back({name, kGood, std::move(file), code, std::move(says)});
  };
  const auto kInvalid = StatusCode::kInvalidArgument;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = Values(1.0f);
  values[7] = nan;
  add("nan", FileOf(values), kInvalid, {"\"x\"", "element 1 is nan"});
  values[7] = 1.0f;
  values[0] = -std::numeric_limits<float>::infinity();
  add("infinity", FileOf(values), kInvalid, {"\"w\"", "element 0 is -inf"});
  add("four bytes", "safe", StatusCode::kDataLoss, {"4 bytes", "too short"});
  add("header of 2^64 bytes", WithLength(~uint64_t{0}, "{}"),
      StatusCode::kResourceExhausted,
      {"18446744073709551615", "exceeds the limit"});
  add("header longer than the file", WithLength(5000, "{}"),
      StatusCode::kDataLoss, {"header of 5000 bytes"});
  add("not JSON", WithLength(12, "hello, world"), kInvalid, {"begin with '{'"});
  add("data cut short", FileOf(Values(1.0f)).substr(0, GoodHeader().size() + 8),
      kInvalid, {"ends at byte 24 of 8 in the file"});
  add("more data than tensors", FileOf(Values(1.0f)) + "12345678", kInvalid,
      {"8 bytes after the last tensor"});
  add("the same tensor twice", Edited("\"x\"", "\"w\""), kInvalid,
      {"\"w\"", "appears twice"});
  add("unknown tensor", Edited("\"x\"", "\"y\""),
      StatusCode::kFailedPrecondition, {"\"y\"", "the layout has \"x\""});
  add("negative shape", Edited("[2,3]", "[-2,3]"), kInvalid,
      {"expected a non-negative integer"});
  add("shape overflows", Edited("[2,3]", "[4611686018427387904,4]"), kInvalid,
      {"\"w\"", "overflows 2^63 bytes"});
  add("other shape, same size", Edited("[2,3]", "[3,2]"),
      StatusCode::kFailedPrecondition, {"\"w\"", "must agree"});
  add("negative offset", Edited("[0,24]", "[-9223372036854775808,24]"),
      kInvalid, {"expected a non-negative integer"});
  add("overlapping offsets", Edited("[24,40]", "[8,24]"), kInvalid,
      {"\"x\"", "begins at byte 8, inside the tensor before it"});
  add("a gap", Edited("[24,40]", "[28,44]"), kInvalid,
      {"\"x\"", "which leaves a gap"});
  add("metadata of another layout",
      Edited(SmallLayout().ComputeId(Sha256HasherFactory()).Hex(),
             Sha256("other").Hex()),
      StatusCode::kFailedPrecondition, {Sha256("other").Hex()});
  return all;
}

class ImportFaultsTest : public testing::Test {
 protected:
  static TestFederation::Options Options() {
    TestFederation::Options options;
    options.layout = SmallLayout();
    options.configure = [](CoordinatorConfig& config) {
      config.limits.max_layout_slots = 1000;
      config.limits.max_layout_bytes = 1 << 20;
      config.storage.max_update_bytes = 1 << 20;
    };
    return options;
  }
  absl::Status Send(const std::vector<v1::ImportVersionChunk>& chunks,
                    v1::VersionInfo* version = nullptr) {
    grpc::ClientContext context;
    v1::VersionInfo info;
    const auto writer = federation_.admin().ImportVersion(&context, &info);
    for (const v1::ImportVersionChunk& chunk : chunks) {
      if (!writer->Write(chunk)) break;
    }
    writer->WritesDone();
    const absl::Status status = FromGrpc(writer->Finish());
    if (version != nullptr) *version = info;
    return status;
  }
  // Layout and data each in pieces, as for large ones.
  static std::vector<v1::ImportVersionChunk> Pieces(const std::string& layout,
                                                    const std::string& file) {
    std::vector<v1::ImportVersionChunk> chunks(1);
    chunks[0].set_sha256(BytesOf(Sha256(file)));
    chunks[0].set_total_bytes(file.size());
    const size_t piece = std::max<size_t>(layout.size() / 3, 16);
    for (size_t at = 0; at < layout.size(); at += piece) {
      if (at > 0) chunks.emplace_back();
      chunks.back().set_layout_text(layout.substr(at, piece));
    }
    for (size_t at = 0; at < file.size(); at += 1000) {
      chunks.emplace_back().set_data(file.substr(at, 1000));
    }
    return chunks;
  }
  void ExpectOneVersion() {
    v1::ListVersionsResponse versions;
    grpc::ClientContext context;
    EXPECT_OK(
        FromGrpc(federation_.admin().ListVersions(&context, {}, &versions)));
    EXPECT_EQ(versions.versions_size(), 1);
    ExpectStoreIsWhole(federation_);
  }

  TestFederation federation_{Options()};
};

TEST_F(ImportFaultsTest, EachIsRefusedAndLeavesNothing) {
  std::vector<ImportFault> faults = LayoutFaults();
  for (ImportFault& fault : FileFaults()) faults.push_back(std::move(fault));
  for (const ImportFault& fault : faults) {
    SCOPED_TRACE(fault.name);
    ExpectWrong(Send(Pieces(fault.layout, fault.file)), nullptr,
                Fails(fault.code, fault.says));
  }
  ExpectOneVersion();
  // The same stream still takes a good one.
  v1::VersionInfo version;
  ASSERT_OK(Send(Pieces(kGood, FileOf(Values(0.5f))), &version));
  EXPECT_EQ(version.version().number(), 1u);
  EXPECT_TRUE(version.current());
  ExpectStoreIsWhole(federation_);
}

TEST_F(ImportFaultsTest, DeclarationsThatTheBytesDoNotKeep) {
  const std::string file = FileOf(Values(0.5f));
  const std::vector<v1::ImportVersionChunk> good = Pieces(kGood, file);
  const auto expect = [&](auto spoil, StatusCode code,
                          std::vector<std::string> says) {
    std::vector<v1::ImportVersionChunk> chunks = good;
    spoil(chunks);
    ExpectWrong(Send(chunks), nullptr, Fails(code, std::move(says)));
  };
  expect([](auto& c) { c.clear(); }, StatusCode::kInvalidArgument,
         {"ended after 0 of 0 bytes"});
  expect([](auto& c) { c.pop_back(); }, StatusCode::kInvalidArgument,
         {Cat("of ", file.size(), " bytes")});
  expect([](auto& c) { c.push_back(c.back()); }, StatusCode::kInvalidArgument,
         {Cat("more than the declared ", file.size(), " bytes")});
  expect([](auto& c) { c.back().mutable_data()->back() ^= 1; },
         StatusCode::kDataLoss, {Sha256(file).Hex(), "declared"});
  expect([](auto& c) { c[0].set_sha256("short"); },
         StatusCode::kInvalidArgument, {"sha256 has 5 bytes"});
  expect([](auto& c) { c[0].set_total_bytes(0); }, StatusCode::kInvalidArgument,
         {"total_bytes is 0"});
  expect([](auto& c) { c[0].set_total_bytes(~uint64_t{0}); },
         StatusCode::kResourceExhausted, {"storage.max_update_bytes", "1 MiB"});
  expect([](auto& c) { c[0].set_reason(std::string(4097, 'r')); },
         StatusCode::kInvalidArgument,
         {"the reason has 4097 bytes, at most 4096"});
  expect([](auto& c) { c.back().set_layout_text("shared F32 1 z\n"); },
         StatusCode::kInvalidArgument, {"layout_text comes after"});
  ExpectOneVersion();
}

}  // namespace
}  // namespace consilium

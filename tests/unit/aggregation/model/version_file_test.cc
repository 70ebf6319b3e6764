#include "consilium/aggregation/version_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fake_hasher.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class VersionFileTest : public ::testing::Test {
 protected:
  VersionFileTest()
      : layout_(*Layout::Parse("consilium-layout 1\n"
                               "shared F32 2x2 a\n"
                               "expert/0/3 F32 - b\n")),
        id_(layout_.ComputeId(FakeHasher::Factory())),
        file_(*fs_.Open("/v", {.write = true, .create = true})) {}

  absl::StatusOr<WrittenVersion> Write(std::vector<float> a,
                                       std::vector<float> b) {
    return WriteVersionFile(
        layout_, id_,
        [&](const TensorSlot& slot) -> absl::StatusOr<std::span<const float>> {
          return slot.name == "a" ? std::span<const float>(a)
                                  : std::span<const float>(b);
        },
        FakeHasher::Factory(), file_.get());
  }

  FaultFileSystem fs_;
  const Layout layout_;
  const Sha256Digest id_;
  const std::unique_ptr<File> file_;
};

TEST_F(VersionFileTest, HoldsTheseVeryBytes) {
  ASSERT_OK_AND_ASSIGN(const WrittenVersion written, Write({1, 2, 3, 4}, {5}));
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadWholeFile(&fs_, "/v", 1 << 20));
  const std::string json =
      R"({"__metadata__":{"consilium.format":"1","consilium.layout":")" +
      id_.Hex() +
      R"("},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[16,20]}})";
  ByteWriter expected;
  expected.U64(4096 - 8);
  expected.Text(json);
  expected.Text(std::string(4096 - expected.size(), ' '));
  for (const float v : {1.0f, 2.0f, 3.0f, 4.0f, 5.0f}) expected.F32(v);
  EXPECT_EQ(bytes, expected.ToString());
  EXPECT_EQ(written.digest, FakeHasher::Of(AsBytes(bytes)));
  EXPECT_EQ(written.info.data_offset, 4096);
  EXPECT_EQ(written.info.file_bytes, 4096 + 20);
  EXPECT_EQ(*BuildVersionHeader(layout_, id_), bytes.substr(0, 4096));
}

// A layout may be as large as its own limits let it; its versions follow.
TEST_F(VersionFileTest, LimitsFollowFromTheLayout) {
  std::string text = "consilium-layout 1\n";
  const std::string quotes(500, '"');
  for (int i = 0; i < 2000; ++i) {
    CatInto(text, "shared F32 1x1x1x1x1x1x1x1 ", quotes, i, "\n");
  }
  ASSERT_OK_AND_ASSIGN(const Layout large, Layout::Parse(text));
  const SafetensorsLimits limits = VersionFileLimits(large);
  EXPECT_EQ(limits.max_tensors, 6000);
  const auto header = static_cast<int64_t>(
      BuildVersionHeader(large, large.ComputeId(FakeHasher::Factory()))
          ->size());
  EXPECT_LT(header, limits.max_header_bytes);
  EXPECT_GT(header, VersionFileLimits(layout_).max_header_bytes);
  EXPECT_EQ(VersionFileLimits(layout_).max_tensors, 6);
}

TEST_F(VersionFileTest, IsReadBackByItsLayoutOnly) {
  ASSERT_OK(Write({1, 2, 3, 4}, {5}));
  ASSERT_OK_AND_ASSIGN(const VersionFileInfo info,
                       ReadVersionFile(file_.get(), layout_, id_));
  EXPECT_EQ(info.data_offset, 4096);
  EXPECT_EQ(info.file_bytes, 4096 + 20);

  const Layout other = *Layout::Parse(
      "consilium-layout 1\nshared F32 2x2 a\nexpert/0/3 F32 1 b\n");
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(ReadVersionFile(file_.get(), other,
                              other.ComputeId(FakeHasher::Factory())),
              StatusIs(kPrecondition, HasSubstr(id_.Hex())));
  // Even where somebody wrote the right id on the wrong tensors.
  EXPECT_THAT(ReadVersionFile(file_.get(), other, id_),
              StatusIs(kPrecondition, HasSubstr("\"b\"")));
  const Layout longer = *Layout::Parse(
      "consilium-layout 1\nshared F32 2x2 a\nexpert/0/3 F32 - b\n"
      "shared F32 1 c\n");
  EXPECT_THAT(ReadVersionFile(file_.get(), longer, id_),
              StatusIs(kPrecondition, HasSubstr("3 slots")));
}

TEST_F(VersionFileTest, AllowsTensorsAfterTheSlots) {
  const std::string json =
      R"({"__metadata__":{"consilium.format":"1","consilium.layout":")" +
      id_.Hex() +
      R"("},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[16,20]},)"
      R"("a.residual_u":{"dtype":"F32","shape":[1],"data_offsets":[20,24]}})";
  ByteWriter out;
  out.U64(json.size());
  out.Text(json);
  out.Zeros(24);
  ASSERT_OK(file_->WriteAt(0, out.bytes()));
  ASSERT_OK_AND_ASSIGN(const VersionFileInfo info,
                       ReadVersionFile(file_.get(), layout_, id_));
  EXPECT_EQ(info.data_offset, static_cast<int64_t>(8 + json.size()));
}

TEST_F(VersionFileTest, RefusesAnOrdinarySafetensorsFile) {
  ByteWriter out;
  out.U64(2);
  out.Text("{}");
  ASSERT_OK(file_->WriteAt(0, out.bytes()));
  EXPECT_THAT(ReadVersionFile(file_.get(), layout_, id_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("consilium.format")));
}

TEST_F(VersionFileTest, WritesNoWrongLengthAndNothingNotFinite) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Write({1, 2, 3}, {5}),
              StatusIs(kInvalid, HasSubstr("3 values given, 4 needed")));
  EXPECT_THAT(Write({1, 2, std::numeric_limits<float>::infinity(), 4}, {5}),
              StatusIs(kInvalid, HasSubstr("\"a\": value 2")));
}

}  // namespace
}  // namespace consilium

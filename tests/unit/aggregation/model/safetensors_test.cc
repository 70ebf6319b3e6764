#include "consilium/aggregation/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

// A file of this header and `data_bytes` zero bytes. Eight bytes aligned, like
// the memory behind a vector of them.
std::vector<std::byte> FileOf(std::string_view json, size_t data_bytes) {
  ByteWriter out;
  out.U64(json.size());
  out.Text(json);
  out.Zeros(data_bytes);
  return std::move(out).Take();
}

TEST(SafetensorsTest, ReadsTensorsOfAllTypesInTheOrderOfTheirBytes) {
  const SafetensorsHeader header = *ParseSafetensorsHeader(
      R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
          "__metadata__":{"format":"pt","note":"a\nb"},
          "a":{"data_offsets":[0,8],"shape":[],"dtype":"F64"},
          "i8":{"dtype":"I8","shape":[4],"data_offsets":[20,24]},
          "none":{"dtype":"F32","shape":[0,7],"data_offsets":[24,24]},
          "f":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}}   )",
      28);
  ASSERT_EQ(header.tensors.size(), 5u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].dtype, DType::kF64);
  EXPECT_TRUE(header.tensors[0].shape.empty());
  EXPECT_EQ(header.tensors[0].elements(), 1);
  EXPECT_EQ(header.tensors[1].name, "b");
  EXPECT_THAT(header.tensors[1].shape, ElementsAre(2, 3));
  EXPECT_EQ(header.tensors[1].elements(), 6);
  EXPECT_EQ(header.tensors[2].dtype, DType::kI8);
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.at("note"), "a\nb");
  ASSERT_NE(header.Find("none"), nullptr);
  EXPECT_EQ(header.Find("none")->bytes(), 0);
  EXPECT_EQ(header.Find("c"), nullptr);
}

TEST(SafetensorsTest, EveryTypeNameRoundTrips) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(DTypeName(dtype)), dtype);
    EXPECT_GE(DTypeBytes(dtype), 1);
  }
  EXPECT_EQ(ParseDType("F4"), std::nullopt);
}

TEST(SafetensorsTest, NamesTensorAndRuleOfWhatIsBroken) {
  struct Case {
    const char* json;
    int64_t data_bytes;
    const char* message;
  };
  const Case cases[] = {
      {"", 0, "begin with '{'"},
      {" {}", 0, "begin with '{'"},
      {"{", 0, "expected '\"'"},
      {"{}x", 0, "after the end"},
      {"{} ", 4, "4 bytes after the last tensor"},
      {"{\"a\":[]}", 0, "expected '{'"},
      {"{\"a\":{}}", 0, "expected '\"'"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},})", 4,
       "expected '\"'"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4,
       "needs dtype, shape and data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4,
       "unknown key \"x\""},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "dtype appears twice"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
       "non-negative"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4,
       "\"a\": data_offsets [0,4] are not the 8 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
       "data_offsets [4,0]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4,
       "expected ']'"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4,
       "ends at byte 8 of 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
       "\"a\": begins at byte 4, which leaves a gap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "\"b\": begins at byte 4, inside the tensor before it"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "\"a\": appears twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "\"a\": appears twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "appears twice"},
      {R"({"__metadata__":{"k":"1","k":"2"}})", 0, "\"k\" appears twice"},
      {R"({"__metadata__":{"k":1}})", 0, "expected '\"'"},
      {R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
       "its name is empty"},
      {R"({"a\n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
       "control characters"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],)"
       R"("data_offsets":[0,0]}})",
       0, "overflows"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(ParseSafetensorsHeader(c.json, c.data_bytes),
                StatusIs(kInvalid, HasSubstr(c.message)))
        << c.json;
  }
  EXPECT_THAT(
      ParseSafetensorsHeader(
          R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1),
      StatusIs(absl::StatusCode::kUnimplemented,
               AllOf(HasSubstr("\"a\""), HasSubstr("\"F4\""))));
}

TEST(SafetensorsTest, NamesTheLimitThatIsExceeded) {
  const std::string_view json =
      R"({"aa":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},)"
      R"("__metadata__":{"k":"1","l":"2"}})";
  EXPECT_OK(ParseSafetensorsHeader(json, 4));
  EXPECT_THAT(
      ParseSafetensorsHeader(json, 4, {.max_tensors = 0}),
      StatusIs(kExhausted, HasSubstr("more tensors than the limit of 0")));
  EXPECT_THAT(
      ParseSafetensorsHeader(json, 4, {.max_rank = 1}),
      StatusIs(kExhausted, HasSubstr("more dimensions than the limit of 1")));
  EXPECT_THAT(
      ParseSafetensorsHeader(json, 4, {.max_metadata_entries = 1}),
      StatusIs(kExhausted, HasSubstr("more metadata than the limit of 1")));
  EXPECT_THAT(ParseSafetensorsHeader(json, 4, {.max_name_bytes = 1}),
              StatusIs(kExhausted));
  const std::vector<std::byte> file = FileOf(json, 4);
  EXPECT_THAT(SafetensorsView::Parse(file, {.max_header_bytes = 10}),
              StatusIs(kExhausted, HasSubstr("exceeds the limit of 10")));
}

TEST(SafetensorsTest, RefusesFilesThatAreCutShort) {
  const std::vector<std::byte> whole =
      FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  EXPECT_OK(SafetensorsView::Parse(whole));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(SafetensorsView::Parse(std::span(whole).first(n)).ok()) << n;
  }
  // A length of almost 2^64 is no length.
  std::vector<std::byte> huge(64, std::byte{0xFF});
  EXPECT_THAT(SafetensorsView::Parse(huge), StatusIs(kExhausted));
}

TEST(SafetensorsTest, ViewsBytesAndFloatsInPlace) {
  const std::string_view json =
      R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("h":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}})";
  std::string padded(json);
  padded.append(7 - (padded.size() + 7) % 8, ' ');
  std::vector<std::byte> file = FileOf(padded, 10);
  const float values[] = {1.5f, -2};
  std::memcpy(file.data() + 8 + padded.size(), values, sizeof(values));
  ASSERT_OK_AND_ASSIGN(const SafetensorsView view,
                       SafetensorsView::Parse(file));
  ASSERT_OK_AND_ASSIGN(const auto floats, view.Floats("x"));
  EXPECT_THAT(std::vector<float>(floats.begin(), floats.end()),
              ElementsAre(1.5f, -2));
  ASSERT_OK_AND_ASSIGN(const auto half, view.Bytes("h"));
  EXPECT_EQ(half.size(), 2u);
  EXPECT_THAT(view.Floats("h"), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("F16")));
  EXPECT_THAT(view.Floats("y"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(view.Bytes("y"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(SafetensorsTest, FloatsNeedAnAddressThatFloatsMayHave) {
  const std::string json =
      R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
      R"("x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  const std::vector<std::byte> file = FileOf(json + "       ", 5);
  ASSERT_OK_AND_ASSIGN(const SafetensorsView view,
                       SafetensorsView::Parse(file));
  const auto bytes = *view.Bytes("x");
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % 4 == 0;
  EXPECT_EQ(view.Floats("x").ok(), aligned);
}

TEST(SafetensorsTest, WritesTheseVeryBytes) {
  const int64_t shape[] = {2, 3};
  const TensorSpec tensors[] = {{"w", DType::kF32, shape},
                                {"q\"", DType::kI8, {}}};
  ASSERT_OK_AND_ASSIGN(
      const std::string header,
      BuildSafetensorsHeader(tensors, {{"b", "2"}, {"a", "1"}}, 8));
  const std::string json =
      R"({"__metadata__":{"a":"1","b":"2"},)"
      R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("q\"":{"dtype":"I8","shape":[],"data_offsets":[24,25]}})";
  const size_t padding = (8 - json.size() % 8) % 8;
  ByteWriter expected;
  expected.U64(json.size() + padding);
  expected.Text(json + std::string(padding, ' '));
  EXPECT_EQ(header, expected.ToString());
}

TEST(SafetensorsTest, WhatIsWrittenIsReadBackAndAligned) {
  const int64_t shape[] = {5};
  const TensorSpec tensors[] = {{"\xc3\xa9", DType::kF32, shape},
                                {"b", DType::kU16, shape}};
  ASSERT_OK_AND_ASSIGN(const std::string header,
                       BuildSafetensorsHeader(tensors, {}));
  EXPECT_EQ(header.size() % 4096, 0u);
  ASSERT_OK_AND_ASSIGN(
      const SafetensorsHeader read,
      ParseSafetensorsHeader(std::string_view(header).substr(8), 30));
  EXPECT_EQ(read.data_offset, static_cast<int64_t>(header.size()));
  EXPECT_EQ(read.tensors[0].name, "\xc3\xa9");
  EXPECT_EQ(read.tensors[1].begin, 20);
}

TEST(SafetensorsTest, RefusesToWriteWhatItWouldNotRead) {
  const int64_t shape[] = {int64_t{1} << 62};
  const TensorSpec twice[] = {{"a", DType::kU8, {}}, {"a", DType::kU8, {}}};
  const TensorSpec huge[] = {{"a", DType::kF32, shape}};
  const TensorSpec key[] = {{"__metadata__", DType::kU8, {}}};
  const TensorSpec line[] = {{"a\nb", DType::kU8, {}}};
  for (const auto& tensors :
       {std::span<const TensorSpec>(twice), std::span<const TensorSpec>(huge),
        std::span<const TensorSpec>(key), std::span<const TensorSpec>(line)}) {
    EXPECT_THAT(BuildSafetensorsHeader(tensors, {}), StatusIs(kInvalid));
  }
  EXPECT_THAT(BuildSafetensorsHeader({}, {{"k", "\xff"}}), StatusIs(kInvalid));
}

TEST(SafetensorsTest, ReadsTheHeaderOfAFile) {
  FaultFileSystem fs;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<File> file,
                       fs.Open("/f", {.write = true, .create = true}));
  EXPECT_THAT(ReadSafetensorsHeader(file.get()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("/f")));
  const auto bytes =
      FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4);
  ASSERT_OK(file->WriteAt(0, std::span(bytes).first(40)));
  EXPECT_THAT(ReadSafetensorsHeader(file.get()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("too short")));
  ASSERT_OK(file->WriteAt(0, bytes));
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header,
                       ReadSafetensorsHeader(file.get()));
  EXPECT_EQ(header.tensors.size(), 1u);
  EXPECT_EQ(header.data_offset + header.data_bytes,
            static_cast<int64_t>(bytes.size()));
  ASSERT_OK(file->WriteAt(static_cast<int64_t>(bytes.size()), AsBytes("x")));
  EXPECT_THAT(ReadSafetensorsHeader(file.get()),
              StatusIs(kInvalid, AllOf(HasSubstr("/f"),
                                       HasSubstr("1 bytes after the last"))));
}

}  // namespace
}  // namespace consilium

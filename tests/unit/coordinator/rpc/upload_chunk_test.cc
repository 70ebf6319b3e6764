#include "coordinator/rpc/upload_chunk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/v1/federation.pb.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(UploadChunkTest, ReadsWhatProtobufWrites) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{200}, size_t{1} << 20}) {
    for (const uint64_t index : {uint64_t{0}, uint64_t{300}, ~uint64_t{0}}) {
      v1::UploadChunk chunk;
      chunk.set_upload_id("0123456789abcdef");
      chunk.set_index(index);
      chunk.set_data(std::string(size, 'x'));
      const std::string bytes = chunk.SerializeAsString();
      ASSERT_OK_AND_ASSIGN(const UploadChunkView view,
                           ParseUploadChunk(AsBytes(bytes)));
      EXPECT_EQ(view.upload_id, chunk.upload_id());
      EXPECT_EQ(view.index, index);
      EXPECT_EQ(AsChars(view.data), chunk.data());
    }
  }
  ASSERT_OK_AND_ASSIGN(const UploadChunkView none, ParseUploadChunk({}));
  EXPECT_TRUE(none.data.empty());
}

// Whatever the bytes: both parsers take them or neither does, and they see the
// same.
TEST(UploadChunkTest, AgreesWithProtobufOnAnyBytes) {
  const uint32_t seed = 20260;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  v1::UploadChunk sample;
  sample.set_upload_id("id");
  sample.set_index(7);
  sample.set_data("some data");
  int taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = sample.SerializeAsString();
    for (uint32_t edits = random() % 4; edits > 0; --edits) {
      switch (random() % 3) {
        case 0:
          bytes[random() % bytes.size()] = static_cast<char>(random());
          break;
        case 1:
          bytes.insert(random() % bytes.size(), 1, static_cast<char>(random()));
          break;
        default:
          bytes.resize(1 + random() % bytes.size());
      }
    }
    v1::UploadChunk parsed;
    const bool valid = parsed.ParseFromString(bytes);
    const auto view = ParseUploadChunk(AsBytes(bytes));
    ASSERT_EQ(view.ok(), valid) << HexEncode(AsBytes(bytes));
    if (!valid) {
      EXPECT_THAT(view, StatusIs(absl::StatusCode::kInvalidArgument));
      continue;
    }
    ++taken;
    EXPECT_EQ(view->upload_id, parsed.upload_id());
    EXPECT_EQ(view->index, parsed.index());
    EXPECT_EQ(AsChars(view->data), parsed.data());
  }
  EXPECT_GT(taken, 5'000);
}

TEST(GatherTest, JoinsSlicesUpToTheLimit) {
  const grpc::Slice slices[] = {grpc::Slice("abc"), grpc::Slice("defg")};
  const grpc::ByteBuffer message(slices, 2);
  std::byte out[7];
  ASSERT_OK_AND_ASSIGN(const auto bytes, Gather(message, out));
  EXPECT_EQ(AsChars(bytes), "abcdefg");
  EXPECT_THAT(Gather(message, std::span(out).first(6)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("7 bytes, the limit is 6")));
}

}  // namespace
}  // namespace consilium

#include <gtest/gtest.h>

#include "client_sdk/transport/grpc_upload_stream.h"
#include "consilium/v1/federation.pb.h"

namespace consilium::client::internal {
namespace {

TEST(UploadChunkPrefixTest, IsWhatProtobufWouldWrite) {
  for (const std::string& id : {std::string(), std::string(16, '\x7f')}) {
    for (const uint64_t index :
         {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128},
          uint64_t{1} << 40, ~uint64_t{0}}) {
      for (const size_t size : {0u, 1u, 300u, 1u << 20}) {
        const std::string data(size, 'x');
        v1::UploadChunk parsed;
        ASSERT_TRUE(
            parsed.ParseFromString(UploadChunkPrefix(id, index, size) + data));
        EXPECT_EQ(parsed.upload_id(), id);
        EXPECT_EQ(parsed.index(), index);
        EXPECT_TRUE(parsed.data() == data);
      }
    }
  }
}

}  // namespace
}  // namespace consilium::client::internal

#include "coordinator/rpc/download_stream.h"

#include <gtest/gtest.h>

#include "consilium/v1/federation.pb.h"

namespace consilium {
namespace {

TEST(DownloadChunkPrefixTest, IsWhatProtobufWouldWrite) {
  for (const uint64_t total : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) {
    for (const uint64_t offset :
         {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 33}) {
      for (const size_t size : {size_t{1}, size_t{300}, size_t{1} << 20}) {
        v1::DownloadChunk chunk;
        chunk.set_total_bytes(total);
        chunk.set_offset(offset);
        chunk.set_data(std::string(size, 'd'));
        EXPECT_EQ(DownloadChunkPrefix(total, offset, size) + chunk.data(),
                  chunk.SerializeAsString())
            << total << " " << offset << " " << size;
      }
    }
  }
}

}  // namespace
}  // namespace consilium

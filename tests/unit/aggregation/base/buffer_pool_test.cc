#include "consilium/base/buffer_pool.h"

#include <gtest/gtest.h>

#include <memory>

namespace consilium {
namespace {

TEST(BufferPoolTest, GivesBackWhatWasReturned) {
  BufferPool pool(1000, 1);
  BufferPool::Buffer first = pool.Get();
  EXPECT_EQ(first.bytes().size(), 1000u);
  const std::byte* const memory = first.bytes().data();
  {
    const BufferPool::Buffer second = pool.Get();
    EXPECT_NE(second.bytes().data(), memory);
    const BufferPool::Buffer moved = std::move(first);
    EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(moved.bytes().data(), memory);
  }
  // `moved` went back first, and one is kept.
  EXPECT_EQ(pool.Get().bytes().data(), memory);
}

TEST(BufferPoolTest, FreesWhatIsNotInUse) {
  BufferPool small(1 << 20, 4), large(2 << 20, 4);
  { const BufferPool pool_that_ends(10, 1); }
  BufferPool::Buffer used = small.Get();
  const std::byte* const memory = used.bytes().data();
  { const BufferPool::Buffer unused[] = {small.Get(), large.Get()}; }
  EXPECT_EQ(BufferPool::UnusedBytes(), size_t{3} << 20);
  BufferPool::FreeUnused();
  EXPECT_EQ(BufferPool::UnusedBytes(), 0u);
  used.bytes()[0] = std::byte{1};
  used = BufferPool::Buffer();
  EXPECT_EQ(BufferPool::UnusedBytes(), size_t{1} << 20);
  EXPECT_EQ(small.Get().bytes().data(), memory);
}

TEST(BufferPoolTest, BuffersOutliveTheirPool) {
  auto pool = std::make_unique<BufferPool>(10, 4);
  BufferPool::Buffer buffer = pool->Get();
  pool.reset();
  buffer.bytes()[9] = std::byte{1};
  buffer = BufferPool::Buffer();
  EXPECT_TRUE(buffer.bytes().empty());
}

}  // namespace
}  // namespace consilium

#include "consilium/base/buffer_pool.h"

namespace consilium {

BufferPool::Buffer::~Buffer() {
  if (memory_ == nullptr) return;
  MutexLock lock(&state_->mu);
  if (state_->free.size() < state_->keep) {
    state_->free.push_back(std::move(memory_));
  }
}

BufferPool::Buffer& BufferPool::Buffer::operator=(Buffer&& other) noexcept {
  std::swap(state_, other.state_);
  std::swap(memory_, other.memory_);
  return *this;
}

std::span<std::byte> BufferPool::Buffer::bytes() const {
  if (memory_ == nullptr) return {};
  return {memory_.get(), state_->buffer_bytes};
}

BufferPool::BufferPool(size_t buffer_bytes, size_t keep)
    : state_(std::make_shared<State>(buffer_bytes, keep)) {}

BufferPool::Buffer BufferPool::Get() {
  {
    MutexLock lock(&state_->mu);
    if (!state_->free.empty()) {
      Buffer buffer(state_, std::move(state_->free.back()));
      state_->free.pop_back();
      return buffer;
    }
  }
  return Buffer(state_, std::unique_ptr<std::byte[]>(
                            new std::byte[state_->buffer_bytes]));
}

}  // namespace consilium

#include "consilium/base/buffer_pool.h"

#include "absl/functional/function_ref.h"

namespace consilium {

struct BufferPool::All {
  static All& Get() {
    static All* const all = new All;
    return *all;
  }
  void ForEach(absl::FunctionRef<void(State&)> visit) {
    MutexLock lock(&mu);
    for (const std::weak_ptr<State>& weak : states) {
      const std::shared_ptr<State> state = weak.lock();
      if (state != nullptr) visit(*state);
    }
  }

  Mutex mu;
  std::vector<std::weak_ptr<State>> states ABSL_GUARDED_BY(mu);
};

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
    : state_(std::make_shared<State>(buffer_bytes, keep)) {
  All& all = All::Get();
  MutexLock lock(&all.mu);
  std::erase_if(all.states, [](const auto& state) { return state.expired(); });
  all.states.push_back(state_);
}

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

void BufferPool::FreeUnused() {
  All::Get().ForEach([](State& state) {
    MutexLock lock(&state.mu);
    state.free.clear();
  });
}

size_t BufferPool::UnusedBytes() {
  size_t bytes = 0;
  All::Get().ForEach([&bytes](State& state) {
    MutexLock lock(&state.mu);
    bytes += state.free.size() * state.buffer_bytes;
  });
  return bytes;
}

}  // namespace consilium

// Buffers of one size that are used again and again: a fresh megabyte costs a
// page fault every 4 KiB.
#ifndef CONSILIUM_BASE_BUFFER_POOL_H_
#define CONSILIUM_BASE_BUFFER_POOL_H_

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"

namespace consilium {

// Thread safe. Buffers may outlive their pool.
class BufferPool {
  struct All;
  struct State;

 public:
  // Goes back to its pool when destroyed. Movable; empty after a move.
  class Buffer {
   public:
    Buffer() = default;
    ~Buffer();
    Buffer(Buffer&& other) noexcept = default;
    Buffer& operator=(Buffer&& other) noexcept;
    // All bytes of the buffer; what stands in them is arbitrary.
    std::span<std::byte> bytes() const;

   private:
    friend class BufferPool;
    Buffer(std::shared_ptr<State> state, std::unique_ptr<std::byte[]> memory)
        : state_(std::move(state)), memory_(std::move(memory)) {}
    std::shared_ptr<State> state_;
    std::unique_ptr<std::byte[]> memory_;
  };

  // Of the buffers that are not in use at most `keep` stay allocated.
  BufferPool(size_t buffer_bytes, size_t keep);

  Buffer Get();

  // Frees what no pool of this process uses at the moment, before work that
  // needs the memory for something else.
  static void FreeUnused();
  // What that would free.
  static size_t UnusedBytes();

 private:
  struct State {
    State(size_t size, size_t kept) : buffer_bytes(size), keep(kept) {}
    const size_t buffer_bytes;
    const size_t keep;
    Mutex mu;
    std::vector<std::unique_ptr<std::byte[]>> free ABSL_GUARDED_BY(mu);
  };
  const std::shared_ptr<State> state_;
};

}  // namespace consilium

#endif  // CONSILIUM_BASE_BUFFER_POOL_H_

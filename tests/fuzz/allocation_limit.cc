#include "tests/fuzz/allocation_limit.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>

namespace {

constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();
thread_local size_t limit = kNoLimit;

}  // namespace

namespace consilium {

AllocationLimit::AllocationLimit(size_t bytes) { limit = bytes; }
AllocationLimit::~AllocationLimit() { limit = kNoLimit; }

}  // namespace consilium

namespace {

void* Allocate(size_t bytes) {
  if (bytes > limit) {
    std::fprintf(stderr, "allocation of %zu bytes; the limit is %zu\n", bytes,
                 limit);
    std::abort();
  }
  void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// All unaligned forms, since a sanitizer brings its own of each.
void* operator new(size_t bytes) { return Allocate(bytes); }
void* operator new[](size_t bytes) { return Allocate(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes);
}
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}

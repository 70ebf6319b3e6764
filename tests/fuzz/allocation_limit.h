// Ends the process when code under test asks for more memory than its input
// can justify: a length that a peer wrote must be checked before it is used.
#ifndef CONSILIUM_TESTS_FUZZ_ALLOCATION_LIMIT_H_
#define CONSILIUM_TESTS_FUZZ_ALLOCATION_LIMIT_H_

#include <cstddef>

namespace consilium {

// While it lives, no single operator new of this thread may ask for more than
// `bytes`. One at a time in a thread.
class AllocationLimit {
 public:
  explicit AllocationLimit(size_t bytes);
  ~AllocationLimit();
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_FUZZ_ALLOCATION_LIMIT_H_

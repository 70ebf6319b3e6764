#include "consilium/base/heap.h"

#include <algorithm>
#include <limits>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace consilium {

void TuneHeap(size_t kept) {
#ifdef __GLIBC__
  constexpr int kArenas = 2;
  constexpr int kMapFrom = 512 << 10;  // larger blocks are pages of their own
  mallopt(M_ARENA_MAX, kArenas);
  mallopt(M_MMAP_THRESHOLD, kMapFrom);
  mallopt(M_TRIM_THRESHOLD,
          static_cast<int>(std::min<size_t>(
              kept, static_cast<size_t>(std::numeric_limits<int>::max()))));
#else
  (void)kept;
#endif
}

}  // namespace consilium

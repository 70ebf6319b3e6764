// The C library's heap, set for programs that move buffers by the megabyte.
#ifndef CONSILIUM_BASE_HEAP_H_
#define CONSILIUM_BASE_HEAP_H_

#include <cstddef>

namespace consilium {

// For a program's main(), before its first thread. At most two arenas: with one
// for each thread, freed memory adds up to several times what is in use. Up to
// `kept` freed bytes stay at an arena's end: giving them back with each buffer
// and taking them again costs more than the copy into it. Does nothing where
// the C library is not glibc.
void TuneHeap(size_t kept);

}  // namespace consilium

#endif  // CONSILIUM_BASE_HEAP_H_

// The cryptographic random source.
#ifndef CONSILIUM_SECURE_RANDOM_H_
#define CONSILIUM_SECURE_RANDOM_H_

#include "consilium/base/random.h"

namespace consilium {

// OpenSSL's generator, seeded by the operating system. Thread-safe; lives for
// ever. The process ends if the system has no randomness: nothing that was
// asked for could be done safely.
RandomSource* SystemRandom();

}  // namespace consilium

#endif  // CONSILIUM_SECURE_RANDOM_H_

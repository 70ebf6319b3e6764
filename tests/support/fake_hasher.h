#ifndef CONSILIUM_TESTS_SUPPORT_FAKE_HASHER_H_
#define CONSILIUM_TESTS_SUPPORT_FAKE_HASHER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "consilium/base/bytes.h"
#include "consilium/base/digest.h"

namespace consilium {

// A digest that depends on every byte and its place, without a cryptographic
// library: four FNV-1a sums from different starts. Not SHA-256.
class FakeHasher final : public Hasher {
 public:
  void Update(std::span<const std::byte> bytes) override {
    for (const std::byte b : bytes) {
      for (uint64_t& sum : sums_) {
        sum = (sum ^ static_cast<uint64_t>(b)) * 0x100000001B3u;
      }
    }
  }
  Sha256Digest Finish() override {
    Sha256Digest digest;
    for (size_t i = 0; i < 4; ++i) {
      StoreLittleEndian(sums_[i], digest.bytes.data() + 8 * i);
    }
    return digest;
  }

  static HasherFactory Factory() {
    return [] { return std::make_unique<FakeHasher>(); };
  }
  static Sha256Digest Of(std::span<const std::byte> bytes) {
    FakeHasher hasher;
    hasher.Update(bytes);
    return hasher.Finish();
  }

 private:
  uint64_t sums_[4] = {0xCBF29CE484222325u, 0x9E3779B97F4A7C15u,
                       0xD1B54A32D192ED03u, 0x2545F4914F6CDD1Du};
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_SUPPORT_FAKE_HASHER_H_

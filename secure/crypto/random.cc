#include "consilium/secure/random.h"

#include <openssl/rand.h>

#include <algorithm>
#include <limits>

#include "consilium/base/status_macros.h"
#include "secure/crypto/openssl.h"

namespace consilium {
namespace {

class OpensslRandom final : public RandomSource {
 public:
  void Fill(std::span<std::byte> out) override {
    constexpr size_t kMost = std::numeric_limits<int>::max();
    while (!out.empty()) {
      const std::span<std::byte> part = out.first(std::min(out.size(), kMost));
      CONSILIUM_CHECK(
          RAND_bytes(openssl::Data(part), static_cast<int>(part.size())) == 1);
      out = out.subspan(part.size());
    }
  }
};

}  // namespace

RandomSource* SystemRandom() {
  static RandomSource* const source = new OpensslRandom;
  return source;
}

}  // namespace consilium

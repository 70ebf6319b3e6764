#include "consilium/secure/sha256.h"

#include <gtest/gtest.h>

#include <string>

#include "consilium/base/bytes.h"

namespace consilium {
namespace {

// FIPS 180-4, examples of the Secure Hash Standard.
TEST(Sha256Test, HashesTheFipsExamples) {
  EXPECT_EQ(Sha256("").Hex(),
            "e3b0c44298fc1c149afbf4c8996fb924"
            "27ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256("abc").Hex(),
            "ba7816bf8f01cfea414140de5dae2223"
            "b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(
      Sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").Hex(),
      "248d6a61d20638b8e5c026930c3e6039"
      "a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256(std::string(1'000'000, 'a')).Hex(),
            "cdc76e5c9914fb9281a1c7e284d73e67"
            "f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, CutsDoNotMatterAndAHasherCanBeUsedAgain) {
  const std::unique_ptr<Hasher> hasher = Sha256HasherFactory()();
  for (int repeat = 0; repeat < 2; ++repeat) {
    hasher->Update(AsBytes("a"));
    hasher->Update({});
    hasher->Update(AsBytes("bc"));
    EXPECT_EQ(hasher->Finish(), Sha256("abc"));
  }
}

}  // namespace
}  // namespace consilium

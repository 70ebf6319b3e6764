#include "consilium/secure/x25519.h"

#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_vectors.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

// RFC 7748, section 6.1.
TEST(X25519Test, AgreesAsInRfc7748) {
  ASSERT_OK_AND_ASSIGN(
      const X25519PrivateKey alice,
      X25519PrivateKey::FromSecret(SecretFromHex(
          "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")));
  ASSERT_OK_AND_ASSIGN(
      const X25519PrivateKey bob,
      X25519PrivateKey::FromSecret(SecretFromHex(
          "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")));
  EXPECT_EQ(alice.public_key().Hex(),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(bob.public_key().Hex(),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  constexpr char kShared[] =
      "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  ASSERT_OK_AND_ASSIGN(const SecretBytes a, alice.Agree(bob.public_key()));
  ASSERT_OK_AND_ASSIGN(const SecretBytes b, bob.Agree(alice.public_key()));
  EXPECT_EQ(Reveal(a), kShared);
  EXPECT_EQ(Reveal(b), kShared);
}

// The points of small order on the curve and its twist, as in the discussion
// of contributory behaviour in RFC 7748, section 7.
TEST(X25519Test, LowOrderPeersAreRefused) {
  SeededRandom random;
  ASSERT_OK_AND_ASSIGN(const X25519PrivateKey mine,
                       X25519PrivateKey::Generate(random));
  for (const char* hex :
       {"0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
    ASSERT_OK_AND_ASSIGN(const X25519PublicKey peer,
                         X25519PublicKey::FromBytes(FromHex(hex)));
    EXPECT_THAT(mine.Agree(peer),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(hex)));
  }
}

TEST(X25519Test, SizesAreChecked) {
  EXPECT_THAT(X25519PublicKey::FromBytes(FromHex("00")),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(X25519PrivateKey::FromSecret(SecretBytes(31)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

#include "consilium/secure/ed25519.h"

#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_vectors.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

struct Vector {
  const char* seed;
  const char* public_key;
  const char* message;
  const char* signature;
};

// RFC 8032, section 7.1, tests 1 to 3.
constexpr Vector kVectors[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

TEST(Ed25519Test, SignsAndVerifiesTheRfc8032Vectors) {
  for (const Vector& v : kVectors) {
    SCOPED_TRACE(v.public_key);
    ASSERT_OK_AND_ASSIGN(const SigningKey key,
                         SigningKey::FromSeed(SecretFromHex(v.seed)));
    EXPECT_EQ(key.verify_key().Hex(), v.public_key);
    const std::vector<std::byte> message = FromHex(v.message);
    ASSERT_OK_AND_ASSIGN(const Signature signature, key.Sign(message));
    EXPECT_EQ(HexEncode(signature.bytes), v.signature);
    EXPECT_OK(key.verify_key().Verify(message, signature));
  }
}

TEST(Ed25519Test, AnotherMessageKeyOrSignatureIsRefused) {
  SeededRandom random;
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random));
  ASSERT_OK_AND_ASSIGN(const SigningKey other, SigningKey::Generate(random));
  ASSERT_OK_AND_ASSIGN(Signature signature, key.Sign(AsBytes("round 7")));
  EXPECT_OK(key.verify_key().Verify(AsBytes("round 7"), signature));
  EXPECT_THAT(key.verify_key().Verify(AsBytes("round 8"), signature),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(other.verify_key().Verify(AsBytes("round 7"), signature),
              StatusIs(absl::StatusCode::kUnauthenticated));
  signature.bytes[40] ^= std::byte{1};
  EXPECT_THAT(key.verify_key().Verify(AsBytes("round 7"), signature),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST(Ed25519Test, KeysGoThroughPemHexAndBytes) {
  SeededRandom random;
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random));
  ASSERT_OK_AND_ASSIGN(const SecretBytes pem, key.ToPem());
  ASSERT_OK_AND_ASSIGN(const SigningKey again, SigningKey::FromPem(pem));
  EXPECT_EQ(again.verify_key(), key.verify_key());

  const VerifyKey& verify = key.verify_key();
  ASSERT_OK_AND_ASSIGN(const std::string public_pem, verify.ToPem());
  EXPECT_THAT(VerifyKey::FromPem(public_pem), IsOkAndHolds(verify));
  EXPECT_THAT(VerifyKey::FromHex(verify.Hex()), IsOkAndHolds(verify));
  EXPECT_THAT(VerifyKey::FromBytes(verify.ToString()), IsOkAndHolds(verify));
  EXPECT_THAT(VerifyKey::FromBytes(std::string_view("short")),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Signature::FromBytes(std::string_view("short")),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(VerifyKey::FromPem("no key"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(SigningKey::FromPem(SecretBytes::CopyOf("no key")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Ed25519Test, KeyFilesAreForTheOwnerOnly) {
  FaultFileSystem fs;
  SeededRandom random;
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random));
  ASSERT_OK(key.SaveFile(&fs, "/signing.key"));
  ASSERT_OK_AND_ASSIGN(const FileInfo info, fs.Stat("/signing.key"));
  EXPECT_EQ(info.mode, 0600u);
  ASSERT_OK_AND_ASSIGN(const SigningKey loaded,
                       SigningKey::LoadFile(&fs, "/signing.key"));
  EXPECT_EQ(loaded.verify_key(), key.verify_key());

  ASSERT_OK(WriteFileAtomic(&fs, "/bad.key", AsBytes("not a key"), 0600));
  EXPECT_THAT(
      SigningKey::LoadFile(&fs, "/bad.key"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/bad.key")));
}

}  // namespace
}  // namespace consilium

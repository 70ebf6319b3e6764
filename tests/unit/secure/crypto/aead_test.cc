#include "consilium/secure/aead.h"

#include <array>
#include <string>
#include <vector>

#include "consilium/base/bytes.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/test_vectors.h"

namespace consilium {
namespace {

struct Vector {
  const char* key;
  const char* nonce;
  const char* plaintext;
  const char* aad;
  const char* ciphertext;
  const char* tag;
};

// Test cases 13 to 16 of the GCM submission to NIST (McGrew, Viega, 2005).
constexpr Vector kVectors[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "00000000000000000000000000000000", "",
     "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

TEST(AeadTest, SealsAndOpensTheNistVectors) {
  for (const Vector& v : kVectors) {
    SCOPED_TRACE(v.tag);
    const SecretBytes key = SecretFromHex(v.key);
    const std::vector<std::byte> nonce = FromHex(v.nonce);
    const std::vector<std::byte> aad = FromHex(v.aad);
    const std::vector<std::byte> plaintext = FromHex(v.plaintext);
    ASSERT_OK_AND_ASSIGN(AeadSealer sealer, AeadSealer::Create(key));
    std::vector<std::byte> sealed(plaintext.size() + kAeadTagBytes);
    ASSERT_OK(sealer.Seal(nonce, aad, plaintext, sealed));
    EXPECT_EQ(HexEncode(sealed), std::string(v.ciphertext) + v.tag);

    ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key));
    std::vector<std::byte> opened(plaintext.size());
    ASSERT_OK(opener.Open(nonce, aad, sealed, opened));
    EXPECT_EQ(opened, plaintext);
  }
}

class AeadRoundTripTest : public ::testing::Test {
 protected:
  AeadRoundTripTest() : key_(kAeadKeyBytes) {
    random_.Fill(key_.MutableBytes(SecretAccess("test")));
    random_.Fill(nonce_);
  }
  SeededRandom random_;
  SecretBytes key_;
  std::array<std::byte, kAeadNonceBytes> nonce_;
};

TEST_F(AeadRoundTripTest, WorksInPlaceAndWithOneContextForManyMessages) {
  ASSERT_OK_AND_ASSIGN(AeadSealer sealer, AeadSealer::Create(key_));
  ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key_));
  for (const size_t size : {0, 1, 15, 16, 17, 4095, 1 << 20}) {
    std::vector<std::byte> plaintext(size);
    random_.Fill(plaintext);
    std::vector<std::byte> apart(size + kAeadTagBytes);
    ASSERT_OK(sealer.Seal(nonce_, AsBytes("aad"), plaintext, apart));

    std::vector<std::byte> buffer = plaintext;
    buffer.resize(size + kAeadTagBytes);
    ASSERT_OK(sealer.Seal(nonce_, AsBytes("aad"), std::span(buffer).first(size),
                          buffer));
    EXPECT_EQ(buffer, apart);
    ASSERT_OK(opener.Open(nonce_, AsBytes("aad"), buffer,
                          std::span(buffer).first(size)));
    buffer.resize(size);
    EXPECT_EQ(buffer, plaintext);
  }
}

TEST_F(AeadRoundTripTest, AnyChangedBitIsRefusedAndLeavesNoPlaintext) {
  const std::string text = "the update of bank-a";
  ASSERT_OK_AND_ASSIGN(AeadSealer sealer, AeadSealer::Create(key_));
  ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key_));
  std::vector<std::byte> sealed(text.size() + kAeadTagBytes);
  ASSERT_OK(sealer.Seal(nonce_, AsBytes("aad"), AsBytes(text), sealed));
  std::vector<std::byte> out(text.size());
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    std::vector<std::byte> changed = sealed;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    out.assign(out.size(), std::byte{0xaa});
    ASSERT_THAT(opener.Open(nonce_, AsBytes("aad"), changed, out),
                StatusIs(absl::StatusCode::kDataLoss));
    ASSERT_EQ(out, std::vector<std::byte>(out.size()));
  }
  EXPECT_THAT(opener.Open(nonce_, AsBytes("aae"), sealed, out),
              StatusIs(absl::StatusCode::kDataLoss));
  nonce_[11] ^= std::byte{1};
  EXPECT_THAT(opener.Open(nonce_, AsBytes("aad"), sealed, out),
              StatusIs(absl::StatusCode::kDataLoss));
  nonce_[11] ^= std::byte{1};
  // A refusal does not spoil the context.
  EXPECT_OK(opener.Open(nonce_, AsBytes("aad"), sealed, out));
  EXPECT_EQ(AsChars(out), text);
}

TEST_F(AeadRoundTripTest, OpensInPieces) {
  std::vector<std::byte> plaintext(100000);
  random_.Fill(plaintext);
  ASSERT_OK_AND_ASSIGN(AeadSealer sealer, AeadSealer::Create(key_));
  ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key_));
  std::vector<std::byte> sealed(plaintext.size() + kAeadTagBytes);
  ASSERT_OK(sealer.Seal(nonce_, AsBytes("aad"), plaintext, sealed));
  const auto tag = std::span<const std::byte>(sealed).last(kAeadTagBytes);
  for (const size_t most : {size_t{1}, size_t{7}, size_t{16}, size_t{65536}}) {
    std::vector<std::byte> buffer = sealed;
    ASSERT_OK(opener.Begin(nonce_, AsBytes("aad")));
    for (size_t at = 0; at < plaintext.size();) {
      const size_t n = std::min(most, plaintext.size() - at);
      const std::span<std::byte> piece = std::span(buffer).subspan(at, n);
      ASSERT_OK(opener.Update(piece, piece));
      at += n;
    }
    ASSERT_OK(opener.Finish(tag));
    buffer.resize(plaintext.size());
    EXPECT_EQ(buffer, plaintext);
  }
  // A tag says yes once, and only to all pieces in order.
  EXPECT_THAT(opener.Finish(tag),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  std::vector<std::byte> out(50000);
  EXPECT_THAT(opener.Update(std::span(sealed).first(50000), out),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(opener.Begin(nonce_, AsBytes("aad")));
  ASSERT_OK(opener.Update(std::span(sealed).first(50000), out));
  EXPECT_THAT(opener.Finish(tag), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK(opener.Begin(nonce_, AsBytes("aae")));
  ASSERT_OK(opener.Update(std::span(sealed).first(50000), out));
  ASSERT_OK(opener.Update(std::span(sealed).subspan(50000, 50000), out));
  EXPECT_THAT(opener.Finish(tag), StatusIs(absl::StatusCode::kDataLoss));
  // One left in the middle does not spoil the next.
  ASSERT_OK(opener.Begin(nonce_, AsBytes("aad")));
  ASSERT_OK(opener.Update(std::span(sealed).first(50000), out));
  EXPECT_OK(opener.Open(nonce_, AsBytes("aad"), sealed, plaintext));
  EXPECT_THAT(opener.Update(std::span(sealed).first(10), out),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(opener.Begin(nonce_, AsBytes("aad")));
  EXPECT_THAT(opener.Update(std::span(sealed).first(10), out),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(opener.Finish(std::span(sealed).first(15)),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(AeadRoundTripTest, WrongSizesAreRefused) {
  EXPECT_THAT(AeadSealer::Create(SecretBytes(16)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(AeadOpener::Create(SecretBytes(33)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(AeadSealer sealer, AeadSealer::Create(key_));
  ASSERT_OK_AND_ASSIGN(AeadOpener opener, AeadOpener::Create(key_));
  std::vector<std::byte> big(64), small(64 - kAeadTagBytes - 1);
  EXPECT_THAT(sealer.Seal(nonce_, {}, small, big),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(opener.Open(nonce_, {}, big, small),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(opener.Open(std::span(nonce_).first(8), {}, big,
                          std::span(big).first(64 - kAeadTagBytes)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(opener.Open(nonce_, {}, std::span(big).first(5), {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

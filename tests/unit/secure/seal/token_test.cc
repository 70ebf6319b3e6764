#include "consilium/secure/token.h"

#include <algorithm>
#include <string>

#include "consilium/base/strings.h"
#include "consilium/secure/canonical.h"
#include "consilium/secure/sha256.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const EnrollmentToken& token) {
  const SecretBytes text = token.ToText();
  return std::string(text.Text(SecretAccess("a test looks")));
}

class FixedRandom final : public RandomSource {
 public:
  explicit FixedRandom(std::byte value) : value_(value) {}
  void Fill(std::span<std::byte> out) override {
    std::fill(out.begin(), out.end(), value_);
  }

 private:
  std::byte value_;
};

TEST(EnrollmentTokenTest, HasTheDocumentedForm) {
  FixedRandom zeros(std::byte{0});
  EXPECT_EQ(Text(EnrollmentToken::Generate(zeros)),
            "cst1-" + std::string(52, 'a'));
  FixedRandom ones(std::byte{0xff});
  // The last digit holds one bit of the token and four of padding.
  EXPECT_EQ(Text(EnrollmentToken::Generate(ones)),
            "cst1-" + std::string(51, '7') + "q");
}

TEST(EnrollmentTokenTest, GoesThroughText) {
  SeededRandom random;
  for (int i = 0; i < 50; ++i) {
    const EnrollmentToken token = EnrollmentToken::Generate(random);
    std::string text = Text(token);
    ASSERT_OK_AND_ASSIGN(const EnrollmentToken parsed,
                         EnrollmentToken::Parse(text));
    EXPECT_TRUE(parsed.Matches(token.Hash()));
    std::transform(text.begin(), text.end(), text.begin(), ::toupper);
    ASSERT_OK_AND_ASSIGN(const EnrollmentToken shouted,
                         EnrollmentToken::Parse("  " + text + "\n"));
    EXPECT_TRUE(shouted.Matches(token.Hash()));
  }
}

TEST(EnrollmentTokenTest, OnlyTheSameTokenMatches) {
  SeededRandom random;
  const EnrollmentToken a = EnrollmentToken::Generate(random);
  const EnrollmentToken b = EnrollmentToken::Generate(random);
  EXPECT_FALSE(a.Matches(b.Hash()));
  EXPECT_FALSE(a.Matches(Sha256Digest()));
  Sha256Digest almost = a.Hash();
  almost.bytes[31] ^= std::byte{1};
  EXPECT_FALSE(a.Matches(almost));
}

TEST(EnrollmentTokenTest, TheHashIsFrozen) {
  FixedRandom zeros(std::byte{0});
  CanonicalEncoder encoder("consilium/token/v1");
  encoder.String(std::string(32, '\0'));
  EXPECT_EQ(EnrollmentToken::Generate(zeros).Hash(), Sha256(encoder.bytes()));
}

TEST(EnrollmentTokenTest, OtherTextsAreRefusedAndNotRepeated) {
  const std::string good = "cst1-" + std::string(52, 'a');
  for (const std::string& bad :
       {std::string(), std::string("cst1-"), good + "a",
        good.substr(0, good.size() - 1), "cst2-" + std::string(52, 'a'),
        "cst1-" + std::string(51, 'a') + "1",
        "cst1-" + std::string(51, 'a') + "b",  // padding is not zero
        "cst1-" + std::string(25, 'a') + " " + std::string(26, 'a')}) {
    const absl::Status status = EnrollmentToken::Parse(bad).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("aaaa")));
  }
}

}  // namespace
}  // namespace consilium

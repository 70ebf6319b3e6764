#include "consilium/secure/secret_bytes.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <utility>

#include "consilium/base/bytes.h"
#include "tests/unit/secure/test_vectors.h"

namespace consilium {
namespace {

static_assert(!std::is_copy_constructible_v<SecretBytes>);
static_assert(!std::is_copy_assignable_v<SecretBytes>);
static_assert(!std::is_convertible_v<SecretBytes, std::string_view>);

TEST(SecretBytesTest, ComparesContents) {
  const SecretBytes a = SecretBytes::CopyOf("abc");
  EXPECT_TRUE(a == SecretBytes::CopyOf("abc"));
  EXPECT_FALSE(a == SecretBytes::CopyOf("abd"));
  EXPECT_FALSE(a == SecretBytes::CopyOf("ab"));
  EXPECT_FALSE(a == SecretBytes());
  EXPECT_TRUE(SecretBytes() == SecretBytes(0));
  EXPECT_TRUE(a.Clone() == a);
}

TEST(SecretBytesTest, MovingEmptiesTheSource) {
  SecretBytes a = SecretBytes::CopyOf("abc");
  SecretBytes b = std::move(a);
  EXPECT_TRUE(a.empty());  // NOLINT: what a moved-from secret holds matters
  EXPECT_EQ(Reveal(b), "616263");
  a = std::move(b);
  EXPECT_EQ(Reveal(a), "616263");
  SecretBytes& self = a;
  a = std::move(self);
  EXPECT_EQ(Reveal(a), "616263");
  a.Wipe();
  EXPECT_TRUE(a.empty());
}

TEST(SecretBytesTest, TakingWipesTheString) {
  std::string text = "a token that was read from the command line";
  const char* const where = text.data();
  const size_t size = text.size();
  const SecretBytes secret = SecretBytes::Take(std::move(text));
  EXPECT_EQ(secret.size(), size);
  EXPECT_TRUE(text.empty());  // NOLINT
  ASSERT_EQ(text.data(), where);
  for (size_t i = 0; i < text.capacity(); ++i) ASSERT_EQ(where[i], '\0');
}

TEST(ConstantTimeEqualsTest, ComparesSpans) {
  EXPECT_TRUE(ConstantTimeEquals(AsBytes("ab"), AsBytes("ab")));
  EXPECT_TRUE(ConstantTimeEquals({}, {}));
  EXPECT_FALSE(ConstantTimeEquals(AsBytes("ab"), AsBytes("aB")));
  EXPECT_FALSE(ConstantTimeEquals(AsBytes("ab"), AsBytes("abc")));
}

}  // namespace
}  // namespace consilium

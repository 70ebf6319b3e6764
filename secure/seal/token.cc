#include "consilium/secure/token.h"

#include <array>
#include <cstdint>
#include <string>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/canonical.h"
#include "consilium/secure/sha256.h"

namespace consilium {
namespace {

constexpr std::string_view kPrefix = "cst1-";
constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";
constexpr size_t kTokenBytes = 32;
constexpr size_t kTokenDigits = 52;  // ceil(256 / 5); 4 bits are padding
constexpr size_t kPaddingBits = kTokenDigits * 5 - kTokenBytes * 8;

char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// True when `digits` is canonical base32 of kTokenBytes bytes.
bool Decode(std::string_view digits, std::span<std::byte> out) {
  uint32_t bits = 0;
  size_t pending = 0;
  size_t written = 0;
  for (const char digit : digits) {
    const size_t value = kAlphabet.find(Lower(digit));
    if (value == std::string_view::npos) return false;
    bits = (bits << 5) | static_cast<uint32_t>(value);
    pending += 5;
    if (pending >= 8) {
      pending -= 8;
      out[written++] = static_cast<std::byte>(bits >> pending);
      bits &= (1u << pending) - 1;
    }
  }
  return pending == kPaddingBits && bits == 0;
}

}  // namespace

EnrollmentToken EnrollmentToken::Generate(RandomSource& random) {
  SecretBytes secret(kTokenBytes);
  random.Fill(secret.MutableBytes(SecretAccess("generates")));
  return EnrollmentToken(std::move(secret));
}

absl::StatusOr<EnrollmentToken> EnrollmentToken::Parse(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  bool good = text.size() == kPrefix.size() + kTokenDigits;
  for (size_t i = 0; good && i < kPrefix.size(); ++i) {
    good = Lower(text[i]) == kPrefix[i];
  }
  SecretBytes secret(kTokenBytes);
  good = good && Decode(text.substr(kPrefix.size()),
                        secret.MutableBytes(SecretAccess("parses a token")));
  if (!good) {
    return absl::InvalidArgumentError(
        Cat("the enrolment token is not \"", kPrefix, "\" and ", kTokenDigits,
            " characters of a-z and 2-7; copy it whole from the invitation"));
  }
  return EnrollmentToken(std::move(secret));
}

SecretBytes EnrollmentToken::ToText() const {
  SecretBytes text(kPrefix.size() + kTokenDigits);
  const SecretAccess access("writes a token");
  const std::span<std::byte> out = text.MutableBytes(access);
  size_t written = 0;
  for (const char c : kPrefix) out[written++] = static_cast<std::byte>(c);
  uint32_t bits = 0;
  size_t pending = 0;
  const auto put = [&](uint32_t value) {
    out[written++] = static_cast<std::byte>(kAlphabet[value]);
  };
  for (const std::byte byte : secret_.Bytes(access)) {
    bits = (bits << 8) | std::to_integer<uint32_t>(byte);
    pending += 8;
    while (pending >= 5) {
      pending -= 5;
      put(bits >> pending);
      bits &= (1u << pending) - 1;
    }
  }
  put(bits << (5 - pending));
  return text;
}

Sha256Digest EnrollmentToken::Hash() const {
  CanonicalEncoder encoder("consilium/token/v1");
  encoder.Bytes(secret_.Bytes(SecretAccess("hashes a token")));
  std::string encoded = std::move(encoder).str();
  const Sha256Digest hash = Sha256(encoded);
  WipeString(encoded);
  return hash;
}

bool EnrollmentToken::Matches(const Sha256Digest& stored_hash) const {
  return ConstantTimeEquals(Hash().bytes, stored_hash.bytes);
}

}  // namespace consilium

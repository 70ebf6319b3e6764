// The byte encoding of everything that is signed, hashed or bound.
#ifndef CONSILIUM_SECURE_CANONICAL_H_
#define CONSILIUM_SECURE_CANONICAL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace consilium {

// The one encoding under every signature, MAC, hash and associated data.
//
// Bytes: a domain string, then the fields in the order given. The domain and
// each field are a length (u64, big-endian, in bytes) and that many bytes.
// Integers are 8-byte big-endian fields, booleans are integers 0 or 1, doubles
// are their IEEE-754 bits, a list is its count and then its elements. Two
// different sequences of fields never give equal bytes, and a domain names one
// sequence of fields for ever: a change takes a new domain (".../v2").
class CanonicalEncoder {
 public:
  explicit CanonicalEncoder(std::string_view domain);

  CanonicalEncoder& String(std::string_view text);
  CanonicalEncoder& Bytes(std::span<const std::byte> bytes);
  CanonicalEncoder& U64(uint64_t value);
  CanonicalEncoder& I64(int64_t value);  // two's complement
  CanonicalEncoder& Bool(bool value);
  CanonicalEncoder& F64(double value);
  CanonicalEncoder& Count(size_t elements) { return U64(elements); }

  const std::string& str() const& { return out_; }
  std::string str() && { return std::move(out_); }
  std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(out_.data(), out_.size()));
  }

 private:
  void AppendLength(uint64_t length);
  std::string out_;
};

}  // namespace consilium

#endif  // CONSILIUM_SECURE_CANONICAL_H_

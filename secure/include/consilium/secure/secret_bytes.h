// Secret bytes in one wiping type, and constant-time comparison.
#ifndef CONSILIUM_SECURE_SECRET_BYTES_H_
#define CONSILIUM_SECURE_SECRET_BYTES_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace consilium {

// Permission to look at secret bytes. Every place that reads a secret says
// why, so that `grep SecretAccess` lists them all.
class SecretAccess {
 public:
  explicit constexpr SecretAccess(const char* /*why*/) {}
};

// Bytes that must not outlive their use: keys, tokens, PEM of private keys.
//
// Move-only; wiped on destruction, on move-assignment and by Wipe(). There is
// no stream operator and no implicit view, so that a secret cannot reach a log
// by accident. Not thread-safe to change; const use from many threads is fine.
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(size_t size);  // zeros
  static SecretBytes CopyOf(std::span<const std::byte> bytes);
  static SecretBytes CopyOf(std::string_view text);
  // Takes the characters and wipes `text`.
  static SecretBytes Take(std::string&& text);

  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  SecretBytes Clone() const;
  void Wipe();

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  std::span<const std::byte> Bytes(SecretAccess) const {
    return {data_.get(), size_};
  }
  std::span<std::byte> MutableBytes(SecretAccess) {
    return {data_.get(), size_};
  }
  std::string_view Text(SecretAccess) const {
    return {reinterpret_cast<const char*>(data_.get()), size_};
  }

  // Constant time in the contents; sizes are not secret.
  friend bool operator==(const SecretBytes& a, const SecretBytes& b);

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_ = 0;
};

// Constant time in the contents; false at once when the sizes differ.
bool ConstantTimeEquals(std::span<const std::byte> a,
                        std::span<const std::byte> b);

// Overwrites memory in a way the compiler may not remove.
void WipeMemory(std::span<std::byte> bytes);
void WipeString(std::string& text);  // wipes, then clears

}  // namespace consilium

#endif  // CONSILIUM_SECURE_SECRET_BYTES_H_

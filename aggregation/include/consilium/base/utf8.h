// Text that others wrote: is it UTF-8 (RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF)?
#ifndef CONSILIUM_BASE_UTF8_H_
#define CONSILIUM_BASE_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace consilium {

// Bytes of the sequence at the start of `text`, which is not empty; 0 when it
// is not valid.
size_t Utf8SequenceLength(std::string_view text);

bool IsValidUtf8(std::string_view text);

// Valid, and without U+0000 to U+001F and U+007F: fit to name something.
bool IsPlainName(std::string_view text);

// Text from a peer made fit to store and print: control characters and bytes
// that are not UTF-8 become spaces or '?', and it is cut after `max_bytes`, at
// the border of a character.
std::string CleanText(std::string_view text, size_t max_bytes);

// Appends `code_point` (no surrogate, at most U+10FFFF).
void AppendUtf8(char32_t code_point, std::string* out);

}  // namespace consilium

#endif  // CONSILIUM_BASE_UTF8_H_

#ifndef CONSILIUM_AGGREGATION_MODEL_UTF8_H_
#define CONSILIUM_AGGREGATION_MODEL_UTF8_H_

#include <string>
#include <string_view>

namespace consilium {

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool IsValidUtf8(std::string_view text);

// Whether a tensor may bear this name: valid UTF-8 without U+0000 to U+001F
// and U+007F.
bool IsPlainName(std::string_view text);

// Appends `code_point` (no surrogate, at most U+10FFFF).
void AppendUtf8(char32_t code_point, std::string* out);

}  // namespace consilium

#endif  // CONSILIUM_AGGREGATION_MODEL_UTF8_H_

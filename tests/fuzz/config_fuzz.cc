// Properties: whatever a configuration file holds, parsing it ends with an
// error or with a configuration that is valid and that reads back from the text
// it is written as; and what our reader accepts as TOML means the same to
// toml++.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "coordinator/app/config.h"
#include "coordinator/app/config_table.h"
#include "coordinator/app/toml_reader.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include "toml++/toml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// Every value of ours, found by its path in the other parser's result.
void Compare(const consilium::TomlDocument& ours, const toml::table& theirs) {
  for (const consilium::TomlEntry& entry : ours.entries) {
    const toml::node* node = &theirs;
    for (const std::string& part : entry.path) {
      node = node->is_table() ? node->as_table()->get(part) : nullptr;
      if (node == nullptr) std::abort();
    }
    const bool same = std::visit(
        [&](const auto& value) {
          const auto other = node->value_exact<std::decay_t<decltype(value)>>();
          // Not equal to itself: nan.
          return other.has_value() && (*other == value || value != value);
        },
        entry.value);
    if (!same) std::abort();
  }
}

void Check(std::string_view text) {
  const auto document = consilium::ReadToml(text);
  if (document.ok()) {
    const toml::parse_result theirs = toml::parse(text);
    if (!theirs) std::abort();
    Compare(*document, theirs.table());
  }
  const auto config = consilium::ParseConfig(text);
  if (!config.ok()) {
    if (config.status().message().empty()) std::abort();
    return;
  }
  if (!consilium::ValidateConfig(*config).ok()) std::abort();
  const auto again =
      consilium::ParseConfig(consilium::DefaultConfigText(*config));
  if (!again.ok() || !(*again == *config)) std::abort();
}

// Few random bytes are TOML, so the input also picks keys and plausible values:
// [key][value], where the last value means bytes of its own: [length][bytes].
std::string Compose(std::string_view input) {
  constexpr std::array<const char*, 24> kValues = {"0",
                                                   "1",
                                                   "2",
                                                   "3",
                                                   "1000",
                                                   "1e3",
                                                   "0.5",
                                                   "inf",
                                                   "nan",
                                                   "true",
                                                   "false",
                                                   "\"0\"",
                                                   "\"90s\"",
                                                   "\"3d7ms\"",
                                                   "\"forever\"",
                                                   "\"1GiB\"",
                                                   "\"5MB\"",
                                                   "\"off\"",
                                                   "\"x-1\"",
                                                   "\"h:1\"",
                                                   "\"immediate\"",
                                                   "\"alert\"",
                                                   "\"\\u00e9\\\\ \\\"\"",
                                                   "\"\""};
  std::string text;
  const auto& keys = consilium::ConfigKeys();
  for (int count = 0; count < 12 && input.size() >= 2; ++count) {
    const consilium::ConfigKey& key =
        keys[static_cast<uint8_t>(input[0]) % keys.size()];
    const size_t choice = static_cast<uint8_t>(input[1]) % (kValues.size() + 1);
    input.remove_prefix(2);
    text += key.section + "." + key.name + " = ";
    if (choice < kValues.size()) {
      text += kValues[choice];
    } else if (!input.empty()) {
      const size_t length = static_cast<uint8_t>(input[0]) % 16;
      text += input.substr(1, length);
      input.remove_prefix(std::min(input.size(), 1 + length));
    }
    text += '\n';
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  Check(input);
  Check(Compose(input));
  return 0;
}

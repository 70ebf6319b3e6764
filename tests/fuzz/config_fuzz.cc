// Properties: whatever a configuration file holds, parsing it ends with an
// error or with a configuration that is valid and that reads back from the text
// it is written as; and a document written by other rules means the same.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "coordinator/app/config.h"
#include "coordinator/app/config_table.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/toml_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using consilium::Require;

void Check(std::string_view text) {
  const auto config = consilium::ParseConfig(text);
  const auto document = consilium::ReadToml(text);
  if (document.ok()) {
    const std::string other = consilium::WriteToml(*document);
    const auto again = consilium::ReadToml(other);
    Require(again.ok() && SameToml(*document, *again));
    const auto same = consilium::ParseConfig(other);
    Require(same.ok() == config.ok());
    if (config.ok()) Require(*same == *config);
  }
  if (!config.ok()) {
    Require(!config.status().message().empty());
    return;
  }
  Require(document.ok() && consilium::ValidateConfig(*config).ok());
  const auto again =
      consilium::ParseConfig(consilium::DefaultConfigText(*config));
  Require(again.ok() && *again == *config);
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

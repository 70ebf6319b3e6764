// Whatever an adapter directory holds: reading it ends in an error, or in
// factors that come back bit for bit when the adapter is written and read once
// more. The same bytes as rules for groups never crash.

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "consilium/aggregation/group_rules.h"
#include "consilium/aggregation/peft.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using consilium::DType;
using consilium::Require;
namespace peft = consilium::peft;

size_t Below(consilium::FuzzInput& in, size_t bound) {
  return in.Byte() % bound;
}

std::string ComposeConfig(consilium::FuzzInput& in) {
  constexpr std::array<const char*, 8> kMore = {
      "",
      ",\"use_rslora\":true",
      ",\"use_dora\":true",
      ",\"target_parameters\":[\"e.up\"]",
      ",\"target_parameters\":[\"e.up\",\"e.down\"]",
      ",\"modules_to_save\":[\"head\"]",
      ",\"alpha_pattern\":{\"q\":3}",
      ",\"target_parameters\":[\"e.up\",\"e.up\"],\"modules_to_save\":[\"e\"]"};
  const size_t rank = Below(in, 4);
  return consilium::Cat("{\"peft_type\":\"LORA\",\"r\":", rank,
                        ",\"lora_alpha\":8", kMore[Below(in, kMore.size())],
                        "}");
}

std::string ComposeFile(consilium::FuzzInput& in) {
  constexpr std::array<const char*, 10> kModules = {"q",
                                                    "e",
                                                    "e.base_layer",
                                                    "e.base_layer.base_layer",
                                                    "head",
                                                    "layer",
                                                    ".",
                                                    "",
                                                    "base_layer",
                                                    "0.e"};
  constexpr std::array<const char*, 6> kEnds = {
      ".lora_A.weight",         ".lora_B.weight", ".weight",
      ".lora_magnitude_vector", ".lora_A",        ""};
  constexpr std::array<DType, 4> kDTypes = {DType::kF32, DType::kF16,
                                            DType::kF64, DType::kI8};
  std::vector<std::string> names;
  std::vector<std::vector<int64_t>> shapes;
  std::vector<DType> dtypes;
  size_t bytes = 0;
  while (!in.empty() && names.size() < 12) {
    const bool known = Below(in, 16) != 0;
    const char* const module = kModules[Below(in, kModules.size())];
    const char* const end = kEnds[Below(in, kEnds.size())];
    names.push_back(
        consilium::Cat(known ? "base_model.model." : "", module, end));
    shapes.emplace_back();
    int64_t elements = 1;
    const size_t rank = Below(in, 8) == 0 ? Below(in, 4) : 2;
    for (size_t i = 0; i < rank; ++i) {
      shapes.back().push_back(static_cast<int64_t>(Below(in, 7)));
      elements *= shapes.back().back();
    }
    const size_t which = Below(in, 16);
    dtypes.push_back(which < kDTypes.size() ? kDTypes[which] : DType::kF32);
    bytes +=
        static_cast<size_t>(elements * consilium::DTypeBytes(dtypes.back()));
  }
  std::vector<consilium::TensorSpec> specs;
  for (size_t i = 0; i < names.size(); ++i) {
    specs.push_back({names[i], dtypes[i], shapes[i]});
  }
  const auto header = consilium::BuildSafetensorsHeader(specs, {}, 8);
  if (!header.ok()) return "";
  std::string file = *header;
  for (size_t i = 0; i < bytes; ++i) file += static_cast<char>(1 + i % 60);
  return file;
}

void CheckRoundTrip(const peft::Config& config,
                    const consilium::SafetensorsView& file) {
  const auto adapter = peft::ReadAdapter(config, file.header());
  if (!adapter.ok()) return;
  std::vector<consilium::lora::Factors> factors;
  for (const peft::Target& target : adapter->targets) {
    Require(target.scale > 0 && target.rank > 0 && target.shape.out > 0 &&
            target.shape.in > 0);
    auto f = peft::ReadFactors(file, target);
    Require(f.ok());
    factors.push_back(*std::move(f));
  }
  std::map<std::string, std::vector<float>> whole;
  for (const peft::Whole& tensor : adapter->whole) {
    whole[tensor.name].resize(
        static_cast<size_t>(file.header().Find(tensor.tensor)->elements()));
  }
  const auto written =
      peft::WriteAdapter(file.header(), *adapter, factors, whole);
  Require(written.ok());
  const auto back =
      consilium::SafetensorsView::Parse(consilium::AsBytes(*written));
  Require(back.ok());
  const auto again = peft::ReadAdapter(config, back->header());
  Require(again.ok() && again->targets.size() == adapter->targets.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    Require(again->targets[i].name == adapter->targets[i].name);
    const auto f = peft::ReadFactors(*back, again->targets[i]);
    Require(f.ok());
    const auto bits = [](const std::vector<float>& v) {
      return consilium::AsChars(std::as_bytes(std::span(v)));
    };
    Require(bits(f->a) == bits(factors[i].a));
    Require(bits(f->b) == bits(factors[i].b));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  peft::ParseConfig(input).status().IgnoreError();
  if (const auto rules = consilium::GroupRules::Parse(input); rules.ok()) {
    rules->GroupOf(input).status().IgnoreError();
    rules->GroupOf("model.layers.1.mlp.experts.2.up").status().IgnoreError();
  }
  consilium::FuzzInput in(data, size);
  const auto config = peft::ParseConfig(ComposeConfig(in));
  const std::string bytes = ComposeFile(in);
  const auto file =
      consilium::SafetensorsView::Parse(consilium::AsBytes(bytes));
  if (config.ok() && file.ok()) CheckRoundTrip(*config, *file);
  return 0;
}

// LoRA adapters as Hugging Face PEFT writes them: a directory with
// adapter_config.json and adapter_model.safetensors (checked with peft 0.21).
// Its order of elements exists only here; everything else sees one pair of
// factors for each matrix and expert, B row-major out x rank and A rank x in.
//
// A fused expert parameter (`target_parameters`, one 3-D tensor for all experts
// of a layer) is stored as A [E r, in], expert by expert, and B [out, r E] with
// the expert as the *fastest* index. Where a module has several adapted
// parameters, the wrappers nest: the last of them is `<module>.lora_A`, the one
// before `<module>.base_layer.lora_A`. Names do not say which is which; PEFT
// wraps them as the module registered them. So two are understood where
// `target_parameters` lists them as every model does, gate_up_proj before
// down_proj, and other combinations are refused.
//
// Thread-safe: nothing here keeps state.
#ifndef CONSILIUM_AGGREGATION_PEFT_H_
#define CONSILIUM_AGGREGATION_PEFT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/aggregation/group_rules.h"
#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/lora.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/base/file.h"

namespace consilium::peft {

inline constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxConfigDepth = 32;
inline constexpr size_t kMaxConfigNames = 1024;  // of one list
inline constexpr int64_t kMaxExperts = 4096;     // of one tensor
inline constexpr size_t kMaxTargets = size_t{1} << 18;

struct Config {
  int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;  // scale alpha / sqrt(rank)
  // By the end of a module's name; the first that fits, in alphabetical order.
  std::map<std::string, double> alpha_pattern = {};
  bool rank_pattern = false;  // ranks other than `rank` may occur
  std::vector<std::string> target_parameters = {};  // in the order of the file
  std::vector<std::string> modules_to_save = {};
};

// Errors: INVALID_ARGUMENT for what is no adapter configuration;
// RESOURCE_EXHAUSTED beyond a limit; UNIMPLEMENTED for a feature that
// changes what the factors mean (another peft_type, DoRA, biases, ...); names
// the key and its value.
absl::StatusOr<Config> ParseConfig(std::string_view json);

// One adapted matrix. Its update is scale * B A.
struct Target {
  // "model.layers.1.mlp.experts.3.gate_up_proj", "model.layers.0.q_proj".
  std::string name;
  lora::MatrixShape shape;  // of the factors; a fused parameter that stores
                            // [E, in, out] has its update transposed
  int64_t rank = 0;
  double scale = 0;
  // Where its factors lie.
  std::string tensor_a;
  std::string tensor_b;
  int64_t expert = 0;
  int64_t experts = 0;  // 0: not fused
};

// A tensor that is trained and saved whole (modules_to_save).
struct Whole {
  std::string name;    // without PEFT's prefix
  std::string tensor;  // as in the file
};

struct Adapter {
  std::vector<Target> targets;  // by tensor in the file's order, then expert
  std::vector<Whole> whole;     // in the file's order
};

// Errors: INVALID_ARGUMENT naming tensor and rule: a factor without its other
// half, shapes that do not fit each other or the rank, a tensor that is neither
// a factor nor one of modules_to_save; RESOURCE_EXHAUSTED beyond kMaxExperts or
// kMaxTargets; UNIMPLEMENTED for dtypes other than F64,
// F32, F16 and BF16, and for DoRA's magnitudes.
absl::StatusOr<Adapter> ReadAdapter(const Config& config,
                                    const SafetensorsHeader& header);

// The factors of one target, widened or rounded to float32.
// Errors: INVALID_ARGUMENT when the file is not the one of ReadAdapter().
absl::StatusOr<lora::Factors> ReadFactors(const SafetensorsView& file,
                                          const Target& target);

// The file again, with other factors: one for each target, of its rank. Names,
// shapes and order are those of `header`; the elements are F32.
// Errors: INVALID_ARGUMENT for factors that do not fit, or a `whole` tensor
// whose values are missing.
absl::StatusOr<std::string> WriteAdapter(
    const SafetensorsHeader& header, const Adapter& adapter,
    std::span<const lora::Factors> factors,
    const std::map<std::string, std::vector<float>>& whole);

// A whole adapter directory, mapped read-only. Thread-safe.
class Directory {
 public:
  // Errors: those above and of the files.
  static absl::StatusOr<Directory> Open(const std::string& path);

  const Config& config() const { return config_; }
  const Adapter& adapter() const { return adapter_; }

  // One slot `<target>.lora_A.weight` and, beside it, `<target>.lora_B.weight`
  // for each target, then the whole tensors; groups by the rules.
  // Errors: those of GroupRules::GroupOf() and Layout::Create().
  absl::StatusOr<Layout> MakeLayout(const GroupRules& rules) const;
  // The elements of one slot of such a layout. Errors: NOT_FOUND.
  absl::StatusOr<std::vector<float>> Values(std::string_view slot) const;

  // The bytes of adapter_model.safetensors with other elements, those that
  // `values` returns for each slot. The whole file is held in memory.
  absl::StatusOr<std::string> Write(
      const std::function<absl::StatusOr<std::span<const float>>(
          const std::string& slot)>& values) const;

 private:
  Directory() = default;

  MappedFile mapping_;
  Config config_;
  SafetensorsView file_;
  Adapter adapter_;
  std::map<std::string, size_t, std::less<>> by_name_;  // targets
};

}  // namespace consilium::peft

#endif  // CONSILIUM_AGGREGATION_PEFT_H_

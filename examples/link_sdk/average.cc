// Two institutions' deltas, averaged by their example counts as a round does.
#include <cstdio>
#include <vector>

#include "consilium/aggregation/kernels.h"
#include "consilium/aggregation/layout.h"

int main() {
  std::vector<consilium::SlotSpec> slots(2);
  slots[0].name = "head.lora_A";
  slots[0].shape = {2, 3};
  slots[1].name = "head.lora_B";
  slots[1].shape = {4, 2};
  const auto layout = consilium::Layout::Create(slots);
  if (!layout.ok()) {
    std::fprintf(stderr, "%s\n", layout.status().ToString().c_str());
    return 1;
  }

  const auto n = static_cast<size_t>(layout->total_elements());
  std::vector<float> parameters(n, 1.0f);  // the base version
  const std::vector<float> bank_a(n, 0.5f), bank_b(n, -0.25f);
  const float* const deltas[] = {bank_a.data(), bank_b.data()};
  const double examples[] = {100, 300};
  consilium::kernels::FoldBlock(parameters, deltas, examples, 400);

  // 1 + (100 * 0.5 - 300 * 0.25) / 400
  std::printf("%zu parameters, each now %.4f\n", n, parameters[0]);
  return parameters[0] == 0.9375f ? 0 : 1;
}

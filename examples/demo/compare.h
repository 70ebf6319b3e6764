// What the hospitals could do without a federation, and with all rows in one
// place: the two models a federated one is compared with.

#ifndef CONSILIUM_EXAMPLES_DEMO_COMPARE_H_
#define CONSILIUM_EXAMPLES_DEMO_COMPARE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/client_training/table_trainer.h"
#include "examples/data/breast_cancer.h"

namespace consilium {

TableView ViewOf(const TableSlice& slice);

// Accuracy on `test`, 0..1, of `start` trained on `rows` for `rounds` times the
// trainer's default epochs, without prox term: there is nobody to stay near to.
absl::StatusOr<double> AccuracyAlone(const TableMoeTrainer& trainer,
                                     std::vector<NamedTensor> start,
                                     const TableSlice& rows,
                                     const TableSlice& test, int rounds,
                                     uint64_t seed);

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_DEMO_COMPARE_H_

#include "examples/demo/compare.h"

#include <utility>

#include "consilium/base/status_macros.h"

namespace consilium {

TableView ViewOf(const TableSlice& slice) {
  return TableView{slice.features, slice.labels, slice.columns()};
}

absl::StatusOr<double> AccuracyAlone(const TableMoeTrainer& trainer,
                                     std::vector<NamedTensor> start,
                                     const TableSlice& rows,
                                     const TableSlice& test, int rounds,
                                     uint64_t seed) {
  for (int round = 1; round <= rounds; ++round) {
    TrainOptions options;
    options.prox_mu = 0;
    options.seed = seed + static_cast<uint64_t>(round);
    CONSILIUM_ASSIGN_OR_RETURN(
        const TrainResult result,
        trainer.Train(SourceOf(start), ViewOf(rows), options));
    CONSILIUM_RETURN_IF_ERROR(AddDelta(result.delta, start));
  }
  CONSILIUM_ASSIGN_OR_RETURN(const TableEvaluation evaluation,
                             trainer.Evaluate(SourceOf(start), ViewOf(test)));
  return evaluation.accuracy;
}

}  // namespace consilium

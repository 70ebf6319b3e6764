// MakeTrainer() over the reference trainer. Its headers show nothing of
// LibTorch, so this file may include the rest.

#include <span>
#include <utility>
#include <vector>

#include "client_sdk/app/table_csv.h"
#include "client_sdk/app/train_settings.h"
#include "client_sdk/app/trainer.h"
#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium::client::internal {
namespace {

constexpr int64_t kMaxBaseModelBytes = int64_t{4} << 30;

TableView ViewOf(const LabelledTable& table) {
  return {table.features, table.labels,
          static_cast<int64_t>(table.columns.size())};
}

ParameterSource SourceOf(const Parameters& parameters) {
  return
      [&parameters](std::string_view name) { return parameters.Tensor(name); };
}

class TableUpdate final : public TrainedUpdate {
 public:
  explicit TableUpdate(TrainResult result) : result_(std::move(result)) {
    update_.tensors.reserve(result_.delta.size());
    for (const consilium::NamedTensor& tensor : result_.delta) {
      update_.tensors.push_back({tensor.name, tensor.values});
    }
    LocalReport& report = update_.report;
    report.examples = result_.examples;
    for (size_t i = 0; i < result_.routed_tokens.size(); ++i) {
      if (result_.routed_tokens[i] == 0) continue;
      report.group_tokens[Cat("expert/0/", i)] = result_.routed_tokens[i];
    }
    report.metrics = {{"loss", result_.loss},
                      {"accuracy", result_.accuracy},
                      {"utilisation_std", result_.utilisation_std}};
  }
  const Update& update() const override { return update_; }

 private:
  const TrainResult result_;
  Update update_;
};

class TableTrainer final : public Trainer {
 public:
  TableTrainer(std::unique_ptr<TableMoeTrainer> model, LabelledTable rows,
               LabelledTable validation, uint64_t seed)
      : model_(std::move(model)),
        rows_(std::move(rows)),
        validation_(std::move(validation)),
        seed_(seed) {}

  std::string Describe() const override {
    return Cat("table trainer on ", model_->device(), ": ", rows_.rows(),
               " rows of ", rows_.columns.size(), " columns to train on, ",
               validation_.rows(), " to validate; ", model_->shape().experts,
               " experts");
  }
  bool CanEvaluate() const override { return validation_.rows() > 0; }
  absl::Status CheckLayout(const Layout& layout) const override {
    CONSILIUM_ASSIGN_OR_RETURN(const Layout own,
                               Layout::Create(model_->Slots()));
    if (own == layout) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "the federation's layout is not that of training.base_model; ask the "
        "operator for the base model of this federation");
  }

  absl::StatusOr<std::unique_ptr<TrainedUpdate>> Train(
      const TrainTask& task, const Parameters& base, const Progress& progress,
      const CancelToken& cancel) override {
    CONSILIUM_ASSIGN_OR_RETURN(TrainOptions options,
                               ParseTrainSettings(task.parameters));
    options.seed = seed_ + task.round;
    CancelSource stop(cancel);
    auto result = model_->Train(
        SourceOf(base), ViewOf(rows_), options,
        [&](const TrainProgress& at) {
          const double fraction =
              static_cast<double>(at.epoch) / static_cast<double>(at.epochs);
          if (!progress(fraction, Cat("epoch ", at.epoch, " of ", at.epochs,
                                      ", loss ", at.loss))) {
            stop.Cancel("the round does not wait for this institution");
          }
        },
        stop.token());
    if (!result.ok()) return result.status();
    return std::make_unique<TableUpdate>(*std::move(result));
  }

  absl::StatusOr<Measured> Evaluate(const Parameters& parameters) override {
    CONSILIUM_ASSIGN_OR_RETURN(
        const TableEvaluation evaluation,
        model_->Evaluate(SourceOf(parameters), ViewOf(validation_)));
    Measured measured;
    measured.examples = evaluation.examples;
    measured.metrics = {{"loss", evaluation.loss},
                        {"accuracy", evaluation.accuracy}};
    if (evaluation.auc.has_value()) measured.metrics["auc"] = *evaluation.auc;
    return measured;
  }

 private:
  const std::unique_ptr<TableMoeTrainer> model_;
  const LabelledTable rows_;
  const LabelledTable validation_;
  const uint64_t seed_;
};

absl::Status FitColumns(const TableMoeTrainer& model, const std::string& path,
                        LabelledTable& table) {
  if (!model.columns().empty()) {
    return Annotate(ArrangeColumns(model.columns(), table), path);
  }
  const TableMoeShape& shape = model.shape();
  if (static_cast<int64_t>(table.columns.size()) == shape.features) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      Cat(path, " has ", table.columns.size(),
          " columns besides the label; the base model takes ", shape.features));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(
    const TrainingConfig& config) {
  FileSystem* const fs = PosixFileSystem();
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string base_model,
      ReadWholeFile(fs, config.base_model, kMaxBaseModelBytes));
  TrainerOptions options;
  options.threads = config.threads;
  options.device = config.device == "cpu"    ? TrainingDevice::kCpu
                   : config.device == "cuda" ? TrainingDevice::kCuda
                                             : TrainingDevice::kAuto;
  CONSILIUM_ASSIGN_OR_RETURN(
      std::unique_ptr<TableMoeTrainer> model,
      TableMoeTrainer::Create(AsBytes(base_model), options));
  CONSILIUM_ASSIGN_OR_RETURN(LabelledTable rows, LoadTable(fs, config.table));
  CONSILIUM_RETURN_IF_ERROR(FitColumns(*model, config.table, rows));
  LabelledTable validation;
  if (!config.validation_table.empty()) {
    CONSILIUM_ASSIGN_OR_RETURN(validation,
                               LoadTable(fs, config.validation_table));
    CONSILIUM_RETURN_IF_ERROR(
        FitColumns(*model, config.validation_table, validation));
  }
  return std::make_unique<TableTrainer>(std::move(model), std::move(rows),
                                        std::move(validation), config.seed);
}

}  // namespace consilium::client::internal

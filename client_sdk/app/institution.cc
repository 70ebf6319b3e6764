#include "client_sdk/app/institution.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "client_sdk/app/csv_table.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium::client {
namespace {

constexpr int64_t kMaxTableBytes = int64_t{1} << 32;
constexpr int64_t kMaxBaseModelBytes = int64_t{1} << 32;

absl::StatusOr<CsvTable> LoadTable(const std::string& path) {
  CONSILIUM_ASSIGN_OR_RETURN(
      const std::string text,
      ReadWholeFile(PosixFileSystem(), path, kMaxTableBytes));
  auto table = ParseCsvTable(text);
  if (!table.ok()) {
    return absl::Status(table.status().code(),
                        Cat(path, ": ", StdView(table.status().message())));
  }
  return table;
}

TableView ViewOf(const CsvTable& table) {
  return TableView{table.features, table.labels,
                   static_cast<int64_t>(table.columns.size())};
}

// A training setting that the federation tells, where it does.
template <typename T>
absl::Status Take(const std::map<std::string, std::string>& settings,
                  const std::string& name, T* out) {
  const auto it = settings.find(name);
  if (it == settings.end()) return absl::OkStatus();
  char* end = nullptr;
  const double value = std::strtod(it->second.c_str(), &end);
  if (end == it->second.c_str() || *end != '\0') {
    return absl::InvalidArgumentError(
        Cat("training.", name, " is ", Quoted(it->second),
            ", must be a number; the operator can set it with `consilium "
            "federation set`"));
  }
  *out = static_cast<T>(value);
  return absl::OkStatus();
}

class Institution {
 public:
  Institution(const InstitutionOptions& options, CancelToken cancel)
      : options_(options), cancel_(std::move(cancel)) {}

  absl::Status Run() {
    CONSILIUM_RETURN_IF_ERROR(Prepare());
    int64_t contributed = 0;
    CONSILIUM_ASSIGN_OR_RETURN(const auto resumed,
                               client_->ResumePending({}, cancel_));
    for (const ResumedUpload& upload : resumed) {
      const bool sent = std::holds_alternative<Receipt>(upload.outcome);
      contributed += sent ? 1 : 0;
      Log("info", upload.round,
          sent ? "an upload of an earlier process was completed"
               : "an upload of an earlier process is no longer wanted");
    }
    std::string reason;
    while (options_.rounds == 0 || contributed < options_.rounds) {
      CONSILIUM_RETURN_IF_ERROR(RenewWhenDue());
      CONSILIUM_ASSIGN_OR_RETURN(
          const Work work, client_->WaitForWork(absl::Minutes(5), cancel_));
      if (const auto* train = std::get_if<TrainTask>(&work)) {
        CONSILIUM_ASSIGN_OR_RETURN(const bool counted, Contribute(*train));
        contributed += counted ? 1 : 0;
      } else if (const auto* judge = std::get_if<EvaluateTask>(&work)) {
        CONSILIUM_RETURN_IF_ERROR(Judge(*judge));
      } else if (std::get<Idle>(work).reason != reason) {
        reason = std::get<Idle>(work).reason;
        Log("info", 0, reason);
      }
    }
    return absl::OkStatus();
  }

 private:
  void Log(std::string_view level, uint64_t round, std::string_view text) {
    if (options_.log) options_.log(level, round, text);
  }

  absl::Status Prepare() {
    const ClientConfig& c = options_.config;
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::string base_model,
        ReadWholeFile(PosixFileSystem(), c.base_model, kMaxBaseModelBytes));
    TrainerOptions trainer;
    trainer.threads = c.threads;
    if (c.device == "cpu") trainer.device = TrainingDevice::kCpu;
    if (c.device == "cuda") trainer.device = TrainingDevice::kCuda;
    CONSILIUM_ASSIGN_OR_RETURN(
        trainer_, TableMoeTrainer::Create(AsBytes(base_model), trainer));
    CONSILIUM_ASSIGN_OR_RETURN(rows_, LoadTable(c.table));
    if (!c.validation_table.empty()) {
      CONSILIUM_ASSIGN_OR_RETURN(CsvTable table, LoadTable(c.validation_table));
      validation_ = std::move(table);
    }
    ClientOptions client = c.client;
    client.observer = [this](const Event& event) {
      Log(event.severity == Event::Severity::kWarning ? "warning" : "info",
          event.round, event.text);
    };
    CONSILIUM_ASSIGN_OR_RETURN(client_, Client::Connect(client, cancel_));
    CONSILIUM_ASSIGN_OR_RETURN(const Layout own,
                               Layout::Create(trainer_->Slots()));
    if (client_->layout() == nullptr || !(*client_->layout() == own)) {
      return absl::FailedPreconditionError(
          "the federation's layout is not that of training.base_model; ask "
          "the operator for the base model of this federation");
    }
    const SessionInfo info = client_->info();
    Log("info", 0,
        Cat("joined ", info.federation, " as ", info.institution, ": ",
            rows_.labels.size(), " rows, training on ", trainer_->device()));
    return absl::OkStatus();
  }

  absl::Status RenewWhenDue() {
    if (!options_.config.renew_automatically ||
        absl::Now() < client_->info().renew_after) {
      return absl::OkStatus();
    }
    const absl::Status renewed = client_->Renew(cancel_);
    Log(renewed.ok() ? "info" : "warning", 0,
        renewed.ok()
            ? std::string("certificate renewed")
            : Cat("certificate not renewed: ", StdView(renewed.message())));
    return absl::IsCancelled(renewed) ? renewed : absl::OkStatus();
  }

  absl::StatusOr<bool> Contribute(const TrainTask& task) {
    const auto result = Train(task);
    if (absl::IsCancelled(result.status())) {
      if (cancel_.cancelled()) return result.status();
      Log("info", task.round, "the round no longer waits for us");
      return false;
    }
    if (!result.ok()) {
      Log("error", task.round,
          Cat("training failed: ", StdView(result.status().message())));
      CONSILIUM_RETURN_IF_ERROR(
          client_->Decline(task, result.status().message().data(), cancel_));
      return false;
    }
    Update update;
    for (const consilium::NamedTensor& tensor : result->delta) {
      update.tensors.push_back({tensor.name, tensor.values});
    }
    update.report.examples = result->examples;
    for (size_t e = 0; e < result->routed_tokens.size(); ++e) {
      if (result->routed_tokens[e] > 0) {
        update.report.group_tokens[Cat("expert/0/", e)] =
            result->routed_tokens[e];
      }
    }
    update.report.metrics = {{"loss", result->loss},
                             {"accuracy", result->accuracy},
                             {"utilisation_std", result->utilisation_std}};
    CONSILIUM_ASSIGN_OR_RETURN(const SubmitOutcome outcome,
                               client_->Submit(task, update, {}, cancel_));
    if (const auto* refused = std::get_if<Refused>(&outcome)) {
      Log("warning", task.round,
          Cat("contribution refused, ", RefusalCodeName(refused->code), ": ",
              refused->message));
      return false;
    }
    const auto& receipt = std::get<Receipt>(outcome);
    Log("info", task.round,
        Cat("contributed ", FormatBytes(receipt.payload_bytes), " from ",
            result->examples, " examples, receipt ", receipt.upload_id));
    return true;
  }

  absl::StatusOr<TrainResult> Train(const TrainTask& task) {
    CONSILIUM_ASSIGN_OR_RETURN(const Parameters base,
                               client_->OpenVersion(task.base, {}, cancel_));
    TrainOptions train;
    CONSILIUM_RETURN_IF_ERROR(Take(task.parameters, "epochs", &train.epochs));
    CONSILIUM_RETURN_IF_ERROR(
        Take(task.parameters, "batch_rows", &train.batch_rows));
    CONSILIUM_RETURN_IF_ERROR(
        Take(task.parameters, "learning_rate", &train.learning_rate));
    CONSILIUM_RETURN_IF_ERROR(Take(task.parameters, "prox_mu", &train.prox_mu));
    CONSILIUM_RETURN_IF_ERROR(
        Take(task.parameters, "balance_alpha", &train.balance_alpha));
    train.seed = options_.config.seed + task.round;
    CancelSource stop(cancel_);
    absl::Time told = absl::InfinitePast();
    return trainer_->Train(
        [&](std::string_view name) { return base.Tensor(name); }, ViewOf(rows_),
        train,
        [&](const TrainProgress& progress) {
          if (absl::Now() - told < task.progress_period) return;
          told = absl::Now();
          const auto go_on = client_->ReportProgress(
              task,
              static_cast<double>(progress.epoch) /
                  static_cast<double>(progress.epochs),
              Cat("epoch ", progress.epoch, " of ", progress.epochs), cancel_);
          if (go_on.ok() && !*go_on) stop.Cancel("the round has closed");
        },
        stop.token());
  }

  absl::Status Judge(const EvaluateTask& task) {
    if (!validation_.has_value()) {
      return client_->Decline(task, "no training.validation_table here",
                              cancel_);
    }
    CONSILIUM_ASSIGN_OR_RETURN(
        const Parameters candidate,
        client_->OpenVersion(task.candidate, {}, cancel_));
    const auto measured = trainer_->Evaluate(
        [&](std::string_view name) { return candidate.Tensor(name); },
        ViewOf(*validation_));
    if (!measured.ok()) {
      Log("error", task.round,
          Cat("evaluation failed: ", StdView(measured.status().message())));
      return client_->Decline(task, measured.status().message().data(),
                              cancel_);
    }
    std::map<std::string, double> metrics = {{"loss", measured->loss},
                                             {"accuracy", measured->accuracy}};
    if (measured->auc.has_value()) metrics["auc"] = *measured->auc;
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::optional<Refused> refused,
        client_->ReportEvaluation(task, measured->examples, metrics, cancel_));
    Log("info", task.round,
        refused.has_value()
            ? Cat("evaluation refused: ", refused->message)
            : Cat("candidate ", task.candidate.number, ": accuracy ",
                  measured->accuracy, ", loss ", measured->loss));
    return absl::OkStatus();
  }

  const InstitutionOptions& options_;
  const CancelToken cancel_;
  std::unique_ptr<TableMoeTrainer> trainer_;
  CsvTable rows_;
  std::optional<CsvTable> validation_;
  std::unique_ptr<Client> client_;
};

}  // namespace

absl::Status RunInstitution(const InstitutionOptions& options,
                            const CancelToken& cancel) {
  const absl::Status status = Institution(options, cancel).Run();
  return cancel.cancelled() ? absl::OkStatus() : status;
}

}  // namespace consilium::client

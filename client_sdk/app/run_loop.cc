#include "client_sdk/app/run_loop.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client::internal {
namespace {

// Of this institution.
bool IsRefusal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnauthenticated ||
         status.code() == absl::StatusCode::kPermissionDenied;
}

// Errors that end the program: the next round would meet them again.
bool EndsTheLoop(const absl::Status& status) {
  return IsRefusal(status) || status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

class Institution {
 public:
  Institution(Client& client, Trainer& trainer, const RunOptions& options,
              Clock& clock, Log& log, CancelToken cancel)
      : client_(client),
        trainer_(trainer),
        options_(options),
        clock_(clock),
        log_(log),
        cancel_(std::move(cancel)) {}

  absl::Status Run() {
    CONSILIUM_RETURN_IF_ERROR(Resume());
    while (!Finished()) {
      CONSILIUM_RETURN_IF_ERROR(RenewIfDue());
      CONSILIUM_ASSIGN_OR_RETURN(Work work,
                                 client_.WaitForWork(options_.poll, cancel_));
      if (held_back_ && MayHaveBeenResumed(work)) {
        CONSILIUM_RETURN_IF_ERROR(Resume());
        const auto* const task = std::get_if<TrainTask>(&work);
        if (task != nullptr && task->round == answered_round_) {
          if (!refused_.empty()) {
            CONSILIUM_RETURN_IF_ERROR(
                client_.Decline(*task, refused_, cancel_));
          }
          continue;
        }
      }
      if (const auto* task = std::get_if<TrainTask>(&work)) {
        // The round of the last contribution is over when another one starts.
        if (Enough()) return absl::OkStatus();
        CONSILIUM_RETURN_IF_ERROR(Train(*task));
      } else if (const auto* task = std::get_if<EvaluateTask>(&work)) {
        CONSILIUM_RETURN_IF_ERROR(Evaluate(*task));
      } else {
        const auto& idle = std::get<Idle>(work);
        if (idle.current.has_value()) current_version_ = idle.current->number;
      }
    }
    return absl::OkStatus();
  }

 private:
  bool Enough() const {
    return options_.rounds > 0 && contributed_ >= options_.rounds;
  }
  bool Finished() const {
    return Enough() &&
           (evaluated_round_ >= last_round_ || current_version_ > last_base_);
  }

  // Work, or another reason for having none than the last time it was told.
  bool MayHaveBeenResumed(const Work& work) {
    const auto* const idle = std::get_if<Idle>(&work);
    if (idle == nullptr) return true;
    return std::exchange(idle_reason_, idle->reason) != idle->reason;
  }

  // Sends what is in the outbox: of an earlier process, or held back.
  absl::Status Resume() {
    CONSILIUM_ASSIGN_OR_RETURN(const std::vector<ResumedUpload> uploads,
                               client_.ResumePending({}, cancel_));
    const bool held_back = std::exchange(held_back_, false);
    const std::string_view what = held_back
                                      ? "the upload that was held back"
                                      : "the upload of an earlier process";
    answered_round_ = 0;
    refused_.clear();
    for (const ResumedUpload& upload : uploads) {
      if (const auto* receipt = std::get_if<Receipt>(&upload.outcome)) {
        log_.Info(
            upload.round,
            Cat(what, " is committed: ", FormatBytes(receipt->payload_bytes)));
        answered_round_ = upload.round;
        Contributed(upload.round, upload.round == held_round_
                                      ? held_base_
                                      : upload.base_version);
      } else if (const auto* refused = std::get_if<Refused>(&upload.outcome)) {
        if (refused->code == RefusalCode::kSuspended) {
          if (!held_back) HoldBack(upload.round, *refused);
          held_back_ = true;
          continue;
        }
        answered_round_ = upload.round;
        refused_ = Cat("refused: ", RefusalCodeName(refused->code));
        log_.Warning(
            upload.round,
            Cat(what, " is dropped, the coordinator refuses it: ",
                RefusalCodeName(refused->code), ": ", refused->message));
      } else if (const auto* status =
                     std::get_if<absl::Status>(&upload.outcome)) {
        if (EndsTheLoop(*status)) return *status;
        // The coordinator would say so again; it must not wait in vain.
        answered_round_ = upload.round;
        refused_ = std::string(status->message());
        log_.Error(
            upload.round,
            Cat(what, " could not be sent: ", StdView(status->message())));
      } else {
        log_.Warning(
            upload.round,
            Cat(what, " is discarded: ",
                std::get<ResumedUpload::Discarded>(upload.outcome).reason));
      }
    }
    return absl::OkStatus();
  }

  // It stays in the outbox until the operator resumes this institution.
  void HoldBack(uint64_t round, const Refused& refused) {
    held_back_ = true;
    log_.Warning(round, Cat("the upload is held back: ", refused.message));
  }

  void Contributed(uint64_t round, uint64_t base) {
    ++contributed_;
    last_round_ = round;
    last_base_ = base;
  }

  absl::Status RenewIfDue() {
    if (!options_.renew_automatically ||
        clock_.Now() < client_.info().renew_after) {
      return absl::OkStatus();
    }
    const absl::Status status = client_.Renew(cancel_);
    if (cancel_.cancelled()) return cancel_.status();
    if (status.ok()) {
      log_.Info(0, Cat("certificate renewed until ",
                       FormatTime(client_.info().certificate_not_after)));
      return status;
    }
    if (IsRefusal(status)) return status;
    // The old certificate is still good; the next turn tries again.
    log_.Error(0, Cat("certificate not renewed: ", StdView(status.message()),
                      "; it is valid until ",
                      FormatTime(client_.info().certificate_not_after)));
    return absl::OkStatus();
  }

  // Says why and goes on, unless the error ends the loop.
  template <typename Task>
  absl::Status GiveUp(const Task& task, const absl::Status& why) {
    if (cancel_.cancelled()) return cancel_.status();
    if (EndsTheLoop(why)) return why;
    log_.Error(task.round, Cat("no contribution: ", StdView(why.message())));
    return client_.Decline(task, StdView(why.message()), cancel_);
  }

  absl::Status Train(const TrainTask& task) {
    log_.Info(task.round, Cat("training from version ", task.base.number, " (",
                              FormatBytes(task.base.bytes), "), deadline ",
                              FormatTime(task.deadline),
                              task.sealed ? "" : "; uploads are NOT sealed"));
    auto base = client_.OpenVersion(task.base, {}, cancel_);
    if (!base.ok()) return GiveUp(task, base.status());

    bool wanted = true;
    absl::Duration reported = -absl::InfiniteDuration();
    const Trainer::Progress progress = [&](double fraction,
                                           std::string_view text) {
      log_.Debug(task.round, text);
      const absl::Duration now = clock_.Monotonic();
      if (now - reported < task.progress_period) return true;
      reported = now;
      const auto go_on = client_.ReportProgress(task, fraction, text, cancel_);
      wanted = !go_on.ok() || *go_on;
      return wanted && !cancel_.cancelled();
    };
    const absl::Duration began = clock_.Monotonic();
    auto trained = trainer_.Train(task, *base, progress, cancel_);
    if (cancel_.cancelled()) return cancel_.status();
    if (!wanted) {
      log_.Warning(task.round, "training stopped: the round does not wait");
      return absl::OkStatus();
    }
    if (!trained.ok()) return GiveUp(task, trained.status());
    const Update& update = (*trained)->update();
    std::string metrics;
    for (const auto& [name, value] : update.report.metrics) {
      CatInto(metrics, ", ", name, " ", value);
    }
    log_.Info(task.round,
              Cat("trained on ", update.report.examples, " rows in ",
                  FormatDuration(clock_.Monotonic() - began), metrics));

    auto outcome = client_.Submit(task, update, {}, cancel_);
    if (!outcome.ok()) return GiveUp(task, outcome.status());
    if (const auto* refused = std::get_if<Refused>(&*outcome)) {
      if (refused->code == RefusalCode::kSuspended) {
        HoldBack(task.round, *refused);
        held_round_ = task.round;
        held_base_ = task.base.number;
        return absl::OkStatus();
      }
      log_.Warning(task.round,
                   Cat("contribution refused: ", RefusalCodeName(refused->code),
                       ": ", refused->message));
      // So that the same task is not offered, and trained, again.
      return client_.Decline(
          task, Cat("refused: ", RefusalCodeName(refused->code)), cancel_);
    }
    const auto& receipt = std::get<Receipt>(*outcome);
    log_.Info(task.round, Cat("contribution committed: ",
                              FormatBytes(receipt.payload_bytes), ", SHA-256 ",
                              receipt.payload_digest.Hex()));
    Contributed(task.round, task.base.number);
    return absl::OkStatus();
  }

  absl::Status Evaluate(const EvaluateTask& task) {
    evaluated_round_ = task.round;
    if (!trainer_.CanEvaluate()) {
      return client_.Decline(task, "no validation data", cancel_);
    }
    auto parameters = client_.OpenVersion(task.candidate, {}, cancel_);
    if (!parameters.ok()) return GiveUp(task, parameters.status());
    const auto measured = trainer_.Evaluate(*parameters);
    if (!measured.ok()) return GiveUp(task, measured.status());
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::optional<Refused> refused,
        client_.ReportEvaluation(task, measured->examples, measured->metrics,
                                 cancel_));
    std::string metrics;
    for (const auto& [name, value] : measured->metrics) {
      CatInto(metrics, ", ", name, " ", value);
    }
    if (refused.has_value()) {
      log_.Warning(task.round, Cat("evaluation refused: ", refused->message));
      return client_.Decline(
          task, Cat("refused: ", RefusalCodeName(refused->code)), cancel_);
    }
    log_.Info(task.round, Cat("evaluated version ", task.candidate.number,
                              " on ", measured->examples, " rows", metrics));
    return absl::OkStatus();
  }

  Client& client_;
  Trainer& trainer_;
  const RunOptions options_;
  Clock& clock_;
  Log& log_;
  const CancelToken cancel_;
  uint64_t contributed_ = 0;
  uint64_t last_round_ = 0;
  uint64_t last_base_ = 0;
  uint64_t evaluated_round_ = 0;
  uint64_t current_version_ = 0;
  bool held_back_ = false;   // something in the outbox waits
  uint64_t held_round_ = 0;  // of this process
  uint64_t held_base_ = 0;
  std::string idle_reason_;
  // Of what Resume() sent last.
  uint64_t answered_round_ = 0;  // taken, or refused for good
  std::string refused_;
};

}  // namespace

absl::Status RunInstitution(Client& client, Trainer& trainer,
                            const RunOptions& options, Clock& clock, Log& log,
                            const CancelToken& cancel) {
  log.Info(0, trainer.Describe());
  const absl::Status status =
      Institution(client, trainer, options, clock, log, cancel).Run();
  return cancel.cancelled() ? absl::OkStatus() : status;
}

}  // namespace consilium::client::internal

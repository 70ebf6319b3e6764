#include "tests/crash/sdk_institution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "consilium/base/status_macros.h"

namespace consilium {

SdkInstitution::SdkInstitution(client::ClientOptions options, float delta,
                               uint64_t examples)
    : options_(std::move(options)), delta_(delta), examples_(examples) {}

SdkInstitution::~SdkInstitution() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  if (client_ != nullptr) client_->Cancel("the test is over");
  if (thread_.joinable()) thread_.join();
}

absl::Status SdkInstitution::Start() {
  CONSILIUM_ASSIGN_OR_RETURN(client_, client::Client::Connect(options_));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void SdkInstitution::Behave(Conduct conduct) {
  MutexLock lock(&mu_);
  conduct_ = conduct;
  changed_.SignalAll();
}

void SdkInstitution::Hold() {
  MutexLock lock(&mu_);
  held_ = true;
}

void SdkInstitution::HoldEvaluation() {
  MutexLock lock(&mu_);
  evaluation_held_ = true;
}

void SdkInstitution::Release() {
  MutexLock lock(&mu_);
  held_ = evaluation_held_ = false;
  changed_.SignalAll();
}

SdkInstitution::Conduct SdkInstitution::conduct() {
  MutexLock lock(&mu_);
  return conduct_;
}

SdkInstitution::Seen SdkInstitution::SeenIn(uint64_t round) {
  MutexLock lock(&mu_);
  return seen_[round];
}

void SdkInstitution::AwaitOutcome(uint64_t round) {
  MutexLock lock(&mu_);
  while (seen_[round].receipts + seen_[round].refusals == 0) {
    changed_.Wait(&mu_);
  }
}

void SdkInstitution::AwaitEvaluation(uint64_t round) {
  MutexLock lock(&mu_);
  while (seen_[round].evaluations == 0) changed_.Wait(&mu_);
}

void SdkInstitution::AwaitReport(uint64_t round) {
  MutexLock lock(&mu_);
  while (seen_[round].reports == 0) changed_.Wait(&mu_);
}

void SdkInstitution::Run() {
  for (;;) {
    const absl::Status status = Step();
    MutexLock lock(&mu_);
    if (stopping_) return;
    if (!status.ok()) {
      ADD_FAILURE() << options_.identity_dir << ": " << status;
      return;
    }
  }
}

absl::Status SdkInstitution::Step() {
  CONSILIUM_ASSIGN_OR_RETURN(const client::Work work,
                             client_->WaitForWork(absl::Seconds(30)));
  if (const auto* train = std::get_if<client::TrainTask>(&work)) {
    return Train(*train);
  }
  if (const auto* evaluate = std::get_if<client::EvaluateTask>(&work)) {
    return Evaluate(*evaluate);
  }
  return absl::OkStatus();
}

absl::Status SdkInstitution::Train(const client::TrainTask& task) {
  {
    MutexLock lock(&mu_);
    while (held_ && !stopping_) changed_.Wait(&mu_);
    if (stopping_) return absl::OkStatus();
  }
  if (conduct() == Conduct::kDeclineTraining) {
    return client_->Decline(task, "holiday");
  }
  CONSILIUM_ASSIGN_OR_RETURN(const bool go_on,
                             client_->ReportProgress(task, 0.5, "half way"));
  if (!go_on) return absl::OkStatus();  // it ended while this one was held
  {
    MutexLock lock(&mu_);
    ++seen_[task.round].trainings;
  }
  CONSILIUM_RETURN_IF_ERROR(client_->OpenVersion(task.base).status());
  client::UpdateSource source;
  source.fill = [this](std::string_view, int64_t, std::span<float> out) {
    std::fill(out.begin(), out.end(), delta_);
    return absl::OkStatus();
  };
  source.report.examples = examples_;
  source.report.metrics["loss"] = 0.5;
  CONSILIUM_ASSIGN_OR_RETURN(const client::SubmitOutcome outcome,
                             client_->Submit(task, source));
  MutexLock lock(&mu_);
  if (std::holds_alternative<client::Receipt>(outcome)) {
    ++seen_[task.round].receipts;
  } else {
    ++seen_[task.round].refusals;
  }
  changed_.SignalAll();
  return absl::OkStatus();
}

absl::Status SdkInstitution::Evaluate(const client::EvaluateTask& task) {
  {
    MutexLock lock(&mu_);
    ++seen_[task.round].evaluations;
    changed_.SignalAll();
    while (evaluation_held_ && !stopping_) changed_.Wait(&mu_);
    if (stopping_) return absl::OkStatus();
  }
  if (conduct() == Conduct::kDeclineEvaluation) {
    return client_->Decline(task, "no validation data");
  }
  // Refused: the round ended of a report whose answer was lost.
  CONSILIUM_RETURN_IF_ERROR(
      client_->ReportEvaluation(task, 50, {{"loss", 0.25}}).status());
  MutexLock lock(&mu_);
  ++seen_[task.round].reports;
  changed_.SignalAll();
  return absl::OkStatus();
}

}  // namespace consilium

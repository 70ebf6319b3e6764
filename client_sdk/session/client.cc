#include "consilium/client/client.h"

#include <utility>

#include "client_sdk/session/session.h"
#include "client_sdk/session/version_cache.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::client {

std::string_view RefusalCodeName(RefusalCode code) {
  switch (code) {
    case RefusalCode::kUnspecified:
      return "UNSPECIFIED";
    case RefusalCode::kLate:
      return "LATE";
    case RefusalCode::kRoundNotOpen:
      return "ROUND_NOT_OPEN";
    case RefusalCode::kNotInCohort:
      return "NOT_IN_COHORT";
    case RefusalCode::kWrongBase:
      return "WRONG_BASE";
    case RefusalCode::kWrongLayout:
      return "WRONG_LAYOUT";
    case RefusalCode::kTooLarge:
      return "TOO_LARGE";
    case RefusalCode::kNoSpace:
      return "NO_SPACE";
    case RefusalCode::kQuarantined:
      return "QUARANTINED";
    case RefusalCode::kSuperseded:
      return "SUPERSEDED";
    case RefusalCode::kBadManifest:
      return "BAD_MANIFEST";
    case RefusalCode::kSuspended:
      return "SUSPENDED";
    case RefusalCode::kDigestMismatch:
      return "DIGEST_MISMATCH";
    case RefusalCode::kBusy:
      return "BUSY";
    case RefusalCode::kUnsealed:
      return "UNSEALED";
    case RefusalCode::kAuthentication:
      return "AUTHENTICATION";
    case RefusalCode::kTooMany:
      return "TOO_MANY";
  }
  return "UNKNOWN";
}

Parameters::Parameters(std::shared_ptr<const internal::OpenedVersion> opened)
    : opened_(std::move(opened)) {}

const Version& Parameters::version() const { return opened_->version; }

std::vector<std::string> Parameters::Names() const {
  std::vector<std::string> names;
  names.reserve(opened_->view.header().tensors.size());
  for (const TensorInfo& tensor : opened_->view.header().tensors) {
    names.push_back(tensor.name);
  }
  return names;
}

absl::StatusOr<std::span<const float>> Parameters::Tensor(
    std::string_view name) const {
  return opened_->view.Floats(name);
}

absl::StatusOr<std::vector<int64_t>> Parameters::Shape(
    std::string_view name) const {
  const TensorInfo* tensor = opened_->view.header().Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(Cat("no tensor ", Quoted(name)));
  }
  return tensor->shape;
}

const std::string& Parameters::path() const { return opened_->path; }

Client::Client(std::unique_ptr<internal::Session> session)
    : session_(std::move(session)) {}

Client::~Client() { session_->Cancel("the client is closed"); }

SessionInfo Client::info() const { return session_->info(); }

std::shared_ptr<const Layout> Client::layout() const {
  return session_->layout();
}

absl::StatusOr<Work> Client::WaitForWork(absl::Duration max_wait,
                                         const CancelToken& cancel) {
  return session_->WaitForWork(max_wait, cancel);
}

absl::StatusOr<Parameters> Client::OpenVersion(const Version& version,
                                               const ProgressCallback& progress,
                                               const CancelToken& cancel) {
  CONSILIUM_ASSIGN_OR_RETURN(
      std::shared_ptr<const internal::OpenedVersion> opened,
      session_->OpenVersion(version, progress, cancel));
  return Parameters(std::move(opened));
}

absl::StatusOr<SubmitOutcome> Client::Submit(const TrainTask& task,
                                             const Update& update,
                                             const SubmitOptions& options,
                                             const CancelToken& cancel) {
  return session_->Submit(task, update, options, cancel);
}

absl::StatusOr<SubmitOutcome> Client::Submit(const TrainTask& task,
                                             const UpdateSource& source,
                                             const SubmitOptions& options,
                                             const CancelToken& cancel) {
  return session_->Submit(task, source, options, cancel);
}

absl::StatusOr<std::vector<ResumedUpload>> Client::ResumePending(
    const SubmitOptions& options, const CancelToken& cancel) {
  return session_->ResumePending(options, cancel);
}

absl::StatusOr<bool> Client::ReportProgress(const TrainTask& task,
                                            double fraction,
                                            std::string_view text,
                                            const CancelToken& cancel) {
  return session_->ReportProgress(task, fraction, text, cancel);
}

absl::Status Client::Decline(const TrainTask& task, std::string_view reason,
                             const CancelToken& cancel) {
  return session_->Decline({task.round, task.attempt}, reason,
                           /*evaluation=*/false, cancel);
}

absl::Status Client::Decline(const EvaluateTask& task, std::string_view reason,
                             const CancelToken& cancel) {
  return session_->Decline({task.round, task.attempt}, reason,
                           /*evaluation=*/true, cancel);
}

absl::StatusOr<std::optional<Refused>> Client::ReportEvaluation(
    const EvaluateTask& task, uint64_t examples,
    const std::map<std::string, double>& metrics, const CancelToken& cancel) {
  return session_->ReportEvaluation(task, examples, metrics, cancel);
}

absl::Status Client::Renew(const CancelToken& cancel) {
  return session_->Renew(cancel);
}

void Client::Cancel(std::string_view reason) { session_->Cancel(reason); }

}  // namespace consilium::client

#include "client_sdk/session/session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "consilium/aggregation/codec.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/sync_name.h"
#include "consilium/base/utf8.h"
#include "consilium/secure/ca.h"

namespace consilium::client::internal {
namespace {

constexpr size_t kMaxProgressTextBytes = 200;
// The old certificate is good meanwhile: nobody should wait for a new one.
constexpr int kRenewAttempts = 3;
constexpr size_t kMaxReasonBytes = 1000;

absl::Status CheckPositive(std::string_view option, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat(option, " is ", FormatDuration(value), "; it must be above zero"));
}

}  // namespace

absl::Status ValidateOptions(const ClientOptions& options) {
  if (options.coordinator.empty()) {
    return absl::InvalidArgumentError(
        "coordinator is empty; give host:port of its service");
  }
  if (options.identity_dir.empty()) {
    return absl::InvalidArgumentError(
        "identity_dir is empty; give the directory that "
        "`consilium-client enroll` made");
  }
  CONSILIUM_RETURN_IF_ERROR(ValidateRetryPolicy(options.retry));
  CONSILIUM_RETURN_IF_ERROR(
      CheckPositive("control_timeout", options.control_timeout));
  CONSILIUM_RETURN_IF_ERROR(
      CheckPositive("stall_timeout", options.stall_timeout));
  CONSILIUM_RETURN_IF_ERROR(
      CheckPositive("keepalive_time", options.keepalive_time));
  CONSILIUM_RETURN_IF_ERROR(
      CheckPositive("keepalive_timeout", options.keepalive_timeout));
  if (options.outbox_sync_delay < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("outbox_sync_delay is negative");
  }
  if (options.spare_bytes < 0) {
    return absl::InvalidArgumentError(Cat(
        "spare_bytes is ", options.spare_bytes, "; it must not be negative"));
  }
  if (options.max_layout_bytes < 1 || options.max_layout_slots < 1) {
    return absl::InvalidArgumentError(
        Cat("max_layout_bytes is ", options.max_layout_bytes,
            " and max_layout_slots ", options.max_layout_slots,
            "; both must be above zero"));
  }
  if (options.cached_versions < 1) {
    return absl::InvalidArgumentError(Cat("cached_versions is ",
                                          options.cached_versions,
                                          "; at least 1 is needed"));
  }
  return absl::OkStatus();
}

std::string StateDirectory(const ClientOptions& options) {
  return options.state_dir.empty() ? JoinPath(options.identity_dir, "state")
                                   : options.state_dir;
}

std::string OutboxDirectory(const ClientOptions& options) {
  return JoinPath(StateDirectory(options), "outbox");
}

std::string ReceiptDirectory(const ClientOptions& options) {
  return JoinPath(StateDirectory(options), "receipts");
}

absl::StatusOr<std::unique_ptr<FileLock>> LockState(
    FileSystem* fs, const ClientOptions& options) {
  const std::string directory = StateDirectory(options);
  CONSILIUM_RETURN_IF_ERROR(fs->MakeDirs(directory));
  CONSILIUM_RETURN_IF_ERROR(SyncName(fs, directory));
  return fs->LockFile(JoinPath(directory, "lock"));
}

Session::Session(Parts parts)
    : options_(std::move(parts.options)),
      deps_(parts.deps),
      events_(options_.observer),
      transport_(std::move(parts.transport)),
      name_(parts.identity.name),
      trust_{parts.identity.signing_key, parts.identity.name.federation,
             parts.identity.name.name},
      lock_(std::move(parts.lock)),
      runner_(std::move(parts.runner)) {
  if (runner_ != nullptr) deps_.later = runner_.get();
}

absl::StatusOr<std::unique_ptr<Session>> Session::Create(
    Parts parts, const CancelToken& cancel) {
  std::unique_ptr<Session> self(new Session(std::move(parts)));
  const auto greet = [session = self.get()](const CancelToken& token) {
    return session->Greet(token);
  };
  const ClientOptions& options = self->options_;
  self->spares_ = std::make_unique<SpareFiles>(
      self->deps_.fs, JoinPath(StateDirectory(options), "spare"),
      options.spare_bytes);
  CONSILIUM_RETURN_IF_ERROR(self->spares_->Prepare());
  CONSILIUM_ASSIGN_OR_RETURN(
      self->outbox_, Outbox::Create({.directory = OutboxDirectory(options),
                                     .sync = options.outbox_sync,
                                     .sync_delay = options.outbox_sync_delay,
                                     .spares = self->spares_.get()},
                                    self->deps_, &self->events_));
  CONSILIUM_ASSIGN_OR_RETURN(
      self->cache_,
      VersionCache::Create(
          {.state_dir = StateDirectory(options),
           .cached_versions = options.cached_versions,
           .layout = {.max_slots = options.max_layout_slots,
                      .max_text_bytes = options.max_layout_bytes},
           .retry = options.retry,
           .stall_timeout = options.stall_timeout,
           .spares = self->spares_.get()},
          self->deps_, &self->events_, self->transport_.get(), greet));
  self->receipts_ =
      std::make_unique<ReceiptStore>(self->deps_.fs, ReceiptDirectory(options));
  self->uploader_ = std::make_unique<Uploader>(
      Uploader::Options{.retry = options.retry,
                        .control_timeout = options.control_timeout,
                        .stall_timeout = options.stall_timeout},
      self->deps_, &self->events_, self->transport_.get(), &self->trust_,
      self->receipts_.get(), greet, [session = self.get()] {
        MutexLock lock(&session->mutex_);
        return Uploader::Limits{session->greeting_.max_chunk_bytes,
                                session->greeting_.upload_window_bytes};
      });
  CONSILIUM_RETURN_IF_ERROR(self->Retried("greeting", 0, cancel,
                                          [&] { return self->Greet(cancel); }));
  Sha256Digest digest;
  {
    MutexLock lock(&self->mutex_);
    digest = self->greeting_.layout_digest;
  }
  // Without a version yet the layout comes with the first task.
  if (digest != Sha256Digest()) {
    CONSILIUM_RETURN_IF_ERROR(self->LayoutFor(digest, cancel).status());
  }
  return self;
}

absl::Status Session::Retried(std::string_view what, uint64_t round,
                              const CancelToken& cancel,
                              const std::function<absl::Status()>& attempt) {
  Retrier retrier = MakeRetrier(round, cancel);
  for (;;) {
    if (cancel.cancelled()) return cancel.status();
    const absl::Status status = attempt();
    if (status.ok()) return status;
    CONSILIUM_RETURN_IF_ERROR(retrier.Failed(status, what));
  }
}

absl::Status Session::Greet(const CancelToken& cancel) {
  HelloCall call;
  call.software = options_.software.empty()
                      ? "consilium-client " CONSILIUM_VERSION
                      : options_.software;
  call.codecs = {static_cast<uint32_t>(CodecId::kF32)};
  CONSILIUM_ASSIGN_OR_RETURN(Greeting greeting,
                             transport_->Hello(call, Control(cancel)));
  if (greeting.federation != trust_.federation ||
      greeting.institution != trust_.institution) {
    return absl::UnauthenticatedError(
        Cat("the coordinator greets ", Quoted(greeting.institution), " of ",
            Quoted(greeting.federation), "; this certificate is for ",
            name_.Uri()));
  }
  MutexLock lock(&mutex_);
  greeting_ = std::move(greeting);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Layout>> Session::LayoutFor(
    const Sha256Digest& digest, const CancelToken& cancel) {
  for (bool greeted = false;; greeted = true) {
    uint64_t bytes = 0;
    {
      MutexLock lock(&mutex_);
      if (layout_ != nullptr && layout_digest_ == digest) return layout_;
      if (greeting_.layout_digest == digest) bytes = greeting_.layout_bytes;
    }
    if (bytes > 0) {
      CONSILIUM_RETURN_IF_ERROR(download_turn_.Take(cancel));
      TurnHolder turn(&download_turn_);
      CONSILIUM_ASSIGN_OR_RETURN(std::shared_ptr<const Layout> layout,
                                 cache_->OpenLayout(digest, bytes, cancel));
      MutexLock lock(&mutex_);
      layout_ = layout;
      layout_digest_ = digest;
      return layout;
    }
    if (greeted) {
      return absl::FailedPreconditionError(
          Cat("the task is for layout ", digest.Hex(),
              ", which is not the federation's"));
    }
    CONSILIUM_RETURN_IF_ERROR(
        Retried("greeting", 0, cancel, [&] { return Greet(cancel); }));
  }
}

SessionInfo Session::info() const {
  MutexLock lock(&mutex_);
  return {.federation = greeting_.federation,
          .institution = greeting_.institution,
          .protocol = greeting_.protocol,
          .layout_digest = greeting_.layout_digest,
          .max_update_bytes = greeting_.max_update_bytes,
          .certificate_not_after = greeting_.certificate_not_after,
          .renew_after = greeting_.renew_after,
          .features = greeting_.features};
}

std::shared_ptr<const Layout> Session::layout() const {
  MutexLock lock(&mutex_);
  return layout_;
}

absl::StatusOr<Work> Session::WaitForWork(absl::Duration max_wait,
                                          const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  const CancelToken cancel = either.token();
  const absl::Duration end = deps_.clock->Monotonic() + max_wait;
  Retrier retrier = MakeRetrier(0, cancel);
  Backoff too_soon(
      {options_.retry.initial, options_.retry.cap, options_.retry.multiplier},
      deps_.random);
  {
    MutexLock lock(&mutex_);
    retrier.set_failing_since(no_work_answer_since_);
  }
  Idle idle;
  for (;;) {
    if (cancel.cancelled()) return cancel.status();
    absl::Status status;
    if (retrier.failing()) status = Greet(cancel);
    uint64_t known = 0;
    absl::Duration wait;
    {
      MutexLock lock(&mutex_);
      known = retrier.failing() ? 0 : revision_;
      wait = greeting_.long_poll;
    }
    const absl::Duration asked_at = deps_.clock->Monotonic();
    wait = std::clamp(end - asked_at, absl::ZeroDuration(), wait);
    if (status.ok()) {
      auto reply = transport_->WaitForWork(
          known, wait, {cancel, wait + options_.control_timeout});
      status = reply.status();
      if (reply.ok()) {
        retrier.MadeProgress();
        const bool news = reply->revision != known;
        {
          MutexLock lock(&mutex_);
          no_work_answer_since_.reset();
          revision_ = reply->revision;
        }
        CONSILIUM_ASSIGN_OR_RETURN(std::optional<Work> work,
                                   TakeWork(*std::move(reply), &idle, cancel));
        if (work.has_value()) return *std::move(work);
        const absl::Duration now = deps_.clock->Monotonic();
        if (now >= end) return Work(std::move(idle));
        if (news || now - asked_at >= wait / 2) {
          too_soon.Reset();
        } else {
          // It answered at once with nothing new: do not spin.
          CONSILIUM_RETURN_IF_ERROR(deps_.sleeper->Sleep(
              std::min(too_soon.Next(), end - now), cancel));
        }
        continue;
      }
    }
    const absl::Duration left = end - deps_.clock->Monotonic();
    if (IsTransient(status) && !cancel.cancelled() &&
        left <= absl::ZeroDuration() && retrier.failing()) {
      idle.reason =
          Cat("the coordinator does not answer: ", StdView(status.message()));
      return Work(std::move(idle));
    }
    CONSILIUM_RETURN_IF_ERROR(retrier.Failed(
        status, "waiting for work", std::max(left, absl::ZeroDuration())));
    MutexLock lock(&mutex_);
    no_work_answer_since_ = retrier.failing_since();
  }
}

absl::StatusOr<EvaluateTask> Session::TakeEvaluation(
    const EvaluateOffer& offer, const CancelToken& cancel) {
  const auto verified = [&] {
    MutexLock lock(&mutex_);
    return VerifiedTask(trust_, greeting_.layout_digest, offer);
  };
  absl::StatusOr<EvaluateTask> task = verified();
  if (task.ok()) return task;
  // The last greeting may be older than the layout.
  CONSILIUM_RETURN_IF_ERROR(
      Retried("greeting", 0, cancel, [&] { return Greet(cancel); }));
  return verified();
}

absl::StatusOr<std::optional<Work>> Session::TakeWork(
    WorkReply reply, Idle* idle, const CancelToken& cancel) {
  if (auto* offer = std::get_if<TrainOffer>(&reply.work)) {
    CONSILIUM_ASSIGN_OR_RETURN(TrainTask task,
                               VerifiedTask(trust_, std::move(*offer)));
    return std::optional<Work>(std::move(task));
  }
  if (auto* offer = std::get_if<EvaluateOffer>(&reply.work)) {
    CONSILIUM_ASSIGN_OR_RETURN(EvaluateTask task,
                               TakeEvaluation(*offer, cancel));
    return std::optional<Work>(std::move(task));
  } else {
    *idle = std::get<Idle>(std::move(reply.work));
  }
  bool changed = false;
  {
    MutexLock lock(&mutex_);
    changed = idle_reason_ != idle->reason;
    idle_reason_ = idle->reason;
  }
  if (changed) events_.Info(0, Cat("waiting: ", idle->reason));
  return std::optional<Work>();
}

absl::StatusOr<std::shared_ptr<const OpenedVersion>> Session::OpenVersion(
    const Version& version, const ProgressCallback& progress,
    const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  const auto layout_digest = [this] {
    MutexLock lock(&mutex_);
    return greeting_.layout_digest;
  };
  if (layout_digest() == Sha256Digest()) {
    CONSILIUM_RETURN_IF_ERROR(Retried("greeting", 0, either.token(),
                                      [&] { return Greet(either.token()); }));
  }
  const Sha256Digest digest = layout_digest();
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<const Layout> layout,
                             LayoutFor(digest, either.token()));
  CONSILIUM_RETURN_IF_ERROR(download_turn_.Take(either.token()));
  TurnHolder turn(&download_turn_);
  return cache_->Open(version, *layout, digest, progress, either.token());
}

absl::StatusOr<bool> Session::ReportProgress(const TrainTask& task,
                                             double fraction,
                                             std::string_view text,
                                             const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  auto reply = transport_->ReportProgress(
      {task.round, task.attempt}, std::isfinite(fraction) ? fraction : -1.0,
      CleanText(text, kMaxProgressTextBytes), Control(either.token()));
  if (either.token().cancelled()) return either.token().status();
  if (reply.ok()) {
    if (!reply->go_on) {
      events_.Warning(task.round, Cat("the round goes on without this "
                                      "institution: ",
                                      reply->reason));
    }
    return reply->go_on;
  }
  if (IsTransient(reply.status())) return true;
  return reply.status();
}

absl::Status Session::Decline(const RoundRef& round, std::string_view reason,
                              bool evaluation, const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  return Retried("decline", round.round, either.token(), [&] {
    return transport_
        ->Decline(round, CleanText(reason, kMaxReasonBytes), evaluation,
                  Control(either.token()))
        .status();
  });
}

absl::StatusOr<std::optional<Refused>> Session::ReportEvaluation(
    const EvaluateTask& task, uint64_t examples,
    const std::map<std::string, double>& metrics,
    const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  for (const auto& [name, value] : metrics) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          Cat("metric ", name, " is ", value, "; it must be finite"));
    }
  }
  std::optional<Refused> refused;
  CONSILIUM_RETURN_IF_ERROR(Retried(
      "report of the evaluation", task.round, either.token(),
      [&]() -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(
            refused, transport_->ReportEvaluation(task, examples, metrics,
                                                  Control(either.token())));
        return absl::OkStatus();
      }));
  return refused;
}

absl::Status Session::Renew(const CancelToken& user_cancel) {
  const EitherCancel either(user_cancel, stop_.token());
  const CancelToken cancel = either.token();
  CONSILIUM_RETURN_IF_ERROR(renew_turn_.Take(cancel));
  TurnHolder turn(&renew_turn_);
  const IdentityPaths paths(options_.identity_dir);
  CONSILIUM_ASSIGN_OR_RETURN(const TlsKey key, TlsKey::Generate());
  CONSILIUM_ASSIGN_OR_RETURN(const std::string csr,
                             CreateCertificateRequest(key, name_.name));
  CONSILIUM_RETURN_IF_ERROR(StageRenewalKey(deps_.fs, paths, key));
  std::string chain;
  const auto renewed = [&]() -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(
        chain, transport_->RenewCertificate(csr, Control(cancel)));
    return absl::OkStatus();
  };
  Retrier retrier = MakeRetrier(0, cancel);
  absl::Status status = renewed();
  for (int i = 1; i < kRenewAttempts && !status.ok(); ++i) {
    CONSILIUM_RETURN_IF_ERROR(
        retrier.Failed(status, "renewal of the certificate"));
    status = renewed();
  }
  if (!status.ok()) return cancel.cancelled() ? cancel.status() : status;
  CONSILIUM_RETURN_IF_ERROR(
      StageRenewalChain(deps_.fs, paths, chain, name_, deps_.clock->Now()));
  CONSILIUM_RETURN_IF_ERROR(FinishRenewal(deps_.fs, paths));
  CONSILIUM_RETURN_IF_ERROR(transport_->Reconnect());
  return Retried("greeting", 0, cancel, [&] { return Greet(cancel); });
}

}  // namespace consilium::client::internal

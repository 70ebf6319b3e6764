#include "client_sdk/app/commands.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "client_sdk/app/grpc_log.h"
#include "client_sdk/app/log.h"
#include "client_sdk/app/run_loop.h"
#include "client_sdk/app/trainer.h"
#include "client_sdk/session/identity.h"
#include "client_sdk/session/outbox.h"
#include "client_sdk/session/receipt_store.h"
#include "client_sdk/session/session.h"
#include "client_sdk/transport/make_transport.h"
#include "consilium/base/clock.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/version.h"
#include "consilium/client/client.h"
#include "nlohmann/json.hpp"

namespace consilium::client::internal {
namespace {

using Json = nlohmann::ordered_json;

void Print(const Json& json, std::ostream& out) {
  out << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

// "12 names, aligned": one line of a report for people.
void Line(std::ostream& out, std::string_view name, std::string_view value) {
  constexpr size_t kWidth = 14;
  out << name << std::string(kWidth - std::min(kWidth - 1, name.size()), ' ')
      << value << "\n";
}

bool SealingIsOff(const std::vector<std::string>& features) {
  return std::find(features.begin(), features.end(), "sealing-off") !=
         features.end();
}

std::string Until(absl::Time time, absl::Time now) {
  return Cat(FormatTime(time), " (",
             time >= now ? Cat("in ", FormatDuration(time - now))
                         : Cat(FormatDuration(now - time), " ago"),
             ")");
}

}  // namespace

int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
      return 2;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 3;
    case absl::StatusCode::kDeadlineExceeded:
      return 4;
    default:
      return 1;
  }
}

absl::Status EnrollCommand(const EnrollOptions& options, bool json,
                           std::ostream& out, const CancelToken& cancel) {
  CONSILIUM_ASSIGN_OR_RETURN(const Enrollment enrolled,
                             Enroll(options, cancel));
  if (json) {
    Print({{"federation", enrolled.federation},
           {"institution", enrolled.institution},
           {"uri", enrolled.uri},
           {"coordinator", enrolled.service_address},
           {"signing_key", enrolled.signing_key},
           {"certificate_serial", enrolled.certificate_serial},
           {"certificate_not_after", FormatTime(enrolled.not_after)},
           {"directory", options.directory},
           {"config", enrolled.config_path}},
          out);
    return absl::OkStatus();
  }
  Line(out, "institution", enrolled.uri);
  Line(out, "coordinator", enrolled.service_address);
  Line(out, "certificate",
       Cat(enrolled.certificate_serial, ", valid until ",
           Until(enrolled.not_after, SystemClock()->Now())));
  Line(out, "signing key", enrolled.signing_key);
  Line(out, "config", enrolled.config_path);
  const bool staff = enrolled.uri.find("/institution/") == std::string::npos;
  out << "\nNext: " << (staff ? "consilium status" : "consilium-client run")
      << " --config " << enrolled.config_path << "\n";
  return absl::OkStatus();
}

absl::Status StatusCommand(const ClientConfig& config, bool json,
                           std::ostream& out, const CancelToken& cancel) {
  FileSystem* const fs = PosixFileSystem();
  const absl::Time now = SystemClock()->Now();
  const ClientOptions& options = config.client;
  const IdentityPaths paths(options.identity_dir);
  // Left by a process that was killed between the renames of a renewal: key
  // and certificate do not fit together. A process that runs does it itself.
  if (fs->Exists(paths.next_chain)) {
    if (const auto lock = LockState(fs, options); lock.ok()) {
      CONSILIUM_RETURN_IF_ERROR(FinishRenewal(fs, paths));
    }
  }
  CONSILIUM_ASSIGN_OR_RETURN(const InstitutionIdentity identity,
                             LoadIdentity(fs, options.identity_dir, now));
  CONSILIUM_ASSIGN_OR_RETURN(const std::vector<OutboxSummary> waiting,
                             SummarizeOutbox(fs, OutboxDirectory(options)));
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport,
                             MakeGrpcTransport(options));
  const auto greeting =
      transport->Hello({Cat("consilium-client ", SoftwareVersion()), {}},
                       {cancel, options.control_timeout});

  if (json) {
    Json report = {
        {"federation", identity.name.federation},
        {"institution", identity.name.name},
        {"certificate_serial", identity.leaf.serial},
        {"certificate_not_after", FormatTime(identity.leaf.not_after)},
        {"coordinator", options.coordinator},
        {"connected", greeting.ok()},
        {"outbox", Json::array()}};
    if (greeting.ok()) {
      report["protocol"] = greeting->protocol;
      report["renew_after"] = FormatTime(greeting->renew_after);
      // All zero: the federation has no version yet.
      report["layout"] = greeting->layout_digest == Sha256Digest()
                             ? Json()
                             : Json(greeting->layout_digest.Hex());
      report["sealing"] = !SealingIsOff(greeting->features);
    } else {
      report["error"] = std::string(greeting.status().message());
    }
    for (const OutboxSummary& upload : waiting) {
      report["outbox"].push_back({{"round", upload.round.round},
                                  {"attempt", upload.round.attempt},
                                  {"bytes", upload.payload_bytes}});
    }
    Print(report, out);
    return greeting.status();
  }
  Line(out, "institution", identity.name.Uri());
  Line(out, "certificate",
       Cat(identity.leaf.serial, ", valid until ",
           Until(identity.leaf.not_after, now)));
  Line(out, "coordinator",
       Cat(options.coordinator, greeting.ok() ? ", connected" : ", no answer"));
  if (greeting.ok()) {
    Line(out, "renewal", Cat("from ", Until(greeting->renew_after, now)));
    Line(out, "layout",
         greeting->layout_digest == Sha256Digest()
             ? "none yet"
             : greeting->layout_digest.Hex());
    Line(out, "sealing",
         SealingIsOff(greeting->features)
             ? "OFF: uploads lie unencrypted on the coordinator's disk"
             : "on");
  }
  if (waiting.empty()) Line(out, "outbox", "empty");
  for (const OutboxSummary& upload : waiting) {
    Line(out, "outbox",
         Cat("round ", upload.round.round, ", ",
             FormatBytes(upload.payload_bytes), " waiting"));
  }
  return greeting.status();
}

absl::Status ReceiptsCommand(const ClientConfig& config, bool json,
                             std::ostream& out) {
  FileSystem* const fs = PosixFileSystem();
  const ClientOptions& options = config.client;
  CONSILIUM_ASSIGN_OR_RETURN(
      const VerifyKey key,
      VerifyKey::LoadFile(fs, IdentityPaths(options.identity_dir).signing_key));
  CONSILIUM_ASSIGN_OR_RETURN(
      const auto receipts,
      ReceiptStore(fs, ReceiptDirectory(options)).List(key));
  Json report = Json::array();
  size_t bad = 0;
  for (const ReceiptStore::Listed& listed : receipts) {
    if (!listed.receipt.ok()) {
      ++bad;
      const std::string error(listed.receipt.status().message());
      if (json) {
        report.push_back(
            {{"file", listed.path}, {"valid", false}, {"error", error}});
      } else {
        out << "NOT VALID: " << error << "\n";
      }
      continue;
    }
    const Receipt& r = *listed.receipt;
    if (json) {
      report.push_back({{"file", listed.path},
                        {"valid", true},
                        {"federation", r.federation},
                        {"institution", r.institution},
                        {"round", r.round},
                        {"attempt", r.attempt},
                        {"payload_sha256", r.payload_digest.Hex()},
                        {"payload_bytes", r.payload_bytes},
                        {"committed_at", FormatTime(r.committed_at)}});
    } else {
      out << "round " << r.round << ", " << FormatTime(r.committed_at) << ", "
          << FormatBytes(r.payload_bytes) << ", SHA-256 "
          << r.payload_digest.Hex() << "\n";
    }
  }
  if (json) Print(report, out);
  if (!json && receipts.empty()) {
    out << "no receipts in " << ReceiptDirectory(options) << "\n";
  }
  if (bad == 0) return absl::OkStatus();
  return absl::DataLossError(
      Cat(bad, " of ", receipts.size(),
          " receipts are damaged or not signed by the coordinator's key"));
}

absl::Status RenewCommand(const ClientConfig& config, bool json,
                          std::ostream& out, const CancelToken& cancel) {
  ClientOptions options = config.client;
  if (options.retry.give_up_after == absl::ZeroDuration()) {
    options.retry.give_up_after = absl::Minutes(1);  // a person waits
  }
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                             Client::Connect(options, cancel));
  CONSILIUM_RETURN_IF_ERROR(client->Renew(cancel));
  const absl::Time until = client->info().certificate_not_after;
  if (json) {
    Print({{"certificate_not_after", FormatTime(until)}}, out);
  } else {
    Line(out, "certificate",
         Cat("valid until ", Until(until, SystemClock()->Now())));
  }
  return absl::OkStatus();
}

absl::Status RunCommand(ClientConfig config, uint64_t rounds,
                        const CancelToken& cancel) {
  Log log(config.log);
  const GrpcLogCapture grpc_log(&log);
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                             MakeTrainer(config.training));
  config.client.observer = [&log](const Event& event) {
    log.Write(event.severity == Event::Severity::kWarning ? LogLevel::kWarning
                                                          : LogLevel::kInfo,
              event.round, event.text);
  };
  auto client = Client::Connect(config.client, cancel);
  if (!client.ok()) {
    return cancel.cancelled() ? absl::OkStatus() : client.status();
  }
  const SessionInfo info = (*client)->info();
  log.set_institution(info.institution);
  log.Info(0, Cat("connected to ", config.client.coordinator, ", federation ",
                  info.federation, ", certificate valid until ",
                  FormatTime(info.certificate_not_after)));
  if (SealingIsOff(info.features)) {
    log.Warning(0,
                "sealing is OFF: uploads lie unencrypted on the "
                "coordinator's disk");
  }
  // Before its first version a federation has no layout yet.
  if (const auto layout = (*client)->layout(); layout != nullptr) {
    CONSILIUM_RETURN_IF_ERROR(trainer->CheckLayout(*layout));
  }
  RunOptions options;
  options.rounds = rounds;
  options.renew_automatically = config.renew_automatically;
  const absl::Status status =
      RunInstitution(**client, *trainer, options, *SystemClock(), log, cancel);
  if (cancel.cancelled()) {
    log.Info(0, Cat("stopped: ", StdView(cancel.status().message())));
  }
  return status;
}

}  // namespace consilium::client::internal

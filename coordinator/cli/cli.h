// The `consilium` command as a function: arguments and streams in, an exit
// code out. Tests give a fake connection and string streams.

#ifndef CONSILIUM_COORDINATOR_CLI_CLI_H_
#define CONSILIUM_COORDINATOR_CLI_CLI_H_

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "consilium/base/retry.h"
#include "consilium/base/status_macros.h"
#include "consilium/secure/certificate.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/proxy.h"
#include "coordinator/cli/admin_api.h"
#include "coordinator/cli/operator_config.h"
#include "coordinator/cli/output.h"

namespace consilium {

// Between two attempts to connect again.
inline constexpr absl::Duration kLongestPause = absl::Seconds(5);

// Options that every command takes.
struct GlobalOptions {
  std::string config;       // operator/config.toml; empty: the default places
  std::string coordinator;  // overrides the file's
  std::string offline;      // DIR of `consilium init`: its store, no network
  bool json = false;
  uint64_t timeout_seconds = 0;  // 0: 30 s for short calls, none for long ones
};

// An open connection to a coordinator, or to a stopped one's store.
struct AdminSession {
  std::unique_ptr<AdminApi> api;
  OperatorConfig config;                 // empty fields when offline
  std::optional<VerifyKey> signing_key;  // the coordinator's, where pinned
  std::optional<CertificateInfo> own;    // what the caller shows
};

struct CliEnvironment {
  std::ostream* out = nullptr;
  std::ostream* err = nullptr;
  bool terminal = false;  // `out` is one: colours, redrawing
  int width = 80;
  FileSystem* fs = nullptr;
  Clock* clock = nullptr;
  Sleeper* sleeper = nullptr;
  RandomSource* random = nullptr;
  absl::TimeZone zone = absl::UTCTimeZone();
  Environment variables;
  // Errors end the command with the exit code of a connection, but for
  // FAILED_PRECONDITION and NOT_FOUND of an offline store.
  std::function<absl::StatusOr<AdminSession>(const GlobalOptions&,
                                             const CliEnvironment&)>
      connect;
};

// The real one: RemoteAdmin, or OfflineAdmin with --offline.
absl::StatusOr<AdminSession> ConnectAdmin(const GlobalOptions& options,
                                          const CliEnvironment& environment);

// `args` without the program's name. Returns the exit code.
int RunCli(const std::vector<std::string>& args,
           const CliEnvironment& environment);

// Everything that a destructive command asks before it acts.
struct Confirmation {
  bool yes = false;
  std::string reason;
};

// One run of the command: what its verbs use. Not thread-safe.
class Cli {
 public:
  explicit Cli(const CliEnvironment& environment);

  const CliEnvironment& env() const { return env_; }
  GlobalOptions& options() { return options_; }
  std::ostream& out() { return *env_.out; }
  std::ostream& err() { return *env_.err; }
  bool json() const { return options_.json; }
  Style style() const;

  // Connects at the first call, and then tells on `err` of a certificate of
  // the caller's that ends soon.
  absl::StatusOr<AdminSession*> Session();

  // One unary call.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(absl::Status (AdminApi::*method)(const Request&,
                                                                 Response*),
                                const Request& request) {
    CONSILIUM_ASSIGN_OR_RETURN(AdminSession* const session, Session());
    Response response;
    CONSILIUM_RETURN_IF_ERROR(
        (session->api.get()->*method)(request, &response));
    return response;
  }

  // The command's one JSON document.
  void PrintJson(const google::protobuf::Message& message);
  void PrintJson(std::string_view json);
  // With --json the message, else what `text` prints.
  absl::Status Show(const google::protobuf::Message& message,
                    absl::FunctionRef<void(std::ostream&)> text);

  // Without --yes: tells what would happen and returns false.
  bool Confirmed(const Confirmation& confirmation, std::string_view action,
                 const std::vector<std::string>& would);

  // The command has answered, and the answer is bad (a check that found
  // something): exit code 1.
  void AnswerIsBad() { bad_ = true; }
  bool answer_is_bad() const { return bad_; }

  // What the parsed command line asks for; run after parsing.
  std::function<absl::Status()> action;
  // Set when the last error came from connecting.
  bool connect_failed() const { return connect_failed_; }
  // The verb renews the caller's certificate: no need to tell him to.
  bool renews = false;
  // A stream of JSON lines has begun: an error ends it with a line of its own.
  bool json_lines = false;

 private:
  void TellOfRenewal();

  const CliEnvironment& env_;
  GlobalOptions options_;
  std::optional<AdminSession> session_;
  bool connect_failed_ = false;
  bool bad_ = false;
};

// "quorum=2" as key and value. INVALID_ARGUMENT without '='.
absl::StatusOr<std::pair<std::string, std::string>> SplitSetting(
    const std::string& text);
absl::Status AddSettings(const std::vector<std::string>& settings,
                         google::protobuf::Map<std::string, std::string>* out);
// What `option` was given as a duration, in whole seconds and at least one.
absl::StatusOr<uint64_t> WholeSeconds(std::string_view option,
                                      const std::string& text);
// Metrics on one line: "accuracy 0.957, loss 0.12". Only names that begin with
// `prefix`, which is left out; at most `limit`.
std::string FormatMetrics(
    const google::protobuf::RepeatedPtrField<v1::NamedValue>& metrics,
    std::string_view prefix = "", int limit = 4);
std::string FormatVersion(const v1::VersionRef& version);

class CommandGroup;
void AddStatusCommands(CommandGroup root, Cli& cli);
void AddFederationCommands(CommandGroup root, Cli& cli);
void AddAdapterCommands(CommandGroup root, Cli& cli);
void AddInitCommand(CommandGroup root, Cli& cli);
void AddInstitutionCommands(CommandGroup root, Cli& cli);
void AddOperatorCommands(CommandGroup root, Cli& cli);
void AddRoundCommands(CommandGroup root, Cli& cli);
void AddContributionCommands(CommandGroup root, Cli& cli);
void AddVersionCommands(CommandGroup root, Cli& cli);
void AddScheduleCommands(CommandGroup root, Cli& cli);
void AddCertificateCommands(CommandGroup root, Cli& cli);
void AddDatabaseCommands(CommandGroup root, Cli& cli);
void AddAuditCommands(CommandGroup root, Cli& cli);

// round_watch.cc. round 0: the live round, or the next one. A connection that
// is lost is made again, for as long as --timeout says.
absl::Status WatchRound(Cli& cli, uint64_t round, bool follow);
// version_transfer.cc
absl::Status ExportVersion(Cli& cli, uint64_t number, const std::string& path,
                           bool force);
absl::Status ImportVersion(Cli& cli, const std::string& path,
                           const std::string& layout_path,
                           const Confirmation& confirmation);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_CLI_H_

// A federation on this machine, of real processes over mTLS on loopback. The
// demo, the benchmarks and the crash tests share it.

#ifndef CONSILIUM_EXAMPLES_LOCAL_LOCAL_FEDERATION_H_
#define CONSILIUM_EXAMPLES_LOCAL_LOCAL_FEDERATION_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/digest.h"
#include "consilium/v1/admin.grpc.pb.h"
#include "coordinator/app/config.h"
#include "examples/local/process.h"

namespace consilium {

struct LocalFederationOptions {
  std::string directory;  // empty or missing
  std::string federation = "demo";
  CoordinatorConfig config;  // addresses are overwritten with free ports
  // Empty: consilium-coordinator beside this program.
  std::string coordinator_program;
  // Environment of the coordinator process, "NAME=value".
  std::vector<std::string> environment;
};

// Not thread-safe. The coordinator dies with this object.
class LocalFederation {
 public:
  // init, then the coordinator process, until it answers.
  static absl::StatusOr<std::unique_ptr<LocalFederation>> Create(
      LocalFederationOptions options);

  // Starts the coordinator again after Kill9() or Stop(), on the same ports.
  absl::Status StartCoordinator();
  // Until GetStatus answers. Errors: INTERNAL when the process has ended (the
  // log's last line is in the text); DEADLINE_EXCEEDED.
  absl::Status WaitUntilUp(absl::Duration timeout);
  absl::Status StopCoordinator();  // SIGTERM
  Process& coordinator() { return *coordinator_; }

  absl::Status SetPolicy(const std::map<std::string, std::string>& policy);
  // Invites and enrols; the identity lies in InstitutionDir(name).
  absl::Status Enroll(const std::string& name);
  std::string InstitutionDir(const std::string& name) const;

  // Makes the file current. `values` as in WriteVersionFile().
  absl::StatusOr<v1::VersionInfo> ImportVersion(
      const Layout& layout,
      const std::function<
          absl::StatusOr<std::span<const float>>(const TensorSlot&)>& values);
  absl::StatusOr<v1::RoundInfo> StartRound();
  // Calls `on_change` for each snapshot; returns the last one.
  absl::StatusOr<v1::RoundInfo> WatchRound(
      uint64_t round,
      const std::function<void(const v1::RoundInfo&)>& on_change,
      absl::Duration timeout);
  // Feeds the version file to `sink` in order; checks size and digest.
  absl::Status Download(
      const v1::VersionRef& version,
      const std::function<absl::Status(std::span<const std::byte>)>& sink);

  v1::AdminService::Stub& admin() { return *admin_; }
  const std::string& directory() const { return options_.directory; }
  std::string coordinator_dir() const;
  std::string logs_dir() const;
  std::string address() const;
  std::string enrollment_address() const;
  std::string metrics_address() const;
  const std::string& root_fingerprint() const { return fingerprint_; }

 private:
  explicit LocalFederation(LocalFederationOptions options)
      : options_(std::move(options)) {}
  absl::Status Init();
  absl::Status ConnectAdmin();

  LocalFederationOptions options_;
  int port_ = 0;
  int enrollment_port_ = 0;
  int metrics_port_ = 0;
  std::string fingerprint_;
  std::unique_ptr<Process> coordinator_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_LOCAL_LOCAL_FEDERATION_H_

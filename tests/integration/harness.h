// A whole federation in one process over real mTLS on loopback: the server
// object, the institutions' clients, an operator's stub.

#ifndef CONSILIUM_TESTS_INTEGRATION_HARNESS_H_
#define CONSILIUM_TESTS_INTEGRATION_HARNESS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/aggregation/layout.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/client/client.h"
#include "consilium/secure/certificate.h"
#include "consilium/v1/admin.grpc.pb.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/app/server.h"
#include "grpcpp/channel.h"
#include "tests/support/held_port.h"
#include "tests/support/temp_dir.h"

namespace consilium {

// Small slots, several groups, more than one frame.
Layout TestLayout();

class TestFederation {
 public:
  struct Options {
    bool sealing = true;
    std::map<std::string, std::string> policy = {
        {"quorum", "2"}, {"evaluation.enabled", "false"}};
    Layout layout = TestLayout();
    bool import_version0 = true;
    // Edits the configuration before `init` writes it.
    std::function<void(CoordinatorConfig&)> configure;
    LogOptions log = {LogLevel::kWarn, LogFormat::kText, ""};
    // The coordinator's.
    Clock* clock = SystemClock();
    FileSystem* coordinator_fs = PosixFileSystem();
  };

  // init, start, version 0 of zeros. Fails the test on error.
  explicit TestFederation(Options options);
  TestFederation() : TestFederation(Options()) {}
  ~TestFederation();

  // Stops the server object and starts another one on the same directory and
  // ports.
  void Restart();
  void Stop();
  void StartAgain();
  // Between the two: what the file would say then.
  CoordinatorConfig& NextConfig() { return config_; }

  // Invites and enrols; identity under dir()/<name>.
  void Enroll(const std::string& name) { EnrollWith(name, Token(name)); }
  void EnrollWith(const std::string& name, const std::string& token);
  // Invites and enrols by hand, with nothing on disk.
  TlsIdentity EnrollAuditor(const std::string& name) {
    return EnrollByHand(name, Token(name, "auditor"));
  }
  // By `consilium operator invite`: role "operator" or "auditor".
  TlsIdentity EnrollStaff(const std::string& name, const std::string& role);
  TlsIdentity EnrollByHand(const std::string& name, const std::string& token);
  std::string OperatorToken(const std::string& name, const std::string& role);
  absl::Status RevokeOperator(const std::string& name,
                              const std::string& reason = "");
  client::ClientOptions OptionsFor(const std::string& name) const;
  std::unique_ptr<client::Client> Connect(const std::string& name);
  // For the service port, with that certificate and a connection of its own.
  std::shared_ptr<grpc::Channel> ChannelWith(const TlsIdentity& identity) const;
  TlsIdentity IdentityOf(const std::string& name) const;
  // Signed by the federation's own CA, without asking the coordinator.
  TlsIdentity Issue(const PeerName& name, absl::Time issued_at,
                    absl::Duration lifetime) const;

  v1::AdminService::Stub& admin() { return *admin_; }
  CoordinatorServer& server() { return *server_; }
  Engine& engine() { return server_->engine(); }
  const Layout& layout() const { return options_.layout; }
  const std::string& dir() const { return dir_.path(); }
  uint16_t port() const { return static_cast<uint16_t>(server_->port()); }
  uint16_t enrollment_port() const {
    return static_cast<uint16_t>(server_->enrollment_port());
  }
  std::string address() const;
  std::string enrollment_address() const;
  const std::string& fingerprint() const { return fingerprint_; }
  const CoordinatorConfig& config() const { return config_; }
  FileSystem* fs() const { return PosixFileSystem(); }

  uint64_t StartRound(const std::map<std::string, std::string>& overrides = {},
                      const std::vector<std::string>& cohort = {});
  // Waits on the coordinator's watch stream, not on a clock.
  v1::RoundInfo WaitForEnd(uint64_t round);
  v1::RoundInfo WaitForPhase(uint64_t round, const std::string& phase);
  // The same for any state of it; returns early when the round ends.
  v1::RoundInfo WaitUntil(
      uint64_t round, const std::function<bool(const v1::RoundInfo&)>& reached);
  // The current version's parameters, flat in canonical order.
  std::vector<float> CurrentParameters(client::Client& client);
  std::string Token(const std::string& name,
                    const std::string& role = "institution");
  // A version whose elements are all `value`, as an operator brings it.
  absl::Status Import(float value);
  absl::Status SetState(const std::string& name,
                        v1::SetInstitutionStateRequest::Change change,
                        const std::string& reason);

 private:
  void StartServer();
  void ConnectAdmin();

  const Options options_;
  TempDir dir_;
  CoordinatorConfig config_;
  std::string fingerprint_;
  std::unique_ptr<Logger> logger_;
  std::unique_ptr<CoordinatorServer> server_;
  std::vector<HeldPort> held_;  // while it is stopped
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

// A delta of one constant for every element.
absl::StatusOr<client::SubmitOutcome> SubmitConstant(
    client::Client& client, const client::TrainTask& task, float value,
    uint64_t examples);
// Waits until there is a task to train and returns it.
client::TrainTask WaitForTask(client::Client& client);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_HARNESS_H_

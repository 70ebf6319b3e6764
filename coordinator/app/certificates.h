// The coordinator's own certificates while it runs: taken from the files at
// start, on reload and from time to time; whoever should renew one is told
// before it ends, in the log, by /readyz and by metrics.

#ifndef CONSILIUM_COORDINATOR_APP_CERTIFICATES_H_
#define CONSILIUM_COORDINATOR_APP_CERTIFICATES_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"
#include "consilium/base/file.h"
#include "consilium/base/mutex.h"
#include "consilium/secure/ca_files.h"
#include "consilium/secure/grpc/credentials.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/engine/engine.h"
#include "coordinator/rpc/own_certificates.h"

namespace consilium {

// Thread-safe.
class CertificateKeeper {
 public:
  // How often the log tells of a certificate that ends soon.
  static constexpr absl::Duration kTellEvery = absl::Hours(24);

  // Reads the files. `clock` is the machine's; all outlive this. Errors: those
  // of files, keys and chains; what has ended is told with its remedy.
  static absl::StatusOr<std::unique_ptr<CertificateKeeper>> Load(
      const CoordinatorConfig& config, FileSystem* fs, Clock* clock,
      Logger* logger);

  const std::shared_ptr<ReloadableServerIdentity>& server() const {
    return server_;
  }
  const LiveIssuingCa& ca() const { return *ca_; }

  // Reads the files anew; after an error what was in use stays.
  absl::Status Reload();
  // Once a minute: looks at the files where it is time, sets the gauges, notes
  // a new issuing CA or server certificate in the audit log, tells what ends
  // soon.
  void Look(Engine& engine);
  // UNAVAILABLE when nobody can connect any more.
  absl::Status Check() const;
  // What ends soon or has ended, and what to do.
  std::vector<std::string> Warnings() const;

 private:
  CertificateKeeper(const CoordinatorConfig& config, FileSystem* fs,
                    Clock* clock, Logger* logger);
  absl::Status ReloadIssuer();
  std::vector<v1::CertificateInfo> Own() const;
  void Tell();
  // Once for each certificate; `noted` is the serial that was noted last.
  void Note(Engine& engine, const char* action, const CertificateInfo& info,
            bool first_is_known, std::string* noted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const TlsIdentityFiles server_files_;
  const IssuingCaFiles issuing_files_;
  const std::string federation_;
  const RenewalTimes times_;
  const absl::Duration check_interval_;
  FileSystem* const fs_;
  Clock* const clock_;
  Logger* const logger_;
  std::shared_ptr<ReloadableServerIdentity> server_;
  std::unique_ptr<LiveIssuingCa> ca_;

  Mutex mu_;
  absl::Duration checked_at_ ABSL_GUARDED_BY(mu_);  // monotonic
  std::string trouble_ ABSL_GUARDED_BY(mu_);        // told of last
  std::string noted_issuer_ ABSL_GUARDED_BY(mu_);   // serials in the audit log
  std::string noted_server_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> told_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Time> told_at_ ABSL_GUARDED_BY(mu_);
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_CERTIFICATES_H_

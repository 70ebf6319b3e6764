// AdminApi over the store of a coordinator that does not run.

#ifndef CONSILIUM_COORDINATOR_CLI_OFFLINE_ADMIN_H_
#define CONSILIUM_COORDINATOR_CLI_OFFLINE_ADMIN_H_

#include "coordinator/app/config.h"
#include "coordinator/app/renew.h"
#include "coordinator/cli/cli.h"

namespace consilium {

// The configuration of the coordinator made by `consilium init directory`, its
// paths resolved.
absl::StatusOr<CoordinatorConfig> OfflineConfig(FileSystem* fs,
                                                const std::string& directory);

// Server, issuing CAs, root, with state and advice.
std::vector<v1::CertificateInfo> DescribeFiles(const FileCertificates& files,
                                               const CoordinatorConfig& config,
                                               absl::Time now);

// Opens the store read-only and holds its lock as long as the session lives.
// Lists, shows, checks, backups and downloads work; changes are refused.
// Errors: NOT_FOUND no coordinator there; FAILED_PRECONDITION it runs (its
// process is named); those of the store.
absl::StatusOr<AdminSession> OpenOffline(FileSystem* fs,
                                         const std::string& directory,
                                         absl::Time now);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_OFFLINE_ADMIN_H_

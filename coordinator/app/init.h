// `consilium init`: a new federation in an empty directory.

#ifndef CONSILIUM_COORDINATOR_APP_INIT_H_
#define CONSILIUM_COORDINATOR_APP_INIT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "coordinator/app/config.h"

namespace consilium {

struct InitOptions {
  std::string directory;           // empty or missing
  std::string federation;          // [a-z0-9-]
  std::vector<std::string> hosts;  // DNS names or addresses of the coordinator
  bool localhost = true;           // the certificate also names localhost
  std::string operator_name = "admin";
  // Written to consilium.toml; federation.name is taken from above.
  CoordinatorConfig config;
};

struct InitResult {
  std::string root_fingerprint;  // what institutions pin, 64 hex digits
  std::string config_path;
  std::string operator_config_path;
  std::string offline_key_path;  // move this off the machine
};

// Makes, in `directory`:
//   consilium.toml       every key with its default
//   identity/            root-ca.pem issuing-ca.{pem,key} server.{pem,key}
//                        signing.{key,pub}
//   offline/root-ca.key  only needed to renew the issuing CA
//   operator/            operator.{pem,key} ca.pem signing.pub config.toml
//   secrets/storage.key  wraps round keys; never copy it next to a backup
//   data/                empty history
// Keys are 0600, directories 0700. After an error nothing is left behind.
//
// Errors: FAILED_PRECONDITION the directory is not empty; INVALID_ARGUMENT a
// bad name or host; errors of files.
absl::StatusOr<InitResult> InitFederation(const InitOptions& options,
                                          absl::Time now, FileSystem* fs,
                                          RandomSource* random);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_APP_INIT_H_

// The reference institution: work, train, submit, evaluate, again.

#ifndef CONSILIUM_CLIENT_SDK_APP_INSTITUTION_H_
#define CONSILIUM_CLIENT_SDK_APP_INSTITUTION_H_

#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "client_sdk/app/config.h"
#include "consilium/base/cancel.h"

namespace consilium::client {

// `level`: info, warning, error; round 0: none.
using LogLine = std::function<void(std::string_view level, uint64_t round,
                                   std::string_view text)>;

struct InstitutionOptions {
  ClientConfig config;
  int64_t rounds = 0;  // contributions after which to stop; 0: never
  LogLine log;
};

// Blocks until `cancel` (OK), the number of rounds (OK), or an error that
// retrying cannot mend. What a killed process left in the outbox goes first.
absl::Status RunInstitution(const InstitutionOptions& options,
                            const CancelToken& cancel);

}  // namespace consilium::client

#endif  // CONSILIUM_CLIENT_SDK_APP_INSTITUTION_H_

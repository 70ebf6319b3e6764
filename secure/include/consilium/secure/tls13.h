// TLS 1.3 and nothing else.
#ifndef CONSILIUM_SECURE_TLS13_H_
#define CONSILIUM_SECURE_TLS13_H_

#include "absl/status/status.h"

namespace consilium {

// Makes TLS 1.3 the only version in this process. gRPC offers no such option,
// but every TLS context obeys OpenSSL's `system_default` section, so this puts
// one in place. Call it first thing in main(), before any gRPC object exists;
// later calls return the first answer.
// Errors: INTERNAL  OpenSSL did not take the configuration.
absl::Status ConfigureTls13Only();

}  // namespace consilium

#endif  // CONSILIUM_SECURE_TLS13_H_

#ifndef CONSILIUM_CLIENT_SDK_APP_GRPC_LOG_H_
#define CONSILIUM_CLIENT_SDK_APP_GRPC_LOG_H_

#include "client_sdk/app/log.h"

namespace consilium::client::internal {

// While it lives, gRPC's own messages, which would go to standard error in a
// format of their own, go to `log` as debug lines. One at a time; `log`
// outlives it.
class GrpcLogCapture {
 public:
  explicit GrpcLogCapture(Log* log);
  ~GrpcLogCapture();
  GrpcLogCapture(const GrpcLogCapture&) = delete;
  GrpcLogCapture& operator=(const GrpcLogCapture&) = delete;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_GRPC_LOG_H_

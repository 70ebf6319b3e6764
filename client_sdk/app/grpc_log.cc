#include "client_sdk/app/grpc_log.h"

#include <atomic>

#include "consilium/base/strings.h"
#include "grpc/support/log.h"

namespace consilium::client::internal {
namespace {

// gRPC's function stays in place: threads of gRPC may be inside of it.
std::atomic<Log*> captured_by{nullptr};

void OnGrpcLog(gpr_log_func_args* args) {
  Log* const log = captured_by.load();
  if (log != nullptr) log->Debug(0, Cat("gRPC: ", args->message));
}

}  // namespace

GrpcLogCapture::GrpcLogCapture(Log* log) {
  captured_by.store(log);
  gpr_set_log_function(&OnGrpcLog);
}

GrpcLogCapture::~GrpcLogCapture() { captured_by.store(nullptr); }

}  // namespace consilium::client::internal

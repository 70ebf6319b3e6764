#include "coordinator/rpc/institution_call.h"

#include "consilium/base/strings.h"

namespace consilium {

absl::Status ParseRequest(const grpc::ByteBuffer& bytes, int64_t max_bytes,
                          google::protobuf::MessageLite* request) {
  const auto size = static_cast<int64_t>(bytes.Length());
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        Cat("the request has ", size, " bytes, the limit is ",
            "limits.max_control_bytes ", max_bytes));
  }
  request->Clear();
  if (size == 0) return absl::OkStatus();
  grpc::ByteBuffer copy = bytes;
  grpc::ProtoBufferReader reader(&copy);
  if (!reader.status().ok() || !request->ParseFromZeroCopyStream(&reader)) {
    return absl::InvalidArgumentError(
        Cat("the request is no ", request->GetTypeName()));
  }
  return absl::OkStatus();
}

absl::Status CallSlot::Take(const Caller& caller, int64_t max_calls) {
  peer_ = caller.peer;
  const int64_t calls = ++peer_->calls;
  if (calls <= max_calls) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Cat(caller.name(), " has ", calls,
          " calls under way, the limit is limits.max_calls_per_institution ",
          max_calls, "; wait for answers before asking more"));
}

}  // namespace consilium

#include "proto/wire/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(WireStatusTest, EveryCodeAndItsMessageComeBack) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_THAT(FromGrpc(grpc::Status::OK), IsOk());
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code),
                              "round 7 is closed");
    EXPECT_EQ(ToGrpc(status).error_code(), code);
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

// A server cancels what is under way when it stops; the caller may try again.
TEST(WireStatusTest, ACallThatThePeerCancelledIsUnavailable) {
  EXPECT_THAT(FromPeer(grpc::Status::OK), IsOk());
  EXPECT_THAT(FromPeer(grpc::Status(grpc::StatusCode::CANCELLED, "CANCELLED")),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("ended")));
  EXPECT_THAT(FromPeer(grpc::Status(grpc::StatusCode::ABORTED, "no")),
              StatusIs(absl::StatusCode::kAborted, "no"));
}

}  // namespace
}  // namespace consilium

#include "consilium/base/status_macros.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "consilium/base/file.h"
#include "consilium/base/local_error.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<std::unique_ptr<int>> Box(int value) {
  if (value < 0) return absl::OutOfRangeError("negative");
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Sum(int a, int b) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<int> left, Box(a));
  CONSILIUM_ASSIGN_OR_RETURN(const std::unique_ptr<int> right, Box(b));
  return *left + *right;
}

absl::Status Check(int a, int b) {
  CONSILIUM_RETURN_IF_ERROR(Sum(a, b).status());
  return absl::OkStatus();
}

TEST(StatusMacrosTest, TheFirstErrorLeavesTheFunction) {
  EXPECT_THAT(Sum(1, 2), IsOkAndHolds(3));
  EXPECT_THAT(Sum(1, -2), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Check(1, 2), IsOk());
  EXPECT_THAT(Check(-1, 2), Not(IsOk()));
}

TEST(LocalErrorTest, IsKnownThroughAnnotations) {
  const absl::Status plain = absl::NotFoundError("no such version");
  EXPECT_FALSE(IsLocalError(plain));
  const absl::Status local = LocalError(plain);
  EXPECT_TRUE(IsLocalError(local));
  EXPECT_TRUE(IsLocalError(Annotate(local, "round 7")));
  EXPECT_EQ(local.code(), plain.code());
  EXPECT_EQ(local.message(), plain.message());
  EXPECT_FALSE(IsLocalError(LocalError(absl::OkStatus())));
  EXPECT_TRUE(IsLocalError(ErrnoStatus(EACCES, "open", "/spool")));
}

TEST(StatusMacrosTest, AnnotateKeepsCodeAndPayloads) {
  EXPECT_THAT(Annotate(absl::OkStatus(), "anything"), IsOk());
  absl::Status status = absl::NotFoundError("no such thing");
  status.SetPayload("type", absl::Cord("payload"));
  const absl::Status annotated = Annotate(status, "opening");
  EXPECT_THAT(annotated, StatusIs(absl::StatusCode::kNotFound,
                                  std::string("opening: no such thing")));
  EXPECT_EQ(annotated.GetPayload("type"), absl::Cord("payload"));
}

TEST(StatusMacrosDeathTest, CheckNamesThePlaceAndTheCondition) {
  EXPECT_DEATH(CONSILIUM_CHECK(1 + 1 == 3),
               "status_macros_test.cc.*1 \\+ 1 == 3");
}

}  // namespace
}  // namespace consilium

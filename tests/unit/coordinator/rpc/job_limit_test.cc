#include "coordinator/rpc/job_limit.h"

#include <optional>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::HasSubstr;

TEST(JobLimitTest, ASlotEndsWithItsOwner) {
  JobLimit jobs(1, "limits.jobs");
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<JobLimit::Slot> slot = jobs.Begin("replay");
    ASSERT_OK(slot.status());
    std::optional<JobLimit::Slot> moved(*std::move(slot));
    EXPECT_FALSE(jobs.Begin("replay").ok());
    moved.reset();
  }
}

TEST(JobLimitTest, ARefusalNamesWhatRunsTheLimitAndTheFix) {
  JobLimit jobs(2, "limits.jobs");
  const auto a = jobs.Begin("backup");
  {
    const auto b = jobs.Begin("replay");
    EXPECT_THAT(jobs.Begin("check").status(),
                StatusIs(absl::StatusCode::kResourceExhausted,
                         HasSubstr("check is refused, since backup, replay run "
                                   "already and limits.jobs is 2; try again "
                                   "when one has ended")));
  }
  const auto c = jobs.Begin("check");
  EXPECT_OK(c.status());
  EXPECT_THAT(jobs.Begin("diff").status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("backup, check run already")));
}

}  // namespace
}  // namespace consilium

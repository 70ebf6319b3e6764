#include "tests/integration/expect_refused.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

void ExpectSays(std::string_view text, const Wrong& wrong) {
  for (const std::string& word : wrong.says) {
    EXPECT_THAT(std::string(text), testing::HasSubstr(word));
  }
}

}  // namespace

void ExpectWrong(const absl::Status& status, const v1::Refusal* refusal,
                 const Wrong& wrong) {
  EXPECT_EQ(status.code(), wrong.status) << status;
  if (wrong.status != absl::StatusCode::kOk) {
    ExpectSays(StdView(status.message()), wrong);
    return;
  }
  if (refusal == nullptr) {
    ADD_FAILURE() << "was not refused; expected "
                  << v1::Refusal::Code_Name(wrong.refusal);
    return;
  }
  EXPECT_EQ(refusal->code(), wrong.refusal) << refusal->ShortDebugString();
  ExpectSays(refusal->message(), wrong);
}

void ExpectEnds(const StreamEnd& end, const Wrong& wrong) {
  ExpectWrong(end.status, end.refusal ? &*end.refusal : nullptr, wrong);
}

}  // namespace consilium

// The error that a fault must give: its kind, and words that name what was
// wrong, the value, the limit and what to do.

#ifndef CONSILIUM_TESTS_INTEGRATION_EXPECT_REFUSED_H_
#define CONSILIUM_TESTS_INTEGRATION_EXPECT_REFUSED_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/integration/raw_client.h"

namespace consilium {

// Either a status of the call, or a refusal.
struct Wrong {
  absl::StatusCode status = absl::StatusCode::kOk;
  v1::Refusal::Code refusal = v1::Refusal::CODE_UNSPECIFIED;
  std::vector<std::string> says;
};

inline Wrong Fails(absl::StatusCode code, std::vector<std::string> says) {
  return {code, v1::Refusal::CODE_UNSPECIFIED, std::move(says)};
}
inline Wrong Refuses(v1::Refusal::Code code, std::vector<std::string> says) {
  return {absl::StatusCode::kOk, code, std::move(says)};
}

void ExpectWrong(const absl::Status& status, const v1::Refusal* refusal,
                 const Wrong& wrong);
void ExpectEnds(const StreamEnd& end, const Wrong& wrong);

// For responses that hold a result or a refusal.
template <typename Response>
void ExpectRefused(const absl::StatusOr<Response>& response,
                   const Wrong& wrong) {
  const bool refused = response.ok() && response->has_refusal();
  ExpectWrong(response.status(), refused ? &response->refusal() : nullptr,
              wrong);
}

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_EXPECT_REFUSED_H_

// What must hold after every fault: the average is exact to the bit, nothing
// that was acknowledged is lost or counted twice, and the store is whole.

#ifndef CONSILIUM_TESTS_INTEGRATION_CHECKS_H_
#define CONSILIUM_TESTS_INTEGRATION_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/client/client.h"
#include "tests/integration/harness.h"

namespace consilium {

// One institution's training result, made anew from a seed wherever it is
// needed. Values differ from element to element and do not add up exactly, so
// that a lost, doubled or misplaced element, or another order, shows.
struct Delta {
  std::string institution;
  uint64_t seed = 0;
  uint64_t examples = 1;

  float At(int64_t element) const;
};

// Through the SDK. `elements_filled` counts what training was asked for.
absl::StatusOr<client::SubmitOutcome> Submit(
    client::Client& client, const client::TrainTask& task, const Layout& layout,
    const Delta& delta, int64_t* elements_filled = nullptr,
    const client::SubmitOptions& options = {});
// The same for an open round, and expects a receipt.
client::Receipt SubmitTask(TestFederation& federation, client::Client& client,
                           const Delta& delta);

// Waits for the end of the round and expects: it was promoted; exactly these
// contributions count, each once; and its version has, bit for bit, the mean
// that these deltas have on the round's base.
void ExpectExactMean(TestFederation& federation, uint64_t round,
                     std::vector<Delta> deltas);

// What `consilium db check --deep` finds: nothing.
void ExpectStoreIsWhole(TestFederation& federation);

// The contributions of a round, as operators see them.
std::vector<v1::ContributionInfo> ContributionsOf(TestFederation& federation,
                                                  uint64_t round);
// One member's line of `round show`; fails the test when there is none.
v1::MemberInfo MemberOf(TestFederation& federation, uint64_t round,
                        const std::string& institution);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_CHECKS_H_

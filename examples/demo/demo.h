// The demo as a function: processes, rounds, comparison.

#ifndef CONSILIUM_EXAMPLES_DEMO_DEMO_H_
#define CONSILIUM_EXAMPLES_DEMO_DEMO_H_

#include <string>

#include "absl/status/statusor.h"

namespace consilium {

struct DemoOptions {
  std::string directory = "demo-data";
  int rounds = 8;
  int seeds = 5;
  std::string json;
};

// Prints as it goes. True when the federated model is at least 2 points better
// than hospitals on their own and at most 2 points worse than one trained on
// all their rows. Errors name the log to read.
absl::StatusOr<bool> RunDemo(const DemoOptions& options);

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_DEMO_DEMO_H_

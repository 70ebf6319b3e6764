// A federation of real processes, one of which a test kills again and again:
// two institutions over mutual TLS, and what every round of theirs must give.

#ifndef CONSILIUM_TESTS_CRASH_KILL_FIXTURE_H_
#define CONSILIUM_TESTS_CRASH_KILL_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/client/options.h"
#include "examples/local/local_federation.h"
#include "tests/crash/kill_switch.h"
#include "tests/crash/sdk_institution.h"
#include "tests/support/temp_dir.h"

namespace consilium {

// Longer than anything takes on a busy machine.
inline constexpr absl::Duration kKillTestTimeout = absl::Minutes(4);

class KillTest : public testing::Test {
 protected:
  static constexpr float kDeltaA = 0.125f;
  static constexpr float kDeltaB = -1.0f / 3.0f;
  static constexpr uint64_t kExamplesA = 300;
  static constexpr uint64_t kExamplesB = 77;

  // The coordinator process listens to kill_; both institutions are enrolled.
  void SetUp() override;
  // Kills the coordinator and reads what it left.
  void TearDown() override;

  client::ClientOptions OptionsFor(const std::string& name) const;
  std::unique_ptr<SdkInstitution> StartInstitution(const std::string& name,
                                                   float delta,
                                                   uint64_t examples);
  absl::StatusOr<v1::RoundInfo> Look(uint64_t round);
  enum class Folded { kBoth, kOnlyA, kOnlyB };
  // Notes the end for TearDown. A promoted round also moves value_ on: its
  // version must have the bits of the undisturbed average.
  void ExpectEnd(const v1::RoundInfo& end, const std::string& phase,
                 Folded folded = Folded::kBoth);
  // value_ after one more round, as the fold promises.
  float Average(Folded folded) const;
  // In hex, of the version file with this value everywhere.
  std::string DigestOf(float value) const;
  std::string program(const std::string& name) const;

  TempDir dir_;
  // Of two frames, so that an upload has three chunks.
  const Layout layout_ = *Layout::Create(
      {{"trunk", {1000, 260}, DType::kF32, *GroupName::Parse("shared")},
       {"expert", {11}, DType::kF32, *GroupName::Parse("expert/0/0")}});
  std::unique_ptr<KillSwitch> kill_;
  std::unique_ptr<LocalFederation> federation_;
  float value_ = 0;  // of every element of the current version

 private:
  void CheckHistory();

  std::map<uint64_t, std::string> ended_;
};

// Each of `labels` is part of a step.
void ExpectSteps(const std::vector<std::string>& steps,
                 const std::vector<std::string>& labels);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_CRASH_KILL_FIXTURE_H_

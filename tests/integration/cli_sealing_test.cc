// Where sealing is off, everything that speaks of uploads says so.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kOff[] = "sealing +OFF: uploads lie unencrypted";

class SealingShownTest : public testing::TestWithParam<bool> {
 protected:
  SealingShownTest() {
    TestFederation::Options options;
    options.sealing = GetParam();
    options.log.file = JoinPath(dir_.path(), "log");
    federation_ = std::make_unique<TestFederation>(std::move(options));
    cli_ = std::make_unique<OperatorCli>(*federation_);
    federation_->Enroll("bank-a");
    federation_->Enroll("bank-b");
  }
  void ExpectShown(std::vector<std::string> verb) {
    const std::string what = verb[0] + (verb.size() > 1 ? " " + verb[1] : "");
    const std::string table = cli_->Table(std::move(verb));
    if (GetParam()) {
      EXPECT_THAT(table, ContainsRegex("sealing +on")) << what;
    } else {
      EXPECT_THAT(table, ContainsRegex(kOff)) << what;
    }
  }

  TempDir dir_;
  std::unique_ptr<TestFederation> federation_;
  std::unique_ptr<OperatorCli> cli_;
};

TEST_P(SealingShownTest, ByEveryCommandAndTheLog) {
  ExpectShown({"status"});
  ExpectShown({"federation", "show"});
  ExpectShown({"round", "plan"});
  EXPECT_EQ(cli_->Document<v1::RoundPlan>({"round", "plan"})["sealing"],
            GetParam());
  EXPECT_EQ(
      cli_->Document<v1::FederationInfo>({"federation", "show"})["sealing"],
      GetParam());
  const uint64_t round = federation_->StartRound();
  ExpectShown({"round", "show", Cat(round)});
  const auto log =
      ReadWholeFile(PosixFileSystem(), JoinPath(dir_.path(), "log"), 1 << 20);
  ASSERT_THAT(log, IsOk());
  if (GetParam()) {
    EXPECT_THAT(*log, Not(HasSubstr("sealing")));
  } else {
    EXPECT_THAT(*log, HasSubstr("sealing.mode is \"off\": uploads lie on this "
                                "disk unencrypted"));
  }
  // What a client's log and status go by.
  const auto client = federation_->Connect("bank-a");
  const std::string feature = GetParam() ? "sealing" : "sealing-off";
  EXPECT_THAT(client->info().features, testing::Contains(feature));
  EXPECT_EQ(WaitForTask(*client).sealed, GetParam());
}

INSTANTIATE_TEST_SUITE_P(OnAndOff, SealingShownTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "on" : "off";
                         });

}  // namespace
}  // namespace consilium

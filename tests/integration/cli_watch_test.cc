// `round watch` beside a live round: what each institution does, why the round
// waits, and a coordinator that restarts meanwhile.

#include <sstream>
#include <thread>

#include "consilium/base/strings.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A watch on its own thread, as in a second shell.
class Watch {
 public:
  Watch(TestFederation& federation, std::vector<std::string> args)
      : cli_(federation), thread_([this, args = std::move(args)] {
          std::ostream out(&output_);
          code_ = cli_.RunInto(out, args);
        }) {}
  ~Watch() {
    if (thread_.joinable()) thread_.join();
  }

  void Expect(const std::string& text) {
    EXPECT_TRUE(output_.WaitFor(text)) << text << " is not in\n"
                                       << output_.text();
  }
  // The exit code.
  int End() {
    thread_.join();
    return code_;
  }
  std::string text() { return output_.text(); }

 private:
  OperatorCli cli_;
  WatchedOutput output_;
  int code_ = -1;
  std::thread thread_;  // last: it uses the others
};

TestFederation::Options Quick() {
  TestFederation::Options options;
  options.configure = [](CoordinatorConfig& config) {
    config.limits.progress_period = absl::Milliseconds(100);
  };
  return options;
}

TEST(CliWatchTest, ItShowsWhatEachDoesAndWhyTheRoundWaits) {
  TestFederation f(Quick());
  f.Enroll("bank-a");
  f.Enroll("bank-b");
  const auto a = f.Connect("bank-a");
  const auto b = f.Connect("bank-b");
  // Without a round it waits for one.
  Watch watch(f, {"round", "watch"});
  watch.Expect("waiting for the next round");
  const uint64_t id = f.StartRound();
  watch.Expect("round 1 bank-a: invited");
  watch.Expect(
      "round 1 open: waiting for bank-a: not heard from and bank-b: not heard "
      "from; 0 of the quorum of 2");
  const client::TrainTask task = WaitForTask(*a);
  ASSERT_THAT(a->ReportProgress(task, 0.4, "epoch 2 of 5"), IsOkAndHolds(true));
  watch.Expect("bank-a: training 40 % (epoch 2 of 5)");
  // Progress shows also where nothing else changes.
  ASSERT_THAT(a->ReportProgress(task, 0.8, "epoch 4 of 5"), IsOkAndHolds(true));
  watch.Expect("bank-a: training 80 % (epoch 4 of 5)");
  HeldSubmit held(*a, task, 1, 100);
  watch.Expect("bank-a: uploading 100 % (2.3 MiB of 2.3 MiB)");
  ExpectReceipt(held.Finish());
  watch.Expect("bank-a: committed");
  watch.Expect("1 of the quorum of 2");
  ASSERT_OK(b->Decline(WaitForTask(*b), "no new data"));
  EXPECT_EQ(watch.End(), 1);  // no new version
  EXPECT_THAT(watch.text(),
              AllOf(HasSubstr("bank-b: declined (no new data)"),
                    HasSubstr("round 1 failed: 1 of 2 contributions needed")));
  EXPECT_EQ(f.WaitForEnd(id).phase(), "failed");
}

TEST(CliWatchTest, ItSurvivesARestartOfTheCoordinator) {
  TestFederation f(Quick());
  f.Enroll("bank-a");
  f.Enroll("bank-b");
  const auto a = f.Connect("bank-a");
  const auto b = f.Connect("bank-b");
  const uint64_t id = f.StartRound();
  Contribute(*a, 1);
  Watch watch(f, {"round", "watch", Cat(id)});
  Watch lines(f, {"round", "watch", Cat(id), "--json"});
  watch.Expect("bank-a: committed");
  lines.Expect("\"event\":\"round\"");
  f.Stop();
  watch.Expect("connection lost, trying again");
  lines.Expect("\"event\":\"reconnecting\"");
  f.StartAgain();
  Contribute(*b, 3);
  EXPECT_EQ(watch.End(), 0);
  EXPECT_THAT(watch.text(), HasSubstr("round 1 promoted"));
  EXPECT_EQ(lines.End(), 0);
  // Each line is a document, and only the last one is terminal.
  std::istringstream in(lines.text());
  std::vector<bool> terminal;
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    terminal.push_back(json["terminal"].get<bool>());
    if (json["event"] == "round") {
      ExpectFields(json["round"], v1::RoundInfo::descriptor());
    }
  }
  ASSERT_GE(terminal.size(), 3u);
  EXPECT_EQ(std::count(terminal.begin(), terminal.end(), true), 1);
  EXPECT_TRUE(terminal.back());
}

// Those who only look on are told, and not cut off.
TEST(CliWatchTest, AWatchIsToldOfTheCoordinatorsStop) {
  TestFederation f(Quick());
  f.Enroll("bank-a");
  const auto a = f.Connect("bank-a");
  Watch watch(f, {"round", "watch", "--timeout", "60"});
  watch.Expect("waiting for the next round");
  f.Stop();
  watch.Expect("the coordinator is shutting down");
  f.StartAgain();
  f.Enroll("bank-b");
  const auto b = f.Connect("bank-b");
  f.StartRound();
  Contribute(*a, 1);
  Contribute(*b, 1);
  EXPECT_EQ(watch.End(), 0);
}

}  // namespace
}  // namespace consilium

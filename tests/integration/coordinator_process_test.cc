// The program itself: signals, exit codes, the lock.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "consilium/base/bytes.h"
#include "consilium/base/cancel.h"
#include "consilium/base/strings.h"
#include "consilium/client/client.h"
#include "consilium/secure/ca.h"
#include "consilium/secure/random.h"
#include "examples/local/local_federation.h"
#include "examples/local/process.h"
#include "proto/wire/status.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

class CoordinatorProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LocalFederationOptions options;
    options.directory = dir_.path();
    options.config.storage.min_free_bytes = 0;
    options.config.log.file = "coordinator.log";
    auto made = LocalFederation::Create(std::move(options));
    ASSERT_THAT(made.status(), IsOk());
    local_ = *std::move(made);
    ASSERT_OK(
        local_->SetPolicy({{"quorum", "2"}, {"evaluation.enabled", "false"}}));
    std::vector<float> zeros;
    ASSERT_THAT(
        local_
            ->ImportVersion(TestLayout(),
                            [&](const TensorSlot& slot)
                                -> absl::StatusOr<std::span<const float>> {
                              zeros.assign(static_cast<size_t>(slot.elements),
                                           0.0f);
                              return std::span<const float>(zeros);
                            })
            .status(),
        IsOk());
  }

  std::unique_ptr<client::Client> Join(const std::string& name) {
    EXPECT_OK(local_->Enroll(name));
    client::ClientOptions options;
    options.coordinator = local_->address();
    options.identity_dir = local_->InstitutionDir(name);
    options.proxy = "none";
    options.retry.initial = absl::Milliseconds(5);
    options.retry.cap = absl::Milliseconds(200);
    options.retry.give_up_after = kLong;
    auto client = client::Client::Connect(options);
    EXPECT_THAT(client.status(), IsOk());
    return *std::move(client);
  }
  std::string Read(const std::string& path) {
    const auto text = ReadWholeFile(PosixFileSystem(), path, 1 << 20);
    return text.ok() ? *text : std::string(text.status().message());
  }
  std::string LogPath() {
    return JoinPath(local_->coordinator_dir(), "coordinator.log");
  }
  v1::StatusInfo Status() {
    v1::StatusInfo status;
    grpc::ClientContext context;
    EXPECT_THAT(FromGrpc(local_->admin().GetStatus(
                    &context, v1::GetStatusRequest(), &status)),
                IsOk());
    return status;
  }

  TempDir dir_;
  std::unique_ptr<LocalFederation> local_;
};

TEST_F(CoordinatorProcessTest, SigtermEndsItCleanlyAndRoundsGoOn) {
  const auto a = Join("bank-a");
  const auto b = Join("bank-b");
  const auto round = local_->StartRound();
  ASSERT_THAT(round.status(), IsOk());
  ASSERT_THAT(SubmitConstant(*a, WaitForTask(*a), 1, 100).status(), IsOk());
  // A long poll and a watch are under way; neither delays the end.
  client::TrainTask task = WaitForTask(*b);
  CancelSource enough;
  std::thread waiting([&] {
    EXPECT_THAT(a->WaitForWork(kLong, enough.token()).status(),
                StatusIs(absl::StatusCode::kCancelled));
  });
  absl::Status watched;
  absl::Notification seen;
  std::thread watching([&] {
    watched = local_
                  ->WatchRound(
                      round->round(),
                      [&](const auto&) {
                        if (!seen.HasBeenNotified()) seen.Notify();
                      },
                      kLong)
                  .status();
    if (!seen.HasBeenNotified()) seen.Notify();
  });
  seen.WaitForNotification();
  local_->coordinator().Signal(SIGTERM);
  EXPECT_EQ(local_->coordinator().Wait(kLong), 0);
  watching.join();
  enough.Cancel("seen");
  waiting.join();
  EXPECT_THAT(watched, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Read(LogPath()), HasSubstr("stopped"));
  ASSERT_OK(local_->StartCoordinator());
  ASSERT_OK(local_->WaitUntilUp(kLong));
  ASSERT_THAT(SubmitConstant(*b, task, 3, 100).status(), IsOk());
  const auto end = local_->WatchRound(
      round->round(), [](const auto&) {}, kLong);
  ASSERT_THAT(end.status(), IsOk());
  EXPECT_EQ(end->phase(), "promoted") << end->reason();
}

TEST_F(CoordinatorProcessTest, SighupTakesANewCertificateAndANewLog) {
  const std::string before = Status().certificates(0).serial();
  const std::string identity = JoinPath(local_->coordinator_dir(), "identity");
  FileSystem* const fs = PosixFileSystem();
  const auto ca = IssuingCa::LoadDirectory(fs, identity, "demo", absl::Now());
  const auto key = TlsKey::LoadFile(fs, JoinPath(identity, "server.key"));
  ASSERT_THAT(ca.status(), IsOk());
  ASSERT_THAT(key.status(), IsOk());
  const auto names = ServerNamesOf(Read(JoinPath(identity, "server.pem")));
  ASSERT_THAT(names.status(), IsOk());
  const auto chain = ca->IssueServer(*names, *key, absl::Now(), absl::Hours(24),
                                     *SystemRandom());
  ASSERT_THAT(chain, IsOk());
  ASSERT_OK(WriteFileAtomic(fs, JoinPath(identity, "server.pem"),
                            AsBytes(*chain), 0600));
  ASSERT_OK(fs->Rename(LogPath(), Cat(LogPath(), ".1")));
  local_->coordinator().Signal(SIGHUP);
  const std::string placed = ParseCertificate(*chain)->serial;
  const absl::Time until = absl::Now() + kLong;
  std::string shown = before;
  while (shown == before && absl::Now() < until) {
    shown = Status().certificates(0).serial();
  }
  EXPECT_EQ(shown, placed);
  // The old log is complete, and the new one goes on.
  local_->coordinator().Signal(SIGTERM);
  EXPECT_EQ(local_->coordinator().Wait(kLong), 0);
  EXPECT_THAT(Read(Cat(LogPath(), ".1")), HasSubstr("federation demo"));
  EXPECT_THAT(Read(LogPath()), HasSubstr("reloaded"));
}

TEST_F(CoordinatorProcessTest, OnlyOneServesADirectory) {
  const std::string program = JoinPath(OwnFolder(), "consilium-coordinator");
  const std::string log = JoinPath(dir_.path(), "second.log");
  auto second =
      Process::Start({program, "--config",
                      JoinPath(local_->coordinator_dir(), "consilium.toml")},
                     log);
  ASSERT_THAT(second.status(), IsOk());
  EXPECT_EQ((*second)->Wait(kLong), 1);
  EXPECT_THAT(Read(log), HasSubstr(Cat(local_->coordinator().pid())));
  Status();  // the first one does not mind
}

TEST_F(CoordinatorProcessTest, AWrongCommandLineOrConfigurationIsUsage) {
  const std::string program = JoinPath(OwnFolder(), "consilium-coordinator");
  const std::string log = JoinPath(dir_.path(), "usage.log");
  const std::string config = JoinPath(dir_.path(), "bad.toml");
  ASSERT_OK(WriteFileAtomic(PosixFileSystem(), config,
                            AsBytes("[listen]\nadress = \"x\"\n")));
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{program},
                                             {program, "--config", config}}) {
    auto process = Process::Start(args, log);
    ASSERT_THAT(process.status(), IsOk());
    EXPECT_EQ((*process)->Wait(kLong), 2);
  }
  EXPECT_THAT(Read(log), HasSubstr("line 2"));
}

}  // namespace
}  // namespace consilium

// Operators' long operations, held in the middle: institutions do not feel
// them, short commands neither, and there are never more than configured.

#include <gtest/gtest.h>

#include <functional>
#include <list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "consilium/base/mutex.h"
#include "consilium/base/strings.h"
#include "proto/wire/status.h"
#include "tests/integration/checks.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

// Holds one call whose path is as told, until everything held is let go.
class HoldingFileSystem final : public ForwardingFileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    MayHold(Cat("open ", path));
    return ForwardingFileSystem::Open(path, options);
  }
  absl::Status MakeDirs(const std::string& directory, uint32_t mode) override {
    MayHold(Cat("make ", directory));
    return ForwardingFileSystem::MakeDirs(directory, mode);
  }

  // The next call with both, "open" or "make" and a part of its path.
  void HoldNext(const std::string& call, const std::string& part) {
    MutexLock lock(&mu_);
    call_ = call;
    part_ = part;
    armed_ = true;
  }
  // False: nothing was held within a minute.
  bool WaitUntilHeld() {
    MutexLock lock(&mu_);
    while (armed_) {
      if (changed_.WaitFor(&mu_, absl::Minutes(1)) && armed_) return false;
    }
    return true;
  }
  void LetGo() {
    MutexLock lock(&mu_);
    open_ = true;
    changed_.SignalAll();
  }

 private:
  void MayHold(const std::string& what) {
    MutexLock lock(&mu_);
    if (!armed_ || !what.starts_with(call_) ||
        what.find(part_) == std::string::npos) {
      return;
    }
    armed_ = false;
    changed_.SignalAll();
    while (!open_) changed_.Wait(&mu_);
  }

  Mutex mu_;
  CondVar changed_;
  bool armed_ ABSL_GUARDED_BY(mu_) = false;
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  std::string call_ ABSL_GUARDED_BY(mu_);
  std::string part_ ABSL_GUARDED_BY(mu_);
};

class LongOperationsTest : public testing::Test {
 protected:
  ~LongOperationsTest() override { LetGo(); }

  void StartFederation(int64_t jobs) {
    TestFederation::Options options;
    options.coordinator_fs = &fs_;
    options.configure = [jobs](CoordinatorConfig& config) {
      config.limits.max_admin_jobs = jobs;
      config.workers.admin_threads = jobs + 1;
    };
    federation_ = std::make_unique<TestFederation>(options);
  }
  // Runs `work` on a thread of its own up to that call.
  void Hold(const std::string& call, const std::string& part,
            std::function<absl::Status()> work) {
    fs_.HoldNext(call, part);
    absl::Status& result = results_.emplace_back();
    threads_.emplace_back(
        [&result, work = std::move(work)] { result = work(); });
    ASSERT_TRUE(fs_.WaitUntilHeld()) << call << " " << part;
  }
  // Everything goes on; the answers, in the order of Hold.
  std::list<absl::Status>& LetGo() {
    fs_.LetGo();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return results_;
  }
  absl::Status Backup(const std::string& name) {
    v1::BackupDatabaseRequest request;
    request.set_directory(JoinPath(federation_->dir(), name));
    v1::BackupDatabaseResponse response;
    grpc::ClientContext context;
    return FromGrpc(
        federation_->admin().BackupDatabase(&context, request, &response));
  }
  absl::Status Check() {
    v1::CheckDatabaseRequest request;
    request.set_deep(true);
    v1::CheckDatabaseResponse response;
    grpc::ClientContext context;
    return FromGrpc(
        federation_->admin().CheckDatabase(&context, request, &response));
  }
  absl::Status Replay(uint64_t round) {
    v1::ReplayRoundRequest request;
    request.set_round(round);
    v1::ReplayRoundResponse response;
    grpc::ClientContext context;
    const absl::Status status = FromGrpc(
        federation_->admin().ReplayRound(&context, request, &response));
    EXPECT_TRUE(!status.ok() || response.equal());
    return status;
  }
  absl::Status Diff() {
    v1::DiffVersionsRequest request;
    request.set_b(1);
    v1::DiffVersionsResponse response;
    grpc::ClientContext context;
    return FromGrpc(
        federation_->admin().DiffVersions(&context, request, &response));
  }
  void Train(uint64_t round, uint64_t seed) {
    const Delta a{"bank-a", seed, 10};
    const Delta b{"bank-b", seed + 1, 20};
    SubmitTask(*federation_, *federation_->Connect("bank-a"), a);
    SubmitTask(*federation_, *federation_->Connect("bank-b"), b);
    ExpectExactMean(*federation_, round, {a, b});
  }
  void EnrollBoth() {
    federation_->Enroll("bank-a");
    federation_->Enroll("bank-b");
  }

  HoldingFileSystem fs_;
  std::unique_ptr<TestFederation> federation_;
  std::list<absl::Status> results_;
  std::vector<std::thread> threads_;
};

TEST_F(LongOperationsTest, InstitutionsFinishARoundWhileAllOfThemAreHeld) {
  StartFederation(5);
  EnrollBoth();
  Train(federation_->StartRound(), 1);

  Hold("make", "/backup-1", [this] { return Backup("backup-1"); });
  Hold("open", "/blobs/", [this] { return Check(); });
  Hold("open", "/blobs/", [this] { return Diff(); });
  Hold("open", ".spool", [this] { return Replay(1); });
  Hold("open", ".blob-tmp", [this] { return federation_->Import(7.0f); });
  ASSERT_FALSE(HasFatalFailure());

  Train(federation_->StartRound(), 3);
  v1::StatusInfo info;
  grpc::ClientContext context;
  EXPECT_OK(FromGrpc(federation_->admin().GetStatus(&context, {}, &info)));
  EXPECT_EQ(info.last_round().phase(), "promoted");

  for (const absl::Status& status : LetGo()) EXPECT_OK(status);
  ExpectStoreIsWhole(*federation_);
}

TEST_F(LongOperationsTest, OneTooManyIsRefusedByName) {
  StartFederation(2);
  EnrollBoth();
  Train(federation_->StartRound(), 1);
  Hold("make", "/backup-1", [this] { return Backup("backup-1"); });
  Hold("open", ".spool", [this] { return Replay(1); });
  ASSERT_FALSE(HasFatalFailure());
  const auto refused = [](const std::string& what) {
    return StatusIs(StatusCode::kResourceExhausted,
                    AllOf(HasSubstr(what), HasSubstr("db backup, round replay"),
                          HasSubstr("limits.max_admin_jobs is 2"),
                          HasSubstr("try again when one has ended")));
  };
  EXPECT_THAT(Backup("backup-2"), refused("db backup is refused"));
  EXPECT_THAT(Replay(1), refused("round replay is refused"));
  EXPECT_THAT(Check(), refused("db check is refused"));
  EXPECT_THAT(Diff(), refused("version diff is refused"));
  EXPECT_THAT(federation_->Import(7.0f), refused("version import is refused"));
  for (const absl::Status& status : LetGo()) EXPECT_OK(status);
  EXPECT_OK(Backup("backup-2"));
  EXPECT_OK(federation_->Import(7.0f));
  ExpectStoreIsWhole(*federation_);
}

// The file is synced without the lock that rounds need.
TEST_F(LongOperationsTest, ARoundThatBeginsDuringAnImportEndsTheImport) {
  StartFederation(2);
  EnrollBoth();
  Hold("make", "/blobs/", [this] { return federation_->Import(7.0f); });
  ASSERT_FALSE(HasFatalFailure());
  const uint64_t round = federation_->StartRound();
  const Delta a{"bank-a", 1, 10};
  const Delta b{"bank-b", 2, 20};
  SubmitTask(*federation_, *federation_->Connect("bank-a"), a);
  EXPECT_THAT(LetGo().front(),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("round 1 is under way; import after its")));
  ExpectStoreIsWhole(*federation_);
  SubmitTask(*federation_, *federation_->Connect("bank-b"), b);
  ExpectExactMean(*federation_, round, {a, b});
}

}  // namespace
}  // namespace consilium

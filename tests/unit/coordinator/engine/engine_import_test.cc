// A version's import beside other calls, and what a failed one leaves.

#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/forwarding_file_system.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

class EngineImportTest : public EngineTest {};

TEST_F(EngineImportTest, WhatAFailedImportPublishedIsCollected) {
  BlobStore& blobs = store_->blobs();
  const Sha256Digest layout = Sha256(kTestLayout);
  // Nothing can take the layout's place.
  ASSERT_OK(disk_.fs().MakeDirs(JoinPath(blobs.PathOf(layout), "in-the-way")));
  ASSERT_FALSE(Import().ok());
  EXPECT_FALSE(blobs.IsPending(imported_));
  EXPECT_FALSE(blobs.IsPending(layout));
  ASSERT_OK(disk_.fs().RemoveTree(blobs.PathOf(layout)));
  ASSERT_OK(store_->CollectGarbage().status());
  EXPECT_FALSE(disk_.fs().Exists(blobs.PathOf(imported_)));
  ASSERT_OK(Import().status());
}

TEST_F(EngineImportTest, OneBesideARoundPublishesNothing) {
  ASSERT_OK(Import().status());
  ASSERT_OK(engine_->StartRound(kTestOperator, {}, {}, "manual", "").status());
  EXPECT_THAT(Import(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                 ::testing::HasSubstr("is under way")));
  EXPECT_FALSE(store_->blobs().IsPending(imported_));
}

TEST_F(EngineImportTest, AskedForAgainItIsTheSameVersion) {
  ASSERT_OK_AND_ASSIGN(const VersionRow first, Import());
  ASSERT_OK_AND_ASSIGN(const VersionRow again, Import());
  EXPECT_EQ(again.number, first.number);
  EXPECT_EQ(engine_->current_version()->number, first.number);
  EXPECT_FALSE(store_->blobs().IsPending(imported_));
}

// Calls back when a file gets a name in the folder of blobs.
class RenameHook : public ForwardingFileSystem {
 public:
  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (hook && to.find("/blobs/") != std::string::npos) {
      std::exchange(hook, nullptr)();
    }
    return ForwardingFileSystem::Rename(from, to);
  }
  std::function<void()> hook;
};

class EngineSlowDiskTest : public EngineTest {
 protected:
  void SetUp() override {
    StoreOptions options = disk_.Options();
    options.fs = &fs_;
    options.vfs = "";
    options.data_dir = JoinPath(dir_.path(), "data");
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(options));
    ASSERT_OK(Seed(*store_));
    StartEngine();
  }
  void TearDown() override {
    EngineTest::TearDown();
    store_.reset();
  }

  TempDir dir_;
  RenameHook fs_;
};

TEST_F(EngineSlowDiskTest, AnImportStopsNoOtherCall) {
  Mutex mu;
  CondVar changed;
  bool answered = false;
  std::thread caller;
  fs_.hook = [&] {
    caller = std::thread([&] {
      (void)engine_->LiveRounds();
      MutexLock lock(&mu);
      answered = true;
      changed.Signal();
    });
    MutexLock lock(&mu);
    // Only a failure waits so long.
    if (!answered) changed.WaitFor(&mu, absl::Seconds(30));
    EXPECT_TRUE(answered) << "the call waits for the import";
  };
  EXPECT_OK(Import().status());
  ASSERT_TRUE(caller.joinable());
  caller.join();
}

}  // namespace
}  // namespace consilium

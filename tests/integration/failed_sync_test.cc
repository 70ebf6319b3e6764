// The coordinator's disk refuses to sync in the middle of an upload. Nothing
// of that sync is acknowledged, and the upload goes on where the last one was.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "consilium/base/status_macros.h"
#include "tests/integration/checks.h"
#include "tests/integration/expect_refused.h"
#include "tests/integration/raw_client.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

// Syncs of spools fail while `fail` is set; as on a real disk, a file that
// failed once never syncs again.
class SpoolSyncFails final : public ForwardingFileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(
      const std::string& path, const OpenOptions& options) override {
    CONSILIUM_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                               ForwardingFileSystem::Open(path, options));
    if (!path.ends_with(".spool")) return file;
    return std::unique_ptr<File>(new SpoolFile(std::move(file), &fail));
  }

  std::atomic<bool> fail{false};

 private:
  class SpoolFile final : public ForwardingFile {
   public:
    SpoolFile(std::unique_ptr<File> file, const std::atomic<bool>* fail)
        : ForwardingFile(std::move(file)), fail_(fail) {}
    absl::Status Sync() override {
      if (fail_->load()) failed_.store(true);
      if (failed_.load()) return absl::InternalError("sync: I/O error");
      return ForwardingFile::Sync();
    }

   private:
    const std::atomic<bool>* const fail_;
    std::atomic<bool> failed_{false};
  };
};

// One institution that has begun its upload.
class FailedSyncTest : public ::testing::Test {
 protected:
  FailedSyncTest() { client_.ExpectBegins(upload_); }

  static TestFederation::Options OptionsWith(FileSystem* fs) {
    TestFederation::Options options;
    options.coordinator_fs = fs;
    return options;
  }
  RawClient Enrolled() {
    federation_.Enroll("bank-a");
    return RawClient(federation_, "bank-a");
  }

  SpoolSyncFails fs_;
  TestFederation federation_{OptionsWith(&fs_)};
  RawClient client_ = Enrolled();
  const uint64_t round_ = federation_.StartRound({{"quorum", "1"}});
  const Delta delta_{"bank-a", 1, 30};
  const RawUpload upload_ = client_.Make(client_.Task(), delta_);
};

TEST_F(FailedSyncTest, NothingIsAcknowledgedAndTheUploadGoesOn) {
  const auto stream = client_.Open();
  stream->Send(upload_.manifest.upload_id(), 0, upload_.Chunk(0));
  stream->Send("", 1, upload_.Chunk(1));
  ASSERT_TRUE(stream->AwaitAck(2));

  fs_.fail.store(true);
  stream->Send("", 2, upload_.Chunk(2));
  const StreamEnd end = stream->AwaitEnd();
  EXPECT_THAT(end.status, StatusIs(absl::StatusCode::kInternal,
                                   testing::HasSubstr("I/O error")));
  EXPECT_EQ(end.acked, 2u);
  fs_.fail.store(false);
  ExpectStoreIsWhole(federation_);

  client_.ExpectBegins(upload_, 2);
  client_.SendAll(upload_);
  ExpectExactMean(federation_, round_, {delta_});
  ExpectStoreIsWhole(federation_);
}

// The last sync fails under the commit itself: not the institution's fault.
TEST_F(FailedSyncTest, ACommitWaitsForADiskThatSyncs) {
  fs_.fail.store(true);
  {
    const auto stream = client_.Open();
    for (uint64_t i = 0; i < upload_.chunks(); ++i) {
      stream->Send(upload_.manifest.upload_id(), i, upload_.Chunk(i));
    }
    EXPECT_EQ(stream->AwaitEnd().acked, 0u);
  }
  const auto committed = client_.Commit(upload_.manifest.upload_id(),
                                        upload_.manifest.payload_sha256());
  EXPECT_FALSE(committed.ok());
  EXPECT_EQ(MemberOf(federation_, round_, "bank-a").state(), "uploading");
  fs_.fail.store(false);
  client_.SendAll(upload_);
  ExpectExactMean(federation_, round_, {delta_});
  ExpectStoreIsWhole(federation_);
}

}  // namespace
}  // namespace consilium

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

TEST(FailedSyncTest, NothingIsAcknowledgedAndTheUploadGoesOn) {
  SpoolSyncFails fs;
  TestFederation::Options options;
  options.coordinator_fs = &fs;
  TestFederation federation(options);
  federation.Enroll("bank-a");
  const uint64_t round = federation.StartRound({{"quorum", "1"}});
  const Delta delta{"bank-a", 1, 30};
  RawClient client(federation, "bank-a");
  const RawUpload upload = client.Make(client.Task(), delta);
  client.ExpectBegins(upload);
  const auto stream = client.Open();
  stream->Send(upload.manifest.upload_id(), 0, upload.Chunk(0));
  stream->Send("", 1, upload.Chunk(1));
  ASSERT_TRUE(stream->AwaitAck(2));

  fs.fail.store(true);
  stream->Send("", 2, upload.Chunk(2));
  const StreamEnd end = stream->AwaitEnd();
  EXPECT_THAT(end.status, StatusIs(absl::StatusCode::kInternal,
                                   testing::HasSubstr("I/O error")));
  EXPECT_EQ(end.acked, 2u);
  fs.fail.store(false);
  ExpectStoreIsWhole(federation);

  client.ExpectBegins(upload, 2);
  client.SendAll(upload);
  ExpectExactMean(federation, round, {delta});
  ExpectStoreIsWhole(federation);
}

// The last sync fails under the commit itself: not the institution's fault.
TEST(FailedSyncTest, ACommitWaitsForADiskThatSyncs) {
  SpoolSyncFails fs;
  TestFederation::Options options;
  options.coordinator_fs = &fs;
  TestFederation federation(options);
  federation.Enroll("bank-a");
  const uint64_t round = federation.StartRound({{"quorum", "1"}});
  const Delta delta{"bank-a", 1, 30};
  RawClient client(federation, "bank-a");
  const RawUpload upload = client.Make(client.Task(), delta);
  client.ExpectBegins(upload);
  fs.fail.store(true);
  {
    const auto stream = client.Open();
    for (uint64_t i = 0; i < upload.chunks(); ++i) {
      stream->Send(upload.manifest.upload_id(), i, upload.Chunk(i));
    }
    EXPECT_EQ(stream->AwaitEnd().acked, 0u);
  }
  const auto committed = client.Commit(upload.manifest.upload_id(),
                                       upload.manifest.payload_sha256());
  EXPECT_FALSE(committed.ok());
  EXPECT_EQ(MemberOf(federation, round, "bank-a").state(), "uploading");
  fs.fail.store(false);
  client.SendAll(upload);
  ExpectExactMean(federation, round, {delta});
  ExpectStoreIsWhole(federation);
}

}  // namespace
}  // namespace consilium

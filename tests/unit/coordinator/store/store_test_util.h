// What the store's tests share: a store over a FaultFileSystem, rows filled
// with plausible values.
#ifndef CONSILIUM_TESTS_UNIT_COORDINATOR_STORE_STORE_TEST_UTIL_H_
#define CONSILIUM_TESTS_UNIT_COORDINATOR_STORE_STORE_TEST_UTIL_H_

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "coordinator/store/file_system_vfs.h"
#include "coordinator/store/maintenance.h"
#include "coordinator/store/store.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {

inline constexpr absl::Time kTestNow = absl::FromUnixSeconds(1767225600);

// A file system in memory and SQLite on it. VFS names are per process.
class FaultDisk {
 public:
  FaultDisk() : vfs_(&fs_, Cat("fault-", next_.fetch_add(1))) {}

  FaultFileSystem& fs() { return fs_; }
  const std::string& vfs() const { return vfs_.name(); }

  StoreOptions Options() {
    StoreOptions options;
    options.fs = &fs_;
    options.vfs = vfs_.name();
    options.data_dir = "/data";
    options.create = true;
    options.syncer_threads = 0;
    options.min_free_bytes = 0;
    return options;
  }

 private:
  static inline std::atomic<int> next_{0};
  FaultFileSystem fs_;
  FileSystemVfs vfs_;
};

// A store with a federation, three institutions and version 0 (promoted).
class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(disk_.Options()));
    ASSERT_OK(Seed(*store_));
  }

  // Closes and opens again, as a restart does.
  void Reopen(StoreOptions options) {
    store_.reset();
    ASSERT_OK_AND_ASSIGN(store_, Store::Open(std::move(options)));
  }
  void Reopen() { Reopen(disk_.Options()); }

  absl::Status Write(absl::FunctionRef<absl::Status(WriteTx&)> fn) {
    return store_->history().Write(fn);
  }
  absl::Status Read(absl::FunctionRef<absl::Status(ReadTx&)> fn) {
    return store_->history().Read(fn);
  }

  static absl::Status Seed(Store& store) {
    CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest digest,
                               store.blobs().Put(AsBytes("version zero")));
    CONSILIUM_RETURN_IF_ERROR(
        store.history().Write([&](WriteTx& tx) -> absl::Status {
          VersionRow version;
          version.digest = digest;
          version.blob_bytes = 12;
          version.state = VersionState::kPromoted;
          version.created_at = kTestNow;
          version.promoted_at = kTestNow;
          CONSILIUM_RETURN_IF_ERROR(
              InsertVersion(tx, version, nullptr).status());
          FederationRow federation;
          federation.name = "cards";
          federation.current_version = 0;
          federation.created_at = kTestNow;
          CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, federation));
          for (const char* name : {"bank-a", "bank-b", "bank-c"}) {
            CONSILIUM_RETURN_IF_ERROR(
                InsertInstitution(tx, Institution(name)).status());
          }
          return absl::OkStatus();
        }));
    store.blobs().Release(digest);
    return absl::OkStatus();
  }

  static InstitutionRow Institution(std::string name) {
    InstitutionRow row;
    row.name = std::move(name);
    row.state = InstitutionState::kActive;
    row.created_at = kTestNow;
    row.updated_at = kTestNow;
    return row;
  }

  static RoundRow Round(int64_t id, std::string state = "collecting") {
    RoundRow row;
    row.id = id;
    row.state = std::move(state);
    row.base_version = 0;
    row.planned_at = kTestNow;
    row.trigger = "manual";
    if (row.state == "promoted" || row.state == "rejected" ||
        row.state == "failed" || row.state == "cancelled") {
      row.finished_at = kTestNow;
    }
    return row;
  }

  static SpoolHeader Header(uint64_t chunks, std::string manifest = "m") {
    SpoolHeader header;
    header.sealed = false;
    header.total_chunks = chunks;
    header.payload_bytes = chunks * 100;
    header.max_record_bytes = 128;
    header.elements_per_frame = 16;
    header.manifest = std::move(manifest);
    return header;
  }

  static ContributionRow Contribution(std::string id, int64_t round,
                                      int64_t institution) {
    ContributionRow row;
    row.id = std::move(id);
    row.round = round;
    row.attempt = 1;
    row.institution_id = institution;
    row.manifest = "m";
    row.payload_digest = Sha256(row.id);
    row.payload_bytes = 300;
    row.spool_path = SpoolDir::PathOf({round, 1, "bank", row.id});
    row.sealed = false;
    row.begun_at = kTestNow;
    return row;
  }

  // The row as it is after commit.
  static ContributionRow Committed(ContributionRow row) {
    row.state = ContributionState::kCommitted;
    row.receipt = "receipt";
    row.committed_at = kTestNow;
    return row;
  }

  // Writes a spool file with `chunks` of three records for a contribution.
  void MakeSpool(const ContributionRow& row, int chunks = 3) {
    ASSERT_OK_AND_ASSIGN(
        auto writer,
        store_->spools().Create({row.round, row.attempt, "bank", row.id},
                                Header(3), nullptr));
    for (int i = 0; i < chunks; ++i) {
      ASSERT_OK(writer->Append(static_cast<uint64_t>(i), AsBytes("chunk")));
    }
    ASSERT_OK(writer->Flush());
  }

  FaultDisk disk_;
  std::unique_ptr<Store> store_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_COORDINATOR_STORE_STORE_TEST_UTIL_H_

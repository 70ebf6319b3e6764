// Loss of power at every step of a round's life in the store, with several
// outcomes each. After it: everything acknowledged is there, nothing is half
// applied, and the check is clean.
#include <set>
#include <string>

#include "coordinator/store/sqlite.h"
#include "tests/support/resume_spool.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

constexpr uint64_t kChunks = 3;
constexpr char kParameters[] = "parameters of the new version";

std::string Body(std::string_view upload, uint64_t index) {
  return Cat("chunk ", index, " of ", upload, " ",
             std::string(200 + index * 37, 'z'));
}

// What the outside world was told; only this has to survive.
struct Told {
  bool store_made = false;
  bool key_made = false;
  bool round_planned = false;
  bool upload_begun[2] = {};
  uint64_t acked[2] = {};
  bool committed[2] = {};
  bool version_made = false;
  bool finished = false;
  bool retained = false;
};

// One round of two institutions, written as the engine writes it: file before
// row, one transaction per step. Stops at the first error, as after a crash
// nothing else runs.
class Script {
 public:
  Script(Store* store, Told* told) : store_(*store), told_(*told) {}

  absl::Status Run() {
    CONSILIUM_RETURN_IF_ERROR(Plan());
    CONSILIUM_RETURN_IF_ERROR(Upload(0));
    CONSILIUM_RETURN_IF_ERROR(Upload(1));
    CONSILIUM_RETURN_IF_ERROR(Fold());
    CONSILIUM_RETURN_IF_ERROR(Finish());
    return Retain();
  }

 private:
  static std::string Id(int who) { return Cat("upload", who); }

  absl::Status Plan() {
    RoundKeyRecord key;
    key.round = 1;
    key.attempt = 1;
    key.wrapped_private_key = "wrapped";
    CONSILIUM_RETURN_IF_ERROR(store_.round_keys().Create(key));
    told_.key_made = true;
    CONSILIUM_RETURN_IF_ERROR(
        store_.history().Write([&](WriteTx& tx) -> absl::Status {
          RoundRow row;
          row.id = 1;
          row.state = "open";
          row.round_key_state = RoundKeyState::kLive;
          row.round_public_key = std::string(AsChars(key.public_key));
          CONSILIUM_RETURN_IF_ERROR(InsertRound(tx, row).status());
          AuditEntry entry;
          entry.action = "round.plan";
          return AppendAudit(tx, entry).status();
        }));
    told_.round_planned = true;
    return absl::OkStatus();
  }

  absl::Status Upload(int who) {
    SpoolHeader header;
    header.sealed = false;
    header.total_chunks = kChunks;
    header.payload_bytes = 1000;
    header.max_record_bytes = 512;
    header.manifest = "manifest";
    CONSILIUM_ASSIGN_OR_RETURN(
        const std::unique_ptr<SpoolWriter> writer,
        store_.spools().Create({1, 1, "bank", Id(who)}, header,
                               [this, who](absl::StatusOr<uint64_t> records) {
                                 if (records.ok()) told_.acked[who] = *records;
                               }));
    ContributionRow row;
    row.id = Id(who);
    row.round = 1;
    row.attempt = 1;
    row.institution_id = who + 1;
    row.manifest = "manifest";
    row.spool_path = writer->path();
    row.sealed = false;
    CONSILIUM_RETURN_IF_ERROR(store_.history().Write(
        [&](WriteTx& tx) { return InsertContribution(tx, row); }));
    told_.upload_begun[who] = true;
    for (uint64_t i = 0; i < kChunks; ++i) {
      CONSILIUM_RETURN_IF_ERROR(writer->Append(i, AsBytes(Body(row.id, i))));
      if (i != 1) CONSILIUM_RETURN_IF_ERROR(writer->Flush());
    }
    row.state = ContributionState::kCommitted;
    row.receipt = "receipt";
    row.committed_at = kTestNow;
    CONSILIUM_RETURN_IF_ERROR(store_.history().Write(
        [&](WriteTx& tx) { return UpdateContribution(tx, row); }));
    told_.committed[who] = true;
    return absl::OkStatus();
  }

  absl::Status Fold() {
    const std::string_view text = kParameters;
    const Sha256Digest digest = Sha256(text);
    const auto bytes = static_cast<int64_t>(text.size());
    CONSILIUM_ASSIGN_OR_RETURN(BlobWriter writer,
                               store_.blobs().NewWriter(bytes));
    CONSILIUM_RETURN_IF_ERROR(
        writer.file()->WriteAt(10, AsBytes(text.substr(10))));
    CONSILIUM_RETURN_IF_ERROR(
        writer.file()->WriteAt(0, AsBytes(text.substr(0, 10))));
    CONSILIUM_RETURN_IF_ERROR(std::move(writer).Publish(digest, bytes));
    CONSILIUM_RETURN_IF_ERROR(
        store_.history().Write([&](WriteTx& tx) -> absl::Status {
          VersionRow row;
          row.digest = digest;
          row.blob_bytes = bytes;
          row.parent = 0;
          row.round = 1;
          row.attempt = 1;
          CONSILIUM_ASSIGN_OR_RETURN(const InsertedVersion version,
                                     InsertVersion(tx, row, nullptr));
          CONSILIUM_ASSIGN_OR_RETURN(RoundRow round, GetRound(tx, 1));
          round.state = "evaluating";
          round.candidate_version = version.row.number;
          CONSILIUM_RETURN_IF_ERROR(UpdateRound(tx, round));
          for (int who = 0; who < 2; ++who) {
            CONSILIUM_RETURN_IF_ERROR(SetContributionState(
                tx, Id(who), ContributionState::kFolded, ""));
          }
          return absl::OkStatus();
        }));
    store_.blobs().Release(digest);
    told_.version_made = true;
    return absl::OkStatus();
  }

  absl::Status Finish() {
    CONSILIUM_RETURN_IF_ERROR(
        store_.history().Write([&](WriteTx& tx) -> absl::Status {
          CONSILIUM_RETURN_IF_ERROR(
              SetVersionState(tx, 1, VersionState::kPromoted, "", kTestNow));
          CONSILIUM_RETURN_IF_ERROR(SetCurrentVersion(tx, 1));
          CONSILIUM_ASSIGN_OR_RETURN(RoundRow round, GetRound(tx, 1));
          round.state = "promoted";
          round.finished_at = kTestNow;
          CONSILIUM_RETURN_IF_ERROR(UpdateRound(tx, round));
          AuditEntry entry;
          entry.action = "version.promote";
          return AppendAudit(tx, entry).status();
        }));
    told_.finished = true;
    return absl::OkStatus();
  }

  absl::Status Retain() {
    CONSILIUM_RETURN_IF_ERROR(
        store_
            .ApplyRetention(
                {.spool_retention = absl::Hours(1), .keep_versions = 0},
                kTestNow + absl::Hours(1))
            .status());
    told_.retained = true;
    return absl::OkStatus();
  }

  Store& store_;
  Told& told_;
};

// Version 0 and two institutions; done before the crashes begin.
absl::Status Seed(Store& store) {
  CONSILIUM_ASSIGN_OR_RETURN(const Sha256Digest digest,
                             store.blobs().Put(AsBytes("zero")));
  CONSILIUM_RETURN_IF_ERROR(
      store.history().Write([&](WriteTx& tx) -> absl::Status {
        VersionRow version;
        version.digest = digest;
        version.blob_bytes = 4;
        version.state = VersionState::kPromoted;
        CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, version, nullptr).status());
        FederationRow federation;
        federation.name = "cards";
        federation.current_version = 0;
        CONSILIUM_RETURN_IF_ERROR(SetFederation(tx, federation));
        for (const char* name : {"bank-a", "bank-b"}) {
          InstitutionRow row;
          row.name = name;
          CONSILIUM_RETURN_IF_ERROR(InsertInstitution(tx, row).status());
        }
        return absl::OkStatus();
      }));
  store.blobs().Release(digest);
  return absl::OkStatus();
}

absl::Status CheckBody(const std::string& upload, uint64_t index,
                       std::span<const std::byte> body) {
  return AsChars(body) == Body(upload, index)
             ? absl::OkStatus()
             : absl::DataLossError("not what was sent");
}

void ExpectClean(Store& store) {
  ASSERT_OK_AND_ASSIGN(const CheckReport report,
                       CheckStore(store, {.deep = true}));
  for (const CheckProblem& problem : report.problems) {
    ADD_FAILURE() << problem.kind << " " << problem.object << ": "
                  << problem.detail;
  }
}

void ExpectUpload(Store& store, const RecoveryReport& report, const Told& told,
                  int who) {
  const std::string id = Cat("upload", who);
  std::optional<ContributionRow> row;
  ASSERT_OK(store.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(row, FindContribution(tx, id));
    return absl::OkStatus();
  }));
  if (told.upload_begun[who]) {
    ASSERT_TRUE(row.has_value());
  }
  if (!row.has_value() || row->spool_path.empty()) return;
  if (told.committed[who]) {
    EXPECT_NE(row->state, ContributionState::kUploading);
    EXPECT_EQ(row->receipt, "receipt");
  }
  const bool counted = row->state == ContributionState::kCommitted ||
                       row->state == ContributionState::kFolded;
  ASSERT_OK_AND_ASSIGN(
      const auto writer,
      ResumeSpool(
          store.spools(), row->spool_path,
          [&](uint64_t index, uint32_t, std::span<const std::byte> body) {
            return CheckBody(id, index, body);
          },
          nullptr));
  EXPECT_GE(writer->next_index(), told.acked[who]);
  if (counted) {
    EXPECT_TRUE(writer->complete());
  }
  EXPECT_EQ(report.lost.size(), 0u);
}

void ExpectVersion(Store& store, const Told& told) {
  ASSERT_OK(store.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto round, FindRound(tx, 1));
    if (told.round_planned) {
      EXPECT_TRUE(round.has_value());
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto version, FindVersion(tx, 1));
    if (told.version_made) {
      EXPECT_TRUE(version.has_value());
    }
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow federation,
                               GetFederation(tx));
    if (told.finished) {
      EXPECT_EQ(federation.current_version, 1);
    }
    // One transaction each: the rows of a step come together or not at all.
    if (version.has_value()) {
      EXPECT_EQ(round->candidate_version, 1);
      EXPECT_OK(store.blobs().Verify(version->digest, version->blob_bytes));
      const bool promoted = version->state == VersionState::kPromoted;
      EXPECT_EQ(federation.current_version, promoted ? 1 : 0);
      EXPECT_EQ(round->state, promoted ? "promoted" : "evaluating");
    }
    if (round.has_value() && round->round_key_state == RoundKeyState::kLive) {
      EXPECT_OK(store.round_keys().Load(1, 1).status());
    }
    if (told.retained) {
      EXPECT_EQ(round->round_key_state, RoundKeyState::kDestroyed);
      EXPECT_FALSE(store.round_keys().Exists(1, 1));
    }
    return absl::OkStatus();
  }));
}

// Recovery, then every invariant.
void ExpectConsistent(Store& store, const Told& told) {
  ASSERT_OK_AND_ASSIGN(const RecoveryReport report, store.Recover(kTestNow));
  EXPECT_TRUE(report.lost.empty());
  if (!told.finished) {
    for (const auto& [round, attempt] : report.keys_missing) {
      ADD_FAILURE() << "key of round " << round << " is missing";
    }
  }
  ExpectVersion(store, told);
  for (int who = 0; who < 2; ++who) ExpectUpload(store, report, told, who);
  ExpectClean(store);
}

void RunWithCrashAt(int64_t k, uint64_t seed, bool kill, Told* told) {
  SCOPED_TRACE(Cat("crash at step ", k, ", seed ", seed,
                   kill ? ", process killed" : ""));
  FaultDisk disk;
  {
    ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
    ASSERT_OK(Seed(*store));
    disk.fs().CrashAt(k);
    (void)Script(store.get(), told).Run();
    if (kill) {
      disk.fs().KillProcess();
    } else {
      disk.fs().Crash(seed);
    }
  }
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
  ExpectConsistent(*store, *told);
  // And it can go on: a later write, a clean stop, a clean start.
  ASSERT_OK(store->history().Write(
      [](WriteTx& tx) { return AppendAudit(tx, {}).status(); }));
  ASSERT_OK(store->Close());
}

TEST(StoreCrashTest, PowerIsLostAtEveryStep) {
  Told told;
  for (int64_t k = 1; !told.retained; ++k) {
    ASSERT_LT(k, 500);
    for (uint64_t seed = 0; seed < 5; ++seed) {
      told = Told();
      RunWithCrashAt(k, seed, false, &told);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(StoreCrashTest, TheProcessIsKilledAtEveryStep) {
  Told told;
  for (int64_t k = 1; !told.retained; ++k) {
    ASSERT_LT(k, 500);
    told = Told();
    RunWithCrashAt(k, 0, true, &told);
    if (testing::Test::HasFailure()) return;
  }
}

// A pruned version's blob becomes an upload's spool. Whatever is lost before
// that is durable, the blob that comes back and is pruned again is not the file
// of what was acknowledged.
TEST(StoreCrashTest, AnUploadOverAPrunedBlobKeepsWhatItAcknowledged) {
  const auto header = [](std::string manifest) {
    SpoolHeader out;
    out.total_chunks = 1;
    out.payload_bytes = 1000;
    out.max_record_bytes = 1024;
    out.manifest = std::move(manifest);
    out.wrapped_key = "k";
    return out;
  };
  const std::string sent(1000, 's');
  const auto upload = [&](Store& store, const std::string& id,
                          const std::string& body) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const auto writer,
        store.spools().Create({1, 1, "bank", id}, header(id), nullptr));
    CONSILIUM_RETURN_IF_ERROR(writer->Append(0, AsBytes(body)));
    return writer->Flush();
  };
  ASSERT_OK_AND_ASSIGN(const int64_t bytes, SpoolDir::FileBytes(header("aa")));
  const std::string version(static_cast<size_t>(bytes), 'p');
  bool acked = false;
  for (int64_t k = 1; !acked; ++k) {
    ASSERT_LT(k, 100);
    for (uint64_t seed = 0; seed < 12; ++seed) {
      SCOPED_TRACE(Cat("crash at step ", k, ", seed ", seed));
      FaultDisk disk;
      StoreOptions options = disk.Options();
      options.spare_bytes = 1 << 20;
      {
        ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
        ASSERT_OK(Seed(*store));
        ASSERT_OK_AND_ASSIGN(const Sha256Digest pruned,
                             store->blobs().Put(AsBytes(version)));
        store->blobs().Release(pruned);
        disk.fs().CrashAt(k);
        const bool collected = store->CollectGarbage().ok();
        EXPECT_TRUE(!collected || disk.fs().Exists("/data/spare/0.spare"));
        acked = collected && upload(*store, "aa", sent).ok();
        disk.fs().Crash(seed);
      }
      ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(options));
      ASSERT_OK(store->CollectGarbage().status());
      ASSERT_OK(upload(*store, "bb", std::string(1000, 'x')));
      if (!acked) continue;
      ASSERT_OK_AND_ASSIGN(
          const auto reader,
          store->spools().OpenReader(SpoolDir::PathOf({1, 1, "bank", "aa"})));
      EXPECT_EQ(reader->header().manifest, "aa");
      std::vector<std::byte> buffer(1024);
      ASSERT_OK_AND_ASSIGN(const auto record, reader->ReadRecord(0, buffer));
      EXPECT_EQ(AsChars(std::span(buffer).first(record.bytes)), sent);
    }
  }
}

// What the next process would tell.
std::string Shown(Store& store) {
  std::string text;
  EXPECT_OK(store.history().Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const auto rounds, ListRounds(tx, {}, ""));
    for (const RoundRow& row : rounds) CatInto(text, row.id, row.state, ";");
    CONSILIUM_ASSIGN_OR_RETURN(const auto sent, ListContributions(tx, {}));
    for (const ContributionRow& row : sent) {
      CatInto(text, row.id, ToString(row.state), row.receipt, ";");
    }
    CONSILIUM_ASSIGN_OR_RETURN(const auto versions, ListVersions(tx));
    for (const VersionRow& row : versions) {
      CatInto(text, row.number, ToString(row.state), ";");
    }
    return absl::OkStatus();
  }));
  return text;
}

TEST(StoreCrashTest, WhatAKilledProcessLeftIsDurableOnceTheNextOneHasOpened) {
  Told told;
  std::set<std::string> states;
  for (int64_t k = 1; !told.retained; ++k) {
    ASSERT_LT(k, 500);
    SCOPED_TRACE(Cat("killed at step ", k));
    told = Told();
    FaultDisk disk;
    {
      ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
      ASSERT_OK(Seed(*store));
      disk.fs().CrashAt(k);
      (void)Script(store.get(), &told).Run();
      disk.fs().KillProcess();
    }
    std::string shown;
    {
      ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
      shown = Shown(*store);
      disk.fs().CrashKeepingNothingUnsynced();
    }
    states.insert(shown);
    ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
    EXPECT_EQ(Shown(*store), shown);
    ExpectConsistent(*store, told);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(states.size(), 5u);
}

// The disk is full at every step: a typed error, a consistent store, and the
// script runs to its end once there is room again.
TEST(StoreCrashTest, TheDiskIsFullAtEveryStep) {
  for (int64_t k = 1;; ++k) {
    ASSERT_LT(k, 500);
    SCOPED_TRACE(Cat("disk full at step ", k));
    FaultDisk disk;
    ASSERT_OK_AND_ASSIGN(auto store, Store::Open(disk.Options()));
    ASSERT_OK(Seed(*store));
    const int64_t before = disk.fs().ops();
    disk.fs().FailAt(k, absl::ResourceExhaustedError("no space left"));
    Told told;
    const absl::Status status = Script(store.get(), &told).Run();
    if (disk.fs().ops() < before + k) break;  // the script has no step k
    if (!status.ok()) {
      EXPECT_TRUE(absl::IsResourceExhausted(status) ||
                  absl::IsUnavailable(status))
          << status;
    }
    store.reset();
    ASSERT_OK_AND_ASSIGN(store, Store::Open(disk.Options()));
    ExpectConsistent(*store, told);
    if (testing::Test::HasFailure()) return;
  }
}

// Making the store is itself interrupted.
TEST(StoreCrashTest, InitIsInterruptedAtEveryStep) {
  bool made = false;
  for (int64_t k = 1; !made; ++k) {
    ASSERT_LT(k, 400);
    for (uint64_t seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE(Cat("crash at step ", k, ", seed ", seed));
      FaultDisk disk;
      disk.fs().CrashAt(k);
      {
        const auto store = Store::Open(disk.Options());
        made = store.ok() && Seed(**store).ok();
      }
      disk.fs().Crash(seed);
      ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
      ASSERT_OK(store->Recover(kTestNow).status());
      if (made) {
        ASSERT_OK(store->history().Read(
            [](ReadTx& tx) { return GetFederation(tx).status(); }));
      }
      ExpectClean(*store);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// A log that moves into the database every few commits, and once more at the
// end: a crash inside a checkpoint loses nothing and repeats nothing.
TEST(StoreCrashTest, PowerIsLostInsideCheckpoints) {
  bool closed = false;
  for (int64_t k = 1; !closed; ++k) {
    ASSERT_LT(k, 500);
    for (uint64_t seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE(Cat("crash at step ", k, ", seed ", seed));
      FaultDisk disk;
      HistoryStoreOptions options;
      options.path = "/history.db";
      options.vfs = disk.vfs();
      options.create = true;
      options.checkpoint_pages = 6;
      ASSERT_OK(disk.fs()
                    .Open(options.path, {.write = true, .create = true})
                    .status());
      ASSERT_OK(disk.fs().SyncDir("/"));
      uint64_t acked = 0;
      const auto append = [](WriteTx& tx) {
        return AppendAudit(tx, {}).status();
      };
      {
        ASSERT_OK_AND_ASSIGN(const auto store, HistoryStore::Open(options));
        ASSERT_OK(store->Write(append));
        acked = 1;
        disk.fs().CrashAt(k);
        while (acked < 10 && store->Write(append).ok()) ++acked;
        closed = store->Close().ok() && acked == 10;
        disk.fs().Crash(seed);
      }
      ASSERT_OK_AND_ASSIGN(const auto store, HistoryStore::Open(options));
      ASSERT_OK(store->Read([&](ReadTx& tx) -> absl::Status {
        CONSILIUM_ASSIGN_OR_RETURN(const AuditHead head, VerifyAudit(tx));
        EXPECT_GE(head.seq, acked);
        EXPECT_LE(head.seq, acked + 1);
        EXPECT_THAT(tx.connection().OneInt(
                        "SELECT count(*) FROM pragma_integrity_check "
                        "WHERE integrity_check <> 'ok'"),
                    IsOkAndHolds(0));
        return absl::OkStatus();
      }));
      if (testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace consilium

#include "coordinator/store/sqlite.h"

#include <limits>

#include "consilium/base/strings.h"
#include "coordinator/store/records.h"
#include "coordinator/store/schema.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class SqliteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(
        disk_.fs().Open("/x.db", {.write = true, .create = true}).status());
    ASSERT_OK_AND_ASSIGN(
        db_, Connection::Open({.path = "/x.db", .vfs = disk_.vfs()}));
    ASSERT_OK(db_->Script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, s TEXT "
        "UNIQUE, b BLOB, CHECK (i <> 13)) STRICT"));
  }
  FaultDisk disk_;
  std::unique_ptr<Connection> db_;
};

TEST_F(SqliteTest, ValuesComeBackAsTheyWere) {
  const std::string bytes("\0\xff text", 7);
  ASSERT_OK(db_->Run("INSERT INTO t (i, r, s, b) VALUES (?, ?, ?, ?)",
                     std::numeric_limits<int64_t>::min(), 0.1, bytes,
                     BlobBytes{bytes}));
  int rows = 0;
  ASSERT_OK(db_->Each("SELECT i, r, s, b FROM t", [&](Statement& row) {
    ++rows;
    EXPECT_EQ(row.Int(0), std::numeric_limits<int64_t>::min());
    EXPECT_EQ(row.Real(1), 0.1);
    EXPECT_EQ(row.Text(2), bytes);
    EXPECT_EQ(row.Blob(3), bytes);
  }));
  EXPECT_EQ(rows, 1);
}

TEST_F(SqliteTest, NullAndEmptyAreDifferent) {
  ASSERT_OK(db_->Run("INSERT INTO t (i, r, s, b) VALUES (?, ?, ?, ?)",
                     std::optional<int64_t>(), std::optional<double>(),
                     TextOrNull{""}, BlobBytes{""}));
  ASSERT_OK(db_->Each("SELECT i, r, s, b FROM t", [&](Statement& row) {
    EXPECT_EQ(row.OptInt(0), std::nullopt);
    EXPECT_EQ(row.OptReal(1), std::nullopt);
    EXPECT_EQ(row.OptTime(0), std::nullopt);
    EXPECT_TRUE(row.IsNull(2));
    EXPECT_EQ(row.Text(2), "");
    EXPECT_FALSE(row.IsNull(3));
    EXPECT_EQ(row.Blob(3), "");
  }));
}

TEST_F(SqliteTest, InfiniteTimesSurvive) {
  for (const absl::Time time :
       {absl::InfiniteFuture(), absl::InfinitePast(), absl::UnixEpoch(),
        absl::FromUnixMicros(-1), kTestNow + absl::Microseconds(7)}) {
    EXPECT_EQ(FromDatabaseTime(ToDatabaseTime(time)), time);
  }
  EXPECT_EQ(FromDatabaseTime(ToDatabaseTime(absl::FromUnixNanos(1999))),
            absl::FromUnixMicros(1));
}

TEST_F(SqliteTest, ErrorsAreTyped) {
  ASSERT_OK(db_->Run("INSERT INTO t (id, s) VALUES (1, 'a')"));
  EXPECT_THAT(db_->Run("INSERT INTO t (id, s) VALUES (1, 'b')"),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("/x.db")));
  EXPECT_THAT(db_->Run("INSERT INTO t (id, s) VALUES (2, 'a')"),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("t.s")));
  EXPECT_THAT(db_->Run("INSERT INTO t (i) VALUES (13)"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("i <>")));
  EXPECT_THAT(db_->Run("INSERT INTO t (i) VALUES ('word')"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(db_->Run("SELECT nonsense"),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("nonsense")));
  EXPECT_THAT(db_->Run("INSERT INTO t (r) VALUES (?)",
                       std::numeric_limits<double>::quiet_NaN()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("NaN")));
  EXPECT_THAT(db_->OneInt("SELECT 1 WHERE 0"),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(
      Connection::Open({.path = "/missing.db", .vfs = disk_.vfs()}).status(),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/missing.db")));
}

TEST_F(SqliteTest, DamagedValuesAreDataLoss) {
  ASSERT_OK(db_->Run("INSERT INTO t (s) VALUES ('xyz')"));
  EXPECT_THAT(
      db_->Each("SELECT s FROM t", [](Statement& row) { row.Digest(0); }),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  EXPECT_THAT(
      db_->Each("SELECT s FROM t",
                [](Statement& row) { row.Word(0, &ParseVersionState); }),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("xyz")));
}

TEST_F(SqliteTest, AStatementMayRunInsideItself) {
  ASSERT_OK(db_->Run("INSERT INTO t (i) VALUES (1)"));
  ASSERT_OK(db_->Run("INSERT INTO t (i) VALUES (2)"));
  int64_t pairs = 0;
  const auto count = [&](auto&& self, int depth) -> void {
    ASSERT_OK(db_->Each("SELECT i FROM t", [&](Statement&) {
      ++pairs;
      if (depth < 1) self(self, depth + 1);
    }));
  };
  count(count, 0);
  EXPECT_EQ(pairs, 2 + 4);
}

TEST_F(SqliteTest, ALeftOverStatementIsResetWhenItGoes) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(db_->Run("INSERT INTO t (i) VALUES (?)", i));
  }
  {
    ASSERT_OK_AND_ASSIGN(Statement first, db_->Prepare("SELECT i FROM t"));
    ASSERT_THAT(first.Step(), IsOkAndHolds(true));
    Statement moved = std::move(first);
    EXPECT_EQ(moved.Int(0), 0);
  }
  EXPECT_OK(db_->Script("DROP TABLE t"));  // fails while a statement runs
}

TEST(SchemaTest, MigrationsAreNumberedFromOne) {
  int expected = 0;
  for (const Migration& step : EmbeddedMigrations()) {
    EXPECT_EQ(step.number, ++expected);
    EXPECT_FALSE(step.name.empty());
    EXPECT_FALSE(step.sql.empty());
  }
  EXPECT_GE(expected, 1);
}

TEST_F(SqliteTest, MigrateRunsEachStepOnce) {
  const Migration steps[] = {{1, "one", "CREATE TABLE one (x) ;"},
                             {2, "two", "CREATE TABLE two (x) ;"}};
  const std::span<const Migration> all(steps);
  ASSERT_OK(Migrate(*db_, all.first(1)));
  EXPECT_THAT(SchemaVersion(*db_), IsOkAndHolds(1));
  ASSERT_OK(Migrate(*db_, all));
  EXPECT_THAT(SchemaVersion(*db_), IsOkAndHolds(2));
  ASSERT_OK(Migrate(*db_, all));
  EXPECT_OK(CheckSchema(*db_, all, false));
}

TEST_F(SqliteTest, AnOldHistoryGetsItsOperatorsAndAuditors) {
  const auto migrations = EmbeddedMigrations();
  ASSERT_OK(Migrate(*db_, migrations.first(3)));
  const std::string hash(64, 'a');
  const auto certificate = [](const char* serial, const char* who,
                              const char* id, const char* role) {
    return Cat("('", serial, "', 'consilium://cards/", role, "/", who, "', ",
               id, ", '", role, "', 'f', 0, 9, 5)");
  };
  ASSERT_OK(db_->Script(Cat(
      "INSERT INTO institution (id, name, state, created_at, updated_at) "
      "VALUES (1, 'bank-a', 'active', 0, 0), (2, 'watcher', 'active', 0, 0),"
      "(3, 'invited', 'invited', 0, 0);"
      "INSERT INTO enrolment_token (token_hash, institution_id, role, "
      "expires_at, created_at, created_by) VALUES ('",
      hash, "', 3, 'auditor', 9, 0, 'x');",
      "INSERT INTO certificate (serial, subject_uri, institution_id, role, "
      "fingerprint, not_before, not_after, issued_at) VALUES ",
      certificate("01", "bank-a", "1", "institution"), ", ",
      certificate("02", "watcher", "2", "auditor"), ", ",
      certificate("03", "root", "NULL", "operator"), ", ",
      certificate("04", "root", "NULL", "operator"), ", ",
      certificate("05", "bank-a", "NULL", "operator"), ";")));
  ASSERT_OK(Migrate(*db_, migrations));
  const auto count = [this](const std::string& where) {
    return db_->OneInt(Cat("SELECT count(*) FROM ", where));
  };
  EXPECT_THAT(count("institution"), IsOkAndHolds(4));
  EXPECT_THAT(count("institution WHERE name = 'bank-a' AND role = "
                    "'institution'"),
              IsOkAndHolds(1));
  EXPECT_THAT(count("institution WHERE name IN ('watcher', 'invited') AND "
                    "role = 'auditor'"),
              IsOkAndHolds(2));
  EXPECT_THAT(count("institution i JOIN certificate c ON c.institution_id = "
                    "i.id WHERE i.name = 'root' AND i.role = 'operator' AND "
                    "i.state = 'active' AND i.created_at = 5"),
              IsOkAndHolds(2));
  // Its name is an institution's: it stays a certificate.
  EXPECT_THAT(count("certificate WHERE serial = '05' AND institution_id IS "
                    "NULL"),
              IsOkAndHolds(1));
}

TEST_F(SqliteTest, AnOldHistoryGetsItsLineage) {
  const auto migrations = EmbeddedMigrations();
  ASSERT_OK(Migrate(*db_, migrations.first(1)));
  const std::string hash(64, 'a');
  ASSERT_OK(db_->Script(Cat(
      "INSERT INTO institution (id, name, state, created_at, updated_at) "
      "VALUES (1, 'bank-a', 'active', 0, 0), (2, 'bank-b', 'active', 0, 0);"
      "INSERT INTO version (number, digest, blob_bytes, state, signature, "
      "created_at) VALUES (0, '",
      hash, "', 1, 'promoted', x'00', 0), (1, '", std::string(64, 'c'),
      "', 1, 'promoted', x'00', 0);"
      "INSERT INTO round (id, attempt, state, base_version, "
      "candidate_version, config_json, planned_at, finished_at, "
      "round_key_state, \"trigger\") VALUES (1, 1, 'promoted', 0, 1, '{}', 0, "
      "1, 'none', 'manual');"
      "INSERT INTO contribution (id, round, attempt, institution_id, state, "
      "manifest, payload_digest, payload_bytes, sealed, receipt, begun_at, "
      "committed_at) VALUES ('c1', 1, 1, 1, 'folded', x'00', '",
      hash, "', 1, 0, x'00', 0, 0), ('c2', 1, 1, 2, 'quarantined', x'00', '",
      hash, "', 1, 0, x'00', 0, 0);")));
  ASSERT_OK(Migrate(*db_, migrations));
  EXPECT_THAT(db_->OneInt("SELECT count(*) FROM version_contribution"),
              IsOkAndHolds(1));
  EXPECT_THAT(db_->OneInt("SELECT version FROM version_contribution "
                          "WHERE contribution = 'c1'"),
              IsOkAndHolds(1));
}

TEST_F(SqliteTest, AnOldRoundTrainsAsThePolicySays) {
  const auto migrations = EmbeddedMigrations();
  for (const char* policy : {R"({"training": {"epochs": "5"}})", "{}"}) {
    const bool set = std::string_view(policy) != "{}";
    const std::string path = set ? "/set.db" : "/unset.db";
    ASSERT_OK(disk_.fs().Open(path, {.write = true, .create = true}).status());
    ASSERT_OK_AND_ASSIGN(db_,
                         Connection::Open({.path = path, .vfs = disk_.vfs()}));
    ASSERT_OK(Migrate(*db_, migrations.first(6)));
    ASSERT_OK(db_->Script(
        Cat("INSERT INTO version (number, digest, blob_bytes, state, "
            "signature, created_at) VALUES (0, '",
            std::string(64, 'a'),
            "', 1, 'promoted', x'00', 0);"
            "INSERT INTO federation (id, name, layout_digest, policy_json, "
            "created_at) VALUES (1, 'cards', '",
            std::string(64, 'a'), "', '", policy,
            "', 0);"
            "INSERT INTO round (id, attempt, state, base_version, config_json, "
            "state_json, planned_at, round_key_state, \"trigger\") VALUES "
            "(1, 1, 'open', 0, '{}', '{}', 0, 'none', 'manual'), "
            "(2, 1, 'open', 0, '{}', NULL, 0, 'none', 'manual');")));
    ASSERT_OK(Migrate(*db_, migrations));
    EXPECT_THAT(db_->OneInt(Cat("SELECT state_json = '{\"training\":{",
                                set ? R"("epochs":"5")" : "",
                                "}}' FROM round WHERE id = 1")),
                IsOkAndHolds(1));
    EXPECT_THAT(
        db_->OneInt("SELECT state_json IS NULL FROM round WHERE id = 2"),
        IsOkAndHolds(1));
  }
}

TEST_F(SqliteTest, AFailingMigrationLeavesTheStepBefore) {
  const Migration steps[] = {{1, "one", "CREATE TABLE one (x);"},
                             {2, "bad", "CREATE TABLE two (x); NONSENSE;"}};
  EXPECT_THAT(Migrate(*db_, steps),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("schema migration 2 bad")));
  EXPECT_THAT(SchemaVersion(*db_), IsOkAndHolds(1));
  EXPECT_THAT(db_->OneInt("SELECT count(*) FROM sqlite_schema "
                          "WHERE name = 'two'"),
              IsOkAndHolds(0));
  EXPECT_FALSE(db_->in_transaction());
}

TEST_F(SqliteTest, SchemaOfAnotherProgramOrTimeIsRefused) {
  const auto migrations = EmbeddedMigrations();
  EXPECT_THAT(CheckSchema(*db_, migrations, true),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("consilium init")));
  ASSERT_OK(db_->Script("PRAGMA application_id = 5; PRAGMA user_version = 1"));
  EXPECT_THAT(
      CheckSchema(*db_, migrations, true),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("something else")));
  ASSERT_OK(db_->Script(Cat("PRAGMA application_id = ", kApplicationId,
                            "; PRAGMA user_version = 999")));
  EXPECT_THAT(CheckSchema(*db_, migrations, true),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("has schema 999, and this program knows")));
  const Migration steps[] = {{1, "one", ""}, {1000, "far", ""}};
  EXPECT_THAT(CheckSchema(*db_, steps, false),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("start the coordinator once")));
  EXPECT_OK(CheckSchema(*db_, steps, true));
}

TEST(RecordsTest, WordsAndValuesAgree) {
  for (const auto state :
       {ContributionState::kUploading, ContributionState::kCommitted,
        ContributionState::kFolded, ContributionState::kQuarantined,
        ContributionState::kSuperseded, ContributionState::kExpired}) {
    EXPECT_THAT(ParseContributionState(ToString(state)), IsOkAndHolds(state));
  }
  for (const auto state :
       {VersionState::kCandidate, VersionState::kPromoted,
        VersionState::kRejected, VersionState::kRolledBack}) {
    EXPECT_THAT(ParseVersionState(ToString(state)), IsOkAndHolds(state));
  }
  for (const auto state :
       {InstitutionState::kInvited, InstitutionState::kActive,
        InstitutionState::kSuspended, InstitutionState::kRevoked}) {
    EXPECT_THAT(ParseInstitutionState(ToString(state)), IsOkAndHolds(state));
  }
  for (const auto state : {RoundKeyState::kNone, RoundKeyState::kLive,
                           RoundKeyState::kDestroyed}) {
    EXPECT_THAT(ParseRoundKeyState(ToString(state)), IsOkAndHolds(state));
  }
  for (const auto phase :
       {MetricPhase::kTrain, MetricPhase::kEvaluate, MetricPhase::kAggregate}) {
    EXPECT_THAT(ParseMetricPhase(ToString(phase)), IsOkAndHolds(phase));
  }
  EXPECT_THAT(ParseMetricPhase("x\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("known are train, evaluate, aggregate")));
}

}  // namespace
}  // namespace consilium

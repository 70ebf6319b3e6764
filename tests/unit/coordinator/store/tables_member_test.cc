#include "coordinator/store/sqlite.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MemberTablesTest : public StoreTest {};

TEST_F(MemberTablesTest, FederationRoundTrip) {
  FederationRow row;
  row.name = "cards";
  row.layout_digest = Sha256("layout");
  row.layout_bytes = 77;
  row.policy_json = R"({"a": 1})";
  row.current_version = 0;
  row.created_at = kTestNow + absl::Microseconds(5);
  row.paused = true;
  ASSERT_OK(Write([&](WriteTx& tx) { return SetFederation(tx, row); }));
  ASSERT_OK(Read([&](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow got, GetFederation(tx));
    EXPECT_EQ(got.name, "cards");
    EXPECT_EQ(got.layout_digest, row.layout_digest);
    EXPECT_EQ(got.layout_bytes, 77);
    EXPECT_EQ(got.policy_json, row.policy_json);
    EXPECT_EQ(got.current_version, 0);
    EXPECT_EQ(got.created_at, row.created_at);
    EXPECT_TRUE(got.paused);
    return absl::OkStatus();
  }));
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(SetFederationPaused(tx, false));
    CONSILIUM_ASSIGN_OR_RETURN(const FederationRow got, GetFederation(tx));
    EXPECT_FALSE(got.paused);
    return absl::OkStatus();
  }));
}

TEST(EmptyStoreTest, HasNoFederation) {
  FaultDisk disk;
  ASSERT_OK_AND_ASSIGN(const auto store, Store::Open(disk.Options()));
  ASSERT_OK(store->history().Write([](WriteTx& tx) {
    EXPECT_THAT(FindFederation(tx), IsOkAndHolds(std::nullopt));
    EXPECT_THAT(GetFederation(tx).status(),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(SetFederationPaused(tx, true),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(NextVersionNumber(tx), IsOkAndHolds(0));
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, OnlyPromotedVersionsAreServed) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    VersionRow row;
    row.digest = Sha256("x");
    row.created_at = kTestNow;
    CONSILIUM_RETURN_IF_ERROR(InsertVersion(tx, row, nullptr).status());
    EXPECT_THAT(SetCurrentVersion(tx, 1),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("candidate")));
    EXPECT_THAT(SetCurrentVersion(tx, 9),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("version 9")));
    CONSILIUM_RETURN_IF_ERROR(
        SetVersionState(tx, 1, VersionState::kPromoted, "", kTestNow));
    EXPECT_OK(SetCurrentVersion(tx, 1));
    CONSILIUM_RETURN_IF_ERROR(MarkVersionPruned(tx, 0, kTestNow));
    EXPECT_THAT(
        SetCurrentVersion(tx, 0),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("pruned")));
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, ScheduleHasADefaultAndIsReplaced) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const ScheduleRow none, GetSchedule(tx));
    EXPECT_EQ(none.kind, "manual");
    ScheduleRow row;
    row.kind = "cron";
    row.expression = "0 2 * * *";
    row.time_zone = "Europe/Berlin";
    row.paused = true;
    row.next_at = kTestNow;
    row.updated_at = kTestNow;
    CONSILIUM_RETURN_IF_ERROR(SetSchedule(tx, row));
    row.next_at = std::nullopt;
    CONSILIUM_RETURN_IF_ERROR(SetSchedule(tx, row));
    CONSILIUM_ASSIGN_OR_RETURN(const ScheduleRow got, GetSchedule(tx));
    EXPECT_EQ(got.kind, "cron");
    EXPECT_EQ(got.expression, "0 2 * * *");
    EXPECT_EQ(got.time_zone, "Europe/Berlin");
    EXPECT_TRUE(got.paused);
    EXPECT_EQ(got.next_at, std::nullopt);
    row.kind = "sometimes";
    EXPECT_THAT(SetSchedule(tx, row),
                StatusIs(absl::StatusCode::kInvalidArgument));
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, InstitutionsComeInTheOrderOfTheirIds) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    EXPECT_THAT(InsertInstitution(tx, Institution("aaa")), IsOkAndHolds(4));
    EXPECT_THAT(InsertInstitution(tx, Institution("bank-b")).status(),
                StatusIs(absl::StatusCode::kAlreadyExists));
    CONSILIUM_RETURN_IF_ERROR(TouchInstitution(tx, 4, kTestNow));
    EXPECT_THAT(TouchInstitution(tx, 99, kTestNow),
                StatusIs(absl::StatusCode::kNotFound));
    CONSILIUM_ASSIGN_OR_RETURN(const auto rows, ListInstitutions(tx));
    std::vector<std::string> names;
    for (const auto& row : rows) names.push_back(row.name);
    EXPECT_THAT(names, ElementsAre("bank-a", "bank-b", "bank-c", "aaa"));
    EXPECT_EQ(rows[3].last_seen_at, kTestNow);
    EXPECT_EQ(rows[0].last_seen_at, std::nullopt);
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, RevokedIsFinal) {
  const absl::Time later = kTestNow + absl::Hours(1);
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    using S = InstitutionState;
    EXPECT_OK(SetInstitutionState(tx, 1, S::kSuspended, later));
    EXPECT_OK(SetInstitutionState(tx, 1, S::kActive, later));
    EXPECT_OK(SetInstitutionState(tx, 1, S::kRevoked, later));
    EXPECT_OK(SetInstitutionState(tx, 1, S::kRevoked, kTestNow));
    EXPECT_THAT(SetInstitutionState(tx, 1, S::kActive, later),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("bank-a is revoked")));
    EXPECT_THAT(SetInstitutionState(tx, 42, S::kActive, later),
                StatusIs(absl::StatusCode::kNotFound));
    CONSILIUM_ASSIGN_OR_RETURN(const auto row, GetInstitution(tx, 1));
    EXPECT_EQ(row.updated_at, later);
    return absl::OkStatus();
  }));
}

CertificateRow Certificate(std::string serial, std::optional<int64_t> of) {
  CertificateRow row;
  row.serial = std::move(serial);
  row.subject_uri = "consilium://cards/institution/bank-a";
  row.institution_id = of;
  row.role = of.has_value() ? "institution" : "operator";
  row.fingerprint = std::string(64, 'f');
  row.not_before = kTestNow;
  row.not_after = kTestNow + absl::Hours(24);
  row.issued_at = kTestNow;
  return row;
}

TEST_F(MemberTablesTest, CertificatesAreRevokedOnce) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, Certificate("aa", 1)));
    CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, Certificate("bb", 1)));
    CONSILIUM_RETURN_IF_ERROR(
        InsertCertificate(tx, Certificate("cc", std::nullopt)));
    EXPECT_THAT(InsertCertificate(tx, Certificate("aa", 2)),
                StatusIs(absl::StatusCode::kAlreadyExists));
    EXPECT_THAT(InsertCertificate(tx, Certificate("dd", 77)),
                StatusIs(absl::StatusCode::kFailedPrecondition));

    EXPECT_OK(RevokeCertificate(tx, "aa", kTestNow, "lost laptop"));
    EXPECT_OK(RevokeCertificate(tx, "aa", kTestNow + absl::Hours(1), "again"));
    CONSILIUM_ASSIGN_OR_RETURN(const auto aa, FindCertificate(tx, "aa"));
    EXPECT_EQ(aa->revoked_at, kTestNow);
    EXPECT_EQ(aa->reason, "lost laptop");
    EXPECT_THAT(RevokeCertificate(tx, "zz", kTestNow, ""),
                StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(RevokeCertificatesOf(tx, 1, kTestNow, "institution revoked"),
                IsOkAndHolds(1));
    EXPECT_THAT(ListRevokedSerials(tx, kTestNow),
                IsOkAndHolds(ElementsAre("aa", "bb")));
    // Expired ones need no place on the deny list.
    EXPECT_THAT(ListRevokedSerials(tx, kTestNow + absl::Hours(24)),
                IsOkAndHolds(IsEmpty()));
    CONSILIUM_ASSIGN_OR_RETURN(const auto all, ListCertificates(tx));
    EXPECT_EQ(all.size(), 3u);
    CONSILIUM_ASSIGN_OR_RETURN(const auto own, ListCertificates(tx, 1));
    EXPECT_EQ(own.size(), 2u);
    return absl::OkStatus();
  }));
}

TokenRow Token(const std::string& text) {
  TokenRow row;
  row.token_hash = Sha256(text).Hex();
  row.institution_id = 1;
  row.role = "institution";
  row.expires_at = kTestNow + absl::Hours(1);
  row.created_at = kTestNow;
  row.created_by = "consilium://cards/operator/eve";
  return row;
}

TEST_F(MemberTablesTest, ATokenWorksOnce) {
  const std::string hash = Sha256("token").Hex();
  ASSERT_OK(
      Write([&](WriteTx& tx) { return InsertToken(tx, Token("token")); }));
  EXPECT_THAT(
      Write([&](WriteTx& tx) {
        return ConsumeToken(tx, Sha256("guess").Hex(), kTestNow).status();
      }),
      StatusIs(absl::StatusCode::kNotFound));
  // A transaction that fails later gives the token back.
  EXPECT_FALSE(Write([&](WriteTx& tx) -> absl::Status {
                 CONSILIUM_RETURN_IF_ERROR(
                     ConsumeToken(tx, hash, kTestNow).status());
                 return absl::AbortedError("the certificate was not signed");
               }).ok());
  EXPECT_OK(Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const TokenRow row,
                               ConsumeToken(tx, hash, kTestNow));
    EXPECT_EQ(row.institution_id, 1);
    EXPECT_EQ(row.used_at, kTestNow);
    return absl::OkStatus();
  }));
  EXPECT_THAT(Write([&](WriteTx& tx) {
                return ConsumeToken(tx, hash, kTestNow).status();
              }),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("was used at 2026-01-01")));
}

TEST_F(MemberTablesTest, AUsedTokenKnowsWhatItWasTradedFor) {
  const std::string hash = Sha256("token").Hex();
  const std::string key = Sha256("key").Hex();
  ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, Token("token")));
    EXPECT_THAT(SetTokenIssued(tx, hash, key, "chain"),
                StatusIs(absl::StatusCode::kNotFound));
    CONSILIUM_RETURN_IF_ERROR(ConsumeToken(tx, hash, kTestNow).status());
    CONSILIUM_RETURN_IF_ERROR(SetTokenIssued(tx, hash, key, "chain"));
    CONSILIUM_ASSIGN_OR_RETURN(const auto found, FindToken(tx, hash));
    EXPECT_TRUE(found.has_value());
    if (!found.has_value()) return absl::OkStatus();
    EXPECT_EQ(found->key_hash, key);
    EXPECT_EQ(found->chain_pem, "chain");
    CONSILIUM_ASSIGN_OR_RETURN(const auto none,
                               FindToken(tx, Sha256("guess").Hex()));
    EXPECT_FALSE(none.has_value());
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, ATokenExpiresAtItsTime) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, Token("one")));
    CONSILIUM_RETURN_IF_ERROR(InsertToken(tx, Token("two")));
    const absl::Time expiry = kTestNow + absl::Hours(1);
    EXPECT_THAT(
        ConsumeToken(tx, Sha256("one").Hex(), expiry).status(),
        StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expired")));
    EXPECT_OK(
        ConsumeToken(tx, Sha256("one").Hex(), expiry - absl::Microseconds(1))
            .status());
    EXPECT_THAT(DeleteUnusedTokens(tx, 1), IsOkAndHolds(1));
    CONSILIUM_ASSIGN_OR_RETURN(const auto left, ListTokens(tx));
    EXPECT_EQ(left.size(), 1u);
    EXPECT_TRUE(left[0].used_at.has_value());
    return absl::OkStatus();
  }));
}

TEST_F(MemberTablesTest, AuditEntriesChainAndStay) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    EXPECT_THAT(VerifyAudit(tx), IsOkAndHolds(AuditHead{}));
    for (int i = 0; i < 3; ++i) {
      AuditEntry entry;
      entry.at = kTestNow;
      entry.actor = "coordinator";
      entry.action = "round.promote";
      entry.object = Cat("round ", i);
      CONSILIUM_ASSIGN_OR_RETURN(const AuditEntry added,
                                 AppendAudit(tx, entry));
      EXPECT_EQ(added.seq, static_cast<uint64_t>(i + 1));
    }
    return absl::OkStatus();
  }));
  ASSERT_OK(Read([](ReadTx& tx) -> absl::Status {
    CONSILIUM_ASSIGN_OR_RETURN(const AuditHead verified, VerifyAudit(tx));
    EXPECT_THAT(GetAuditHead(tx), IsOkAndHolds(verified));
    EXPECT_EQ(verified.seq, 3u);
    CONSILIUM_ASSIGN_OR_RETURN(const auto tail,
                               ListAudit(tx, {.limit = 2, .descending = true}));
    EXPECT_EQ(tail[0].object, "round 2");
    EXPECT_EQ(tail[1].hash, tail[0].prev_hash);
    return absl::OkStatus();
  }));
  EXPECT_THAT(
      Write([](WriteTx& tx) {
        return tx.connection().Run("UPDATE audit SET actor = 'me'");
      }),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("append-only")));
  EXPECT_FALSE(Write([](WriteTx& tx) {
                 return tx.connection().Run("DELETE FROM audit WHERE seq = 2");
               }).ok());
}

TEST_F(MemberTablesTest, AForgedAuditEntryIsFound) {
  ASSERT_OK(Write([](WriteTx& tx) -> absl::Status {
    for (int i = 0; i < 3; ++i) {
      AuditEntry entry;
      entry.at = kTestNow;
      entry.action = Cat("a", i);
      CONSILIUM_RETURN_IF_ERROR(AppendAudit(tx, entry).status());
    }
    // What somebody with the file in hand can do.
    CONSILIUM_RETURN_IF_ERROR(
        tx.connection().Script("DROP TRIGGER audit_no_update"));
    return tx.connection().Run(
        "UPDATE audit SET detail = 'nothing' WHERE seq = 2");
  }));
  EXPECT_THAT(Read([](ReadTx& tx) { return VerifyAudit(tx).status(); }),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("2")));
  ASSERT_OK_AND_ASSIGN(const CheckReport report, CheckStore(*store_, {}));
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].kind, "audit");
}

}  // namespace
}  // namespace consilium

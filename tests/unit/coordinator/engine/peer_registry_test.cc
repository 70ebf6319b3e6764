#include "coordinator/engine/peer_registry.h"

#include "coordinator/store/tables.h"
#include "tests/unit/coordinator/store/store_test_util.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

class PeerRegistryTest : public StoreTest {
 protected:
  static PeerName Peer(std::string name,
                       PeerRole role = PeerRole::kInstitution) {
    return {"cards", role, std::move(name)};
  }
  void SetState(std::string_view name, InstitutionState state) {
    ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(const auto row, FindInstitution(tx, name));
      return SetInstitutionState(tx, row->id, state, kTestNow);
    }));
  }
  void Revoke(const std::string& serial, absl::Time not_after) {
    ASSERT_OK(Write([&](WriteTx& tx) -> absl::Status {
      CertificateRow row;
      row.serial = serial;
      row.subject_uri = "consilium://cards/institution/bank-a";
      row.institution_id = 1;
      row.role = "institution";
      row.fingerprint = std::string(64, 'a');
      row.not_before = kTestNow - absl::Hours(1);
      row.not_after = not_after;
      row.issued_at = row.not_before;
      CONSILIUM_RETURN_IF_ERROR(InsertCertificate(tx, row));
      return RevokeCertificate(tx, serial, kTestNow, "key lost");
    }));
  }

  PeerRegistry peers_{"cards"};
};

TEST_F(PeerRegistryTest, AdmitsWhomTheStoreKnows) {
  ASSERT_OK(peers_.Load(store_->history(), kTestNow));
  ASSERT_OK_AND_ASSIGN(const Caller caller, peers_.Admit(Peer("bank-b"), "01"));
  EXPECT_EQ(caller.name(), "bank-b");
  EXPECT_EQ(caller.id(), 2);
  EXPECT_EQ(caller.serial, "01");
  EXPECT_OK(caller.Alive());
  EXPECT_EQ(peers_.All().size(), 3u);
}

TEST_F(PeerRegistryTest, RefusesEverybodyElseAndSaysWhatToDo) {
  ASSERT_OK(peers_.Load(store_->history(), kTestNow));
  EXPECT_THAT(peers_.Admit(Peer("bank-z"), "01"),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("ask the operator for an invitation")));
  EXPECT_THAT(
      peers_.Admit({"loans", PeerRole::kInstitution, "bank-a"}, "01"),
      StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("\"loans\"")));
  EXPECT_THAT(peers_.Admit(Peer("bank-a", PeerRole::kOperator), "01"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("certificate of an institution")));
  EXPECT_OK(peers_.AdmitStaff(Peer("ops", PeerRole::kOperator), "01"));
  EXPECT_EQ(peers_.Find("bank-z"), nullptr);
}

TEST_F(PeerRegistryTest, RevokedCertificatesAreLoadedUntilTheyExpire) {
  Revoke("0a", kTestNow + absl::Hours(1));
  Revoke("0b", kTestNow - absl::Minutes(1));
  ASSERT_OK(peers_.Load(store_->history(), kTestNow));
  EXPECT_THAT(peers_.Admit(Peer("bank-a"), "0a"),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("ask the operator for an invitation")));
  EXPECT_THAT(peers_.AdmitStaff(Peer("ops", PeerRole::kOperator), "0a"),
              StatusIs(absl::StatusCode::kUnauthenticated));
  // TLS refuses the other by itself; it need not be remembered.
  EXPECT_OK(peers_.Admit(Peer("bank-a"), "0b").status());
  EXPECT_OK(peers_.Admit(Peer("bank-a"), "0c").status());
  peers_.RevokeSerial("0c");
  EXPECT_THAT(peers_.Admit(Peer("bank-a"), "0c"),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(PeerRegistryTest, RevocationReachesCallsUnderWay) {
  ASSERT_OK(peers_.Load(store_->history(), kTestNow));
  ASSERT_OK_AND_ASSIGN(const Caller caller, peers_.Admit(Peer("bank-a"), "01"));
  InstitutionRow row = Institution("bank-a");
  row.id = 1;
  row.state = InstitutionState::kSuspended;
  peers_.Put(row);
  EXPECT_OK(caller.Alive());
  EXPECT_TRUE(caller.peer->suspended.load());
  row.state = InstitutionState::kRevoked;
  peers_.Put(row);
  EXPECT_THAT(caller.Alive(), StatusIs(absl::StatusCode::kUnauthenticated,
                                       HasSubstr("is revoked")));
  EXPECT_FALSE(caller.peer->suspended.load());
  EXPECT_THAT(peers_.Admit(Peer("bank-a"), "01"),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(PeerRegistryTest, RevokedStaffIsRefusedWhateverItsCertificate) {
  InstitutionRow row = Institution("eve");
  row.id = 9;
  row.role = "operator";
  row.state = InstitutionState::kActive;
  peers_.Put(row);
  EXPECT_OK(peers_.AdmitStaff(Peer("eve", PeerRole::kOperator), "01"));
  row.state = InstitutionState::kRevoked;
  peers_.Put(row);
  EXPECT_THAT(peers_.AdmitStaff(Peer("eve", PeerRole::kOperator), "02"),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("operator/eve is revoked")));
  // Another one of that name, in another role.
  EXPECT_OK(peers_.AdmitStaff(Peer("eve", PeerRole::kAuditor), "03"));
}

TEST_F(PeerRegistryTest, StatesSurviveARestart) {
  SetState("bank-a", InstitutionState::kRevoked);
  SetState("bank-b", InstitutionState::kSuspended);
  Reopen();
  ASSERT_OK(peers_.Load(store_->history(), kTestNow));
  EXPECT_TRUE(peers_.Find("bank-a")->revoked.load());
  EXPECT_TRUE(peers_.Find("bank-b")->suspended.load());
  EXPECT_FALSE(peers_.Find("bank-c")->suspended.load());
}

}  // namespace
}  // namespace consilium

// Invitations, enrolments and renewals beside a suspension or a revocation of
// the same institution.

#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "consilium/secure/certificate.h"
#include "tests/unit/coordinator/engine/engine_test_util.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr SecretAccess kTestAccess("a test enrols");

// Calls back once, when bytes are drawn.
class HookedRandom : public RandomSource {
 public:
  void Fill(std::span<std::byte> out) override {
    if (hook) std::exchange(hook, nullptr)();
    random_.Fill(out);
  }
  std::function<void()> hook;

 private:
  SplitMixRandom random_{2};
};

class EnginePeersTest : public EngineTest {
 protected:
  RandomSource* random_source() override { return &hooked_; }
  const LiveIssuingCa* ca() override {
    static const LiveIssuingCa* const ca = [] {
      SplitMixRandom random(3);
      const absl::Time born = FakeClock().Now();
      NewCertificateAuthority made =
          *CreateCertificateAuthority("cards", born, random);
      return new LiveIssuingCa(
          *IssuingCa::Create("cards", made.root_pem, made.issuing_pem,
                             std::move(made.issuing_key), born));
    }();
    return ca;
  }
  absl::Status Set(InstitutionState state) {
    return engine_->SetInstitution(kTestOperator, "bank-a", state, "");
  }
  std::string RequestOf(const std::string& name) {
    return *CreateCertificateRequest(*TlsKey::Generate(), name);
  }
  std::vector<CertificateRow> Certificates() {
    std::vector<CertificateRow> rows;
    EXPECT_OK(Read([&](ReadTx& tx) -> absl::Status {
      CONSILIUM_ASSIGN_OR_RETURN(rows, ListCertificates(tx));
      return absl::OkStatus();
    }));
    return rows;
  }

  HookedRandom hooked_;
};

TEST_F(EnginePeersTest, ARevocationDuringARenewalEndsIt) {
  hooked_.hook = [this] { EXPECT_OK(Set(InstitutionState::kRevoked)); };
  EXPECT_THAT(
      engine_->Renew({"cards", PeerRole::kInstitution, "bank-a"},
                     RequestOf("bank-a")),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  EXPECT_EQ(hooked_.hook, nullptr);
  EXPECT_THAT(Certificates(), ::testing::IsEmpty());
}

TEST_F(EnginePeersTest, ARevocationOfAnAuditorDuringARenewalEndsIt) {
  ASSERT_OK(engine_
                ->Invite(kTestOperator, "eve", PeerRole::kAuditor,
                         absl::ZeroDuration(), {})
                .status());
  hooked_.hook = [this] {
    EXPECT_OK(engine_->RevokeStaff(kTestOperator, "eve", ""));
  };
  EXPECT_THAT(
      engine_->Renew({"cards", PeerRole::kAuditor, "eve"}, RequestOf("eve")),
      StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  EXPECT_EQ(hooked_.hook, nullptr);
  EXPECT_THAT(Certificates(), ::testing::IsEmpty());
}

TEST_F(EnginePeersTest, AnOperatorAndAnActiveInstitutionRenew) {
  EXPECT_OK(
      engine_->Renew({"cards", PeerRole::kOperator, "ops"}, RequestOf("ops")));
  EXPECT_OK(engine_->Renew({"cards", PeerRole::kInstitution, "bank-a"},
                           RequestOf("bank-a")));
  EXPECT_EQ(Certificates().size(), 2u);
}

// The log tells of an enrolment when it is stored: a suspension that begins
// then is the later one, and stays.
TEST_F(EnginePeersTest, ASuspensionOutlastsAnEnrolmentBeforeIt) {
  ASSERT_OK_AND_ASSIGN(
      const Engine::Invitation invitation,
      engine_->Invite(kTestOperator, "bank-a", PeerRole::kInstitution,
                      absl::ZeroDuration(), {}));
  Mutex mu;
  CondVar changed;
  bool done = false;
  std::thread suspending;
  on_log_ = [&](std::string_view text) {
    if (text != "enrolled") return;
    suspending = std::thread([&] {
      EXPECT_OK(Set(InstitutionState::kSuspended));
      MutexLock lock(&mu);
      done = true;
      changed.Signal();
    });
    // Time enough to overtake the enrolment, were it possible.
    MutexLock lock(&mu);
    if (!done) changed.WaitFor(&mu, absl::Milliseconds(50));
  };
  EXPECT_OK(
      engine_->Enroll(invitation.token.Text(kTestAccess), RequestOf("bank-a"))
          .status());
  ASSERT_TRUE(suspending.joinable());
  suspending.join();
  EXPECT_TRUE(engine_->peers().Find("bank-a")->suspended.load());
}

}  // namespace
}  // namespace consilium

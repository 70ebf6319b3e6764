#include "consilium/secure/signing.h"

#include <functional>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/secure/sha256.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

const absl::Time kWhen = absl::FromUnixMicros(1'700'000'000'123'456);

RoundStatement Round() {
  RoundStatement s;
  s.federation = "cards";
  s.round = 7;
  s.attempt = 1;
  s.base = {3, Sha256("base"), 4096};
  s.layout_digest = Sha256("layout");
  s.sealing_public_key = X25519PublicKey{};
  s.codecs = {0, 1};
  s.elements_per_frame = 258048;
  s.max_update_bytes = 1 << 20;
  s.weight_max = 1000;
  s.min_examples = 10;
  s.max_norm = 5;
  s.deadline = kWhen;
  return s;
}

ReceiptStatement Receipt() {
  return {"cards",           7,   1,    "bank-a", std::string(16, 'u'),
          Sha256("payload"), 123, kWhen};
}

VersionStatement Version() {
  return {"cards", {4, Sha256("file"), 4096}, Sha256("layout")};
}

AuditHeadStatement Head() { return {"cards", 99, Sha256("entry")}; }

class SigningTest : public ::testing::Test {
 protected:
  SeededRandom random_;
};

template <typename Statement>
void ExpectEachChangeIsFound(
    RandomSource& random, const Statement& statement,
    const std::vector<std::function<void(Statement&)>>& changes) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random));
  ASSERT_OK_AND_ASSIGN(const Signature signature,
                       SignStatement(key, statement));
  EXPECT_OK(VerifyStatement(key.verify_key(), statement, signature));
  for (size_t i = 0; i < changes.size(); ++i) {
    Statement changed = statement;
    changes[i](changed);
    EXPECT_THAT(VerifyStatement(key.verify_key(), changed, signature),
                StatusIs(absl::StatusCode::kUnauthenticated,
                         HasSubstr("coordinator's signature")))
        << "change " << i;
  }
}

TEST_F(SigningTest, RoundAnnouncementsCoverEveryField) {
  using S = RoundStatement;
  ExpectEachChangeIsFound<S>(
      random_, Round(),
      {[](S& s) { s.federation = "loans"; }, [](S& s) { s.round++; },
       [](S& s) { s.attempt++; }, [](S& s) { s.base.number++; },
       [](S& s) { s.base.digest = Sha256("x"); }, [](S& s) { s.base.bytes++; },
       [](S& s) { s.layout_digest = Sha256("x"); },
       [](S& s) { s.sealing_public_key.reset(); },
       [](S& s) { s.sealing_public_key->bytes[0] = std::byte{1}; },
       [](S& s) { s.codecs.pop_back(); },
       [](S& s) {
         s.codecs = {1, 0};
       },
       [](S& s) { s.elements_per_frame++; }, [](S& s) { s.max_update_bytes++; },
       [](S& s) { s.weight_max++; }, [](S& s) { s.min_examples++; },
       [](S& s) { s.max_norm = 0; },
       [](S& s) { s.deadline += absl::Microseconds(1); },
       [](S& s) { s.session_kind = 1; },
       [](S& s) { s.session_config_digest = "x"; }});
}

TEST_F(SigningTest, ReceiptsCoverEveryField) {
  using S = ReceiptStatement;
  ExpectEachChangeIsFound<S>(
      random_, Receipt(),
      {[](S& s) { s.federation = "loans"; }, [](S& s) { s.round++; },
       [](S& s) { s.attempt++; }, [](S& s) { s.institution = "bank-b"; },
       [](S& s) { s.upload_id[3]++; },
       [](S& s) { s.payload_digest = Sha256("x"); },
       [](S& s) { s.payload_bytes++; },
       [](S& s) { s.committed_at += absl::Microseconds(1); }});
}

TEST_F(SigningTest, VersionsAndAuditHeadsCoverEveryField) {
  using V = VersionStatement;
  ExpectEachChangeIsFound<V>(
      random_, Version(),
      {[](V& s) { s.federation = "loans"; }, [](V& s) { s.version.number++; },
       [](V& s) { s.version.digest = Sha256("x"); },
       [](V& s) { s.version.bytes++; },
       [](V& s) { s.layout_digest = Sha256("x"); }});
  using A = AuditHeadStatement;
  ExpectEachChangeIsFound<A>(
      random_, Head(),
      {[](A& s) { s.federation = "loans"; }, [](A& s) { s.seq++; },
       [](A& s) { s.hash = Sha256("x"); }});
}

TEST_F(SigningTest, AnotherCoordinatorsSignatureIsRefused) {
  ASSERT_OK_AND_ASSIGN(const SigningKey key, SigningKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(const SigningKey other, SigningKey::Generate(random_));
  ASSERT_OK_AND_ASSIGN(const Signature signature,
                       SignStatement(other, Receipt()));
  EXPECT_THAT(VerifyStatement(key.verify_key(), Receipt(), signature),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       HasSubstr("receipt of federation \"cards\"")));
}

// Signatures outlive programs: these bytes are a format. A failure here means
// that old receipts no longer verify; a change needs a new domain.
TEST_F(SigningTest, CanonicalBytesAreFrozen) {
  EXPECT_EQ(Sha256(CanonicalBytes(Round())).Hex(),
            "71584bdd851869725e53675f0905a08c8b39951c041d68d6889875eb1dcbc27b");
  EXPECT_EQ(Sha256(CanonicalBytes(Receipt())).Hex(),
            "d8ac6d4cbc84f19105572cb3cd23c86c9417d46be07c87c0c7e24e27df608d84");
  EXPECT_EQ(Sha256(CanonicalBytes(Version())).Hex(),
            "43d624efd2470920c44fa617c780a1ae818f0f44aab3f76b597e4dd1ac8f3cc0");
  EXPECT_EQ(Sha256(CanonicalBytes(Head())).Hex(),
            "963ca5325a2d71da2ef2b2cf11f091caebddc3257eb44f21bb6e4998d50d977a");
}

}  // namespace
}  // namespace consilium

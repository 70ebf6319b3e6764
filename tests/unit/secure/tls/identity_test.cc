#include "consilium/secure/identity.h"

#include <string>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

TEST(PeerNameTest, GoesThroughItsUri) {
  const PeerName bank{"cards", PeerRole::kInstitution, "bank-a"};
  EXPECT_EQ(bank.Uri(), "consilium://cards/institution/bank-a");
  EXPECT_THAT(PeerName::Parse(bank.Uri()), IsOkAndHolds(bank));
  EXPECT_THAT(PeerName::Parse("consilium://cards/operator/0lga"),
              IsOkAndHolds(PeerName{"cards", PeerRole::kOperator, "0lga"}));
  EXPECT_THAT(PeerName::Parse("consilium://c/auditor/a"),
              IsOkAndHolds(PeerName{"c", PeerRole::kAuditor, "a"}));
}

TEST(PeerNameTest, OtherTextsAreRefused) {
  for (const char* uri :
       {"", "consilium://", "consilium://cards", "consilium://cards/operator",
        "consilium://cards/operator/", "consilium:///operator/a",
        "consilium://cards//a", "consilium://cards/admin/a",
        "consilium://cards/operator/a/b", "consilium://cards/operator/a?x",
        "Consilium://cards/operator/a", "https://cards/operator/a",
        "consilium://cards/operator/-a", "consilium://cards/operator/A",
        "consilium://cards/operator/a_b", " consilium://cards/operator/a",
        "consilium://cards/operator/a%20b"}) {
    EXPECT_THAT(PeerName::Parse(uri),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << uri;
  }
}

TEST(PeerNameTest, NamesAreBounded) {
  EXPECT_OK(ValidateName("institution", std::string(63, 'a')));
  EXPECT_THAT(ValidateName("institution", std::string(64, 'a')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("institution name")));
  EXPECT_THAT(
      ValidateName("institution", "../etc"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"../etc\"")));
  EXPECT_THAT(ParsePeerRole("root"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace consilium

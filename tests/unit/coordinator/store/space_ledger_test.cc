#include "coordinator/store/space_ledger.h"

#include <limits>

#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SpaceLedgerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(fs_.MakeDirs("/data"));
    fs_.FailWithNoSpaceAfter(1000);
  }
  FaultFileSystem fs_;
  SpaceLedger ledger_{&fs_, "/data", 100};
};

TEST_F(SpaceLedgerTest, PromisesUpToWhatIsFree) {
  ASSERT_OK_AND_ASSIGN(const SpaceReservation a, ledger_.Reserve(600, "a"));
  ASSERT_OK_AND_ASSIGN(const SpaceReservation b, ledger_.Reserve(300, "b"));
  EXPECT_EQ(ledger_.reserved_bytes(), 900);
  EXPECT_THAT(ledger_.Reserve(1, "c").status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(ledger_.Reserve(0, "nothing").status());
}

TEST_F(SpaceLedgerTest, TheErrorNamesEveryNumberAndItsKey) {
  ASSERT_OK_AND_ASSIGN(const SpaceReservation a, ledger_.Reserve(600, "a"));
  EXPECT_THAT(
      ledger_.Reserve(301, "upload 77 of bank-a").status(),
      StatusIs(
          absl::StatusCode::kResourceExhausted,
          AllOf(HasSubstr("upload 77 of bank-a needs 301 B"),
                HasSubstr("has 300 B to give"), HasSubstr("1000 B free"),
                HasSubstr("600 B promised"), HasSubstr("min_free_bytes 100 B"),
                HasSubstr("spool_retention"))));
}

TEST_F(SpaceLedgerTest, WhatIsWrittenIsNotCountedTwice) {
  ASSERT_OK_AND_ASSIGN(SpaceReservation a, ledger_.Reserve(900, "a"));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<File> file,
                       fs_.Open("/data/f", {.write = true, .create = true}));
  const std::vector<std::byte> bytes(400);
  ASSERT_OK(file->WriteAt(0, bytes));
  a.Use(400);
  EXPECT_EQ(a.bytes(), 500);
  EXPECT_THAT(ledger_.Reserve(1, "b").status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  a.Release();
  EXPECT_EQ(ledger_.reserved_bytes(), 0);
  EXPECT_OK(ledger_.Reserve(500, "b").status());
}

TEST_F(SpaceLedgerTest, AReservationIsMadeLargerOrSmaller) {
  SpaceReservation a;
  ASSERT_OK(ledger_.Resize(a, 300, "a"));
  EXPECT_EQ(ledger_.reserved_bytes(), 300);
  ASSERT_OK(ledger_.Resize(a, 700, "a"));
  EXPECT_EQ(a.bytes(), 700);
  EXPECT_EQ(ledger_.reserved_bytes(), 700);
  EXPECT_THAT(ledger_.Resize(a, 901, "a"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(a.bytes(), 700);
  ASSERT_OK(ledger_.Resize(a, 20, "a"));
  EXPECT_EQ(ledger_.reserved_bytes(), 20);
  a.Release();
  EXPECT_EQ(ledger_.reserved_bytes(), 0);
}

TEST_F(SpaceLedgerTest, ReservationsEndWithTheirOwner) {
  {
    ASSERT_OK_AND_ASSIGN(SpaceReservation a, ledger_.Reserve(500, "a"));
    SpaceReservation moved = std::move(a);
    EXPECT_EQ(moved.bytes(), 500);
    a = std::move(moved);
    a.Use(10'000);  // more than was promised gives back what was
    EXPECT_EQ(ledger_.reserved_bytes(), 0);
    ASSERT_OK_AND_ASSIGN(a, ledger_.Reserve(200, "again"));
    EXPECT_EQ(ledger_.reserved_bytes(), 200);
  }
  EXPECT_EQ(ledger_.reserved_bytes(), 0);
}

TEST_F(SpaceLedgerTest, ExtremesDoNotOverflow) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(ledger_.Reserve(kMax, "a").status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(ledger_.Reserve(-1, "a").status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ledger_.SetMinFreeBytes(kMax);
  EXPECT_THAT(ledger_.Reserve(1, "a").status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ledger_.SetMinFreeBytes(0);
  EXPECT_OK(ledger_.Reserve(1000, "a").status());
}

}  // namespace
}  // namespace consilium

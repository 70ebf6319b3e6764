#include "consilium/secure/audit_chain.h"

#include <functional>
#include <vector>

#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

std::vector<AuditEntry> Log(int entries) {
  std::vector<AuditEntry> log;
  AuditHead head;
  for (int i = 0; i < entries; ++i) {
    AuditEntry entry;
    entry.at = absl::FromUnixNanos(1'700'000'000'000'000'123 + i);
    entry.actor = "consilium://cards/operator/olga";
    entry.action = "round.start";
    entry.object = "round/" + std::to_string(i);
    entry.detail = "quorum 2";
    log.push_back(ChainEntry(head, entry));
    head = {log.back().seq, log.back().hash};
  }
  return log;
}

absl::Status Walk(const std::vector<AuditEntry>& log) {
  AuditVerifier verifier;
  for (const AuditEntry& entry : log) {
    if (absl::Status status = verifier.Add(entry); !status.ok()) return status;
  }
  return absl::OkStatus();
}

TEST(AuditChainTest, AnUnchangedLogVerifies) {
  const std::vector<AuditEntry> log = Log(5);
  EXPECT_OK(Walk(log));
  EXPECT_EQ(log.front().seq, 1u);
  EXPECT_EQ(log.front().prev_hash, Sha256Digest());
  AuditVerifier verifier;
  for (const AuditEntry& entry : log) ASSERT_OK(verifier.Add(entry));
  EXPECT_EQ(verifier.head(), (AuditHead{5, log.back().hash}));
}

// Databases keep microseconds, so the hash must not depend on more.
TEST(AuditChainTest, HashSurvivesStorageInMicroseconds) {
  AuditEntry entry = Log(1).front();
  entry.at = absl::FromUnixMicros(absl::ToUnixMicros(entry.at));
  EXPECT_EQ(AuditHash(entry), entry.hash);
}

TEST(AuditChainTest, EveryChangeIsFound) {
  const std::vector<std::function<void(AuditEntry&)>> changes = {
      [](AuditEntry& e) { e.at += absl::Microseconds(1); },
      [](AuditEntry& e) { e.actor += "x"; },
      [](AuditEntry& e) { e.action.clear(); },
      [](AuditEntry& e) { e.object = "round/9"; },
      [](AuditEntry& e) { e.detail = "quorum 3"; },
      [](AuditEntry& e) { e.prev_hash.bytes[0] ^= std::byte{1}; },
      [](AuditEntry& e) { e.hash.bytes[31] ^= std::byte{1}; },
      [](AuditEntry& e) { e.seq += 1; },
      // Forged with a new hash: breaks at the next entry.
      [](AuditEntry& e) {
        e.detail = "quorum 3";
        e.hash = AuditHash(e);
      },
  };
  for (const auto& change : changes) {
    std::vector<AuditEntry> log = Log(5);
    change(log[2]);
    EXPECT_THAT(Walk(log), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(AuditChainTest, RemovedAndSwappedEntriesAreFound) {
  std::vector<AuditEntry> removed = Log(5);
  removed.erase(removed.begin() + 2);
  EXPECT_THAT(Walk(removed), StatusIs(absl::StatusCode::kDataLoss,
                                      HasSubstr("entry 3 is missing")));
  std::vector<AuditEntry> beheaded = Log(5);
  beheaded.erase(beheaded.begin());
  EXPECT_THAT(Walk(beheaded), StatusIs(absl::StatusCode::kDataLoss));
  std::vector<AuditEntry> swapped = Log(5);
  std::swap(swapped[1], swapped[2]);
  EXPECT_THAT(Walk(swapped), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(AuditChainTest, ContinuesFromATrustedHead) {
  const std::vector<AuditEntry> log = Log(5);
  AuditVerifier verifier(AuditHead{3, log[2].hash});
  EXPECT_OK(verifier.Add(log[3]));
  EXPECT_OK(verifier.Add(log[4]));
  AuditVerifier wrong(AuditHead{3, log[1].hash});
  EXPECT_THAT(wrong.Add(log[3]), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(wrong.head().seq, 3u);
}

}  // namespace
}  // namespace consilium

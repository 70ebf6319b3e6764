// round watch, version export and import.

#include <sstream>

#include "consilium/aggregation/layout.h"
#include "consilium/aggregation/safetensors.h"
#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/secure/sha256.h"
#include "coordinator/cli/exit_codes.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/coordinator/cli/cli_harness.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

v1::RoundInfo Snapshot(uint64_t round, const std::string& phase,
                       double progress, const std::string& state = "training") {
  v1::RoundInfo info;
  info.set_round(round);
  info.set_phase(phase);
  info.set_waiting_for("waiting for bank-a");
  info.set_terminal(phase == "promoted" || phase == "failed");
  v1::MemberInfo& member = *info.add_members();
  member.set_institution("bank-a");
  member.set_state(state);
  member.set_progress(progress);
  return info;
}

class WatchTest : public CliTest {};

TEST_F(WatchTest, PipedItPrintsALineForEachChange) {
  fake_.snapshots = {Snapshot(7, "collecting", 0.10),
                     Snapshot(7, "collecting", 0.14),
                     Snapshot(7, "collecting", 0.19),
                     Snapshot(7, "collecting", 0.21),
                     Snapshot(7, "collecting", 1, "committed"),
                     Snapshot(7, "promoted", 1, "committed")};
  EXPECT_EQ(Run({"round", "watch", "7"}), 0);
  EXPECT_EQ(out(),
            "00:00:00 round 7 bank-a: training 10 %\n"
            "00:00:00 round 7 collecting: waiting for bank-a\n"
            "00:00:00 round 7 bank-a: training 21 %\n"
            "00:00:00 round 7 collecting: waiting for bank-a\n"
            "00:00:00 round 7 bank-a: committed 100 %\n"
            "00:00:00 round 7 collecting: waiting for bank-a\n"
            "00:00:00 round 7 promoted\n");
}

TEST_F(WatchTest, WithoutANumberItTakesTheLiveRoundOrTheNext) {
  fake_.snapshots = {Snapshot(6, "promoted", 1), Snapshot(7, "open", 0),
                     Snapshot(7, "failed", 0)};
  // Round 7 failed: the answer is bad.
  EXPECT_EQ(Run({"round", "watch"}), 1);
  EXPECT_THAT(out(), AllOf(HasSubstr("waiting for the next round"),
                           HasSubstr("round 7 failed")));
}

// Rounds may be shorter than an outage.
TEST_F(WatchTest, TheNextRoundMayHaveEndedBeforeItIsSeen) {
  fake_.cut_watches = {
      {{Snapshot(6, "promoted", 1)}, absl::UnavailableError("going down")}};
  fake_.snapshots = {Snapshot(7, "promoted", 1)};
  EXPECT_EQ(Run({"round", "watch"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("round 7 promoted"));
}

TEST_F(WatchTest, JsonLinesEndWithATerminalEvent) {
  fake_.snapshots = {Snapshot(7, "open", -1), Snapshot(7, "promoted", 1)};
  EXPECT_EQ(Run({"round", "watch", "7", "--json"}), 0);
  std::istringstream lines(out());
  std::string line;
  std::vector<bool> terminal;
  while (std::getline(lines, line)) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["event"], "round");
    EXPECT_EQ(json["round"]["round"], 7);
    terminal.push_back(json["terminal"].get<bool>());
  }
  EXPECT_THAT(terminal, ElementsAre(false, true));
}

TEST_F(WatchTest, ABrokenStreamEndsTheJsonLinesWithAnError) {
  fake_.snapshots = {Snapshot(7, "open", -1)};
  fake_.watch_end = ConnectionError(absl::UnauthenticatedError("revoked"));
  EXPECT_EQ(Run({"round", "watch", "7", "--json"}), 3);
  const std::string text = out();
  const auto last = nlohmann::json::parse(text.substr(text.find('\n') + 1));
  EXPECT_EQ(last["event"], "error");
  EXPECT_EQ(last["terminal"], true);
}

TEST_F(WatchTest, ALostConnectionIsMadeAgain) {
  fake_.cut_watches = {
      {{Snapshot(7, "open", -1)}, absl::UnavailableError("going down")},
      {{}, absl::UnavailableError("refused")},
      {{}, absl::UnavailableError("refused")}};
  fake_.snapshots = {Snapshot(7, "promoted", 1)};
  EXPECT_EQ(Run({"round", "watch", "7"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("connection lost, trying again: going down"));
  EXPECT_THAT(out(), HasSubstr("round 7 promoted"));
  EXPECT_THAT(out(), Not(HasSubstr("refused")));  // one line for an outage
  EXPECT_THAT(sleeper_.slept(),
              ElementsAre(absl::Milliseconds(200), absl::Milliseconds(400),
                          absl::Milliseconds(800)));
  fake_.cut_watches = {
      {{Snapshot(7, "open", -1)}, absl::UnavailableError("going down")}};
  EXPECT_EQ(Run({"round", "watch", "7", "--json"}), 0);
  EXPECT_THAT(out(), HasSubstr("{\"event\":\"reconnecting\""));
}

TEST_F(WatchTest, NobodyToWatchIsAnError) {
  fake_.cut_watches = {
      {{}, ConnectionError(absl::UnavailableError("refused"))}};
  EXPECT_EQ(Run({"round", "watch", "7"}), 3);
}

TEST_F(WatchTest, OnATerminalItRedrawsInPlaceWithinTheWidth) {
  env_.terminal = true;
  env_.width = 40;
  fake_.snapshots = {Snapshot(7, "open", 0.5), Snapshot(7, "promoted", 1)};
  EXPECT_EQ(Run({"round", "watch", "7"}), 0);
  EXPECT_THAT(out(), HasSubstr("\x1b[4A\x1b[J"));
  std::istringstream lines(out());
  std::string line;
  while (std::getline(lines, line)) {
    const size_t begin = line.rfind("\x1b[J");
    const std::string shown =
        begin == std::string::npos ? line : line.substr(begin + 3);
    EXPECT_LE(DisplayWidth(shown), 40u);
  }
}

class TransferTest : public CliTest {
 protected:
  void SetUp() override {
    for (int i = 0; i < 5000; ++i) {
      fake_.blob.push_back(static_cast<char>(i * 7));
    }
    v1::VersionInfo& version = fake_.Answer<v1::VersionInfo>("GetVersion");
    const Sha256Digest digest = Sha256(fake_.blob);
    version.mutable_version()->set_number(3);
    version.mutable_version()->set_digest(std::string(AsChars(digest.bytes)));
    version.mutable_version()->set_bytes(fake_.blob.size());
    version.set_blob_present(true);
    part_ = Cat(dir_ / "v3", ".", digest.Hex().substr(0, 16), ".part");
  }
  std::string Read(const std::string& path) {
    const auto text = ReadWholeFile(env_.fs, path, 1 << 20);
    return text.ok() ? *text : std::string(text.status().message());
  }

  TempDir dir_;
  std::string part_;
};

TEST_F(TransferTest, ExportWritesTheVerifiedBytes) {
  ASSERT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3", "--json"}),
            0)
      << err();
  EXPECT_EQ(Read(dir_ / "v3"), fake_.blob);
  EXPECT_FALSE(env_.fs->Exists(part_));
  EXPECT_EQ(Json()["bytes"], fake_.blob.size());
  EXPECT_EQ(Json()["digest"], Sha256(fake_.blob).Hex());
  // Once there, it is not replaced by accident.
  EXPECT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3"}), 1);
  EXPECT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3", "--force"}),
            0);
}

TEST_F(TransferTest, ACutDownloadIsResumedInTheSameRun) {
  fake_.cut_after = 2500;
  ASSERT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3"}), 0);
  EXPECT_THAT(fake_.offsets, ElementsAre(0, 2500));
  EXPECT_EQ(Read(dir_ / "v3"), fake_.blob);
}

TEST_F(TransferTest, ALaterRunContinuesThePart) {
  ASSERT_OK(
      WriteFileAtomic(env_.fs, part_, AsBytes(fake_.blob.substr(0, 1234))));
  ASSERT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3", "--json"}),
            0);
  EXPECT_THAT(fake_.offsets, ElementsAre(1234));
  EXPECT_EQ(Json()["resumed_at"], 1234);
  EXPECT_EQ(Read(dir_ / "v3"), fake_.blob);
}

TEST_F(TransferTest, WrongBytesAreNotKept) {
  fake_.blob[17] ^= 1;
  EXPECT_EQ(Run({"version", "export", "3", "--output", dir_ / "v3"}), 1);
  EXPECT_THAT(err(), HasSubstr("digest"));
  EXPECT_FALSE(env_.fs->Exists(dir_ / "v3"));
  EXPECT_FALSE(env_.fs->Exists(part_));
}

const std::vector<int64_t> kA = {8, 50000};
const std::vector<int64_t> kB = {2, 3};
const std::vector<int64_t> kTurned = {3, 2};
const std::vector<int64_t> kOne = {1};

class ImportTest : public CliTest {
 protected:
  void SetUp() override {
    ASSERT_OK(WriteFileAtomic(env_.fs, dir_ / "layout", AsBytes(kLayout)));
    ASSERT_OK_AND_ASSIGN(const Layout layout, Layout::Parse(kLayout));
    ASSERT_OK_AND_ASSIGN(version_, BuildVersionHeader(layout, Sha256(kLayout)));
    version_ += Values(0, 400'000) + Values(1, 6);
  }
  // Of tensor `which`, as bytes.
  static std::string Values(int which, int count) {
    std::string bytes;
    for (int i = 0; i < count; ++i) {
      const float value = static_cast<float>(which * 1000 + i % 997);
      bytes += AsChars(std::as_bytes(std::span(&value, 1)));
    }
    return bytes;
  }
  // Tensors in the order given; no metadata.
  void Write(const std::vector<TensorSpec>& tensors, const std::string& bytes) {
    ASSERT_OK_AND_ASSIGN(const std::string header,
                         BuildSafetensorsHeader(tensors, {}));
    ASSERT_OK(WriteFileAtomic(env_.fs, dir_ / "base", AsBytes(header + bytes)));
  }
  int Import(std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"version", "import", dir_ / "base", "--layout",
                               dir_ / "layout"});
    return Run(more);
  }
  std::string Sent() const {
    std::string sent;
    for (const auto& chunk : fake_.chunks) sent += chunk.data();
    return sent;
  }

  static constexpr char kLayout[] =
      "consilium-layout 1\nshared F32 8x50000 a\nshared F32 2x3 b\n";
  TempDir dir_;
  std::string version_;  // as the coordinator keeps it
};

TEST_F(ImportTest, SendsLayoutDigestAndAllBytes) {
  ASSERT_OK(WriteFileAtomic(env_.fs, dir_ / "base", AsBytes(version_)));
  ASSERT_EQ(Import({"--reason", "first"}), 0) << err();
  ASSERT_GE(fake_.chunks.size(), 3u);
  EXPECT_EQ(fake_.chunks[0].layout_text(), kLayout);
  EXPECT_EQ(fake_.chunks[0].reason(), "first");
  EXPECT_EQ(fake_.chunks[0].total_bytes(), version_.size());
  EXPECT_EQ(fake_.chunks[0].sha256(),
            std::string(AsChars(Sha256(version_).bytes)));
  EXPECT_EQ(Sent(), version_);
}

TEST_F(ImportTest, AnySafetensorsFileWithTheLayoutsTensorsIsTaken) {
  // Another tool has them in an order of its own.
  Write({{"b", DType::kF32, kB}, {"a", DType::kF32, kA}},
        Values(1, 6) + Values(0, 400'000));
  ASSERT_EQ(Import(), 0) << err();
  EXPECT_EQ(Sent(), version_);
  EXPECT_EQ(fake_.chunks[0].sha256(),
            std::string(AsChars(Sha256(version_).bytes)));
}

TEST_F(ImportTest, WhatDoesNotFitTheLayoutIsNamed) {
  const auto refused = [this](const std::string& text) {
    EXPECT_EQ(Import(), 2);
    EXPECT_THAT(err(), AllOf(HasSubstr(dir_ / "base"), HasSubstr(text)));
    EXPECT_TRUE(fake_.chunks.empty());
  };
  Write({{"a", DType::kF32, kA}}, Values(0, 400'000));
  refused("there is no tensor \"b\"; the layout has it as F32 2x3");
  Write({{"a", DType::kF32, kA}, {"b", DType::kF32, kTurned}},
        Values(0, 400'006));
  refused("tensor \"b\" is F32 3x2; the layout has F32 2x3");
  Write({{"a", DType::kF32, kA},
         {"b", DType::kF32, kB},
         {"c", DType::kF32, kOne}},
        Values(0, 400'007));
  refused("tensor \"c\" is not in the layout");
  EXPECT_EQ(
      Run({"version", "import", dir_ / "layout", "--layout", dir_ / "layout"}),
      1);
  EXPECT_THAT(err(), HasSubstr(dir_ / "layout"));
}

TEST_F(ImportTest, OverAServedVersionItTakesYes) {
  ASSERT_OK(WriteFileAtomic(env_.fs, dir_ / "base", AsBytes(version_)));
  fake_.Answer<v1::FederationInfo>("GetFederation")
      .mutable_current()
      ->set_number(7);
  ASSERT_EQ(Import(), 0) << err();
  EXPECT_THAT(out(),
              AllOf(HasSubstr("replace version 7"),
                    HasSubstr(Sha256(version_).Hex()), HasSubstr("--yes")));
  EXPECT_TRUE(fake_.chunks.empty());
  ASSERT_EQ(Import({"--json"}), 0) << err();
  EXPECT_EQ(Json()["dry_run"], true);
  EXPECT_TRUE(fake_.chunks.empty());
  ASSERT_EQ(Import({"--json", "--yes"}), 0) << err();
  EXPECT_FALSE(fake_.chunks.empty());
}

}  // namespace
}  // namespace consilium

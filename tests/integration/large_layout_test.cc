// A layout that no single message could carry: the names of a mixture of
// experts of DeepSeek-V3's shape, imported by the operator's command, fetched
// by two institutions, averaged.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "consilium/aggregation/version_file.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "consilium/secure/sha256.h"
#include "tests/integration/harness.h"
#include "tests/integration/operator_cli.h"
#include "tests/integration/rounds.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using testing::HasSubstr;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kLayoutBytes = 8 * kMiB;

// Two bytes each, so that pieces of a fixed size part some of them.
constexpr char kUmlauts[] =
    "\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc"
    "\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc"
    "\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc";

// 58 layers of 256 experts, three matrices each, two factors.
Layout DeepSeekLayout() {
  std::vector<SlotSpec> slots;
  for (uint32_t layer = 3; layer < 61; ++layer) {
    for (uint32_t expert = 0; expert < 256; ++expert) {
      for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
        for (const char* factor : {"lora_A", "lora_B"}) {
          SlotSpec slot;
          slot.name = Cat(kUmlauts, ".model.layers.", layer, ".mlp.experts.",
                          expert, ".", part, ".", factor, ".weight");
          slot.shape = {1};
          slot.group = {GroupKind::kExpert, layer, expert};
          slots.push_back(std::move(slot));
        }
      }
    }
  }
  return *Layout::Create(std::move(slots));
}

class LargeLayoutTest : public testing::Test {
 protected:
  static TestFederation::Options Options(int64_t max_layout_bytes) {
    TestFederation::Options options;
    options.layout = DeepSeekLayout();
    options.import_version0 = false;
    options.configure = [max_layout_bytes](CoordinatorConfig& config) {
      if (max_layout_bytes > 0) {
        config.limits.max_layout_bytes = max_layout_bytes;
      }
    };
    return options;
  }

  void Begin(int64_t max_layout_bytes = 0) {
    federation_ = std::make_unique<TestFederation>(Options(max_layout_bytes));
    cli_ = std::make_unique<OperatorCli>(*federation_);
  }
  std::string Path(const char* name) const {
    return JoinPath(federation_->dir(), name);
  }
  // What an operator has: a version file and the text of its layout.
  int Import() {
    const Layout& layout = federation_->layout();
    const std::string text = layout.CanonicalText();
    EXPECT_GE(text.size(), kLayoutBytes);
    int parted = 0;
    for (size_t at = kMiB; at < text.size(); at += kMiB) {
      parted += (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
    }
    EXPECT_GT(parted, 0) << "no piece of 1 MiB would part a character";
    EXPECT_OK(
        WriteFileAtomic(federation_->fs(), Path("layout.txt"), AsBytes(text)));
    OpenOptions open;
    open.write = open.create = open.truncate = true;
    const auto file = federation_->fs()->Open(Path("v0.safetensors"), open);
    EXPECT_OK(file);
    const std::vector<float> one = {0.0f};
    EXPECT_OK(WriteVersionFile(
        layout, layout.ComputeId(Sha256HasherFactory()),
        [&one](const TensorSlot&) -> absl::StatusOr<std::span<const float>> {
          return std::span<const float>(one);
        },
        Sha256HasherFactory(), file->get()));
    return cli_->Run({"version", "import", Path("v0.safetensors"), "--layout",
                      Path("layout.txt")});
  }

  std::unique_ptr<TestFederation> federation_;
  std::unique_ptr<OperatorCli> cli_;
};

TEST_F(LargeLayoutTest, IsImportedFetchedAndAveraged) {
  Begin();
  ASSERT_EQ(Import(), 0) << cli_->err();
  federation_->Enroll("bank-a");
  federation_->Enroll("bank-b");
  const auto a = federation_->Connect("bank-a");
  const auto b = federation_->Connect("bank-b");
  ASSERT_NE(a->layout(), nullptr);
  EXPECT_EQ(*a->layout(), federation_->layout());
  const uint64_t round = federation_->StartRound();
  Contribute(*a, 1.0f);
  Contribute(*b, 3.0f);
  const v1::RoundInfo end = federation_->WaitForEnd(round);
  ASSERT_EQ(end.phase(), "promoted") << end.reason();
  const std::vector<float> all = federation_->CurrentParameters(*a);
  EXPECT_EQ(all, std::vector<float>(all.size(), 2.0f));
  // What names every group is read by the operator too.
  EXPECT_EQ(cli_->Run({"round", "show", Cat(round)}), 0) << cli_->err();
  EXPECT_EQ(cli_->Run({"version", "diff", "0", "1"}), 0) << cli_->err();
}

TEST_F(LargeLayoutTest, EachSideNamesItsLimit) {
  Begin(int64_t{4} << 20);
  EXPECT_NE(Import(), 0);
  EXPECT_THAT(cli_->err(), HasSubstr("limits.max_layout_bytes 4194304"));

  Begin();
  ASSERT_EQ(Import(), 0) << cli_->err();
  federation_->Enroll("bank-a");
  client::ClientOptions options = federation_->OptionsFor("bank-a");
  options.max_layout_bytes = int64_t{4} << 20;
  EXPECT_THAT(client::Client::Connect(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("limits.max_layout_bytes of this institution "
                                 "is 4 MiB")));
  options.max_layout_bytes = int64_t{64} << 20;
  options.max_layout_slots = 1000;
  EXPECT_THAT(client::Client::Connect(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("limits.max_layout_slots 1000")));
}

}  // namespace
}  // namespace consilium

#include "consilium/aggregation/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "tests/support/fake_hasher.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

constexpr char kText[] =
    "consilium-layout 1\n"
    "shared F32 4x8 trunk.lora_A\n"
    "expert/0/1 F32 3x2 layers.0 expert 1\n"
    "shared F32 - scale\n"
    "router/0 F32 5 gate\n";

SlotSpec Slot(std::string name, std::vector<int64_t> shape,
              GroupName group = {}) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .dtype = DType::kF32,
          .group = group};
}

TEST(GroupNameTest, RoundTrips) {
  for (const char* text :
       {"shared", "expert/0/0", "expert/57/255", "router/4294967295"}) {
    ASSERT_OK_AND_ASSIGN(const GroupName name, GroupName::Parse(text));
    EXPECT_EQ(name.ToString(), text);
  }
}

TEST(GroupNameTest, RefusesEverythingElse) {
  for (const char* text :
       {"", "Shared", "shared ", "expert", "expert/1", "expert/1/", "expert//1",
        "expert/1/2/3", "expert/01/2", "expert/-1/2", "expert/1/4294967296",
        "router/", "router/1/2", "router/x", "experts/1/2"}) {
    EXPECT_THAT(GroupName::Parse(text), StatusIs(kInvalid)) << text;
  }
}

TEST(LayoutTest, ParsesAndWritesCanonicalText) {
  ASSERT_OK_AND_ASSIGN(const Layout layout, Layout::Parse(kText));
  EXPECT_EQ(layout.CanonicalText(), kText);
  ASSERT_EQ(layout.slots().size(), 4u);
  EXPECT_EQ(layout.total_elements(), 32 + 6 + 1 + 5);

  const TensorSlot& expert = layout.slots()[1];
  EXPECT_EQ(expert.name, "layers.0 expert 1");
  EXPECT_THAT(expert.shape, ElementsAre(3, 2));
  EXPECT_EQ(expert.group, 1u);
  EXPECT_EQ(expert.first_element, 32);
  EXPECT_EQ(expert.elements, 6);
  EXPECT_TRUE(layout.slots()[2].shape.empty());

  ASSERT_EQ(layout.groups().size(), 3u);
  EXPECT_EQ(layout.groups()[2].ToString(), "router/0");
  EXPECT_THAT(layout.group_elements(), ElementsAre(33, 6, 5));
}

TEST(LayoutTest, FindsSlotsAndGroups) {
  ASSERT_OK_AND_ASSIGN(Layout original, Layout::Parse(kText));
  Layout layout = original;            // as a copy
  Layout moved = std::move(original);  // and after a move
  for (const Layout* l : {&layout, &moved}) {
    EXPECT_EQ(l->FindSlot("gate"), 3u);
    EXPECT_EQ(l->FindSlot("Gate"), std::nullopt);
    EXPECT_EQ(l->FindGroup(l->groups()[1]), 1u);
    EXPECT_EQ(l->FindGroup({.kind = GroupKind::kExpert}), std::nullopt);
  }
  EXPECT_EQ(layout.SlotAt(0), 0u);
  EXPECT_EQ(layout.SlotAt(31), 0u);
  EXPECT_EQ(layout.SlotAt(32), 1u);
  EXPECT_EQ(layout.SlotAt(38), 2u);
  EXPECT_EQ(layout.SlotAt(43), 3u);
  EXPECT_EQ(Layout().FindSlot("gate"), std::nullopt);
}

TEST(LayoutTest, CreateEqualsParse) {
  ASSERT_OK_AND_ASSIGN(
      const Layout made,
      Layout::Create(
          {Slot("trunk.lora_A", {4, 8}),
           Slot("layers.0 expert 1", {3, 2},
                {.kind = GroupKind::kExpert, .layer = 0, .expert = 1}),
           Slot("scale", {}),
           Slot("gate", {5}, {.kind = GroupKind::kRouter})}));
  ASSERT_OK_AND_ASSIGN(const Layout parsed, Layout::Parse(kText));
  EXPECT_TRUE(made == parsed);
  EXPECT_EQ(made.CanonicalText(), kText);
  EXPECT_EQ(made.ComputeId(FakeHasher::Factory()),
            FakeHasher::Of(AsBytes(kText)));
  ASSERT_OK_AND_ASSIGN(const Layout other, Layout::Create({Slot("a", {1})}));
  EXPECT_FALSE(made == other);
}

TEST(LayoutTest, RefusesTextThatIsNotCanonical) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "line 1"},
      {"consilium-layout 2\n", "line 1"},
      {"consilium-layout 1\r\n", "line 1"},
      {"consilium-layout 1\n", "no slots"},
      {"consilium-layout 1\nshared F32 2 a", "line 2 has no line feed"},
      {"consilium-layout 1\n\n", "line 2"},
      {"consilium-layout 1\nshared F32 2\n", "line 2"},
      {"consilium-layout 1\nshared F32 2 \n", "empty name"},
      {"consilium-layout 1\nshared F32 2 a\nhead F32 2 b\n", "line 3"},
      {"consilium-layout 1\nshared F31 2 a\n", "F31"},
      {"consilium-layout 1\nshared F32 02 a\n", "02"},
      {"consilium-layout 1\nshared F32 2x a\n", "dimension"},
      {"consilium-layout 1\nshared F32 -2 a\n", "-2"},
      {"consilium-layout 1\nshared F32 +2 a\n", "+2"},
      {"consilium-layout 1\nshared F32 2x0 a\n", "below 1"},
      {"consilium-layout 1\nshared F32  a\n", "dimension"},
      {"consilium-layout 1\nshared F32 2 a\tb\n", "control"},
      {"consilium-layout 1\nshared F32 2 a\x7f\n", "control"},
      {"consilium-layout 1\nshared F32 2 \xc3\x28\n", "UTF-8"},
      {"consilium-layout 1\nshared F32 2 a\nshared F32 3 a\n", "twice"},
      {"consilium-layout 1\nshared F32 99999999999999999999 a\n", "dimension"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(Layout::Parse(text), StatusIs(kInvalid, HasSubstr(message)))
        << text;
  }
  EXPECT_THAT(Layout::Parse("consilium-layout 1\nshared BF16 2 a\n"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("BF16")));
}

TEST(LayoutTest, NamesTheLimitThatIsExceeded) {
  EXPECT_THAT(Layout::Parse(kText, {.max_text_bytes = 50}),
              StatusIs(kExhausted, HasSubstr("limits.max_layout_bytes 50")));
  EXPECT_THAT(Layout::Parse(kText, {.max_slots = 3}),
              StatusIs(kExhausted, HasSubstr("limits.max_layout_slots 3")));
  EXPECT_THAT(Layout::Parse(kText, {.max_elements_per_slot = 31}),
              StatusIs(kExhausted, AllOf(HasSubstr("trunk.lora_A"),
                                         HasSubstr("max_elements_per_slot"))));
  EXPECT_THAT(Layout::Parse(kText, {.max_total_elements = 43}),
              StatusIs(kExhausted, AllOf(HasSubstr("gate"),
                                         HasSubstr("max_total_elements"))));
  EXPECT_OK(Layout::Parse(kText, {.max_total_elements = 44}));
  EXPECT_THAT(Layout::Parse(kText, {.max_rank = 1}),
              StatusIs(kExhausted, HasSubstr("max_rank")));
  EXPECT_THAT(Layout::Create({Slot(std::string(513, 'x'), {1})}),
              StatusIs(kExhausted, HasSubstr("max_name_bytes")));
  // 2^63 elements and more: the product itself must not overflow.
  EXPECT_THAT(Layout::Create({Slot("a", {int64_t{1} << 32, int64_t{1} << 32})}),
              StatusIs(kExhausted));
  EXPECT_THAT(Layout::Create({Slot("a", {-1})}), StatusIs(kInvalid));
}

// 58 layers of 256 experts, three matrices of two factors: 89,088 slots.
TEST(LayoutTest, HoldsAModelWithEightyNineThousandSlots) {
  std::vector<SlotSpec> slots;
  for (uint32_t layer = 0; layer < 58; ++layer) {
    for (uint32_t expert = 0; expert < 256; ++expert) {
      for (const char* matrix : {"gate_proj", "up_proj", "down_proj"}) {
        for (const char* factor : {"lora_A", "lora_B"}) {
          slots.push_back(Slot(
              Cat("model.layers.", layer, ".mlp.experts.", expert, ".", matrix,
                  ".", factor, ".weight"),
              {16, 2048},
              {.kind = GroupKind::kExpert, .layer = layer, .expert = expert}));
        }
      }
    }
  }
  ASSERT_OK_AND_ASSIGN(const Layout layout, Layout::Create(std::move(slots)));
  EXPECT_EQ(layout.slots().size(), 89088u);
  EXPECT_EQ(layout.groups().size(), 58u * 256);
  const std::string text = layout.CanonicalText();
  ASSERT_OK_AND_ASSIGN(const Layout parsed, Layout::Parse(text));
  EXPECT_EQ(parsed.CanonicalText(), text);
  EXPECT_EQ(parsed.FindSlot(layout.slots()[77777].name), 77777u);
}

}  // namespace
}  // namespace consilium

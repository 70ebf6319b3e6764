#include "client_sdk/training/base_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

#include "consilium/base/bytes.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;

constexpr TableMoeShape kShape = {.features = 3,
                                  .classes = 2,
                                  .width = 4,
                                  .lora_rank = 2,
                                  .lora_alpha = 0.1,
                                  .experts = 3,
                                  .expert_width = 5,
                                  .top_k = 2};

BaseModel SmallModel() {
  BaseModel model{kShape, FrozenTensors(kShape), {}};
  float next = 0;
  for (NamedTensor& tensor : model.tensors) {
    tensor.values.resize(static_cast<size_t>(ElementsOf(tensor.shape)));
    for (float& value : tensor.values) value = next++;
  }
  return model;
}

std::string SmallFile() {
  const absl::StatusOr<std::string> file = WriteBaseModel(SmallModel());
  return file.ok() ? *file : file.status().ToString();
}

std::string Replaced(std::string text, std::string_view from,
                     std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST(AdapterSlotsTest, GroupsAndOrder) {
  ASSERT_OK_AND_ASSIGN(const Layout layout,
                       Layout::Create(AdapterSlots(kShape)));
  EXPECT_EQ(layout.CanonicalText(),
            "consilium-layout 1\n"
            "shared F32 2x3 trunk.0.lora_A.weight\n"
            "shared F32 4x2 trunk.0.lora_B.weight\n"
            "shared F32 2x4 trunk.1.lora_A.weight\n"
            "shared F32 4x2 trunk.1.lora_B.weight\n"
            "expert/0/0 F32 5x4 experts.0.up.weight\n"
            "expert/0/0 F32 4x5 experts.0.down.weight\n"
            "expert/0/1 F32 5x4 experts.1.up.weight\n"
            "expert/0/1 F32 4x5 experts.1.down.weight\n"
            "expert/0/2 F32 5x4 experts.2.up.weight\n"
            "expert/0/2 F32 4x5 experts.2.down.weight\n"
            "router/0 F32 3x4 router.weight\n");
}

TEST(CheckShapeTest, NamesWhatIsOutOfRange) {
  const auto refused = [](auto change, std::string_view message) {
    TableMoeShape shape = kShape;
    change(shape);
    EXPECT_THAT(CheckShape(shape), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr(std::string(message))));
  };
  EXPECT_OK(CheckShape(kShape));
  EXPECT_OK(CheckShape({}));
  refused([](auto& s) { s.features = 0; }, "features is 0");
  refused([](auto& s) { s.classes = 1; }, "classes is 1");
  refused([](auto& s) { s.width = int64_t{1} << 40; },
          "width is 1099511627776");
  refused([](auto& s) { s.lora_rank = 5; }, "at most width, 4");
  refused([](auto& s) { s.top_k = 4; }, "at most experts, 3");
  refused([](auto& s) { s.experts = -1; }, "experts is -1");
  refused([](auto& s) { s.lora_alpha = 0; }, "lora_alpha is 0");
  refused(
      [](auto& s) { s.lora_alpha = std::numeric_limits<double>::infinity(); },
      "lora_alpha");
  refused([](auto& s) { s.experts = s.width = s.expert_width = 65536; },
          "experts * expert_width * width");
}

TEST(BaseModelTest, ReadsWhatItWrote) {
  const BaseModel model = SmallModel();
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteBaseModel(model));
  ASSERT_OK_AND_ASSIGN(const BaseModel read, ParseBaseModel(AsBytes(file)));
  EXPECT_EQ(read.shape.features, 3);
  EXPECT_EQ(read.shape.lora_alpha, 0.1);
  EXPECT_EQ(read.shape.top_k, 2);
  ASSERT_EQ(read.tensors.size(), model.tensors.size());
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    EXPECT_EQ(read.tensors[i].name, model.tensors[i].name);
    EXPECT_EQ(read.tensors[i].values, model.tensors[i].values);
  }
}

TEST(BaseModelTest, EqualModelsGiveEqualBytes) {
  EXPECT_EQ(SmallFile(), SmallFile());
}

TEST(BaseModelTest, RefusesTensorsThatDoNotFit) {
  BaseModel model = SmallModel();
  model.tensors[2].shape = {3, 4};
  EXPECT_THAT(WriteBaseModel(model),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("trunk.0.weight of shape 4x3")));
  model = SmallModel();
  model.tensors.pop_back();
  EXPECT_THAT(WriteBaseModel(model),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("7 tensors; it has 8")));
}

TEST(BaseModelTest, RefusesOtherFiles) {
  const std::string file = SmallFile();
  const auto refused = [](const std::string& bytes, std::string_view message) {
    EXPECT_THAT(ParseBaseModel(AsBytes(bytes)).status().ToString(),
                HasSubstr(std::string(message)));
  };
  refused(Replaced(file, "table-moe/1", "table-moe/2"),
          "\"table-moe/2\"; it must be \"table-moe/1\"");
  refused(Replaced(file, "consilium.model", "consilium.mode_"), "is missing");
  refused(Replaced(file, "\"width\":\"4\"", "\"width\":\"5\""),
          "trunk.0.weight is F32 4x3; it must be F32 5x3");
  refused(Replaced(file, "\"width\":\"4\"", "\"width\":\"x\""),
          "width is \"x\", not a number");
  refused(Replaced(file, "\"top_k\":\"2\"", "\"top_k\":\"9\""), "top_k is 9");
  refused(Replaced(file, "\"lora_alpha\"", "\"lora_alphA\""),
          "no metadata key lora_alpha");
  refused(Replaced(file, "\"head.bias\"", "\"head.biaS\""),
          "head.bias is missing");
  EXPECT_THAT(ParseBaseModel(AsBytes(file.substr(0, file.size() / 2))),
              testing::Not(IsOk()));
  EXPECT_THAT(ParseBaseModel({}), testing::Not(IsOk()));
}

TEST(BaseModelTest, RefusesValuesThatAreNotFinite) {
  BaseModel model = SmallModel();
  model.tensors[5].values[0] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteBaseModel(model));
  EXPECT_THAT(ParseBaseModel(AsBytes(file)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("trunk.1.bias holds NaN")));
}

TEST(BaseModelTest, NamesOfColumnsAreKept) {
  BaseModel model = SmallModel();
  EXPECT_THAT(ParseBaseModel(AsBytes(SmallFile())).value().columns,
              testing::IsEmpty());
  model.columns = {"radius", "mean of texture", "area"};
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteBaseModel(model));
  ASSERT_OK_AND_ASSIGN(const BaseModel back, ParseBaseModel(AsBytes(file)));
  EXPECT_EQ(back.columns, model.columns);
}

TEST(BaseModelTest, ColumnsThatDoNotFitAreRefused) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> mistakes =
      {{{"a", "b"}, "2 columns are named, the features are 3"},
       {{"a", "b", "b"}, "two columns are called \"b\""},
       {{"a", "b,c", "d"}, "a column is called \"b,c\""},
       {{"a", " b", "d"}, "a column is called \" b\""},
       {{"a", "label", "d"}, "a column is called \"label\""},
       {{"a", "", "d"}, "a column is called \"\""}};
  for (const auto& [columns, error] : mistakes) {
    BaseModel model = SmallModel();
    model.columns = columns;
    EXPECT_THAT(WriteBaseModel(model),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  }
  BaseModel model = SmallModel();
  model.columns = {"aa", "ab", "ac"};
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteBaseModel(model));
  EXPECT_THAT(ParseBaseModel(AsBytes(Replaced(file, "aa,ab,ac", "aa,ab,aa"))),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("two columns are called \"aa\"")));
}

}  // namespace
}  // namespace consilium

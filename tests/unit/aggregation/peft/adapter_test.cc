#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "consilium/aggregation/peft.h"
#include "consilium/base/bytes.h"
#include "consilium/base/file.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"

namespace consilium::peft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadData(const std::string& path) {
  const auto text = ReadWholeFile(
      PosixFileSystem(), JoinPath(CONSILIUM_PEFT_DATA, path), int64_t{1} << 24);
  EXPECT_OK(text.status());
  return text.value_or("");
}

// One adapter directory, opened.
struct Opened {
  explicit Opened(const std::string& directory)
      : json(ReadData(JoinPath(directory, "adapter_config.json"))),
        bytes(ReadData(JoinPath(directory, "adapter_model.safetensors"))) {
    auto parsed = ParseConfig(json);
    EXPECT_OK(parsed.status());
    if (parsed.ok()) config = *std::move(parsed);
    auto parsed_file = SafetensorsView::Parse(AsBytes(bytes));
    EXPECT_OK(parsed_file.status());
    if (parsed_file.ok()) file = *std::move(parsed_file);
    auto read = ReadAdapter(config, file.header());
    EXPECT_OK(read.status());
    if (read.ok()) adapter = *std::move(read);
  }

  std::string json;
  std::string bytes;
  Config config;
  SafetensorsView file;
  Adapter adapter;
};

// scale * B A, row-major.
std::vector<double> Dense(const Target& target, const lora::Factors& f) {
  const auto rows = static_cast<size_t>(target.shape.out);
  const auto columns = static_cast<size_t>(target.shape.in);
  const auto rank = static_cast<size_t>(f.rank);
  std::vector<double> out(rows * columns);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t k = 0; k < rank; ++k) {
      const double b = target.scale * static_cast<double>(f.b[i * rank + k]);
      for (size_t j = 0; j < columns; ++j) {
        out[i * columns + j] += b * static_cast<double>(f.a[k * columns + j]);
      }
    }
  }
  return out;
}

class PeftFilesTest : public testing::TestWithParam<std::string> {};

// The mean of three sites' merged updates, as PEFT itself merges them.
TEST_P(PeftFilesTest, TheMeanOfTheSitesIsTheOneOfPeft) {
  const std::string directory = GetParam();
  const double weights[] = {0.25, 0.625, 0.125};  // 100, 250, 50 examples
  const std::string expected_bytes =
      ReadData(JoinPath(directory, "expected.safetensors"));
  ASSERT_OK_AND_ASSIGN(const SafetensorsView expected,
                       SafetensorsView::Parse(AsBytes(expected_bytes)));
  std::map<std::string, std::vector<double>> mean;
  std::vector<Target> targets;
  for (int site = 0; site < 3; ++site) {
    const Opened opened(JoinPath(directory, Cat("site-", site)));
    targets = opened.adapter.targets;
    for (const Target& target : targets) {
      ASSERT_OK_AND_ASSIGN(const lora::Factors f,
                           ReadFactors(opened.file, target));
      const std::vector<double> dense = Dense(target, f);
      std::vector<double>& sum = mean[target.name];
      sum.resize(dense.size());
      for (size_t i = 0; i < dense.size(); ++i) {
        sum[i] += weights[site] * dense[i];
      }
    }
  }
  // GPT-OSS keeps [E, in, out].
  const bool transposed = directory == "gpt_oss";
  size_t compared = 0;
  double difference = 0, norm = 0;
  for (const Target& target : targets) {
    std::string name = Cat(target.name, ".weight");
    size_t first = 0;
    if (target.experts > 0) {
      const size_t end = target.name.rfind('.');
      const size_t expert = target.name.rfind('.', end - 1);
      name = target.name.substr(0, expert) + target.name.substr(end);
      first = static_cast<size_t>(target.expert * target.shape.out *
                                  target.shape.in);
    }
    ASSERT_OK_AND_ASSIGN(const std::span<const float> wanted,
                         expected.Floats(name));
    const std::vector<double>& got = mean[target.name];
    const auto rows = static_cast<size_t>(target.shape.out);
    const auto columns = static_cast<size_t>(target.shape.in);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < columns; ++j) {
        const bool turned = transposed && target.experts > 0;
        const auto want = static_cast<double>(
            wanted[first + (turned ? j * rows + i : i * columns + j)]);
        const double off = got[i * columns + j] - want;
        difference += off * off;
        norm += want * want;
      }
    }
    compared += rows * columns;
  }
  size_t all = 0;
  for (const TensorInfo& tensor : expected.header().tensors) {
    all += static_cast<size_t>(tensor.elements());
  }
  EXPECT_EQ(compared, all);
  EXPECT_LT(std::sqrt(difference / norm), 1e-6);
}

TEST_P(PeftFilesTest, WrittenAgainItHasTheSameTensors) {
  const Opened opened(JoinPath(GetParam(), "site-0"));
  std::vector<lora::Factors> factors;
  for (const Target& target : opened.adapter.targets) {
    ASSERT_OK_AND_ASSIGN(lora::Factors f, ReadFactors(opened.file, target));
    factors.push_back(std::move(f));
  }
  ASSERT_OK_AND_ASSIGN(
      const std::string written,
      WriteAdapter(opened.file.header(), opened.adapter, factors, {}));
  ASSERT_OK_AND_ASSIGN(const SafetensorsView back,
                       SafetensorsView::Parse(AsBytes(written)));
  ASSERT_EQ(back.header().tensors.size(), opened.file.header().tensors.size());
  EXPECT_EQ(back.header().metadata, opened.file.header().metadata);
  for (const TensorInfo& tensor : opened.file.header().tensors) {
    const TensorInfo* const same = back.header().Find(tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    EXPECT_EQ(same->shape, tensor.shape);
    EXPECT_EQ(AsChars(back.Bytes(tensor.name).value()),
              AsChars(opened.file.Bytes(tensor.name).value()))
        << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Architecture, PeftFilesTest,
                         testing::Values("bert", "deepseek_v3", "gpt_oss",
                                         "mixtral"),
                         [](const auto& param) { return param.param; });

TEST(PeftAdapterTest, FusedExpertsAreNamedOneByOne) {
  const Opened opened("mixtral/site-0");
  std::vector<std::string> names;
  for (const Target& target : opened.adapter.targets) {
    if (target.name.starts_with("model.layers.0.mlp")) {
      names.push_back(target.name);
      EXPECT_EQ(target.experts, 4);
    }
  }
  EXPECT_THAT(names, ElementsAre("model.layers.0.mlp.experts.0.gate_up_proj",
                                 "model.layers.0.mlp.experts.1.gate_up_proj",
                                 "model.layers.0.mlp.experts.2.gate_up_proj",
                                 "model.layers.0.mlp.experts.3.gate_up_proj",
                                 "model.layers.0.mlp.experts.0.down_proj",
                                 "model.layers.0.mlp.experts.1.down_proj",
                                 "model.layers.0.mlp.experts.2.down_proj",
                                 "model.layers.0.mlp.experts.3.down_proj"));
}

// A file of the given tensors, all zeros.
std::string FileOf(const std::vector<std::pair<std::string, TensorSpec>>& all) {
  std::vector<TensorSpec> specs;
  size_t bytes = 0;
  for (const auto& [name, spec] : all) {
    specs.push_back(spec);
    specs.back().name = name;
    size_t elements = 1;
    for (const int64_t size : spec.shape) elements *= static_cast<size_t>(size);
    bytes += elements * static_cast<size_t>(DTypeBytes(spec.dtype));
  }
  auto file = BuildSafetensorsHeader(specs, {}, 8);
  EXPECT_OK(file.status());
  return file.value_or("") + std::string(bytes, '\0');
}

class PeftRulesTest : public testing::Test {
 protected:
  // What reading such a file says.
  absl::StatusOr<Adapter> Read(
      const std::vector<std::pair<std::string, TensorSpec>>& tensors) {
    const std::string bytes = FileOf(tensors);
    const auto view = SafetensorsView::Parse(AsBytes(bytes));
    if (!view.ok()) return view.status();
    return ReadAdapter(config_, view->header());
  }
  TensorSpec Matrix(size_t rows, size_t columns, DType dtype = DType::kF32) {
    shapes_.push_back(
        {static_cast<int64_t>(rows), static_cast<int64_t>(columns)});
    return {"", dtype, shapes_.back()};
  }

  Config config_ = {.rank = 4, .alpha = 8};
  std::list<std::vector<int64_t>> shapes_;
};

const std::string kQ = "base_model.model.q";

TEST_F(PeftRulesTest, ScalesFollowAlphaRankAndPatterns) {
  config_.alpha_pattern = {{"layers.1.q", 32}, {"q", 8}};
  config_.rank_pattern = true;
  const std::vector<std::pair<std::string, TensorSpec>> tensors = {
      {"base_model.model.layers.0.q.lora_A.weight", Matrix(4, 3)},
      {"base_model.model.layers.0.q.lora_B.weight", Matrix(5, 4)},
      {"base_model.model.layers.1.q.lora_A.weight", Matrix(16, 3)},
      {"base_model.model.layers.1.q.lora_B.weight", Matrix(5, 16)}};
  ASSERT_OK_AND_ASSIGN(const Adapter plain, Read(tensors));
  EXPECT_EQ(plain.targets[0].scale, 2);
  EXPECT_EQ(plain.targets[1].scale, 2);
  EXPECT_EQ(plain.targets[1].rank, 16);
  config_.rslora = true;
  ASSERT_OK_AND_ASSIGN(const Adapter stabilised, Read(tensors));
  EXPECT_EQ(stabilised.targets[0].scale, 4);
  EXPECT_EQ(stabilised.targets[1].scale, 8);
}

TEST_F(PeftRulesTest, ModulesToSaveAreKeptWhole) {
  config_.modules_to_save = {"classifier"};
  ASSERT_OK_AND_ASSIGN(
      const Adapter adapter,
      Read({{"base_model.model.head.classifier.weight", Matrix(2, 3)}}));
  ASSERT_EQ(adapter.whole.size(), 1u);
  EXPECT_EQ(adapter.whole[0].name, "head.classifier.weight");
  ASSERT_OK_AND_ASSIGN(
      const Adapter parts,
      Read({{"base_model.model.classifier.dense.weight", Matrix(2, 3)},
            {"base_model.model.classifier.out_proj.weight", Matrix(2, 3)}}));
  EXPECT_EQ(parts.whole.size(), 2u);
}

// PEFT takes the first pattern that fits.
TEST_F(PeftRulesTest, TheFirstPatternDecides) {
  config_.alpha_pattern = {{"layers.0.q", 32}, {"q", 16}};
  ASSERT_OK_AND_ASSIGN(
      const Adapter adapter,
      Read({{"base_model.model.layers.0.q.lora_A.weight", Matrix(4, 3)},
            {"base_model.model.layers.0.q.lora_B.weight", Matrix(5, 4)}}));
  EXPECT_EQ(adapter.targets[0].scale, 8);
}

TEST_F(PeftRulesTest, OneBlockIsAParameterOfTwoDimensions) {
  config_.target_parameters = {"mlp.gate.weight"};
  ASSERT_OK_AND_ASSIGN(
      const Adapter adapter,
      Read({{"base_model.model.mlp.gate.lora_A.weight", Matrix(4, 3)},
            {"base_model.model.mlp.gate.lora_B.weight", Matrix(5, 4)}}));
  ASSERT_EQ(adapter.targets.size(), 1u);
  EXPECT_EQ(adapter.targets[0].name, "mlp.gate.weight");
  EXPECT_EQ(adapter.targets[0].experts, 0);
}

TEST_F(PeftRulesTest, ParametersInAnotherOrderAreNotGuessed) {
  config_.target_parameters = {"e.down_proj", "e.gate_up_proj"};
  EXPECT_THAT(Read({{"base_model.model.e.lora_A.weight", Matrix(8, 3)},
                    {"base_model.model.e.lora_B.weight", Matrix(5, 8)}}),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("gate_up_proj and down_proj, in this order")));
}

TEST_F(PeftRulesTest, ExpertsAreBounded) {
  config_.rank = 1;
  config_.target_parameters = {"e.up"};
  EXPECT_THAT(Read({{"base_model.model.e.lora_A.weight", Matrix(4097, 1)},
                    {"base_model.model.e.lora_B.weight", Matrix(1, 4097)}}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("4097 experts, the limit is 4096")));
}

TEST_F(PeftRulesTest, WhatDoesNotFitIsNamed) {
  const auto refused =
      [&](const std::vector<std::pair<std::string, TensorSpec>>& tensors,
          const std::string& words) {
        EXPECT_THAT(Read(tensors), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr(words)));
      };
  const std::string a = kQ + ".lora_A.weight", b = kQ + ".lora_B.weight";
  refused({{a, Matrix(4, 3)}}, "has no \"base_model.model.q.lora_B.weight\"");
  refused({{b, Matrix(4, 3)}}, "has no \"base_model.model.q.lora_A.weight\"");
  refused({{a, Matrix(4, 3)}, {b, Matrix(5, 3)}}, "they share the rank");
  refused({{"q.lora_A.weight", Matrix(4, 3)}}, "does not begin with");
  refused({{kQ + ".weight", Matrix(4, 3)}}, "is neither a LoRA factor");
  refused({{a, Matrix(8, 3)}, {b, Matrix(5, 8)}},
          "has rank 8, r is 4 and there is no rank_pattern");
  refused({{kQ + ".base_layer.lora_A.weight", Matrix(4, 3)},
           {kQ + ".base_layer.lora_B.weight", Matrix(5, 4)}},
          "is wrapped, and target_parameters names no parameter");
  config_.target_parameters = {"q.up"};
  refused({{a, Matrix(6, 3)}, {b, Matrix(5, 6)}},
          "has 6 rows, no multiple of the rank 4");
  refused({{kQ + ".base_layer.lora_A.weight", Matrix(4, 3)},
           {kQ + ".base_layer.lora_B.weight", Matrix(5, 4)}},
          "is wrapped 1 times; target_parameters names 1 parameters");
}

TEST_F(PeftRulesTest, OtherElementsAndDoraAreNotSupported) {
  const std::string a = kQ + ".lora_A.weight", b = kQ + ".lora_B.weight";
  EXPECT_THAT(
      Read({{a, Matrix(4, 3, DType::kI8)}, {b, Matrix(5, 4)}}),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("dtype I8")));
  EXPECT_THAT(
      Read({{kQ + ".lora_embedding_A", Matrix(1, 3)}}),
      StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("a part of LoRA")));
  EXPECT_THAT(Read({{kQ + ".lora_magnitude_vector", Matrix(1, 3)}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("DoRA")));
}

}  // namespace
}  // namespace consilium::peft

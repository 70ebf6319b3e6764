#include "consilium/client_training/table_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/base/split_mix.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr TableMoeShape kShape = {.features = 4,
                                  .width = 8,
                                  .lora_rank = 2,
                                  .lora_alpha = 4,
                                  .experts = 4,
                                  .expert_width = 8};

const PretrainOptions kPretrain = {.epochs = 60};

// Label 1 where the first two features agree in sign; the trunk saw another
// rule, so only the adapter can learn this one.
struct Rows {
  std::vector<float> features;
  std::vector<int32_t> labels;
  TableView view() const { return {features, labels, 4}; }
};

Rows MakeRows(int count, uint64_t seed, bool rule_of_sign) {
  SplitMixRandom random(seed);
  Rows rows;
  for (int i = 0; i < count; ++i) {
    float x[4];
    for (float& value : x) {
      value = static_cast<float>(RandomUnit(random) * 2 - 1);
    }
    rows.features.insert(rows.features.end(), x, x + 4);
    rows.labels.push_back(rule_of_sign ? (x[0] > 0) == (x[1] > 0) : x[2] > 0);
  }
  return rows;
}

bool SameBits(const std::vector<NamedTensor>& a,
              const std::vector<NamedTensor>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].name != b[i].name || a[i].shape != b[i].shape ||
        a[i].values != b[i].values) {
      return false;
    }
  }
  return true;
}

class TableTrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(pretrained_, TableMoeTrainer::Pretrain(
                                          kShape, public_.view(), kPretrain));
    ASSERT_OK_AND_ASSIGN(
        trainer_, TableMoeTrainer::Create(AsBytes(pretrained_.base_model),
                                          {.device = TrainingDevice::kCpu}));
    base_ = SourceOf(pretrained_.version_zero);
  }

  const Rows public_ = MakeRows(60, 1, false);
  const Rows rows_ = MakeRows(200, 2, true);
  const TrainOptions options_ = {
      .epochs = 3, .learning_rate = 0.01, .prox_mu = 0};
  PretrainedTable pretrained_;
  std::unique_ptr<TableMoeTrainer> trainer_;
  ParameterSource base_;
};

TEST_F(TableTrainerTest, VersionZeroFitsTheSlotsAndActsAsTheTrunk) {
  const std::vector<SlotSpec> slots = trainer_->Slots();
  ASSERT_EQ(slots.size(), pretrained_.version_zero.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const NamedTensor& tensor = pretrained_.version_zero[i];
    EXPECT_EQ(tensor.name, slots[i].name);
    EXPECT_EQ(tensor.shape, slots[i].shape);
    const bool zero = std::all_of(tensor.values.begin(), tensor.values.end(),
                                  [](float value) { return value == 0; });
    EXPECT_EQ(zero, tensor.name.ends_with("lora_B.weight")) << tensor.name;
  }
  EXPECT_EQ(trainer_->device(), "cpu");
  EXPECT_EQ(trainer_->shape().experts, 4);
  ASSERT_OK_AND_ASSIGN(const TableEvaluation on_public,
                       trainer_->Evaluate(base_, public_.view()));
  EXPECT_GT(on_public.accuracy, 0.9);
}

TEST_F(TableTrainerTest, LearnsWhatTheTrunkCannotKnow) {
  ASSERT_OK_AND_ASSIGN(const TableEvaluation before,
                       trainer_->Evaluate(base_, rows_.view()));
  TrainOptions options = options_;
  options.epochs = 40;
  std::vector<TrainProgress> seen;
  ASSERT_OK_AND_ASSIGN(
      const TrainResult result,
      trainer_->Train(base_, rows_.view(), options,
                      [&](const TrainProgress& p) { seen.push_back(p); }));
  std::vector<NamedTensor> trained = pretrained_.version_zero;
  ASSERT_OK(AddDelta(result.delta, trained));
  ASSERT_OK_AND_ASSIGN(const TableEvaluation after,
                       trainer_->Evaluate(SourceOf(trained), rows_.view()));
  EXPECT_EQ(after.examples, 200u);
  EXPECT_LT(before.accuracy, 0.7);
  EXPECT_GT(after.accuracy, 0.9);
  EXPECT_GT(after.auc.value(), 0.95);
  EXPECT_LT(after.loss, before.loss);
  ASSERT_EQ(seen.size(), 40u);
  EXPECT_EQ(seen.back().epoch, 40);
  EXPECT_EQ(seen.back().epochs, 40);
  EXPECT_EQ(seen.back().loss, result.loss);
  EXPECT_LT(seen.back().loss, seen.front().loss);
}

TEST_F(TableTrainerTest, CountsRowsStepsAndRoutedTokens) {
  ASSERT_OK_AND_ASSIGN(const TrainResult result,
                       trainer_->Train(base_, rows_.view(), options_));
  EXPECT_EQ(result.examples, 200u);
  EXPECT_EQ(result.steps, 3 * 13);  // 12 batches of 16 and one of 8
  EXPECT_EQ(std::accumulate(result.routed_tokens.begin(),
                            result.routed_tokens.end(), uint64_t{0}),
            200u * 2 * 3);
  EXPECT_LT(result.utilisation_std, 0.15);
}

TEST_F(TableTrainerTest, SeedDecidesEveryBit) {
  ASSERT_OK_AND_ASSIGN(const TrainResult a,
                       trainer_->Train(base_, rows_.view(), options_));
  ASSERT_OK_AND_ASSIGN(const TrainResult b,
                       trainer_->Train(base_, rows_.view(), options_));
  EXPECT_TRUE(SameBits(a.delta, b.delta));
  EXPECT_EQ(a.routed_tokens, b.routed_tokens);
  TrainOptions other = options_;
  other.seed = 2;
  ASSERT_OK_AND_ASSIGN(const TrainResult c,
                       trainer_->Train(base_, rows_.view(), other));
  EXPECT_FALSE(SameBits(a.delta, c.delta));

  ASSERT_OK_AND_ASSIGN(
      const PretrainedTable again,
      TableMoeTrainer::Pretrain(kShape, public_.view(), kPretrain));
  EXPECT_EQ(again.base_model, pretrained_.base_model);
  EXPECT_TRUE(SameBits(again.version_zero, pretrained_.version_zero));
}

TEST_F(TableTrainerTest, ExpertsThatNoRowReachedHaveNoDelta) {
  const Rows one = MakeRows(1, 4, true);  // goes to two of the four experts
  TrainOptions options = options_;
  options.learning_rate = 1e-6;  // so small that its choice does not change
  ASSERT_OK_AND_ASSIGN(const TrainResult result,
                       trainer_->Train(base_, one.view(), options));
  EXPECT_EQ(result.utilisation_std, 0.25);  // shares 1/2, 1/2, 0, 0
  std::vector<std::string> names;
  for (const NamedTensor& tensor : result.delta) names.push_back(tensor.name);
  for (size_t e = 0; e < 4; ++e) {
    const std::string prefix = "experts." + std::to_string(e);
    if (result.routed_tokens[e] > 0) {
      EXPECT_THAT(names, Contains(prefix + ".up.weight"));
      EXPECT_THAT(names, Contains(prefix + ".down.weight"));
    } else {
      EXPECT_THAT(names, Not(Contains(StartsWith(prefix))));
    }
  }
  EXPECT_THAT(names, Contains("trunk.1.lora_A.weight"));
  EXPECT_THAT(names, Contains("router.weight"));
}

double Norm(const std::vector<NamedTensor>& delta) {
  double squares = 0;
  for (const NamedTensor& tensor : delta) {
    for (const float value : tensor.values) squares += double{value} * value;
  }
  return std::sqrt(squares);
}

TEST_F(TableTrainerTest, FedProxKeepsTheDeltaShort) {
  TrainOptions options = options_;
  options.epochs = 10;
  ASSERT_OK_AND_ASSIGN(const TrainResult free,
                       trainer_->Train(base_, rows_.view(), options));
  options.prox_mu = 1;
  ASSERT_OK_AND_ASSIGN(const TrainResult bound,
                       trainer_->Train(base_, rows_.view(), options));
  EXPECT_LT(Norm(bound.delta), 0.7 * Norm(free.delta));
}

TEST_F(TableTrainerTest, BalanceLossSpreadsTheRows) {
  TrainOptions options = options_;
  options.epochs = 20;
  options.balance_alpha = 0;
  ASSERT_OK_AND_ASSIGN(const TrainResult off,
                       trainer_->Train(base_, rows_.view(), options));
  options.balance_alpha = 1;
  ASSERT_OK_AND_ASSIGN(const TrainResult on,
                       trainer_->Train(base_, rows_.view(), options));
  EXPECT_LT(on.utilisation_std, off.utilisation_std);
}

TEST_F(TableTrainerTest, CancelStopsBeforeTheNextStep) {
  CancelSource stop;
  int64_t epochs = 0;
  const absl::StatusOr<TrainResult> result = trainer_->Train(
      base_, rows_.view(), options_,
      [&](const TrainProgress& p) {
        epochs = p.epoch;
        stop.Cancel("the round closed");
      },
      stop.token());
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kCancelled,
                               HasSubstr("the round closed")));
  EXPECT_EQ(epochs, 1);
}

TEST_F(TableTrainerTest, RefusesOptionsOutOfRange) {
  const auto refused = [&](auto change, std::string_view message) {
    TrainOptions options;
    change(options);
    EXPECT_THAT(trainer_->Train(base_, rows_.view(), options),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::string(message))));
  };
  refused([](auto& o) { o.epochs = 0; }, "epochs is 0");
  refused([](auto& o) { o.batch_rows = 0; }, "batch_rows is 0");
  refused([](auto& o) { o.learning_rate = std::nan(""); }, "learning_rate");
  refused([](auto& o) { o.learning_rate_decay = 1.5; }, "decay is 1.5");
  refused([](auto& o) { o.warmup_steps = -1; }, "warmup_steps is -1");
  refused([](auto& o) { o.beta2 = 1; }, "beta2 is 1");
  refused([](auto& o) { o.clip_norm = -1; }, "clip_norm is -1");
  refused([](auto& o) { o.prox_mu = -1; }, "prox_mu is -1");
  refused([](auto& o) { o.balance_alpha = -1; }, "balance_alpha is -1");
}

TEST_F(TableTrainerTest, RefusesParametersThatDoNotFit) {
  std::vector<NamedTensor> base = pretrained_.version_zero;
  base[0].values.pop_back();
  EXPECT_THAT(trainer_->Evaluate(SourceOf(base), rows_.view()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("trunk.0.lora_A.weight has 7 elements")));
  base = pretrained_.version_zero;
  base.back().values[0] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(trainer_->Train(SourceOf(base), rows_.view(), options_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("router.weight holds NaN or infinity")));
  base.pop_back();
  EXPECT_THAT(trainer_->Train(SourceOf(base), rows_.view(), options_),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(TableTrainerTest, SaysThatTrainingDiverged) {
  std::vector<NamedTensor> base = pretrained_.version_zero;
  for (NamedTensor& tensor : base) {
    for (float& value : tensor.values) value = 1e30f;
  }
  EXPECT_THAT(trainer_->Train(SourceOf(base), rows_.view(), options_),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("epoch 1 of 3")));
  EXPECT_THAT(trainer_->Evaluate(SourceOf(base), rows_.view()),
              StatusIs(absl::StatusCode::kAborted));
}

TEST_F(TableTrainerTest, RefusesAnotherTable) {
  const Rows rows = MakeRows(3, 3, true);
  const TableView narrow{rows.features, rows.labels, 3};
  EXPECT_THAT(trainer_->Evaluate(base_, narrow),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TableMoeTrainer::Pretrain(kShape, narrow, {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(TableTrainerTest, AutoDeviceAlwaysTrains) {
  ASSERT_OK_AND_ASSIGN(
      const auto trainer,
      TableMoeTrainer::Create(AsBytes(pretrained_.base_model), {}));
  ASSERT_OK(trainer->Train(base_, rows_.view(), options_));
  // On a machine without CUDA the other choice says what to do.
  const auto cuda = TableMoeTrainer::Create(AsBytes(pretrained_.base_model),
                                            {.device = TrainingDevice::kCuda});
  if (trainer->device() == "cpu") {
    EXPECT_THAT(cuda, StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("set device to auto or cpu")));
  } else {
    EXPECT_OK(cuda);
  }
}

TEST_F(TableTrainerTest, RefusesZeroThreads) {
  EXPECT_THAT(
      TableMoeTrainer::Create(AsBytes(pretrained_.base_model), {.threads = 0}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("threads is 0")));
}

}  // namespace
}  // namespace consilium

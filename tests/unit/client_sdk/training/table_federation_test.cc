// Three hospitals with skewed labels, eight rounds, in one process: what the
// demo does, without transport and with the plainest average.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "consilium/base/bytes.h"
#include "consilium/client_training/named_tensors.h"
#include "consilium/client_training/table_trainer.h"
#include "examples/data/breast_cancer.h"
#include "tests/support/status_matchers.h"

namespace consilium {
namespace {

constexpr int kRounds = 8;
constexpr uint64_t kSeeds = 5;

TableView ViewOf(const TableSlice& slice) {
  return {slice.features, slice.labels, slice.columns()};
}

struct Accuracies {
  double version_zero = 0, local = 0, federated = 0, pooled = 0;
};

class Federation {
 public:
  explicit Federation(uint64_t seed) : seed_(seed) {}

  void Run(Accuracies& result) {
    ASSERT_OK_AND_ASSIGN(
        pretrained_, TableMoeTrainer::Pretrain({}, ViewOf(data_.public_slice),
                                               {.seed = seed_}));
    ASSERT_OK_AND_ASSIGN(
        trainer_, TableMoeTrainer::Create(AsBytes(pretrained_.base_model),
                                          {.device = TrainingDevice::kCpu}));
    Test(pretrained_.version_zero, result.version_zero);
    std::vector<const TableSlice*> all;
    for (const HospitalSlices& hospital : data_.hospitals) {
      double alone = 0;
      TrainAlone(hospital.train, alone);
      result.local += alone / static_cast<double>(data_.hospitals.size());
      all.push_back(&hospital.train);
    }
    TrainAlone(JoinSlices(all), result.pooled);
    TrainTogether(result.federated);
  }

 private:
  void Test(const std::vector<NamedTensor>& version, double& accuracy) {
    ASSERT_OK_AND_ASSIGN(
        const TableEvaluation evaluation,
        trainer_->Evaluate(SourceOf(version), ViewOf(data_.test)));
    accuracy = evaluation.accuracy;
  }

  TrainOptions Options(int round, uint64_t who) const {
    return {.seed = seed_ * 1000 + static_cast<uint64_t>(round) * 10 + who};
  }

  // As many epochs as in the federation, from version 0, never averaged.
  void TrainAlone(const TableSlice& rows, double& accuracy) {
    std::vector<NamedTensor> version = pretrained_.version_zero;
    for (int round = 0; round < kRounds; ++round) {
      ASSERT_OK_AND_ASSIGN(
          const TrainResult trained,
          trainer_->Train(SourceOf(version), ViewOf(rows), Options(round, 9)));
      ASSERT_OK(AddDelta(trained.delta, version));
    }
    Test(version, accuracy);
  }

  // Weights: routed tokens for an expert, else examples.
  void TrainTogether(double& accuracy) {
    std::vector<NamedTensor> version = pretrained_.version_zero;
    const std::vector<SlotSpec> slots = trainer_->Slots();
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::vector<double>> sums(slots.size());
      std::vector<double> weights(slots.size());
      for (size_t h = 0; h < data_.hospitals.size(); ++h) {
        ASSERT_OK_AND_ASSIGN(
            const TrainResult trained,
            trainer_->Train(SourceOf(version), ViewOf(data_.hospitals[h].train),
                            Options(round, h)));
        EXPECT_LT(trained.utilisation_std, 0.15);
        const ParameterSource delta = SourceOf(trained.delta);
        for (size_t s = 0; s < slots.size(); ++s) {
          const auto values = delta(slots[s].name);
          if (!values.ok()) continue;  // an expert that no row reached
          const GroupName& group = slots[s].group;
          const double weight =
              static_cast<double>(group.kind == GroupKind::kExpert
                                      ? trained.routed_tokens[group.expert]
                                      : trained.examples);
          weights[s] += weight;
          sums[s].resize(values->size());
          for (size_t i = 0; i < values->size(); ++i) {
            sums[s][i] += weight * (*values)[i];
          }
        }
      }
      for (size_t s = 0; s < slots.size(); ++s) {
        for (size_t i = 0; i < sums[s].size(); ++i) {
          float& value = version[s].values[i];
          value = static_cast<float>(value + sums[s][i] / weights[s]);
        }
      }
    }
    Test(version, accuracy);
  }

  const uint64_t seed_;
  const BreastCancerFederation data_ = SplitBreastCancer(seed_);
  PretrainedTable pretrained_;
  std::unique_ptr<TableMoeTrainer> trainer_;
};

TEST(TableFederationTest, BeatsTrainingAloneAndComesCloseToPooling) {
  Accuracies mean;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Accuracies one;
    Federation(seed).Run(one);
    if (HasFatalFailure()) return;
    std::printf(
        "seed %llu: version 0 %.3f, local %.3f, federated %.3f, pooled %.3f\n",
        static_cast<unsigned long long>(seed), one.version_zero, one.local,
        one.federated, one.pooled);
    mean.version_zero += one.version_zero / kSeeds;
    mean.local += one.local / kSeeds;
    mean.federated += one.federated / kSeeds;
    mean.pooled += one.pooled / kSeeds;
  }
  std::printf(
      "mean:   version 0 %.3f, local %.3f, federated %.3f, pooled "
      "%.3f\n",
      mean.version_zero, mean.local, mean.federated, mean.pooled);
  EXPECT_GE(mean.federated, mean.local + 0.02);
  EXPECT_GE(mean.federated, mean.pooled - 0.02);
  EXPECT_GT(mean.federated, mean.version_zero);
}

}  // namespace
}  // namespace consilium

#include "consilium/aggregation/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "hwy/targets.h"
#include "tests/support/status_matchers.h"

namespace consilium::lora {
namespace {

using ::testing::HasSubstr;

// A dense out x in matrix in double: what this library never makes.
class Dense {
 public:
  Dense(int64_t rows, int64_t columns)
      : rows_(rows),
        columns_(columns),
        values_(static_cast<size_t>(rows * columns)) {}

  double& at(int64_t i, int64_t j) {
    return values_[static_cast<size_t>(i * columns_ + j)];
  }
  void Add(const std::vector<float>& b, const std::vector<float>& a,
           int64_t rank, double weight) {
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t k = 0; k < rank; ++k) {
        const double factor =
            weight * static_cast<double>(b[static_cast<size_t>(i * rank + k)]);
        for (int64_t j = 0; j < columns_; ++j) {
          at(i, j) += factor * static_cast<double>(
                                   a[static_cast<size_t>(k * columns_ + j)]);
        }
      }
    }
  }
  double norm() const {
    double sum = 0;
    for (const double v : values_) sum += v * v;
    return std::sqrt(sum);
  }
  Dense operator-(const Dense& other) const {
    Dense out = *this;
    for (size_t i = 0; i < values_.size(); ++i) {
      out.values_[i] -= other.values_[i];
    }
    return out;
  }

 private:
  int64_t rows_;
  int64_t columns_;
  std::vector<double> values_;
};

// A cohort whose factors are `spread` away from a common start.
class Cohort {
 public:
  Cohort(const MatrixShape& shape, std::vector<int64_t> ranks,
         std::vector<double> weights, double spread, uint32_t seed)
      : shape_(shape), ranks_(std::move(ranks)), weights_(std::move(weights)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const int64_t most = *std::max_element(ranks_.begin(), ranks_.end());
    const std::vector<float> common_b =
        Draw(shape.out * most, 1, normal, random);
    const std::vector<float> common_a =
        Draw(shape.in * most, 1, normal, random);
    for (const int64_t rank : ranks_) {
      Factors f;
      f.rank = rank;
      const auto away = static_cast<float>(spread);
      f.b = Draw(shape.out * rank, away, normal, random);
      f.a = Draw(shape.in * rank, away, normal, random);
      if (spread < 1) {
        for (size_t i = 0; i < f.b.size(); ++i) f.b[i] += common_b[i];
        for (size_t i = 0; i < f.a.size(); ++i) f.a[i] += common_a[i];
      }
      factors.push_back(std::move(f));
    }
  }

  std::vector<Product> sum() const {
    std::vector<Product> out;
    for (size_t i = 0; i < factors.size(); ++i) {
      out.push_back({factors[i].b, factors[i].a, factors[i].rank, weights_[i]});
    }
    return out;
  }
  Dense dense() const {
    Dense out(shape_.out, shape_.in);
    for (size_t i = 0; i < factors.size(); ++i) {
      out.Add(factors[i].b, factors[i].a, factors[i].rank, weights_[i]);
    }
    return out;
  }

  std::vector<Factors> factors;

 private:
  static std::vector<float> Draw(int64_t n, float scale,
                                 std::normal_distribution<float>& normal,
                                 std::mt19937& random) {
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out) v = scale * normal(random);
    return out;
  }

  const MatrixShape shape_;
  const std::vector<int64_t> ranks_;
  const std::vector<double> weights_;
};

double ErrorOf(const MatrixShape& shape, const Dense& wanted,
               const Factors& factors, double scale) {
  Dense got(shape.out, shape.in);
  got.Add(factors.b, factors.a, factors.rank, scale);
  return (wanted - got).norm() / wanted.norm();
}

constexpr MatrixShape kShape = {61, 47};

TEST(LoraTruncateTest, AtTheFullRankItIsTheSum) {
  const Cohort cohort(kShape, {4, 2, 7}, {0.5, 0.3, 0.2}, 1, 1);
  ASSERT_OK_AND_ASSIGN(const Truncated all,
                       Truncate(kShape, cohort.sum(), 13, 2.0));
  EXPECT_LT(ErrorOf(kShape, cohort.dense(), all.factors, 2.0), 2e-7);
  EXPECT_LT(all.error, 1e-12);
  EXPECT_NEAR(all.norm, cohort.dense().norm(), 1e-12 * all.norm);
}

// Eckart and Young: what is lost are the singular values left out.
TEST(LoraTruncateTest, WhatIsLostAreTheSingularValuesLeftOut) {
  const Cohort cohort(kShape, {8, 8, 8}, {0.5, 0.3, 0.2}, 1, 2);
  const Dense wanted = cohort.dense();
  double before = 1;
  for (const int64_t rank : {1, 4, 8, 16, 23, 24}) {
    SCOPED_TRACE(rank);
    ASSERT_OK_AND_ASSIGN(const Truncated cut,
                         Truncate(kShape, cohort.sum(), rank, 1.0));
    ASSERT_EQ(cut.singular_values.size(), 24u);
    EXPECT_TRUE(std::is_sorted(cut.singular_values.rbegin(),
                               cut.singular_values.rend()));
    double left_out = 0;
    for (size_t j = static_cast<size_t>(rank); j < 24; ++j) {
      left_out += cut.singular_values[j] * cut.singular_values[j];
    }
    EXPECT_NEAR(cut.error, std::sqrt(left_out) / cut.norm, 1e-7);
    EXPECT_NEAR(ErrorOf(kShape, wanted, cut.factors, 1.0), cut.error, 2e-7);
    EXPECT_LT(cut.error, before);
    before = cut.error;
  }
}

// Factors that all began alike make stacks that are nearly collinear.
TEST(LoraTruncateTest, NearlyCollinearFactorsLoseNoDigits) {
  bool saw_qr = false;
  for (const double spread : {1e-1, 1e-3, 1e-5, 1e-6, 0.0}) {
    SCOPED_TRACE(spread);
    const Cohort cohort(kShape, {4, 4, 4}, {0.5, 0.3, 0.2}, spread, 3);
    ASSERT_OK_AND_ASSIGN(const Truncated all,
                         Truncate(kShape, cohort.sum(), 12, 1.0));
    EXPECT_LT(ErrorOf(kShape, cohort.dense(), all.factors, 1.0), 3e-7);
    EXPECT_LT(all.error, 1e-7);
    saw_qr = saw_qr || all.basis_b == Basis::kQr;
  }
  EXPECT_TRUE(saw_qr) << "no case took the way for ill-conditioned factors";
}

// (B R, R^-1 A) is the same update.
TEST(LoraTruncateTest, TheGaugeOfAnInstitutionDoesNotMatter) {
  Cohort cohort(kShape, {2, 3}, {0.6, 0.4}, 1, 4);
  ASSERT_OK_AND_ASSIGN(const Truncated before,
                       Truncate(kShape, cohort.sum(), 3, 1.0));
  Factors& f = cohort.factors[0];
  // R = [[2, 0], [1, 4]], R^-1 = [[1/2, 0], [-1/8, 1/4]]: exact in floats.
  for (size_t i = 0; i < static_cast<size_t>(kShape.out); ++i) {
    const float x = f.b[2 * i], y = f.b[2 * i + 1];
    f.b[2 * i] = 2 * x + y;
    f.b[2 * i + 1] = 4 * y;
  }
  const auto in = static_cast<size_t>(kShape.in);
  for (size_t j = 0; j < in; ++j) {
    const float x = f.a[j], y = f.a[in + j];
    f.a[j] = x / 2;
    f.a[in + j] = -x / 8 + y / 4;
  }
  ASSERT_OK_AND_ASSIGN(const Truncated after,
                       Truncate(kShape, cohort.sum(), 3, 1.0));
  for (size_t j = 0; j < 5; ++j) {
    EXPECT_NEAR(after.singular_values[j], before.singular_values[j],
                1e-6 * before.norm);
  }
  EXPECT_NEAR(after.error, before.error, 1e-6);
}

// A small B with a large A is an update like any other.
TEST(LoraTruncateTest, HowAProductIsSplitDoesNotMatter) {
  Cohort cohort(kShape, {2, 3}, {0.6, 0.4}, 1, 15);
  ASSERT_OK_AND_ASSIGN(const Truncated before,
                       Truncate(kShape, cohort.sum(), 5, 1.0));
  for (const int power : {-30, 30}) {
    SCOPED_TRACE(power);
    Cohort moved = cohort;
    for (float& v : moved.factors[1].b) v = std::ldexp(v, power);
    for (float& v : moved.factors[1].a) v = std::ldexp(v, -power);
    ASSERT_OK_AND_ASSIGN(const Truncated after,
                         Truncate(kShape, moved.sum(), 5, 1.0));
    EXPECT_EQ(after.singular_values, before.singular_values);
    EXPECT_EQ(after.factors.b, before.factors.b);
    EXPECT_EQ(after.factors.a, before.factors.a);
  }
}

TEST(LoraTruncateTest, ScalesBeyondFloatsAreRightOrRefused) {
  const Cohort cohort(kShape, {2, 2}, {1e160, 0.0}, 1, 16);
  ASSERT_OK_AND_ASSIGN(const double norm, Norm(kShape, cohort.sum()));
  EXPECT_TRUE(std::isfinite(norm));
  EXPECT_THAT(Truncate(kShape, cohort.sum(), 2, 1.0),
              StatusIs(absl::StatusCode::kOutOfRange,
                       HasSubstr("does not fit float32")));
  const Cohort large(kShape, {2}, {1e100}, 1, 16);
  ASSERT_OK_AND_ASSIGN(const Truncated scaled,
                       Truncate(kShape, large.sum(), 2, 1e100));
  EXPECT_LT(ErrorOf(kShape, large.dense(), scaled.factors, 1e100), 3e-7);
  const Cohort tiny(kShape, {2}, {1e-170}, 1, 17);
  ASSERT_OK_AND_ASSIGN(const Truncated small,
                       Truncate(kShape, tiny.sum(), 2, 1e-170));
  EXPECT_GT(small.norm, 0);
  EXPECT_LT(small.error, 1e-12);
  const Cohort huge(kShape, {2}, {1e308}, 1, 18);
  EXPECT_THAT(Norm(kShape, huge.sum()),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(LoraTruncateTest, AWeightOfOneGivesThatInstitutionsUpdate) {
  const Cohort cohort(kShape, {4, 4}, {0.0, 1.0}, 1, 5);
  ASSERT_OK_AND_ASSIGN(const Truncated cut,
                       Truncate(kShape, cohort.sum(), 4, 1.0));
  Dense second(kShape.out, kShape.in);
  second.Add(cohort.factors[1].b, cohort.factors[1].a, 4, 1.0);
  EXPECT_LT(ErrorOf(kShape, second, cut.factors, 1.0), 2e-7);
}

TEST(LoraTruncateTest, ASumOfNothingIsZero) {
  Cohort cohort(kShape, {2, 2}, {0.5, 0.5}, 1, 6);
  for (Factors& f : cohort.factors) std::fill(f.b.begin(), f.b.end(), 0.0f);
  ASSERT_OK_AND_ASSIGN(const Truncated cut,
                       Truncate(kShape, cohort.sum(), 2, 1.0));
  EXPECT_EQ(cut.error, 0);
  EXPECT_EQ(cut.norm, 0);
  EXPECT_THAT(cut.factors.b, testing::Each(0.0f));
  EXPECT_THAT(cut.factors.a, testing::Each(0.0f));
}

TEST(LoraTruncateTest, RanksBeyondTheSumsAreFilledWithZeros) {
  const Cohort cohort(kShape, {2}, {1.0}, 1, 7);
  ASSERT_OK_AND_ASSIGN(const Truncated cut,
                       Truncate(kShape, cohort.sum(), 5, 1.0));
  EXPECT_EQ(cut.factors.b.size(), static_cast<size_t>(kShape.out * 5));
  EXPECT_LT(ErrorOf(kShape, cohort.dense(), cut.factors, 1.0), 2e-7);
}

TEST(LoraTruncateTest, MatricesSmallerThanTheStackWork) {
  for (const MatrixShape shape : {MatrixShape{5, 47}, MatrixShape{47, 5},
                                  MatrixShape{5, 5}, MatrixShape{1, 1}}) {
    SCOPED_TRACE(testing::Message() << shape.out << " x " << shape.in);
    const Cohort cohort(shape, {4, 4}, {0.5, 0.5}, 1, 8);
    const int64_t rank = std::min(shape.out, shape.in);
    ASSERT_OK_AND_ASSIGN(const Truncated cut,
                         Truncate(shape, cohort.sum(), rank, 1.0));
    EXPECT_LT(ErrorOf(shape, cohort.dense(), cut.factors, 1.0), 3e-7);
  }
}

TEST(LoraTruncateTest, EveryTargetHasTheSameBits) {
  const Cohort cohort({520, 1030}, {8, 8, 4}, {0.5, 0.3, 0.2}, 0.1, 9);
  std::vector<Truncated> results;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    auto cut = Truncate({520, 1030}, cohort.sum(), 8, 1.0);
    ASSERT_OK(cut.status());
    results.push_back(*std::move(cut));
  }
  hwy::SetSupportedTargetsForTest(0);
  ASSERT_GT(results.size(), 1u);
  for (const Truncated& other : results) {
    EXPECT_EQ(other.factors.b, results[0].factors.b);
    EXPECT_EQ(other.factors.a, results[0].factors.a);
    EXPECT_EQ(other.error, results[0].error);
  }
}

TEST(LoraAverageTest, TheErrorIsTheCovarianceOfTheFactors) {
  for (const double spread : {1.0, 1e-1, 1e-4}) {
    SCOPED_TRACE(spread);
    const Cohort cohort(kShape, {4, 4, 4}, {0.5, 0.3, 0.2}, spread, 10);
    ASSERT_OK_AND_ASSIGN(const Averaged averaged,
                         AverageFactors(kShape, cohort.sum()));
    EXPECT_NEAR(ErrorOf(kShape, cohort.dense(), averaged.factors, 1.0),
                averaged.error, 1e-7);
    EXPECT_GT(averaged.error, 0);
  }
}

TEST(LoraAverageTest, EqualFactorsOnOneSideLoseNothing) {
  for (const bool equal_a : {false, true}) {
    Cohort cohort(kShape, {4, 4, 4}, {0.5, 0.25, 0.25}, 1, 11);
    for (Factors& f : cohort.factors) {
      if (equal_a) {
        f.a = cohort.factors[0].a;
      } else {
        f.b = cohort.factors[0].b;
      }
    }
    ASSERT_OK_AND_ASSIGN(const Averaged averaged,
                         AverageFactors(kShape, cohort.sum()));
    EXPECT_LT(averaged.error, 1e-7);
  }
}

TEST(LoraAverageTest, OfASumThatIsZeroAllIsLost) {
  Cohort cohort(kShape, {1, 1}, {0.5, 0.5}, 1, 19);
  // (B, 2 A) and (2 B, -A).
  cohort.factors[1] = cohort.factors[0];
  for (float& v : cohort.factors[0].a) v *= 2;
  for (float& v : cohort.factors[1].b) v *= 2;
  for (float& v : cohort.factors[1].a) v = -v;
  ASSERT_OK_AND_ASSIGN(const Averaged averaged,
                       AverageFactors(kShape, cohort.sum()));
  EXPECT_GT(averaged.error, 1e6);
}

TEST(LoraAverageTest, TruncatingTheSumLosesLess) {
  const Cohort cohort(kShape, {8, 8, 8}, {0.5, 0.3, 0.2}, 0.3, 12);
  ASSERT_OK_AND_ASSIGN(const Averaged averaged,
                       AverageFactors(kShape, cohort.sum()));
  ASSERT_OK_AND_ASSIGN(const Truncated cut,
                       Truncate(kShape, cohort.sum(), 8, 1.0));
  EXPECT_LT(cut.error, averaged.error);
}

TEST(LoraAverageTest, WithTheResidualNothingIsLost) {
  const Cohort cohort(kShape, {4, 4, 4}, {0.5, 0.3, 0.2}, 0.3, 13);
  ASSERT_OK_AND_ASSIGN(const Averaged averaged,
                       AverageFactors(kShape, cohort.sum()));
  ASSERT_OK_AND_ASSIGN(const Factors residual,
                       Residual(kShape, cohort.sum(), averaged.factors));
  EXPECT_EQ(residual.rank, 12);
  Dense got(kShape.out, kShape.in);
  got.Add(averaged.factors.b, averaged.factors.a, 4, 1.0);
  got.Add(residual.b, residual.a, residual.rank, 1.0);
  const Dense wanted = cohort.dense();
  EXPECT_LT((wanted - got).norm() / wanted.norm(), 3e-7);
}

TEST(LoraTest, WhatDoesNotFitIsNamed) {
  const Cohort cohort(kShape, {2, 3}, {0.5, 0.5}, 1, 14);
  std::vector<float> bad(cohort.factors[1].b);
  bad[7] = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](const std::vector<Product>& sum,
                           const std::string& words) {
    EXPECT_THAT(Norm(kShape, sum),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)));
  };
  const auto with = [&](auto change) {
    std::vector<Product> sum = cohort.sum();
    change(sum[1]);
    return sum;
  };
  refused({}, "a sum of no LoRA products");
  refused(with([&](Product& p) { p.b = bad; }), "product 1: B holds NaN");
  refused(with([](Product& p) { p.a = p.a.first(5); }),
          "product 1: A has 5 elements, not 3 x 47");
  refused(with([](Product& p) { p.rank = 0; }), "product 1: rank 0");
  refused(with([](Product& p) { p.rank = kMaxTotalRank + 1; }), "rank 4097");
  refused(with([](Product& p) {
            p.weight = std::numeric_limits<double>::infinity();
          }),
          "product 1: weight inf");
  EXPECT_THAT(Truncate(kShape, cohort.sum(), 48, 1.0),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rank 48 of a 61 x 47 matrix")));
  EXPECT_THAT(
      Truncate(kShape, cohort.sum(), 4, 0.0),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("scale 0")));
  EXPECT_THAT(
      AverageFactors(kShape, cohort.sum()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unequal ranks")));
}

}  // namespace
}  // namespace consilium::lora

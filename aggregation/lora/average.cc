// Factors averaged one by one, and what that loses.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "consilium/aggregation/kernels.h"
#include "consilium/aggregation/lora.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::lora {
namespace {

constexpr double kSumTolerance = 1e-9;

// Beyond what Norm() checks.
absl::Status CheckWeights(std::span<const Product> sum) {
  double total = 0;
  for (size_t i = 0; i < sum.size(); ++i) {
    if (sum[i].rank != sum[0].rank) {
      return absl::InvalidArgumentError(
          Cat("LoRA product ", i, ": rank ", sum[i].rank, ", the first has ",
              sum[0].rank,
              "; factors of unequal ranks cannot be averaged one by one"));
    }
    if (!(sum[i].weight > 0)) {
      return absl::InvalidArgumentError(Cat("LoRA product ", i, ": weight ",
                                            sum[i].weight, " is not above 0"));
    }
    total += sum[i].weight;
  }
  if (std::abs(total - 1) > kSumTolerance) {
    return absl::InvalidArgumentError(
        Cat("the weights of the LoRA products add up to ", total, ", not 1"));
  }
  return absl::OkStatus();
}

std::vector<float> WeightedSum(const std::vector<const float*>& values,
                               std::span<const double> weights, size_t n) {
  std::vector<double> sum(n);
  kernels::WeightedAccumulate(sum, values, weights);
  std::vector<float> out(n);
  std::transform(sum.begin(), sum.end(), out.begin(),
                 [](double v) { return static_cast<float>(v); });
  return out;
}

// Of one product from the average.
Factors Deviation(const Product& p, const Factors& average) {
  Factors out;
  out.rank = p.rank;
  out.b.resize(p.b.size());
  out.a.resize(p.a.size());
  kernels::Subtract(p.b, average.b, out.b);
  kernels::Subtract(p.a, average.a, out.a);
  return out;
}

}  // namespace

absl::StatusOr<Averaged> AverageFactors(const MatrixShape& shape,
                                        std::span<const Product> sum) {
  CONSILIUM_ASSIGN_OR_RETURN(const double norm, Norm(shape, sum));
  CONSILIUM_RETURN_IF_ERROR(CheckWeights(sum));
  std::vector<const float*> bs, as;
  std::vector<double> weights;
  for (const Product& p : sum) {
    bs.push_back(p.b.data());
    as.push_back(p.a.data());
    weights.push_back(p.weight);
  }
  Averaged out;
  out.factors.rank = sum[0].rank;
  out.factors.b = WeightedSum(bs, weights, sum[0].b.size());
  out.factors.a = WeightedSum(as, weights, sum[0].a.size());
  std::vector<Factors> deviations;
  std::vector<Product> lost;
  for (const Product& p : sum) {
    deviations.push_back(Deviation(p, out.factors));
  }
  for (size_t i = 0; i < sum.size(); ++i) {
    lost.push_back(
        {deviations[i].b, deviations[i].a, sum[i].rank, sum[i].weight});
  }
  const auto loss = Norm(shape, lost);
  if (!loss.ok()) {
    return absl::OutOfRangeError(Cat("factors lie too far apart for float32: ",
                                     StdView(loss.status().message())));
  }
  // Of a sum that is 0, all is lost or nothing.
  out.error = norm > 0    ? *loss / norm
              : *loss > 0 ? std::numeric_limits<double>::infinity()
                          : 0;
  return out;
}

absl::StatusOr<Factors> Residual(const MatrixShape& shape,
                                 std::span<const Product> sum,
                                 const Factors& average) {
  CONSILIUM_RETURN_IF_ERROR(Norm(shape, sum).status());
  CONSILIUM_RETURN_IF_ERROR(CheckWeights(sum));
  if (average.rank != sum[0].rank || average.b.size() != sum[0].b.size() ||
      average.a.size() != sum[0].a.size()) {
    return absl::InvalidArgumentError(Cat("the average has rank ", average.rank,
                                          ", the LoRA products have ",
                                          sum[0].rank));
  }
  const auto rank = static_cast<size_t>(sum[0].rank);
  const size_t total = rank * sum.size();
  const auto rows = static_cast<size_t>(shape.out);
  Factors out;
  out.rank = static_cast<int64_t>(total);
  out.b.resize(rows * total);
  for (size_t i = 0; i < sum.size(); ++i) {
    const Factors deviation = Deviation(sum[i], average);
    for (size_t row = 0; row < rows; ++row) {
      std::copy_n(deviation.b.data() + row * rank, rank,
                  out.b.data() + row * total + i * rank);
    }
    for (const float v : deviation.a) {
      out.a.push_back(
          static_cast<float>(sum[i].weight * static_cast<double>(v)));
    }
  }
  return out;
}

}  // namespace consilium::lora

#include "consilium/aggregation/lora.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "Eigen/Eigenvalues"
#include "Eigen/SVD"
#include "aggregation/lora/dense.h"
#include "consilium/aggregation/kernels.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium::lora {
namespace {

using Eigen::Index;

constexpr int64_t kMaxSide = int64_t{1} << 31;

absl::Status Bad(size_t product, std::string_view what) {
  return absl::InvalidArgumentError(Cat("LoRA product ", product, ": ", what));
}

absl::Status CheckFactor(size_t product, std::string_view name,
                         std::span<const float> values, int64_t rows,
                         int64_t columns) {
  if (static_cast<int64_t>(values.size()) != rows * columns) {
    return Bad(product, Cat(name, " has ", values.size(), " elements, not ",
                            rows, " x ", columns));
  }
  if (kernels::ScanStats(values).non_finite > 0) {
    return Bad(product, Cat(name, " holds NaN or infinity"));
  }
  return absl::OkStatus();
}

absl::Status Check(const MatrixShape& shape, std::span<const Product> sum) {
  if (shape.out < 1 || shape.in < 1 || shape.out > kMaxSide ||
      shape.in > kMaxSide) {
    return absl::InvalidArgumentError(Cat("a matrix of ", shape.out, " x ",
                                          shape.in, "; both are 1 to ",
                                          kMaxSide));
  }
  if (sum.empty()) {
    return absl::InvalidArgumentError("a sum of no LoRA products");
  }
  int64_t total = 0;
  for (size_t i = 0; i < sum.size(); ++i) {
    const Product& p = sum[i];
    if (p.rank < 1 || p.rank > kMaxTotalRank) {
      return Bad(i, Cat("rank ", p.rank, ", it is 1 to ", kMaxTotalRank));
    }
    total += p.rank;
    if (total > kMaxTotalRank) {
      return Bad(i, Cat("the ranks add up to ", total, ", the limit is ",
                        kMaxTotalRank));
    }
    if (!std::isfinite(p.weight)) {
      return Bad(i, Cat("weight ", p.weight, " is not finite"));
    }
    CONSILIUM_RETURN_IF_ERROR(CheckFactor(i, "B", p.b, shape.out, p.rank));
    CONSILIUM_RETURN_IF_ERROR(CheckFactor(i, "A", p.a, p.rank, shape.in));
  }
  return absl::OkStatus();
}

// to: columns x rows.
template <typename T>
void Transpose(std::span<const T> from, int64_t rows, int64_t columns, T* to) {
  constexpr int64_t kTile = 32;
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    for (int64_t j0 = 0; j0 < columns; j0 += kTile) {
      for (int64_t i = i0; i < std::min(i0 + kTile, rows); ++i) {
        for (int64_t j = j0; j < std::min(j0 + kTile, columns); ++j) {
          to[j * rows + i] = from[static_cast<size_t>(i * columns + j)];
        }
      }
    }
  }
}

// All rank-1 terms of a sum, one after the other: weight * b a^T. Factors are
// scaled by powers of two, exactly but for subnormal numbers, so that no column
// counts as rounding noise because its other half is large.
struct Stack {
  std::vector<float> columns_of_b;
  std::vector<float> rows_of_a;
  std::vector<const float*> b;  // `out` floats each
  std::vector<const float*> a;  // `in` floats each
  std::vector<double> weights;  // largest magnitude 1/2 to 1, or all 0
  int exponent = 0;             // of the sum: it stands for 2^exponent times
};

// By a power of two to a largest magnitude of 1/2 to 1; returns the exponent
// that was taken out.
int Balance(std::span<float> values) {
  const float largest = kernels::ScanStats(values).abs_max;
  if (largest == 0) return 0;
  int exponent = 0;
  (void)std::frexp(largest, &exponent);
  for (float& v : values) v = std::ldexp(v, -exponent);
  return exponent;
}

Stack StackOf(const MatrixShape& shape, std::span<const Product> sum) {
  Stack stack;
  int64_t total = 0;
  for (const Product& p : sum) total += p.rank;
  stack.columns_of_b.resize(static_cast<size_t>(total * shape.out));
  stack.rows_of_a.resize(static_cast<size_t>(total * shape.in));
  float* b = stack.columns_of_b.data();
  float* a = stack.rows_of_a.data();
  // A weight as mantissa and exponent, so that no product overflows.
  std::vector<std::pair<double, int>> weights;
  for (const Product& p : sum) {
    Transpose(p.b, shape.out, p.rank, b);
    std::copy(p.a.begin(), p.a.end(), a);
    for (int64_t j = 0; j < p.rank; ++j) {
      int exponent = 0;
      const double mantissa = std::frexp(p.weight, &exponent);
      exponent += Balance({b, static_cast<size_t>(shape.out)});
      exponent += Balance({a, static_cast<size_t>(shape.in)});
      weights.emplace_back(mantissa, exponent);
      stack.b.push_back(b);
      stack.a.push_back(a);
      b += shape.out;
      a += shape.in;
    }
  }
  bool any = false;
  for (const auto& [mantissa, exponent] : weights) {
    if (mantissa == 0) continue;
    stack.exponent = any ? std::max(stack.exponent, exponent) : exponent;
    any = true;
  }
  for (const auto& [mantissa, exponent] : weights) {
    stack.weights.push_back(
        mantissa == 0 ? 0 : std::ldexp(mantissa, exponent - stack.exponent));
  }
  return stack;
}

// W* = Q_b core Q_a^T.
Matrix CoreOf(const RowSpace& b, const RowSpace& a,
              std::span<const double> weights) {
  Matrix weighted = b.r();
  if (weighted.size() == 0 || a.r().size() == 0) {
    return Matrix::Zero(b.r().rows(), a.r().rows());
  }
  for (Index j = 0; j < weighted.cols(); ++j) {
    weighted.col(j) *= weights[static_cast<size_t>(j)];
  }
  return Multiply(weighted, a.r().transpose());
}

double SquaredNorm(const Matrix& m) {
  double sum = 0;
  for (Index i = 0; i < m.size(); ++i) sum += m.data()[i] * m.data()[i];
  return sum;
}

absl::StatusOr<double> CheckedNorm(const Matrix& core, int exponent) {
  const double norm = std::ldexp(std::sqrt(SquaredNorm(core)), exponent);
  if (!std::isfinite(norm)) {
    return absl::OutOfRangeError(
        "the norm of the sum of the LoRA products is above 1.8e308");
  }
  return norm;
}

struct Svd {
  Matrix u;  // rows x kept
  std::vector<double> d;
  Matrix v;  // columns x kept
  std::vector<double> all;
  double error_squared = 0;  // |m - u d v^T|^2
};

// The `rank` largest. The space of u comes from m m^T, whose small eigenvalues
// have half the digits; within it, an SVD of u^T m and the norm of the rest
// have them all.
absl::StatusOr<Svd> TruncatedSvd(const Matrix& m, Index rank) {
  FixEigenBlocks();
  const bool wide = m.rows() <= m.cols();
  const Matrix short_m = wide ? m : Matrix(m.transpose());
  const Index n = short_m.rows();
  const Index kept = std::min(rank, n);
  const Matrix square = Multiply(short_m, short_m.transpose());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(square);
  if (eigen.info() != Eigen::Success) {
    return absl::InternalError("the eigenvalues of a core did not converge");
  }
  Svd out;
  for (Index j = n - 1; j >= 0; --j) {
    out.all.push_back(std::sqrt(std::max(eigen.eigenvalues()(j), 0.0)));
  }
  const Matrix space = eigen.eigenvectors().rightCols(kept).rowwise().reverse();
  const Matrix within = Multiply(space.transpose(), short_m);  // kept x cols
  out.error_squared = SquaredNorm(short_m - Multiply(space, within));
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(
      within.transpose(), Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Matrix u = Multiply(space, svd.matrixV());
  const Matrix v = svd.matrixU();
  for (Index j = 0; j < kept; ++j) {
    const double value =
        j < svd.singularValues().size() ? svd.singularValues()(j) : 0.0;
    // Below it there is only rounding.
    const double noise =
        out.d.empty() ? 0.0 : out.d[0] * static_cast<double>(m.size()) * 1e-16;
    out.d.push_back(value > noise ? value : 0.0);
    out.all[static_cast<size_t>(j)] = out.d.back();
  }
  for (size_t j = 1; j < out.all.size(); ++j) {
    out.all[j] = std::min(out.all[j], out.all[j - 1]);
  }
  out.u = wide ? u : v;
  out.v = wide ? v : u;
  return out;
}

// Rows of doubles, scaled, as floats.
void Store(std::span<const double> row, double scale, float* to) {
  for (size_t t = 0; t < row.size(); ++t) {
    to[t] = static_cast<float>(row[t] * scale);
  }
}

double SignOf(std::span<const double> row) {
  const auto largest = std::max_element(
      row.begin(), row.end(),
      [](double x, double y) { return std::abs(x) < std::abs(y); });
  return *largest < 0 ? -1.0 : 1.0;
}

// `scale` and 2^exponent as in Truncate() and Stack.
absl::StatusOr<Factors> FactorsOf(const MatrixShape& shape, const Svd& svd,
                                  const RowSpace& b, const RowSpace& a,
                                  int64_t rank, double scale, int exponent) {
  Factors out;
  out.rank = rank;
  const auto rows = static_cast<size_t>(shape.out);
  const auto columns = static_cast<size_t>(shape.in);
  std::vector<float> b_rows(static_cast<size_t>(rank) * rows);
  out.a.resize(static_cast<size_t>(rank) * columns);
  const std::vector<double> left = b.Expand(svd.u);
  const std::vector<double> right = a.Expand(svd.v);
  for (size_t j = 0; j < svd.d.size(); ++j) {
    const auto u = std::span(left).subspan(j * rows, rows);
    const auto v = std::span(right).subspan(j * columns, columns);
    const double half =
        SignOf(u) * std::sqrt(std::ldexp(svd.d[j] / scale, exponent));
    Store(u, half, b_rows.data() + j * rows);
    Store(v, half, out.a.data() + j * columns);
  }
  out.b.resize(b_rows.size());
  Transpose(std::span<const float>(b_rows), rank, shape.out, out.b.data());
  if (kernels::ScanStats(out.b).non_finite > 0 ||
      kernels::ScanStats(out.a).non_finite > 0) {
    return absl::OutOfRangeError(
        "the sum of the LoRA products does not fit float32 factors");
  }
  return out;
}

}  // namespace

absl::StatusOr<double> Norm(const MatrixShape& shape,
                            std::span<const Product> sum) {
  CONSILIUM_RETURN_IF_ERROR(Check(shape, sum));
  const Stack stack = StackOf(shape, sum);
  const RowSpace b(stack.b, static_cast<size_t>(shape.out));
  const RowSpace a(stack.a, static_cast<size_t>(shape.in));
  return CheckedNorm(CoreOf(b, a, stack.weights), stack.exponent);
}

absl::StatusOr<Truncated> Truncate(const MatrixShape& shape,
                                   std::span<const Product> sum, int64_t rank,
                                   double scale) {
  CONSILIUM_RETURN_IF_ERROR(Check(shape, sum));
  if (rank < 1 || rank > std::min(shape.out, shape.in)) {
    return absl::InvalidArgumentError(
        Cat("rank ", rank, " of a ", shape.out, " x ", shape.in,
            " matrix; it is 1 to ", std::min(shape.out, shape.in)));
  }
  if (!std::isfinite(scale) || scale <= 0) {
    return absl::InvalidArgumentError(
        Cat("scale ", scale, "; alpha / rank is above 0 and finite"));
  }
  const Stack stack = StackOf(shape, sum);
  const RowSpace b(stack.b, static_cast<size_t>(shape.out));
  const RowSpace a(stack.a, static_cast<size_t>(shape.in));
  Truncated out;
  out.basis_b = b.basis();
  out.basis_a = a.basis();
  const Matrix core = CoreOf(b, a, stack.weights);
  CONSILIUM_ASSIGN_OR_RETURN(out.norm, CheckedNorm(core, stack.exponent));
  out.singular_values.resize(stack.weights.size());
  Svd svd;
  if (out.norm > 0) {
    CONSILIUM_ASSIGN_OR_RETURN(svd,
                               TruncatedSvd(core, static_cast<Index>(rank)));
    std::transform(
        svd.all.begin(), svd.all.end(), out.singular_values.begin(),
        [&](double value) { return std::ldexp(value, stack.exponent); });
    out.error = std::sqrt(svd.error_squared / SquaredNorm(core));
  } else {
    svd.u.resize(b.r().rows(), 0);
    svd.v.resize(a.r().rows(), 0);
  }
  CONSILIUM_ASSIGN_OR_RETURN(
      out.factors, FactorsOf(shape, svd, b, a, rank, scale, stack.exponent));
  return out;
}

}  // namespace consilium::lora

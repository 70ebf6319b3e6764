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

// All rank-1 terms of a sum, one after the other: weight * b a^T.
struct Stack {
  std::vector<float> columns_of_b;
  std::vector<const float*> b;  // `out` floats each
  std::vector<const float*> a;  // `in` floats each
  std::vector<double> weights;
};

Stack StackOf(const MatrixShape& shape, std::span<const Product> sum) {
  Stack stack;
  int64_t total = 0;
  for (const Product& p : sum) total += p.rank;
  stack.columns_of_b.resize(static_cast<size_t>(total * shape.out));
  float* to = stack.columns_of_b.data();
  for (const Product& p : sum) {
    Transpose(p.b, shape.out, p.rank, to);
    for (int64_t j = 0; j < p.rank; ++j) {
      stack.b.push_back(to + j * shape.out);
      stack.a.push_back(p.a.data() + j * shape.in);
      stack.weights.push_back(p.weight);
    }
    to += p.rank * shape.out;
  }
  return stack;
}

// W* = Q_b core Q_a^T.
Matrix CoreOf(const RowSpace& b, const RowSpace& a,
              std::span<const double> weights) {
  Matrix weighted = b.r();
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
Svd TruncatedSvd(const Matrix& m, Index rank) {
  FixEigenBlocks();
  const bool wide = m.rows() <= m.cols();
  const Matrix short_m = wide ? m : Matrix(m.transpose());
  const Index n = short_m.rows();
  const Index kept = std::min(rank, n);
  const Matrix square = Multiply(short_m, short_m.transpose());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(square);
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
    out.d.push_back(value);
    out.all[static_cast<size_t>(j)] = value;
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

Factors FactorsOf(const MatrixShape& shape, const Svd& svd, const RowSpace& b,
                  const RowSpace& a, int64_t rank, double scale) {
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
    const double half = SignOf(u) * std::sqrt(svd.d[j] / scale);
    Store(u, half, b_rows.data() + j * rows);
    Store(v, half, out.a.data() + j * columns);
  }
  out.b.resize(b_rows.size());
  Transpose(std::span<const float>(b_rows), rank, shape.out, out.b.data());
  return out;
}

}  // namespace

absl::StatusOr<double> Norm(const MatrixShape& shape,
                            std::span<const Product> sum) {
  CONSILIUM_RETURN_IF_ERROR(Check(shape, sum));
  const Stack stack = StackOf(shape, sum);
  const RowSpace b(stack.b, static_cast<size_t>(shape.out));
  const RowSpace a(stack.a, static_cast<size_t>(shape.in));
  return std::sqrt(SquaredNorm(CoreOf(b, a, stack.weights)));
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
  out.norm = std::sqrt(SquaredNorm(core));
  out.singular_values.resize(stack.weights.size());
  Svd svd;
  if (out.norm > 0) {
    svd = TruncatedSvd(core, static_cast<Index>(rank));
    std::copy(svd.all.begin(), svd.all.end(), out.singular_values.begin());
    out.error = std::sqrt(svd.error_squared) / out.norm;
  } else {
    svd.u.resize(b.r().rows(), 0);
    svd.v.resize(a.r().rows(), 0);
  }
  out.factors = FactorsOf(shape, svd, b, a, rank, scale);
  return out;
}

}  // namespace consilium::lora

#include "aggregation/lora/dense.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/QR"
#include "consilium/aggregation/kernels.h"

namespace consilium::lora {
namespace {

// Of the largest pivot. What lies below is the rounding of the Gram matrix.
constexpr double kNothing = 1e-14;
// A pivot between the two has lost more digits than the factors, which are
// floats, can spare.
constexpr double kTooSmall = 1e-9;

// Elements of the rows that Expand() takes at a time, so that they stay in L2
// for all columns.
constexpr size_t kPiece = 1024;

}  // namespace

void FixEigenBlocks() {
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return true;
  }();
  (void)done;
}

Matrix Multiply(const Matrix& a, const Matrix& b) {
  Matrix out = Matrix::Zero(a.rows(), b.cols());
  for (Eigen::Index i = 0; i < a.rows(); ++i) {
    double* const to = out.data() + i * out.cols();
    for (Eigen::Index k = 0; k < a.cols(); ++k) {
      const double factor = a(i, k);
      const double* const from = b.data() + k * b.cols();
      for (Eigen::Index j = 0; j < b.cols(); ++j) to[j] += factor * from[j];
    }
  }
  return out;
}

RowSpace::RowSpace(std::vector<const float*> rows, size_t length)
    : rows_(std::move(rows)), length_(length) {
  if (!FromGram()) FromQr();
}

// Cholesky with the largest remaining pivot first (LAPACK's pstrf, Higham
// 2002, 10.3), unblocked: G = R^T R.
bool RowSpace::FromGram() {
  const size_t count = rows_.size();
  std::vector<double> gram(count * count);
  kernels::Gram(rows_, length_, gram);
  std::vector<double> left(count);  // of the diagonal
  for (size_t i = 0; i < count; ++i) left[i] = gram[i * count + i];
  const double largest = *std::max_element(left.begin(), left.end());
  std::vector<std::vector<double>> rows_of_r;
  while (rows_of_r.size() < std::min(count, length_)) {
    const auto next = std::max_element(left.begin(), left.end());
    if (!(*next > kNothing * largest)) break;
    if (*next < kTooSmall * largest) return false;
    const auto p = static_cast<size_t>(next - left.begin());
    const double pivot = std::sqrt(*next);
    std::vector<double> row(
        gram.begin() + static_cast<std::ptrdiff_t>(p * count),
        gram.begin() + static_cast<std::ptrdiff_t>((p + 1) * count));
    for (const std::vector<double>& done : rows_of_r) {
      const double factor = done[p];
      for (size_t j = 0; j < count; ++j) row[j] -= factor * done[j];
    }
    for (size_t j = 0; j < count; ++j) row[j] /= pivot;
    // Exactly 0 in theory, and what is left there would come back.
    for (const size_t earlier : pivots_) row[earlier] = 0;
    row[p] = pivot;
    for (size_t j = 0; j < count; ++j) left[j] -= row[j] * row[j];
    left[p] = 0;
    for (const size_t earlier : pivots_) left[earlier] = 0;
    pivots_.push_back(p);
    rows_of_r.push_back(std::move(row));
  }
  r_.resize(static_cast<Eigen::Index>(rows_of_r.size()),
            static_cast<Eigen::Index>(count));
  for (size_t i = 0; i < rows_of_r.size(); ++i) {
    std::copy(rows_of_r[i].begin(), rows_of_r[i].end(), r_.data() + i * count);
  }
  return true;
}

void RowSpace::FromQr() {
  FixEigenBlocks();
  basis_ = Basis::kQr;
  pivots_.clear();
  const auto count = static_cast<Eigen::Index>(rows_.size());
  const auto length = static_cast<Eigen::Index>(length_);
  Eigen::MatrixXd stack(length, count);
  for (Eigen::Index c = 0; c < count; ++c) {
    for (Eigen::Index t = 0; t < length; ++t) {
      stack(t, c) = static_cast<double>(rows_[static_cast<size_t>(c)][t]);
    }
  }
  // Column by column: the blocked one has bits that depend on the caches.
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(std::move(stack));
  const Eigen::Index rank = qr.rank();
  const Eigen::MatrixXd upper =
      qr.matrixR().topRows(rank).template triangularView<Eigen::Upper>();
  r_ = upper * qr.colsPermutation().transpose();
  Eigen::MatrixXd q = Eigen::MatrixXd::Identity(length, rank);
  for (Eigen::Index k = std::min(length, count) - 1; k >= 0; --k) {
    Eigen::VectorXd work(rank);
    q.bottomRows(length - k)
        .applyHouseholderOnTheLeft(qr.matrixQR().col(k).tail(length - k - 1),
                                   qr.hCoeffs()(k), work.data());
  }
  q_ = q;
}

std::vector<double> RowSpace::Expand(const Matrix& u) const {
  const auto columns = static_cast<size_t>(u.cols());
  std::vector<double> out(columns * length_);
  if (basis_ == Basis::kQr) {
    const Matrix product = Multiply(q_, u);  // length x columns
    for (size_t j = 0; j < columns; ++j) {
      for (size_t t = 0; t < length_; ++t) {
        out[j * length_ + t] =
            product(static_cast<Eigen::Index>(t), static_cast<Eigen::Index>(j));
      }
    }
    return out;
  }
  // Q u = rows[pivots]^T x with R[:, pivots] x = u, upper triangular.
  const size_t dimensions = pivots_.size();
  Matrix x = u;
  for (size_t back = dimensions; back > 0; --back) {
    const auto i = static_cast<Eigen::Index>(back - 1);
    const double pivot = r_(i, static_cast<Eigen::Index>(pivots_[back - 1]));
    for (Eigen::Index j = 0; j < x.cols(); ++j) x(i, j) /= pivot;
    for (Eigen::Index above = 0; above < i; ++above) {
      const double factor =
          r_(above, static_cast<Eigen::Index>(pivots_[back - 1]));
      for (Eigen::Index j = 0; j < x.cols(); ++j) {
        x(above, j) -= factor * x(i, j);
      }
    }
  }
  std::vector<double> weights(columns * dimensions);
  for (size_t j = 0; j < columns; ++j) {
    for (size_t i = 0; i < dimensions; ++i) {
      weights[j * dimensions + i] =
          x(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j));
    }
  }
  std::vector<const float*> piece(dimensions);
  for (size_t first = 0; first < length_; first += kPiece) {
    const size_t n = std::min(kPiece, length_ - first);
    for (size_t i = 0; i < dimensions; ++i) {
      piece[i] = rows_[pivots_[i]] + first;
    }
    for (size_t j = 0; j < columns; ++j) {
      kernels::WeightedAccumulate(
          std::span(out).subspan(j * length_ + first, n), piece,
          std::span(weights).subspan(j * dimensions, dimensions));
    }
  }
  return out;
}

}  // namespace consilium::lora

// Small dense matrices of doubles, and bases of tall stacks of factors. Sums
// have one order, whatever the CPU.
#ifndef CONSILIUM_AGGREGATION_LORA_DENSE_H_
#define CONSILIUM_AGGREGATION_LORA_DENSE_H_

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "Eigen/Core"
#include "consilium/aggregation/lora.h"

namespace consilium::lora {

// Row-major, as the factors are.
using Matrix =
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Before any other use of Eigen: its blocked products take steps of a size that
// follows from these caches, which it would otherwise ask the CPU for. Holds
// for the whole process.
void FixEigenBlocks();

// a * b. Eigen's own product blocks by the sizes of the caches it finds, and so
// has other bits on another CPU.
Matrix Multiply(const Matrix& a, const Matrix& b);

// An orthonormal basis Q of the space that rows (each of `length` floats) span,
// and R with rows^T = Q R: R has as many rows as the space has dimensions, as
// far as numbers tell, and a column for each row given.
class RowSpace {
 public:
  RowSpace(std::vector<const float*> rows, size_t length);

  const Matrix& r() const { return r_; }
  Basis basis() const { return basis_; }

  // (Q u)^T, for u with a row per dimension: u.cols() x length, row-major.
  std::vector<double> Expand(const Matrix& u) const;

 private:
  bool FromGram();
  void FromQr();

  const std::vector<const float*> rows_;
  const size_t length_;
  Basis basis_ = Basis::kGram;
  Matrix r_;
  // kGram: Q = rows[pivots]^T T with T upper triangular, the inverse of
  // R's columns at the pivots.
  std::vector<size_t> pivots_;
  // kQr: Q itself, length x dimensions.
  Matrix q_;
};

}  // namespace consilium::lora

#endif  // CONSILIUM_AGGREGATION_LORA_DENSE_H_

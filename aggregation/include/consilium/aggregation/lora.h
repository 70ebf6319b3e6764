// Sums of LoRA products, kept as factors. An institution's update of a matrix
// is s B A with s = alpha / rank (alpha / sqrt(rank) for rsLoRA); what a round
// should make of its contributions is
//
//   W* = sum_i p_i s_i B_i A_i,   B_i: out x r_i,  A_i: r_i x in,
//
// whose rank is up to sum_i r_i. Averaging the factors one by one gives another
// matrix (FedIT); everything here works on the sum itself, and nothing ever
// has out x in elements. With S = sum_i r_i, the cost is O((out + in) S^2 +
// S^3) and the memory O((out + in) S).
//
// Sources: FLoRA (Wang et al., NeurIPS 2024) for stacking, FlexLoRA (Bai et
// al., NeurIPS 2024) for truncation to a rank, FedEx-LoRA (Singhal et al.,
// ACL 2025) for the residual.
//
// Accuracy: about 1e-7 of sum_i |weight_i| |B_i| |A_i|, that of float factors.
// Same bits on every x86-64 CPU: sums of ours have a fixed order, and Eigen is
// built for the baseline instruction set, with block sizes that the first call
// fixes for the whole process. All functions are thread-safe and block.
#ifndef CONSILIUM_AGGREGATION_LORA_H_
#define CONSILIUM_AGGREGATION_LORA_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace consilium::lora {

struct MatrixShape {
  int64_t out = 0;  // rows of the adapted matrix
  int64_t in = 0;   // its columns
};

// weight * B A. Does not own the factors, which are row-major.
struct Product {
  std::span<const float> b;  // out x rank
  std::span<const float> a;  // rank x in
  int64_t rank = 0;
  double weight = 0;  // p_i s_i; of either sign
};

// B A, with its own factors.
struct Factors {
  std::vector<float> b;  // out x rank, row-major
  std::vector<float> a;  // rank x in, row-major
  int64_t rank = 0;
};

// Errors of every function below: INVALID_ARGUMENT naming the product and what
// is wrong with it: sizes that do not fit, a rank below 1, a weight or a value
// that is not finite, a total rank above kMaxTotalRank. OUT_OF_RANGE for a
// result that its type does not hold.
inline constexpr int64_t kMaxTotalRank = 4096;

// Of W*, in the Frobenius norm.
absl::StatusOr<double> Norm(const MatrixShape& shape,
                            std::span<const Product> sum);

// How the basis of the stacked factors was found.
enum class Basis {
  kGram,  // Cholesky of the Gram matrix: fast, for factors far from collinear
  kQr,  // Householder QR of the stack, where the Gram matrix would lose digits
};

struct Truncated {
  // The best approximation of W* / scale of rank `rank` (Eckart and Young,
  // 1936): B = U D^(1/2), A = D^(1/2) V^T with the singular values D over
  // `scale`, so that neither factor starts small. Columns beyond the numerical
  // rank of W* are 0. The sign of each pair is the one that makes the largest
  // element of B's column (the first of equals) positive. Values below the
  // rounding of the largest are 0.
  Factors factors;
  std::vector<double> singular_values;  // of W*, descending, all S of them
  double norm = 0;                      // of W*
  double error = 0;                     // |W* - scale B A| / |W*|; 0 for W* = 0
  Basis basis_b = Basis::kGram;
  Basis basis_a = Basis::kGram;
};

// `scale`: s of the adapter that will carry the factors, above 0.
// `rank`: 1 to min(out, in).
absl::StatusOr<Truncated> Truncate(const MatrixShape& shape,
                                   std::span<const Product> sum, int64_t rank,
                                   double scale);

struct Averaged {
  Factors factors;  // sum_i p_i B_i and sum_i p_i A_i
  // |W* - s B A| / |W*| where W* = s sum_i p_i B_i A_i: what averaging the
  // factors one by one loses. It equals the covariance of the factors,
  // |sum_i p_i (B_i - B)(A_i - A)|, and is computed that way, since the
  // difference of two nearly equal norms has no digits left.
  double error = 0;
};

// FedIT (Zhang et al., ICASSP 2024). Weights are p_i: they must be positive
// and sum to 1 within 1e-9; all ranks are equal, and so is s.
absl::StatusOr<Averaged> AverageFactors(const MatrixShape& shape,
                                        std::span<const Product> sum);

// What AverageFactors() loses, as factors of rank sum_i r_i:
// W* / s = B A + sum_i p_i (B_i - B)(A_i - A). `average` is its result.
absl::StatusOr<Factors> Residual(const MatrixShape& shape,
                                 std::span<const Product> sum,
                                 const Factors& average);

}  // namespace consilium::lora

#endif  // CONSILIUM_AGGREGATION_LORA_H_

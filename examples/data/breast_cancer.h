// The Wisconsin diagnostic breast-cancer table (569 rows, 30 features) and its
// split into a federation of three hospitals. Embedded: needs no file.
#ifndef CONSILIUM_EXAMPLES_DATA_BREAST_CANCER_H_
#define CONSILIUM_EXAMPLES_DATA_BREAST_CANCER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace consilium {

// Rows of a table. Label 1 is malignant.
struct TableSlice {
  std::vector<std::string> column_names;
  std::vector<float> features;  // rows x columns, row-major, as measured
  std::vector<int32_t> labels;  // one per row

  int64_t rows() const { return static_cast<int64_t>(labels.size()); }
  int64_t columns() const { return static_cast<int64_t>(column_names.size()); }
};

// The whole table, in the order of the file. Thread-safe.
const TableSlice& BreastCancerTable();

// What one hospital holds, and never shares.
struct HospitalSlices {
  std::string name;
  TableSlice train;
  TableSlice validation;
};

// Every row of the table is in exactly one slice.
//
//                 malignant   benign
//   public_slice         26       43   for pre-training and feature scaling
//   test                 47       78   held out: same mix as the whole table
//   hospital-a          104        6   takes in referred cases
//   hospital-b           10      219   screens the healthy
//   hospital-c           25       11   small
//
// A hospital's validation slice is a fifth of its rows of each label, rounded
// up.
struct BreastCancerFederation {
  TableSlice public_slice;
  TableSlice test;
  std::vector<HospitalSlices> hospitals;  // three, by name
};

// Equal seeds give equal slices on every machine.
BreastCancerFederation SplitBreastCancer(uint64_t seed);

// All rows of `slices`, which come from the same table, in order.
TableSlice JoinSlices(std::span<const TableSlice* const> slices);

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_DATA_BREAST_CANCER_H_

// What a federation of the demo's hospitals starts from, as files.

#ifndef CONSILIUM_EXAMPLES_DEMO_DEMO_DATA_H_
#define CONSILIUM_EXAMPLES_DEMO_DEMO_DATA_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "examples/data/breast_cancer.h"
#include "examples/demo/compare.h"

namespace consilium {

// What one seed's federation starts from: the split table, the model that the
// public slice pre-trained, and the layout of what travels.
struct DemoStart {
  BreastCancerFederation split;
  PretrainedTable base;
  std::unique_ptr<TableMoeTrainer> trainer;  // of `base`, on the CPU
  Layout layout;
};
absl::StatusOr<DemoStart> PrepareDemo(uint64_t seed);

// Names, then numbers; the last column is the label.
std::string CsvOf(const TableSlice& slice);

// base_model.safetensors, train.csv and validation.csv of one hospital, in a
// folder that exists.
absl::Status WriteHospital(const std::string& directory,
                           const PretrainedTable& base,
                           const HospitalSlices& hospital);

// Version 0, its layout, and each hospital's own files:
//
//   <directory>/version0.safetensors
//   <directory>/base.layout
//   <directory>/hospital-a/{base_model.safetensors,train.csv,validation.csv}
//   <directory>/hospital-b/...
//
// Equal seeds write equal files. What is there is replaced.
absl::Status WriteDemoData(const std::string& directory, uint64_t seed);

}  // namespace consilium

#endif  // CONSILIUM_EXAMPLES_DEMO_DEMO_DATA_H_

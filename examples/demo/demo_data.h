// What a federation of the demo's hospitals starts from, as files.

#ifndef CONSILIUM_EXAMPLES_DEMO_DEMO_DATA_H_
#define CONSILIUM_EXAMPLES_DEMO_DEMO_DATA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "examples/data/breast_cancer.h"

namespace consilium {

// Names, then numbers; the last column is the label.
std::string CsvOf(const TableSlice& slice);

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

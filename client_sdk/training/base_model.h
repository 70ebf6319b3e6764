// The frozen part of the table classifier, as a file: format "table-moe/1".
//
// A safetensors file with the tensors of FrozenTensors() as F32, in that
// order, and as metadata consilium.model = "table-moe/1", one key per field
// of TableMoeShape, written in decimal, and "columns": the names of the
// table's columns in the order of the features, separated by commas. Files of
// before have no such key.
#ifndef CONSILIUM_CLIENT_SDK_TRAINING_BASE_MODEL_H_
#define CONSILIUM_CLIENT_SDK_TRAINING_BASE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "consilium/aggregation/layout.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium {

// Errors: INVALID_ARGUMENT for a size out of range; names it and the limit.
absl::Status CheckShape(const TableMoeShape& shape);

// What travels, in layout order.
std::vector<SlotSpec> AdapterSlots(const TableMoeShape& shape);

// What does not: scaling.mean, scaling.inverse_deviation, trunk.0.weight,
// trunk.0.bias, trunk.1.weight, trunk.1.bias, head.weight, head.bias. Values
// are left empty.
std::vector<NamedTensor> FrozenTensors(const TableMoeShape& shape);

int64_t ElementsOf(std::span<const int64_t> shape);

struct BaseModel {
  TableMoeShape shape;
  std::vector<NamedTensor> tensors;  // as FrozenTensors(), with values
  std::vector<std::string> columns;  // one per feature; empty: not known
};

// Errors: INVALID_ARGUMENT for tensors or columns that do not fit the shape.
absl::StatusOr<std::string> WriteBaseModel(const BaseModel& model);

// Errors: INVALID_ARGUMENT for anything but a base model with finite values;
// names what is wrong. Memory is bounded by the file.
absl::StatusOr<BaseModel> ParseBaseModel(std::span<const std::byte> file);

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_SDK_TRAINING_BASE_MODEL_H_

#include "consilium/client_training/named_tensors.h"

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <utility>

#include "consilium/base/strings.h"

namespace consilium {

ParameterSource SourceOf(std::span<const NamedTensor> tensors) {
  auto by_name = std::make_shared<
      std::unordered_map<std::string_view, const NamedTensor*>>();
  for (const NamedTensor& tensor : tensors) {
    by_name->emplace(tensor.name, &tensor);
  }
  return [by_name = std::move(by_name)](
             std::string_view name) -> absl::StatusOr<std::span<const float>> {
    const auto found = by_name->find(name);
    if (found == by_name->end()) {
      return absl::NotFoundError(Cat("no parameter ", Quoted(name)));
    }
    return std::span<const float>(found->second->values);
  };
}

absl::Status AddDelta(std::span<const NamedTensor> delta,
                      std::span<NamedTensor> parameters) {
  std::unordered_map<std::string_view, NamedTensor*> by_name;
  for (NamedTensor& tensor : parameters) by_name.emplace(tensor.name, &tensor);
  std::vector<NamedTensor*> targets;
  for (const NamedTensor& tensor : delta) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end()) {
      return absl::NotFoundError(
          Cat("delta of ", Quoted(tensor.name), ", which is no parameter"));
    }
    if (found->second->values.size() != tensor.values.size()) {
      return absl::InvalidArgumentError(
          Cat("delta of ", tensor.name, " has ", tensor.values.size(),
              " elements; the parameter has ", found->second->values.size()));
    }
    targets.push_back(found->second);
  }
  for (size_t i = 0; i < delta.size(); ++i) {
    for (size_t j = 0; j < delta[i].values.size(); ++j) {
      targets[i]->values[j] += delta[i].values[j];
    }
  }
  return absl::OkStatus();
}

}  // namespace consilium

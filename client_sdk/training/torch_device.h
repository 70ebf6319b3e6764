#ifndef CONSILIUM_CLIENT_SDK_TRAINING_TORCH_DEVICE_H_
#define CONSILIUM_CLIENT_SDK_TRAINING_TORCH_DEVICE_H_

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "consilium/client_training/table_trainer.h"

namespace consilium {

// The device to train on. libtorch_cuda.so is not linked but loaded here when
// a GPU may be wanted, so that one binary runs with and without CUDA.
// LibTorch looks for CUDA once per process: call this before anything else of
// LibTorch. Errors: FAILED_PRECONDITION as TableMoeTrainer::Create().
absl::StatusOr<at::Device> ChooseDevice(TrainingDevice wanted);

}  // namespace consilium

#endif  // CONSILIUM_CLIENT_SDK_TRAINING_TORCH_DEVICE_H_

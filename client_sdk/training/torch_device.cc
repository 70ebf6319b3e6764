#include "client_sdk/training/torch_device.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include <string>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

// Empty when the CUDA half of LibTorch is in the process, else why it is not.
const std::string& LoadCudaOnce() {
  static const std::string error = [] {
    // Never closed: it registers its kernels with LibTorch for good.
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr) {
      return std::string();
    }
    const char* why = dlerror();
    return std::string(why == nullptr ? "libtorch_cuda.so does not load" : why);
  }();
  return error;
}

}  // namespace

absl::StatusOr<at::Device> ChooseDevice(TrainingDevice wanted) {
  if (wanted == TrainingDevice::kCpu) return at::Device(at::kCPU);
  std::string why = LoadCudaOnce();
  if (why.empty()) {
    if (at::hasCUDA()) return at::Device(at::kCUDA, 0);
    why = "LibTorch finds no CUDA device";
  }
  if (wanted == TrainingDevice::kAuto) return at::Device(at::kCPU);
  return absl::FailedPreconditionError(
      Cat("device cuda is not to be had: ", why,
          "; install the driver and LibTorch's CUDA libraries, or set device "
          "to auto or cpu"));
}

}  // namespace consilium

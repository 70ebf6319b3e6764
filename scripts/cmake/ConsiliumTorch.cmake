# consilium_torch: LibTorch's CPU half as one imported target.
#
# Not find_package(Torch): its configuration replaces protobuf::libprotobuf and
# asks for a CUDA language. CONSILIUM_TORCH_DIR is the torch/ folder of the
# PyPI wheel; its libraries find CUDA's run-time ones beside it (nvidia/) by
# their own RPATH. libtorch_cuda.so is loaded by the program when it is there.
include_guard(GLOBAL)

set(CONSILIUM_TORCH_DIR "${CONSILIUM_ROOT}/.deps/torch" CACHE PATH
  "torch/ folder of a LibTorch wheel")

foreach(file lib/libtorch_cpu.so lib/libc10.so include/ATen/ATen.h
    include/torch/csrc/api/include/torch/torch.h)
  if(NOT EXISTS "${CONSILIUM_TORCH_DIR}/${file}")
    message(FATAL_ERROR "CONSILIUM_WITH_TRAINING needs LibTorch; "
      "${CONSILIUM_TORCH_DIR}/${file} is missing. Run ./run build, which "
      "fetches it, set CONSILIUM_TORCH_DIR, or configure with "
      "-DCONSILIUM_WITH_TRAINING=OFF")
  endif()
endforeach()

# GLOBAL: binaries of other folders link it through consilium_client_training.
add_library(consilium_torch INTERFACE IMPORTED GLOBAL)
target_include_directories(consilium_torch SYSTEM INTERFACE
  "${CONSILIUM_TORCH_DIR}/include"
  "${CONSILIUM_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(consilium_torch INTERFACE
  "${CONSILIUM_TORCH_DIR}/lib/libtorch_cpu.so"
  "${CONSILIUM_TORCH_DIR}/lib/libc10.so")
# Also for dlopen of libtorch_cuda.so, and kept by cmake --install.
target_link_options(consilium_torch INTERFACE
  "LINKER:-rpath,${CONSILIUM_TORCH_DIR}/lib")

# gRPC C++ and protobuf as one interface target, found by file and not through
# their CMake packages: those define directory-scoped targets (and LibTorch's
# package redefines protobuf's), while every module here needs the same one.
#
#   find_package(ConsiliumGrpc REQUIRED)
#
# Target:     consilium_grpcpp          grpc++, grpc, gpr, protobuf, absl
# Variables:  CONSILIUM_PROTOC          path of protoc
#             CONSILIUM_GRPC_CPP_PLUGIN path of grpc_cpp_plugin
#             CONSILIUM_PROTOBUF_INCLUDE_DIR  where google/protobuf/*.proto lie
#             ConsiliumGrpc_VERSION     gRPC's version, where pkg-config knows it

find_path(CONSILIUM_GRPCPP_INCLUDE_DIR grpcpp/grpcpp.h)
find_path(CONSILIUM_PROTOBUF_INCLUDE_DIR google/protobuf/message.h)
find_library(CONSILIUM_GRPCPP_LIBRARY grpc++)
find_library(CONSILIUM_GRPC_LIBRARY grpc)
find_library(CONSILIUM_GPR_LIBRARY gpr)
find_library(CONSILIUM_PROTOBUF_LIBRARY protobuf)
find_program(CONSILIUM_PROTOC protoc)
find_program(CONSILIUM_GRPC_CPP_PLUGIN grpc_cpp_plugin)

find_package(PkgConfig QUIET)
if(PkgConfig_FOUND AND NOT DEFINED ConsiliumGrpc_VERSION)
  pkg_check_modules(CONSILIUM_GRPC_PC QUIET grpc++)
  set(ConsiliumGrpc_VERSION "${CONSILIUM_GRPC_PC_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ConsiliumGrpc
  REQUIRED_VARS CONSILIUM_GRPCPP_LIBRARY CONSILIUM_GRPC_LIBRARY
    CONSILIUM_GPR_LIBRARY CONSILIUM_PROTOBUF_LIBRARY
    CONSILIUM_GRPCPP_INCLUDE_DIR CONSILIUM_PROTOBUF_INCLUDE_DIR
    CONSILIUM_PROTOC CONSILIUM_GRPC_CPP_PLUGIN
  VERSION_VAR ConsiliumGrpc_VERSION
  REASON_FAILURE_MESSAGE "install libgrpc++-dev, libprotobuf-dev, \
protobuf-compiler and protobuf-compiler-grpc, or configure with \
-DCONSILIUM_WITH_GRPC=OFF")

if(ConsiliumGrpc_FOUND AND NOT TARGET consilium_grpcpp)
  find_package(Threads REQUIRED)
  find_package(absl REQUIRED)
  # Imported, so that the installed SDK names it and finds it by this file too;
  # global, for libraries of one folder serve those of another.
  add_library(consilium_grpcpp INTERFACE IMPORTED GLOBAL)
  target_include_directories(consilium_grpcpp SYSTEM INTERFACE
    ${CONSILIUM_GRPCPP_INCLUDE_DIR} ${CONSILIUM_PROTOBUF_INCLUDE_DIR})
  # gRPC's headers use absl inline, so its users need absl on the link line.
  target_link_libraries(consilium_grpcpp INTERFACE
    ${CONSILIUM_GRPCPP_LIBRARY} ${CONSILIUM_GRPC_LIBRARY}
    ${CONSILIUM_GPR_LIBRARY} ${CONSILIUM_PROTOBUF_LIBRARY}
    absl::strings absl::status absl::statusor absl::synchronization
    Threads::Threads)
endif()
mark_as_advanced(CONSILIUM_GRPCPP_INCLUDE_DIR CONSILIUM_PROTOBUF_INCLUDE_DIR
  CONSILIUM_GRPCPP_LIBRARY CONSILIUM_GRPC_LIBRARY CONSILIUM_GPR_LIBRARY
  CONSILIUM_PROTOBUF_LIBRARY CONSILIUM_PROTOC CONSILIUM_GRPC_CPP_PLUGIN)

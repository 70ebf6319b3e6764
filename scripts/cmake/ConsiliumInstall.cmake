# `cmake --install`: the programs, and an SDK for find_package(Consilium
# COMPONENTS client aggregation). Included last, when every target is known.
#
# A component is a set of libraries closed under linking: "aggregation" is what
# lies in aggregation/, "client" what the client needs beyond that. Foreign
# libraries they link become find_dependency calls of the installed package.

include_guard(GLOBAL)
include(CMakePackageConfigHelpers)
include(ConsiliumTree)

set(_consilium_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Consilium)

# Links of a library, without generator expressions for the build tree.
function(_consilium_links target out)
  get_target_property(links ${target} INTERFACE_LINK_LIBRARIES)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL "INTERFACE_LIBRARY")
    get_target_property(private ${target} LINK_LIBRARIES)
    list(APPEND links ${private})
  endif()
  set(clean "")
  foreach(link IN LISTS links)
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" link "${link}")
    string(REGEX REPLACE "^consilium::" "consilium_" link "${link}")
    if(link AND NOT link MATCHES "NOTFOUND$|^\\$<BUILD_INTERFACE:")
      list(APPEND clean ${link})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES clean)
  set(${out} ${clean} PARENT_SCOPE)
endfunction()

# The project's libraries that `roots` reach, and the foreign names they link.
function(_consilium_closure roots libraries_out foreign_out)
  set(todo ${roots})
  set(libraries "")
  set(foreign "")
  while(todo)
    list(POP_FRONT todo target)
    if(target IN_LIST libraries)
      continue()
    endif()
    list(APPEND libraries ${target})
    _consilium_links(${target} links)
    foreach(link IN LISTS links)
      set(layer NOTFOUND)
      if(TARGET ${link})
        get_target_property(layer ${link} CONSILIUM_LAYER)
      endif()
      if(layer MATCHES "^[0-9]+$")
        list(APPEND todo ${link})
      else()
        list(APPEND foreign ${link})
      endif()
    endforeach()
  endwhile()
  list(REMOVE_DUPLICATES foreign)
  set(${libraries_out} ${libraries} PARENT_SCOPE)
  set(${foreign_out} ${foreign} PARENT_SCOPE)
endfunction()

# find_dependency lines for the foreign libraries of a component.
function(_consilium_dependencies foreign out)
  set(packages "")
  foreach(link IN LISTS foreign)
    if(link MATCHES "^absl::")
      list(APPEND packages absl)
    elseif(link MATCHES "^Threads::")
      list(APPEND packages Threads)
    elseif(link MATCHES "^OpenSSL::")
      list(APPEND packages OpenSSL)
    elseif(link MATCHES "^hwy::|^hwy$")
      list(APPEND packages hwy)
    elseif(link STREQUAL "consilium_grpcpp")
      list(APPEND packages ConsiliumGrpc)
    elseif(link MATCHES "^CUDA::")
      list(APPEND packages CUDAToolkit)
    elseif(link MATCHES "^nlohmann_json::")
      list(APPEND packages nlohmann_json)
    elseif(link MATCHES "^-|^(dl|m|rt|pthread)$|^/")
      # A linker's argument needs no package.
    else()
      message(FATAL_ERROR "ConsiliumInstall.cmake: an installed library links "
        "${link}; say here which package that is")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES packages)
  set(lines "")
  foreach(package IN LISTS packages)
    string(APPEND lines "find_dependency(${package})\n")
  endforeach()
  set(${out} "${lines}" PARENT_SCOPE)
endfunction()

# Installs a component's libraries and headers, but not the reference trainer's.
function(_consilium_component name headers libraries)
  install(TARGETS ${libraries} EXPORT Consilium-${name}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT sdk
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT Consilium-${name} NAMESPACE consilium::
    FILE Consilium-${name}.cmake
    DESTINATION ${_consilium_package_dir} COMPONENT sdk)
  install(DIRECTORY ${headers}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    COMPONENT sdk FILES_MATCHING PATTERN "*.h"
    PATTERN "client_training" EXCLUDE)
endfunction()

consilium_targets_below(${CMAKE_SOURCE_DIR} _consilium_all)
set(_consilium_aggregation "")
foreach(target IN LISTS _consilium_all)
  get_target_property(layer ${target} CONSILIUM_LAYER)
  get_target_property(dir ${target} SOURCE_DIR)
  if(layer MATCHES "^[0-9]+$" AND dir MATCHES "^${CONSILIUM_ROOT}/aggregation")
    list(APPEND _consilium_aggregation ${target})
  endif()
endforeach()
_consilium_closure("${_consilium_aggregation}" _consilium_aggregation foreign)
_consilium_dependencies("${foreign}" CONSILIUM_AGGREGATION_DEPENDENCIES)
_consilium_component(aggregation ${CONSILIUM_ROOT}/aggregation/include
  "${_consilium_aggregation}")

set(CONSILIUM_CLIENT_DEPENDENCIES "")
if(TARGET consilium_client_grpc)
  _consilium_closure("consilium_client_grpc" _consilium_client foreign)
  list(REMOVE_ITEM _consilium_client ${_consilium_aggregation})
  # Whoever links the SDK wants sessions over the network: one name for both.
  set_target_properties(consilium_client PROPERTIES EXPORT_NAME client_session)
  set_target_properties(consilium_client_grpc PROPERTIES EXPORT_NAME client)
  _consilium_dependencies("${foreign}" CONSILIUM_CLIENT_DEPENDENCIES)
  _consilium_component(client ${CONSILIUM_ROOT}/client_sdk/include
    "${_consilium_client}")
  install(FILES ${CONSILIUM_ROOT}/scripts/cmake/FindConsiliumGrpc.cmake
    DESTINATION ${_consilium_package_dir} COMPONENT sdk)
endif()

configure_package_config_file(
  ${CONSILIUM_ROOT}/scripts/cmake/ConsiliumConfig.cmake.in
  ${CMAKE_BINARY_DIR}/ConsiliumConfig.cmake
  INSTALL_DESTINATION ${_consilium_package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  ${CMAKE_BINARY_DIR}/ConsiliumConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ConsiliumConfig.cmake
  ${CMAKE_BINARY_DIR}/ConsiliumConfigVersion.cmake
  DESTINATION ${_consilium_package_dir} COMPONENT sdk)

# The programs that a host runs, and the demo as a component of its own; tests
# and benchmarks stay in the build tree. One that links LibTorch finds it in lib/consilium, where the component `torch`
# puts it, and otherwise where it was built.
set(_consilium_private_dir ${CMAKE_INSTALL_LIBDIR}/consilium)
foreach(target IN LISTS _consilium_all)
  get_target_property(type ${target} TYPE)
  get_target_property(output ${target} OUTPUT_NAME)
  if(NOT output)
    set(output ${target})
  endif()
  if(type STREQUAL "EXECUTABLE" AND
      output MATCHES "^consilium(-coordinator|-client|-demo)?$")
    set(component programs)
    if(output STREQUAL "consilium-demo")
      set(component demo)
    endif()
    install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
      COMPONENT ${component})
    set_target_properties(${target} PROPERTIES INSTALL_RPATH
      "$ORIGIN/../${_consilium_private_dir}/torch/lib")
  endif()
endforeach()
if(CONSILIUM_WITH_TRAINING)
  # The layout of the wheels, which the libraries' own RPATH relies on.
  install(FILES ${CONSILIUM_TORCH_DIR}/lib/libtorch_cpu.so
    ${CONSILIUM_TORCH_DIR}/lib/libc10.so ${CONSILIUM_TORCH_DIR}/lib/libgomp.so.1
    DESTINATION ${_consilium_private_dir}/torch/lib COMPONENT torch)
  get_filename_component(_consilium_wheels ${CONSILIUM_TORCH_DIR} DIRECTORY)
  install(DIRECTORY ${_consilium_wheels}/nvidia/cu13/lib/
    DESTINATION ${_consilium_private_dir}/nvidia/cu13/lib COMPONENT torch
    FILES_MATCHING PATTERN "libcudart.so*" PATTERN "libcupti.so*")
endif()

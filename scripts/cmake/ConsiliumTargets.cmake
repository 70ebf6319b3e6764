# Target functions. Every library sits on a numbered layer and may link only
# lower layers, so that a cycle or an upward dependency fails at configure time.
#
#   consilium_library(NAME n LAYER i [INTERFACE] [SRCS ...] [PUBLIC ...] [PRIVATE ...])
#   consilium_binary(NAME n [OUTPUT name] SRCS ... DEPS ...)
#   consilium_test(NAME n SRCS ... DEPS ... [LABELS ...] [TIMEOUT s])
#     The label "threads" puts a test into consilium_threads_tests: those that
#     ThreadSanitizer can say something about.
#   consilium_bench(NAME n SRCS ... DEPS ...)
#   consilium_fuzz(NAME n SRCS ... DEPS ...)

include_guard(GLOBAL)

if(NOT TARGET consilium_warnings)
  add_library(consilium_warnings INTERFACE)
  target_compile_options(consilium_warnings INTERFACE
    -Wall -Wextra -Wconversion -Wno-sign-conversion -Werror
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    # GCC bug 105651: false positives in std::string under -O2.
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-restrict>")
endif()

function(_consilium_check_layer name layer)
  foreach(dep IN LISTS ARGN)
    if(dep MATCHES "^consilium::(.+)$")
      if(NOT TARGET consilium_${CMAKE_MATCH_1})
        message(FATAL_ERROR "${name} uses ${dep}, which is not declared yet")
      endif()
      get_target_property(below consilium_${CMAKE_MATCH_1} CONSILIUM_LAYER)
      if(NOT below LESS layer)
        message(FATAL_ERROR "${name} (layer ${layer}) may not use ${dep} "
          "(layer ${below}): a library may use only lower layers")
      endif()
    endif()
  endforeach()
endfunction()

function(consilium_library)
  cmake_parse_arguments(PARSE_ARGV 0 A "INTERFACE" "NAME;LAYER"
    "SRCS;PUBLIC;PRIVATE")
  _consilium_check_layer(${A_NAME} ${A_LAYER} ${A_PUBLIC} ${A_PRIVATE})
  if(A_INTERFACE)
    add_library(consilium_${A_NAME} INTERFACE)
    target_include_directories(consilium_${A_NAME} INTERFACE
      $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>)
    target_link_libraries(consilium_${A_NAME} INTERFACE ${A_PUBLIC})
  else()
    add_library(consilium_${A_NAME} STATIC ${A_SRCS})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/include)
      target_include_directories(consilium_${A_NAME}
        PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>)
    endif()
    target_include_directories(consilium_${A_NAME}
      PRIVATE ${CONSILIUM_ROOT})
    target_link_libraries(consilium_${A_NAME} PUBLIC ${A_PUBLIC}
      PRIVATE ${A_PRIVATE} $<BUILD_INTERFACE:consilium_warnings>)
  endif()
  add_library(consilium::${A_NAME} ALIAS consilium_${A_NAME})
  set_target_properties(consilium_${A_NAME} PROPERTIES
    CONSILIUM_LAYER ${A_LAYER} EXPORT_NAME ${A_NAME})
endfunction()

function(consilium_binary)
  cmake_parse_arguments(PARSE_ARGV 0 A "" "NAME;OUTPUT" "SRCS;DEPS")
  add_executable(${A_NAME} ${A_SRCS})
  target_include_directories(${A_NAME} PRIVATE ${CONSILIUM_ROOT})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} consilium_warnings)
  set_target_properties(${A_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  if(A_OUTPUT)
    set_target_properties(${A_NAME} PROPERTIES OUTPUT_NAME ${A_OUTPUT})
  endif()
endfunction()

function(consilium_test)
  cmake_parse_arguments(PARSE_ARGV 0 A "" "NAME;TIMEOUT" "SRCS;DEPS;LABELS")
  if(NOT CONSILIUM_BUILD_TESTS)
    return()
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_include_directories(${A_NAME} PRIVATE ${CONSILIUM_ROOT})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} GTest::gmock
    GTest::gtest_main consilium_warnings)
  # What is tested is optimised; a test's own code takes longer to compile than
  # to run, and without -O a third less.
  target_compile_options(${A_NAME} PRIVATE -O0)
  set(properties TIMEOUT ${A_TIMEOUT})
  if(A_LABELS)
    list(APPEND properties LABELS "${A_LABELS}")
  endif()
  if("threads" IN_LIST A_LABELS)
    if(NOT TARGET consilium_threads_tests)
      add_custom_target(consilium_threads_tests)
    endif()
    add_dependencies(consilium_threads_tests ${A_NAME})
    list(APPEND properties ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${CONSILIUM_ROOT}/tests/tsan_suppressions.txt")
  endif()
  gtest_discover_tests(${A_NAME} DISCOVERY_MODE PRE_TEST
    PROPERTIES ${properties})
endfunction()

function(consilium_bench)
  cmake_parse_arguments(PARSE_ARGV 0 A "" "NAME" "SRCS;DEPS")
  if(NOT CONSILIUM_BUILD_BENCH)
    return()
  endif()
  consilium_binary(NAME ${A_NAME} SRCS ${A_SRCS} DEPS ${A_DEPS})
endfunction()

# Without -DCONSILIUM_FUZZ=ON a fuzz target links a plain driver that replays
# its corpus and seeded random inputs, so that it builds and runs everywhere.
function(consilium_fuzz)
  cmake_parse_arguments(PARSE_ARGV 0 A "" "NAME" "SRCS;DEPS")
  if(NOT CONSILIUM_BUILD_TESTS)
    return()
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_include_directories(${A_NAME} PRIVATE ${CONSILIUM_ROOT})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} consilium_warnings)
  set_target_properties(${A_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  if(CONSILIUM_FUZZ)
    target_link_options(${A_NAME} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${A_NAME} PRIVATE
      ${CONSILIUM_ROOT}/tests/fuzz/plain_driver.cc)
    # The inputs that `./run fuzz` starts with, too.
    file(GLOB seeds CONFIGURE_DEPENDS
      ${CONSILIUM_ROOT}/tests/fuzz/corpus/${A_NAME}/*)
    if(NOT seeds)
      message(FATAL_ERROR "${A_NAME}: tests/fuzz/corpus/${A_NAME} is empty")
    endif()
    add_test(NAME fuzz.${A_NAME} COMMAND ${A_NAME} --runs=2000 --seed=1
      ${seeds})
    set_tests_properties(fuzz.${A_NAME} PROPERTIES LABELS fuzz TIMEOUT 300)
  endif()
endfunction()

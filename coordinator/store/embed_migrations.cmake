# Writes OUT, a C++ file that holds migrations/NNN_name.sql as raw strings.
# Touches OUT only when its content changes.
function(consilium_embed_migrations dir out)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.sql)
  list(SORT files)
  set(rows "")
  set(expected 0)
  foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(stem ${file} NAME_WE)
    if(NOT stem MATCHES "^([0-9][0-9][0-9])_([a-z0-9_]+)$")
      message(FATAL_ERROR "${file}: expected NNN_name.sql")
    endif()
    set(name ${CMAKE_MATCH_2})
    math(EXPR expected "${expected} + 1")
    math(EXPR number "1${CMAKE_MATCH_1} - 1000")
    if(NOT number EQUAL expected)
      message(FATAL_ERROR "${file}: expected migration ${expected}")
    endif()
    file(READ ${file} sql)
    string(APPEND rows
      "    {${number}, \"${name}\", R\"~~~(${sql})~~~\"},\n")
  endforeach()
  file(GENERATE OUTPUT ${out} CONTENT
"// Generated from coordinator/store/migrations; do not edit.
#include \"coordinator/store/schema.h\"

namespace consilium {
namespace {
constexpr Migration kMigrations[] = {
${rows}};
}  // namespace
std::span<const Migration> EmbeddedMigrations() { return kMigrations; }
}  // namespace consilium
")
endfunction()

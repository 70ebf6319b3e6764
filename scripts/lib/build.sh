# shellcheck shell=bash
# Configure and compile. A tree is configured again only when its arguments or
# the presets changed; CMake files are ninja's own business.

cuda_switch() {
  if command -v nvcc >/dev/null; then echo ON; else echo OFF; fi
}

configure_now() {  # preset, tree, arguments...
  local preset=$1 tree=$2
  shift 2
  cmake --preset "$preset" -B "$tree" "$@"
}

# configure PRESET TREE ARGUMENT...
configure() {
  local preset=$1 tree=$2 key stamp
  key=$(printf '%s\n' "$@" | cat - "$ROOT/CMakePresets.json" | sha256sum)
  stamp=$tree/.configured
  shift 2
  if [[ -f $tree/build.ninja && -f $stamp && $(<"$stamp") == "$key" ]]; then
    return
  fi
  need_megabytes "$BUILD_ROOT" 2500 "building the \"$preset\" preset"
  need -q "configure ${tree##*/}" configure_now "$preset" "$tree" "$@"
  printf '%s\n' "$key" >"$stamp"
}

# The tree that demo, test, bench and install use.
configure_release() {
  configure release "$BUILD_ROOT/release" \
    "-DCONSILIUM_WITH_TRAINING=$WITH_TORCH" \
    "-DCONSILIUM_WITH_CUDA=$(cuda_switch)"
}

ninja_now() {  # tree, targets...
  local tree=$1
  shift
  ninja -C "$tree" -j "$(jobs_count)" "$@"
}

compile() {  # tree, targets...
  need "build ${1##*/}" ninja_now "$@"
}

# Names of the programs of a tree, "bin/consilium-bench-*" say, without "bin/".
programs_like() {  # tree, glob
  local line
  ninja -C "$1" -t targets all | while read -r line; do
    line=${line%%:*}
    # shellcheck disable=SC2053  # a glob on purpose
    if [[ $line == bin/$2 ]]; then echo "${line#bin/}"; fi
  done
}

require_program() {  # tree, program, what to say
  [[ $(programs_like "$1" "$2") == "$2" ]] || die "$3"
}

# shellcheck shell=bash
# `./run setup`, `build`, `demo`, `bench` and `clean`.

# What the demo and the benchmarks start as processes of their own.
SERVICES=(consilium consilium-coordinator consilium-client)

prepare_release() {
  lock_tree
  install_packages build
  install_libtorch
  configure_release
}

service_targets() {  # tree -> ninja targets, those that this tree has
  local name
  for name in "${SERVICES[@]}"; do
    programs_like "$1" "$name" | sed 's|^|bin/|'
  done
}

command_setup() {
  (($# == 0)) || die "setup: unknown argument $1 (see ./run help)"
  lock_tree
  install_packages build
  install_libtorch
}

command_build() {
  local preset=release targets=()
  while (($#)); do
    case $1 in
      --preset) preset=$(value_of "$@"); shift ;;
      -*) die "build: unknown argument $1 (see ./run help)" ;;
      *) targets+=("$1") ;;
    esac
    shift
  done
  local tree=$BUILD_ROOT/$preset groups=(build)
  grep -q "\"name\": \"$preset\", \"inherits\"" "$ROOT/CMakePresets.json" ||
    die "build: no preset \"$preset\"; there are: $(sed -nE \
      's/.*"name": "([a-z]+)", "inherits".*/\1/p' "$ROOT/CMakePresets.json" |
      tr '\n' ' ')"
  lock_tree
  case $preset in
    release | dev)
      install_packages build
      install_libtorch
      configure "$preset" "$tree" "-DCONSILIUM_WITH_TRAINING=$WITH_TORCH" \
        "-DCONSILIUM_WITH_CUDA=$(cuda_switch)"
      ;;
    cuda)
      command -v nvcc >/dev/null || die "build: the cuda preset needs nvcc" \
        "(CUDA 13.0) on the PATH; the release preset needs none"
      install_packages build
      install_libtorch
      configure cuda "$tree" "-DCONSILIUM_WITH_TRAINING=$WITH_TORCH"
      ;;
    *)  # sanitizers and the fuzzer, whose LibTorch would be uninstrumented
      if [[ $preset == fuzz ]]; then groups+=(fuzz); fi
      install_packages "${groups[@]}"
      configure "$preset" "$tree" -DCONSILIUM_WITH_TRAINING=OFF
      ;;
  esac
  compile "$tree" "${targets[@]}"
  say "built: ${tree#"$ROOT"/}"
}

command_demo() {
  [[ $WITH_TORCH == ON ]] ||
    die "the demo trains with LibTorch; run it without --without-torch"
  prepare_release
  local tree=$BUILD_ROOT/release targets
  require_program "$tree" consilium-demo "this tree has no consilium-demo"
  mapfile -t targets < <(service_targets "$tree")
  compile "$tree" bin/consilium-demo "${targets[@]}"
  unlock_tree
  cd "$CALLER_DIR" || exit
  exec "$tree/bin/consilium-demo" "$@"
}

# ./run bench            every benchmark, one after the other
# ./run bench NAME ...   that one, with the arguments it knows
command_bench() {
  local name='' json='' arguments=() targets names
  if (($#)) && [[ $1 != -* ]]; then name=$1; shift; fi
  while (($#)); do
    case $1 in
      --json) json=$(value_of "$@"); shift ;;
      --json=*) json=${1#--json=} ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  if [[ $json && $json != /* ]]; then json=$CALLER_DIR/$json; fi
  prepare_release
  local tree=$BUILD_ROOT/release
  mapfile -t names < <(programs_like "$tree" 'consilium-bench-*' |
    sed 's/^consilium-bench-//')
  if [[ $name ]]; then
    [[ " ${names[*]} " == *" $name "* ]] ||
      die "no benchmark \"$name\"; there are: ${names[*]}"
    names=("$name")
  fi
  ((${#names[@]})) || die "this tree has no benchmarks"
  mapfile -t targets < <(service_targets "$tree")
  compile "$tree" "${names[@]/#/bin/consilium-bench-}" "${targets[@]}"
  unlock_tree
  cd "$CALLER_DIR" || exit
  if [[ $name ]]; then
    exec "$tree/bin/consilium-bench-$name" "${arguments[@]}" \
      ${json:+--json "$json"}
  fi
  local parts=() status=0 part
  for name in "${names[@]}"; do
    part=$BUILD_ROOT/bench/$name.json
    mkdir -p "${part%/*}"
    rm -f "$part"
    say "== bench $name"
    "$tree/bin/consilium-bench-$name" "${arguments[@]}" --json "$part" ||
      status=1
    if [[ -f $part ]]; then parts+=("$part"); fi
  done
  if [[ $json ]]; then
    python3 "$ROOT/scripts/merge_bench.py" "$json" "${parts[@]}" || status=1
  fi
  return "$status"
}

command_clean() {
  local all=
  while (($#)); do
    case $1 in
      --all) all=1 ;;
      *) die "clean: unknown argument $1 (see ./run help)" ;;
    esac
    shift
  done
  rm -rf "${BUILD_ROOT:?}"
  say "removed build/"
  if [[ $all ]]; then
    rm -rf "${ROOT:?}/.deps"
    say "removed .deps/ (LibTorch)"
  fi
}

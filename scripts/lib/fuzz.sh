# shellcheck shell=bash
# `./run fuzz`: libFuzzer on every target, with a corpus that grows in build/
# and begins with tests/fuzz/corpus/.

FUZZ_TREE=$BUILD_ROOT/fuzz

prepare_fuzz() {
  install_packages build fuzz
  configure fuzz "$FUZZ_TREE" -DCONSILIUM_WITH_TRAINING=OFF
}

fuzz_targets() { programs_like "$FUZZ_TREE" '*_fuzz'; }

fuzz_one() {  # name, seconds
  local name=$1 seconds=$2
  local corpus=$BUILD_ROOT/fuzz-corpus/$name seeds=$ROOT/tests/fuzz/corpus/$name
  local crashes=$BUILD_ROOT/fuzz-crashes/$name status=0
  if [[ ! -d $seeds ]]; then
    echo "$name has no inputs to begin with in $seeds"
    return 1
  fi
  mkdir -p "$corpus" "$crashes"
  "$FUZZ_TREE/bin/$name" -max_total_time="$seconds" -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$crashes/" "$corpus" "$seeds" || status=$?
  if ((status != 0)); then
    echo "$name failed. Repeat it with:"
    echo "  build/fuzz/bin/$name $(find "$crashes" -type f -newer "$corpus" |
      head -n 1 | sed "s|^$ROOT/||")"
  fi
  return "$status"
}

# Builds and runs every target briefly; each counts as one test.
fuzz_smoke() {  # seconds
  local name
  prepare_fuzz
  local targets
  mapfile -t targets < <(fuzz_targets)
  if ((${#targets[@]} == 0)); then return; fi
  compile "$FUZZ_TREE" "${targets[@]/#/bin/}"
  for name in "${targets[@]}"; do
    check "fuzz $name" fuzz_one "$name" "$1"
  done
}

command_fuzz() {
  local name='' seconds=60
  while (($#)); do
    case $1 in
      --seconds) seconds=$(value_of "$@"); shift ;;
      -*) die "fuzz: unknown argument $1 (see ./run help)" ;;
      *) name=${1%_fuzz}_fuzz ;;
    esac
    shift
  done
  lock_tree
  prepare_fuzz
  local targets
  mapfile -t targets < <(fuzz_targets)
  if [[ $name ]]; then
    [[ " ${targets[*]} " == *" $name "* ]] ||
      die "no fuzz target \"$name\"; there are: ${targets[*]}"
    targets=("$name")
  fi
  compile "$FUZZ_TREE" "${targets[@]/#/bin/}"
  for name in "${targets[@]}"; do
    need "fuzz $name, $seconds s" fuzz_one "$name" "$seconds"
  done
}

# shellcheck shell=bash
# `./run test`: every test, the checks that need more than one process tree, and
# one closing line that counts them.

PASSED=0
FAILED=0
SKIPPED=0
FAILURES=()

# One check of its own, counted as one test.
check() {  # LABEL COMMAND...
  if step -q "$@"; then
    PASSED=$((PASSED + 1))
  else
    FAILED=$((FAILED + 1))
    FAILURES+=("$1")
  fi
}

ctest_now() {  # tree, arguments...
  local tree=$1
  shift
  ctest --test-dir "$tree" -j "$(jobs_count)" --output-on-failure \
    --no-tests=error --output-junit "$tree/junit.xml" "$@"
}

# Runs a tree's tests and adds their numbers to the totals.
run_ctest() {  # label, tree, ctest arguments...
  local label=$1 tree=$2 status=0 failed=0 all=0 skipped=0 log
  shift 2
  rm -f "$tree/junit.xml"
  step "$label" ctest_now "$tree" "$@" || status=$?
  log=$LOG_DIR/${label//[^A-Za-z0-9]/-}.log
  if [[ $(grep 'tests passed, ' "$log" | tail -n 1) =~ \
    ([0-9]+)\ tests\ failed\ out\ of\ ([0-9]+) ]]; then
    failed=${BASH_REMATCH[1]}
    all=${BASH_REMATCH[2]}
  fi
  if [[ -f $tree/junit.xml &&
    $(grep -om1 'skipped="[0-9]*"' "$tree/junit.xml") =~ ([0-9]+) ]]; then
    skipped=${BASH_REMATCH[1]}
  fi
  # ctest itself failed, before or beside its tests.
  if ((status != 0 && failed == 0)); then failed=1 all=$((all + 1)); fi
  if ((failed > 0)); then FAILURES+=("$failed in $label"); fi
  FAILED=$((FAILED + failed))
  SKIPPED=$((SKIPPED + skipped))
  PASSED=$((PASSED + all - failed - skipped))
}

# The installed SDK serves a project that knows nothing of this tree.
check_install() {
  local area=$BUILD_ROOT/install-check
  rm -rf "$area"
  mkdir -p "$area"
  local part
  for part in sdk programs; do
    cmake --install "$BUILD_ROOT/release" --prefix "$area/prefix" \
      --component "$part" || return
  done
  cmake -S "$ROOT/examples/link_sdk" -B "$area/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
    -DCMAKE_PREFIX_PATH="$area/prefix" || return
  ninja -C "$area/build" || return
  ctest --test-dir "$area/build" --output-on-failure --no-tests=error || return
  # Installing rewrites where programs look for libraries.
  local program
  for program in "$area"/prefix/bin/*; do
    "$program" --help >/dev/null || return
  done
}

# aggregation/ is usable without gRPC, OpenSSL and the rest of the tree.
check_aggregation_alone() {
  local tree=$BUILD_ROOT/aggregation-alone
  cmake -S "$ROOT/aggregation" -B "$tree" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache || return
  ninja -C "$tree" -j "$(jobs_count)"
}

check_compose() {
  docker-compose -f "$ROOT/docker-compose.yml" config --quiet
}

# Product sources without gRPC's headers, which cost ten times their own, and
# without LibTorch's; `scripts/tidy --all` takes the former too.
TIDY_PATHS=(aggregation client_sdk/session client_sdk/app/config.cc
  client_sdk/app/log.cc coordinator/app/config.cc coordinator/app/config_table.cc
  coordinator/app/config_value.cc coordinator/app/logging.cc coordinator/engine
  coordinator/metrics coordinator/round coordinator/store secure/crypto
  secure/seal secure/tls)

check_tidy() { "$ROOT/scripts/tidy" "${TIDY_PATHS[@]}"; }

# Builds targets of a tree and runs its tests. Sanitizers leave gRPC out:
# Debian's is built without them.
sanitizer_tests() {  # label, tree, target, ctest arguments...
  local label=$1 tree=$2 goal=$3
  shift 3
  if step "build ${tree##*/}" ninja_now "$tree" "$goal"; then
    run_ctest "tests under $label" "$tree" "$@"
  else
    FAILED=$((FAILED + 1))
    FAILURES+=("build ${tree##*/}")
  fi
}

# In the fuzzer's tree, whose libraries have the same sanitizers. Without the
# crash walks: thousands of restarts, ten times slower here, through code that
# the other tests also run.
asan_tests() {
  prepare_fuzz
  sanitizer_tests "ASan and UBSan" "$FUZZ_TREE" all -LE "lint|crash"
}

# Only tests with threads: about the others this sanitizer has nothing to say.
tsan_tests() {
  install_packages build fuzz
  configure tsan "$BUILD_ROOT/tsan" -DCONSILIUM_WITH_TRAINING=OFF
  sanitizer_tests "TSan" "$BUILD_ROOT/tsan" consilium_threads_tests -L threads
}

# Minutes left of --budget; without one, plenty.
minutes_left() {
  if [[ ! $BUDGET_MINUTES ]]; then echo 1000; return; fi
  echo $((BUDGET_MINUTES - SECONDS / 60))
}

# optional MINUTES WHAT COMMAND...: runs it if that many minutes are left.
optional() {
  local minutes=$1 what=$2
  shift 2
  if (($(minutes_left) >= minutes)); then
    "$@"
  else
    say "== $what: left out; it takes up to $minutes min and" \
      "$(minutes_left) min of $BUDGET_MINUTES are left"
  fi
}

# Prints the totals; also on the way out of a step that ended everything.
close_tests() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    FAILED=$((FAILED + 1))
    FAILURES+=("${NEEDED:-set-up}")
  fi
  echo
  say "total time: $((SECONDS / 60)) min $((SECONDS % 60)) s"
  if command -v ccache >/dev/null; then
    say "ccache hits: $(ccache -s 2>/dev/null |
      sed -nE 's/^ *Hits: *([0-9]+) *\/ *([0-9]+).*/\1 of \2/p' | head -n 1)"
  fi
  ((SKIPPED == 0)) || say "$SKIPPED skipped"
  ((FAILED == 0)) || say "failed: $(printf '%s; ' "${FAILURES[@]}")"
  say "$PASSED passed, $FAILED failed"
  ((FAILED == 0)) || exit 1
}

command_test() {
  local only='' sanitizers='' tidy='' fuzz_seconds=0
  BUDGET_MINUTES=
  while (($#)); do
    case $1 in
      --only) only=$(value_of "$@"); shift ;;
      --sanitizers) sanitizers=1 ;;
      --tidy) tidy=1 ;;
      --fuzz-seconds) fuzz_seconds=$(value_of "$@"); shift ;;
      --budget) BUDGET_MINUTES=$(value_of "$@"); shift ;;
      *) die "test: unknown argument $1 (see ./run help)" ;;
    esac
    shift
  done
  trap close_tests EXIT
  lock_tree
  install_packages build test
  install_libtorch
  configure_release
  local tree=$BUILD_ROOT/release
  compile "$tree"
  if [[ $only ]]; then
    run_ctest "tests" "$tree" -R "$only"
    return
  fi
  run_ctest "tests" "$tree"
  check "aggregation/ builds alone" check_aggregation_alone
  check "installed SDK links elsewhere" check_install
  if command -v docker-compose >/dev/null; then
    check "docker-compose file" check_compose
  fi
  if [[ $tidy ]]; then
    install_packages tidy
    optional 6 "clang-tidy" check "clang-tidy" check_tidy
  fi
  if [[ $sanitizers ]]; then
    optional 9 "ASan and UBSan" asan_tests
    optional 6 "TSan" tsan_tests
  fi
  if ((fuzz_seconds > 0)); then
    optional 6 "fuzzing" fuzz_smoke "$fuzz_seconds"
  fi
}

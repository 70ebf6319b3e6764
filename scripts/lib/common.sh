# shellcheck shell=bash
# Steps, their timing, and what to say when one fails. Sourced by ./run.
#
# Callers set ROOT, and BUILD_ROOT where every log and build tree lies.

LOG_DIR=$BUILD_ROOT/log
TTY=
if [[ -t 1 ]]; then TTY=1; fi

say() { printf '%s\n' "$*"; }

die() {
  printf 'run: %s\n' "$*" >&2
  exit 1
}

# The argument of an option: only=$(value_of "$@") with "$1" the option.
value_of() {
  (($# >= 2)) || die "$1 wants a value (see ./run help)"
  printf '%s' "$2"
}

# Microseconds since the epoch; EPOCHREALTIME has no subshell cost.
now_us() { printf -v "$1" '%s' "${EPOCHREALTIME/[.,]/}"; }

seconds_since() {  # start_us -> "12.3"
  local now
  now_us now
  local tenths=$(((now - $1) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# Thins the output of ninja and ctest to ten lines (one moving line on a
# terminal); anything else, such as a compiler's message, passes unchanged.
# In quiet mode only a terminal's moving line is shown.
#   show_progress MODE(live|quiet) START_US
show_progress() {
  local mode=$1 start=$2 line text shown='' decile=0
  local noise_re='^ +Start +[0-9]+: |^ninja: (no work|Entering)|^Internal ctest'
  noise_re+='|^Test project |^Label Time Summary|\*proc|^Total Test time'
  local passed_re='^ *([0-9]+)/([0-9]+) Test +#[0-9]+: ([^ ]+) .*Passed'
  while IFS= read -r line; do
    if [[ $line =~ ^\[([0-9]+)/([0-9]+)\]\ (.*)$ || $line =~ $passed_re ]]; then
      local done=${BASH_REMATCH[1]} all=${BASH_REMATCH[2]}
      text=${BASH_REMATCH[3]##*/}
      if [[ $TTY ]]; then
        printf '\r\033[K  [%d/%d] %.60s' "$done" "$all" "$text"
        shown=1
      elif ((done * 10 / all > decile && all >= 20)); then
        decile=$((done * 10 / all))
        [[ $shown ]] || echo
        printf '  [%d/%d] %s s\n' "$done" "$all" "$(seconds_since "$start")"
        shown=1
      fi
    elif [[ $mode == quiet ]]; then
      if [[ $TTY && $line ]]; then
        printf '\r\033[K  %.70s' "$line"
        shown=1
      fi
    elif [[ $line =~ $noise_re ]]; then
      continue
    else
      [[ $TTY ]] && printf '\r\033[K'
      [[ $shown || $TTY ]] || echo
      printf '%s\n' "$line"
      shown=1
    fi
  done
  [[ $shown && $TTY ]] && printf '\r\033[K'
  [[ $shown ]] && printf '   '
  printf '%s s\n' "$(seconds_since "$start")"
}

# Runs a command as a named, timed step. Its whole output goes to a log; the
# exit status is the command's.
#   step [-q] LABEL COMMAND...
step() {
  local mode=live
  if [[ $1 == -q ]]; then mode=quiet; shift; fi
  local label=$1 start status
  shift
  mkdir -p "$LOG_DIR"
  local log=$LOG_DIR/${label//[^A-Za-z0-9]/-}.log
  now_us start
  printf '== %-36s ' "$label"
  set +e
  ("$@") 2>&1 | tee "$log" | show_progress "$mode" "$start"
  status=${PIPESTATUS[0]}
  set -e
  if ((status != 0)); then
    if [[ $mode == quiet ]]; then tail -n 30 "$log" >&2; fi
    explain_failure "$label" "$log" >&2
  fi
  return "$status"
}

# The same, for a step that the rest cannot do without.
NEEDED=''
need() {
  step "$@" || {
    NEEDED=$1
    if [[ $1 == -q ]]; then NEEDED=$2; fi
    exit 1
  }
}

# Says what to do about a failed step, from what its log holds.
explain_failure() {
  local label=$1 log=$2
  printf '\nrun: the step "%s" failed; its log: %s\n' "$label" "${log#"$ROOT"/}"
  if grep -qi 'no space left on device' "$log"; then
    say "  The disk is full. A first build needs about 3 GB here and 1 GB for" \
      "packages; free some, then run the same command again."
  elif grep -qiE 'could not get lock|unable to (acquire|lock)' "$log"; then
    say "  Another package manager holds apt's lock. Let it finish, then run the" \
      "same command again."
  elif grep -qiE 'do not match the hashes|hash mismatch' "$log"; then
    say "  A download is not the file it should be and was not used. If a proxy" \
      "or mirror stands in between, fix that, then run the same command again."
  elif grep -qiE 'could not resolve|temporary failure|failed to (resolve|fetch)|network is unreachable|connection (timed out|refused)|newconnectionerror|no matching distribution' "$log"; then
    say "  The network or a mirror does not answer. Check the connection and the" \
      "proxy (http_proxy, https_proxy), then run the same command again; what" \
      "was fetched is kept."
  elif grep -qi 'unable to locate package' "$log"; then
    say "  A package is not in this system's lists. Debian 12 has them all; on" \
      "Ubuntu enable \"universe\"."
  elif grep -qE 'Killed signal|: Killed$|signal 9 \[Killed\]|[Cc]annot allocate memory|ut of memory' "$log"; then
    say "  Memory ran out. Run again with fewer jobs: CONSILIUM_JOBS=1 ./run ..."
  elif grep -qi 'permission denied' "$log"; then
    say "  A file or folder cannot be written. If an earlier run was made as" \
      "root, give build/ and .deps/ back to yourself: sudo chown -R \$(id -un) build .deps"
  elif grep -qE 'CMake Error' "$log"; then
    say "  Configuring failed. If a system package changed since the last build," \
      "\`./run clean\` and the same command again."
  fi
}

free_megabytes() {  # path -> megabytes available there
  df -Pm -- "$1" | awk 'NR == 2 { print $4 }'
}

need_megabytes() {  # path, megabytes, what for
  local have
  have=$(free_megabytes "$1")
  if ((have < $2)); then
    die "$3 needs $2 MB of disk, and only $have MB are free here. Free some," \
      "then run the same command again."
  fi
}

# Parallel jobs: cores, but at least 1.5 GB of memory for each compiler.
jobs_count() {
  if [[ ${CONSILIUM_JOBS:-} ]]; then
    echo "$CONSILIUM_JOBS"
    return
  fi
  local cores by_memory
  cores=$(nproc)
  by_memory=$(awk '/^MemTotal/ { print int($2 / 1500000) }' /proc/meminfo)
  ((by_memory >= 1)) || by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# One ./run at a time per tree: ninja does not lock its build folder.
lock_tree() {
  mkdir -p "$BUILD_ROOT"
  exec 9>"$BUILD_ROOT/.run.lock"
  if ! flock -n 9; then
    say "another ./run works in this tree; waiting for it ..."
    flock 9
  fi
}

unlock_tree() { exec 9>&-; }

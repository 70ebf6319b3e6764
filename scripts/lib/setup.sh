# shellcheck shell=bash
# What has to be there before anything is built: packages and LibTorch.

DEPS=$ROOT/.deps
PACKAGES=$ROOT/scripts/packages.txt
LIBTORCH=$ROOT/scripts/libtorch.txt

# The wheel's tag, not this system's Python: nothing of it is imported, only its
# headers and libraries are used.
TORCH_PYTHON=3.11

packages_for() {  # group... -> package names
  local group
  for group in "$@"; do
    awk -v group="$group" '$1 == group { print $2 }' "$PACKAGES"
  done
}

missing_packages() {  # names... -> those not installed
  local installed name
  # dpkg-query exits 1 when a name is unknown; what it prints is enough.
  # shellcheck disable=SC2016  # dpkg-query expands these, not the shell
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" \
    2>/dev/null || true)
  for name in "$@"; do
    case $'\n'$installed$'\n' in
      *$'\n'"installed $name"$'\n'*) ;;
      *) echo "$name" ;;
    esac
  done
}

apt_get() {  # the rest of an apt-get command line
  local as_root=()
  if ((EUID != 0)); then as_root=(sudo); fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qy "$@" </dev/null
}

install_packages_now() {
  # A mirror that does not answer matters only if a package then lacks.
  apt_get update || say "some package lists could not be refreshed"
  apt_get install --no-install-recommends "$@"
}

install_packages() {  # group...
  local names missing
  mapfile -t names < <(packages_for "$@")
  if [[ ${CONSILIUM_NO_PACKAGES:-} ]]; then
    say "== packages: left alone, as --no-packages asks"
    return
  fi
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "this system has no apt. Install what these Debian packages hold, then" \
      "run again with --no-packages:"$'\n'"  ${names[*]}"
  fi
  mapfile -t missing < <(missing_packages "${names[@]}")
  if ((${#missing[@]} == 0)); then return; fi
  local command="apt-get install --no-install-recommends ${missing[*]}"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "packages are missing, and neither root" \
      "nor sudo is at hand. As root:"$'\n'"  $command"
    # Ask for the password now, not inside the step, whose output is a log.
    sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; } ||
      die "packages are missing, and sudo wants a password. Run this, then the" \
        "same command again:"$'\n'"  sudo $command"
  fi
  need -q "${#missing[@]} Debian packages" install_packages_now "${missing[@]}"
}

libtorch_pins() {  # -> name version, one per line
  sed -nE 's/^([a-z-]+)==([0-9.]+).*/\1 \2/p' "$LIBTORCH"
}

libtorch_present() {
  local name version
  while read -r name version; do
    [[ -f $DEPS/${name//-/_}-$version.dist-info/RECORD ]] || return 1
  done < <(libtorch_pins)
}

# A wheel is downloaded whole, checked against its hash and kept until all are
# installed, so that a broken connection costs one wheel. `.dist-info` folders
# move last: they are what libtorch_present looks for.
fetch_libtorch() {
  local python=python3 machine tag entry name
  if [[ -x /usr/bin/python3 ]] && /usr/bin/python3 -m pip --version \
    >/dev/null 2>&1; then
    python=/usr/bin/python3
  fi
  machine=$(uname -m)
  local pip=("$python" -m pip --disable-pip-version-check --no-cache-dir)
  local target=(--no-deps --require-hashes --only-binary=:all:
    --implementation cp --python-version "$TORCH_PYTHON")
  for tag in manylinux_2_28 manylinux_2_25 manylinux_2_17 manylinux2014; do
    target+=(--platform "${tag}_$machine")
  done
  rm -rf "$DEPS/.staging"
  mkdir -p "$DEPS/.wheels" "$DEPS/.staging/tmp" || return
  export TMPDIR=$DEPS/.staging/tmp
  while read -r name; do
    awk -v name="$name" '
      /^[a-z]/ { wanted = index($0, name "==") == 1 } wanted' "$LIBTORCH" \
      >"$DEPS/.staging/$name.txt" || return
    "${pip[@]}" download --progress-bar off "${target[@]}" \
      --dest "$DEPS/.wheels" -r "$DEPS/.staging/$name.txt" || return
  done < <(libtorch_pins | cut -d' ' -f1)
  "${pip[@]}" install "${target[@]}" --no-index --find-links "$DEPS/.wheels" \
    --no-compile --target "$DEPS/.staging/tree" -r "$LIBTORCH" || return
  for entry in "$DEPS"/.staging/tree/*; do
    [[ $entry == *.dist-info ]] && continue
    rm -rf "${DEPS:?}/${entry##*/}"
    mv "$entry" "$DEPS/" || return
  done
  for entry in "$DEPS"/.staging/tree/*.dist-info; do
    rm -rf "${DEPS:?}/${entry##*/}"
    mv "$entry" "$DEPS/" || return
  done
  rm -rf "$DEPS/.staging" "$DEPS/.wheels"
}

install_libtorch() {
  if [[ $WITH_TORCH == OFF ]]; then
    say "== LibTorch: skipped, as --without-torch asks; the reference trainer" \
      "and the demo are not built"
    return
  fi
  if libtorch_present; then return; fi
  mkdir -p "$DEPS"
  need_megabytes "$DEPS" 3000 "LibTorch (540 MB to fetch, 1.2 GB unpacked)"
  need -q "LibTorch (540 MB)" fetch_libtorch
}

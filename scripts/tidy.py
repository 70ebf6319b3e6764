"""Runs clang-tidy over chosen files of compile_commands.json; see scripts/tidy.

A pass is remembered under the hash of the preprocessed source, the compiler's
flags and .clang-tidy, so that an unchanged file costs one preprocessor run.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

# Warning options of g++ that clang does not know, and precompiled headers of
# the other compiler.
EXTRA = ["--extra-arg=-Wno-unknown-warning-option",
         "--extra-arg=-Wno-error"]


# Where one message of clang-tidy ends and the next begins.
DIAGNOSTIC = re.compile(r"^(?=/[^\n]*: (?:error|warning): )", re.MULTILINE)


def compile_commands(tree):
    path = os.path.join(tree, "compile_commands.json")
    if not os.path.isfile(path):
        sys.exit("tidy: no compile_commands.json there; ./run build makes it")
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def changed_since(root, revision):
    git = ["git", "-C", root]
    diff = subprocess.run([*git, "diff", "--name-only", revision, "--"],
                          check=True, capture_output=True, text=True)
    new = subprocess.run([*git, "ls-files", "-o", "--exclude-standard"],
                         check=True, capture_output=True, text=True)
    return set(diff.stdout.split() + new.stdout.split())


def preprocessed(entry):
    """The compiler's own view of a file, or None where it does not compile."""
    words = shlex.split(entry["command"])
    if "ccache" in map(os.path.basename, words):  # behind "env NAME=value"
        words = words[1 + [*map(os.path.basename, words)].index("ccache"):]
    if "-o" in words:
        at = words.index("-o")
        del words[at:at + 2]
    words = [word for word in words if word != "-c"]
    result = subprocess.run([*words, "-E", "-P"], cwd=entry["directory"],
                            capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else None


def check(entry, tidy, tree, config, cache):
    """(problems as text, whether an earlier pass was found)."""
    text = preprocessed(entry)
    stamp = None
    if text is not None:
        key = hashlib.sha256(config + text + entry["command"].encode())
        stamp = os.path.join(cache, key.hexdigest())
        if os.path.exists(stamp):
            return "", True
    result = subprocess.run(
        [tidy, "-quiet", "-p", tree, *EXTRA, entry["file"]],
        capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return result.stdout or result.stderr, False
    if stamp:
        with open(stamp, "w", encoding="utf-8"):
            pass
    return "", False


def choose(entries, args):
    relative = {}
    for entry in entries:
        path = os.path.relpath(entry["file"], args.root)
        generated = path.startswith((".." + os.sep, "build" + os.sep))
        if not generated and "client_sdk/training/" not in path:
            relative.setdefault(path, entry)
    if args.all:
        return relative
    if args.paths:
        wanted = [os.path.normpath(path) for path in args.paths]
        return {path: entry for path, entry in relative.items()
                if any(path == w or path.startswith(w + os.sep)
                       for w in wanted)}
    changed = changed_since(args.root, args.since)
    return {path: entry for path, entry in relative.items()
            if path in changed}


def main():
    parser = argparse.ArgumentParser(prog="scripts/tidy")
    parser.add_argument("--root", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tree", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, required=True,
                        help=argparse.SUPPRESS)
    split = sys.argv.index("--")
    args = parser.parse_args(sys.argv[1:split])
    own = argparse.ArgumentParser(prog="scripts/tidy")
    own.add_argument("--all", action="store_true")
    own.add_argument("--since", default="HEAD")
    own.add_argument("paths", nargs="*")
    own.parse_args(sys.argv[split + 1:], namespace=args)

    tidy = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
    if not tidy:
        sys.exit("tidy: needs clang-tidy (apt-get install clang-tidy)")
    chosen = choose(compile_commands(args.tree), args)
    cache = os.path.join(args.tree, "tidy-passed")
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(args.root, ".clang-tidy"), "rb") as f:
        config = f.read()
    failed = cached = 0
    shown = set()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        paths = {
            pool.submit(check, entry, tidy, args.tree, config, cache): path
            for path, entry in sorted(chosen.items())}
        for future in concurrent.futures.as_completed(paths):
            problems, was_cached = future.result()
            cached += was_cached
            if problems:
                failed += 1
                # A header's problem shows once, not in each of its users.
                for problem in DIAGNOSTIC.split(problems):
                    if problem.strip() and problem not in shown:
                        shown.add(problem)
                        print(problem.rstrip())
    print(f"tidy: {len(chosen)} files, {cached} unchanged, {failed} with "
          "problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""clang-format on every source; mend with `scripts/format`."""

import argparse
import collections
import re
import subprocess
import sys

import tree


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--clang-format", required=True)
    parser.add_argument("--fix", action="store_true")
    args = parser.parse_args()
    version = subprocess.run([args.clang_format, "--version"], check=True,
                             capture_output=True, text=True).stdout
    if " 14." not in version:
        print(f"the tree is formatted by clang-format 14, not {version}")
        return 1
    mode = ["-i"] if args.fix else ["--dry-run", "-Werror"]
    paths = tree.code_files(args.root)
    batches = [paths[i::2] for i in range(2)]
    running = [
        subprocess.Popen([args.clang_format, *mode, *batch], cwd=args.root,
                         stderr=subprocess.PIPE, text=True)
        for batch in batches if batch
    ]
    spots = collections.Counter()  # by path
    for process in running:
        for line in process.communicate()[1].splitlines():
            found = re.match(r"(.*?):\d+:\d+: error: ", line)
            if found:
                spots[found.group(1)] += 1
        if process.returncode != 0 and not spots:
            return process.returncode
    problems = [f"{path}: {count} places are not as clang-format has them; "
                "run scripts/format" for path, count in sorted(spots.items())]
    return tree.finish("clang_format", problems)


if __name__ == "__main__":
    sys.exit(main())

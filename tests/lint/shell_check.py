"""shellcheck on every shell script of the project."""

import argparse
import subprocess
import sys

import tree


def is_script(root, path):
    if path.endswith((".sh", ".py", ".md")):
        return path.endswith(".sh")
    return tree.read(root, path).startswith(("#!/usr/bin/env bash", "#!/bin/sh"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--shellcheck", required=True)
    args = parser.parse_args()
    # scripts/lib is read through ./run, which sources it.
    scripts = [path for path in tree.files(args.root)
               if is_script(args.root, path)
               and not path.startswith("scripts/lib/")]
    result = subprocess.run(
        [args.shellcheck, "-x", "-a", *scripts], cwd=args.root, check=False)
    print(f"shellcheck: {len(scripts)} scripts")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())

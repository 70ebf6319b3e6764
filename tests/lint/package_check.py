"""Every library that `./run setup` installs is one that some source includes."""

import argparse
import re
import sys

import tree

PACKAGES = "scripts/packages.txt"

# The headers by which a source uses it.
HEADERS = {
    "libabsl-dev": "absl/",
    "libcli11-dev": "CLI/",
    "libeigen3-dev": "Eigen/",
    "libgmock-dev": "gmock/",
    "libgrpc++-dev": "grpcpp/",
    "libgtest-dev": "gtest/",
    "libhwy-dev": "hwy/",
    "libprotobuf-dev": "google/protobuf/",
    "libspdlog-dev": "spdlog/",
    "libsqlite3-dev": r"sqlite3\.h",
    "libssl-dev": "openssl/",
    "nlohmann-json3-dev": "nlohmann/",
    "prometheus-cpp-dev": "prometheus/",
}


def libraries(root):
    for line in tree.read(root, PACKAGES).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "build" and (
                words[1].endswith("-dev")):
            yield words[1]


def check_tree(root):
    sources = [tree.read(root, path) for path in tree.code_files(root)]
    problems = []
    for name in libraries(root):
        if name not in HEADERS:
            problems.append(f"{PACKAGES}: {name}: package_check.py does not "
                            "know which of its headers are used")
            continue
        include = re.compile(rf'^#include [<"]{HEADERS[name]}', re.MULTILINE)
        if not any(include.search(text) for text in sources):
            problems.append(f"{PACKAGES}: {name}: no source includes "
                            f"{HEADERS[name]}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    return tree.finish("package_check", check_tree(parser.parse_args().root))


if __name__ == "__main__":
    sys.exit(main())

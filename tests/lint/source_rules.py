"""Rules that a text search can check, one table each.

Words that a rule bans are written split here, so that this file passes too.
"""

import argparse
import os
import re
import sys

import tree

MAX_LINES = 600

# Folders that must explain themselves.
MODULES = ("aggregation", "client_sdk", "coordinator", "proto", "secure")

# Files that may be long or hold foreign text.
NOT_TEXT = ("LICENSE",)
DATA = (".csv", ".json", ".pem", ".safetensors", ".bin", ".txt")


class Rule:
    """`pattern` must not occur in files under `folders`, except in `allowed`."""

    def __init__(self, pattern, why, folders=("",), allowed=(), code=True):
        self.pattern = re.compile(pattern)
        self.why = why
        self.folders = folders
        self.allowed = allowed
        self.code = code  # C, C++ and CUDA only; else every text file

    def covers(self, path):
        if self.code and not path.endswith(tree.CODE):
            return False
        return path.startswith(tuple(self.folders)) and not (
            self.allowed and path.startswith(tuple(self.allowed)))


def include_of(names):
    return r'^\s*#\s*include\s+["<](' + names + ")"


RULES = (
    # What is unfinished is not in the tree.
    Rule(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b", "unfinished work",
         code=False),
    Rule(r"(^|[^A-Za-z0-9_.$})])/(wo" r"rk|ro" r"ot|ho" r"me)/[A-Za-z]",
         "a path of one machine", code=False),
    # Both compilers of the project must build everything.
    Rule(r"std::(ranges::)?views\b|" + include_of("ranges>"),
         "clang 14 does not compile libstdc++'s range adaptors"),
    Rule(r"std::format\b|" + include_of("format>"), "g++ 12 has no std::format"),
    Rule(r"std::expected\b|" + include_of("expected>"),
         "use absl::StatusOr"),
    Rule(r"std::source_location\b|" + include_of("source_location>"),
         "clang 14 has no std::source_location"),
    Rule(r"^#pragma once", "include guards are named by path"),
    Rule(r"[^\x00-\x7f]", "sources are ASCII"),
    # Tests decide when time passes.
    Rule(r"\b(sleep_for|sleep_until|usleep|nanosleep|SleepFor)\b|\bsleep\(",
         "tests do not sleep; use a fake clock or an event",
         folders=("tests/unit", "tests/integration", "tests/crash",
                  "tests/fuzz", "tests/support")),
    Rule(r"\b(random_device|system_clock::now|localtime|std::rand)\b|"
         r"\babsl::Now\(",
         "tests do not read the wall clock or unseeded randomness",
         folders=("tests/unit", "tests/crash", "tests/fuzz", "tests/support")),
    # Who may see which library.
    Rule(include_of("openssl/"), "only secure/ calls OpenSSL",
         allowed=("secure/", "tests/unit/secure/", "tests/support/",
                  "tests/bench/", "tests/integration/")),
    Rule(include_of("torch/|ATen/|c10/"),
         "only client_sdk/training/ calls LibTorch",
         allowed=("client_sdk/training/",)),
    Rule(include_of("sqlite3|SQLiteCpp"), "only coordinator/store/ calls SQLite",
         allowed=("coordinator/store/", "tests/unit/coordinator/store/",
                  "tests/support/", "tests/crash/")),
    Rule(include_of("grpc|google/protobuf|consilium/v1/|openssl/|torch/"),
         "aggregation/ knows nothing of gRPC, protobuf, OpenSSL or LibTorch",
         folders=("aggregation/",)),
    Rule(include_of("secure/|coordinator/|client_sdk/|proto/|"
                    "consilium/(secure|client)/"),
         "aggregation/ stands alone", folders=("aggregation/",)),
    Rule(include_of("(aggregation|client_sdk|coordinator|proto|secure)/"),
         "a public header includes public headers only",
         folders=("aggregation/include/", "client_sdk/include/",
                  "secure/include/")),
    Rule(include_of("grpc|google/protobuf|consilium/v1/|torch/|openssl/"),
         "the SDK's public headers name no type of gRPC, protobuf, OpenSSL or "
         "LibTorch", folders=("client_sdk/include/",)),
    Rule(include_of("client_sdk/|consilium/client/"),
         "coordinator and client do not see each other",
         folders=("coordinator/",)),
    Rule(include_of("coordinator/"),
         "coordinator and client do not see each other",
         folders=("client_sdk/",)),
    Rule(include_of("grpc|google/protobuf|consilium/v1/|sqlite3|SQLiteCpp"),
         "the round machine is pure", folders=("coordinator/round/",)),
)


def check_file(path, text):
    problems = []
    lines = text.splitlines()
    if len(lines) > MAX_LINES and not path.endswith(DATA):
        problems.append(f"{path}: {len(lines)} lines; more than {MAX_LINES} "
                        "hold more than one idea")
    rules = [rule for rule in RULES if rule.covers(path)]
    for number, line in enumerate(lines, 1):
        for rule in rules:
            match = rule.pattern.search(line)
            if match:
                problems.append(f"{path}:{number}: {match.group(0).strip()!r}: "
                                f"{rule.why}")
    return problems


def check_tree(root):
    problems = []
    for path in tree.files(root):
        if path in NOT_TEXT or path.endswith((".safetensors", ".bin")):
            continue
        problems += check_file(path, tree.read(root, path))
    for module in MODULES:
        if not os.path.isfile(os.path.join(root, module, "DESIGN.md")):
            problems.append(f"{module}/: no DESIGN.md says how it works")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    args = parser.parse_args()
    return tree.finish("source_rules", check_tree(args.root))


if __name__ == "__main__":
    sys.exit(main())

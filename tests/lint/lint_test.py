"""The linters find what they must, and only that."""

import os
import tempfile
import unittest

import doc_check
import include_layers
import package_check
import source_rules

TABLE = "\n".join("\t".join(row) for row in (
    ("consilium_base", "0", "{root}/aggregation", "base/bytes.cc", ""),
    ("consilium_model", "1", "{root}/aggregation", "model/layout.cc",
     "consilium::base"),
    ("consilium_fold", "2", "{root}/aggregation", "fold/fold.cc",
     "$<LINK_ONLY:consilium::model>"),
    ("consilium_round", "2", "{root}/coordinator/round", "machine.cc",
     "consilium::base"),
))
FILES = {
    "aggregation/base/bytes.cc": '#include "consilium/base/bytes.h"\n',
    "aggregation/include/consilium/base/bytes.h": "",
    "aggregation/include/consilium/aggregation/layout.h":
        '#include "consilium/base/bytes.h"\n',
    "aggregation/include/consilium/aggregation/fold.h":
        '#include "consilium/aggregation/layout.h"\n',
    "aggregation/include/consilium/aggregation/dtype.h": "",
    "aggregation/model/layout.cc":
        '#include "consilium/aggregation/layout.h"\n#include <vector>\n',
    "aggregation/fold/fold.cc": '#include "consilium/base/bytes.h"\n',
    "coordinator/round/machine.cc": '#include "coordinator/round/state.h"\n',
    "coordinator/round/state.h": '#include "consilium/base/bytes.h"\n',
}


def problems_of(changes):
    with tempfile.TemporaryDirectory() as root:
        for path, text in {**FILES, **changes}.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        return include_layers.check_tree(root, TABLE.format(root=root))


class PackageCheckTest(unittest.TestCase):

    def problems(self, packages):
        with tempfile.TemporaryDirectory() as root:
            for path, text in (("scripts/packages.txt", packages),
                               ("secure/a.cc", "#include <openssl/evp.h>\n")):
                os.makedirs(os.path.join(root, os.path.dirname(path)))
                with open(os.path.join(root, path), "w",
                          encoding="utf-8") as f:
                    f.write(text)
            return package_check.check_tree(root)

    def test_a_used_library_and_a_tool_pass(self):
        self.assertEqual(self.problems("build libssl-dev\nbuild cmake\n"), [])

    def test_a_library_that_nobody_includes_is_found(self):
        for name, why in (("libhwy-dev", "no source includes"),
                          ("libzstd-dev", "does not know")):
            problems = self.problems(f"build {name}\n")
            self.assertEqual(len(problems), 1, problems)
            self.assertIn(why, problems[0])


class IncludeLayersTest(unittest.TestCase):

    def one(self, changes, *words):
        problems = problems_of(changes)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])

    def test_a_clean_tree_passes(self):
        self.assertEqual(problems_of({}), [])

    def test_an_upward_include_is_found_in_a_source_and_in_a_header(self):
        upward = '#include "consilium/aggregation/fold.h"\n'
        self.one({"aggregation/model/layout.cc": upward},
                 "aggregation/model/layout.cc", "model (layer 1)",
                 "fold (layer 2)")
        self.one({"aggregation/include/consilium/base/bytes.h": upward},
                 "consilium/base/bytes.h", "base (layer 0)")

    def test_a_neighbour_on_the_same_layer_is_refused(self):
        self.one({"coordinator/round/state.h":
                      '#include "consilium/aggregation/fold.h"\n'},
                 "round (layer 2)", "fold (layer 2)")

    def test_an_include_without_a_link_is_found(self):
        self.one({"coordinator/round/machine.cc":
                      '#include "consilium/aggregation/layout.h"\n'},
                 "without linking consilium::model")

    def test_a_free_header_hides_nothing(self):
        self.one({"aggregation/include/consilium/aggregation/dtype.h":
                      '#include "consilium/aggregation/fold.h"\n',
                  "aggregation/model/layout.cc":
                      '#include "consilium/aggregation/dtype.h"\n'},
                 "model (layer 1)", "through", "dtype.h")

    def test_generated_messages_count_as_the_library_proto(self):
        table = TABLE + "\nconsilium_proto\t0\t{root}/proto\t\t"
        with tempfile.TemporaryDirectory() as root:
            path = os.path.join(root, "aggregation/base")
            os.makedirs(path)
            with open(os.path.join(path, "bytes.cc"), "w",
                      encoding="utf-8") as f:
                f.write('#include "consilium/v1/common.pb.h"\n')
            problems = include_layers.check_tree(root,
                                                 table.format(root=root))
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("proto (layer 0)", problems[0])


class DocCheckTest(unittest.TestCase):

    HELP = {
        ("tool",): "What it is.\n\nOptions:\n  -h,--help       this\n"
                   "  --json          one document\n"
                   "  --config FILE   which\n\n"
                   "Subcommands:\n  round    Rounds\n\nExit codes:\n  0  done\n",
        ("tool", "round"): "Rounds.\n\nOptions:\n  -h,--help  this\n\n"
                           "Subcommands:\n  extend     Longer\n",
        ("tool", "round", "extend"): "Longer.\n\nOptions:\n"
                                     "  --by DURATION REQUIRED  how much\n",
    }
    RUN = ("  demo [ARGS]       a demo\n  test              all tests\n"
           "      --only REGEX  some\n  help              this text\n")

    def problems(self, line):
        (words,) = doc_check.split_command(line)
        return len(doc_check.problems_of(
            words, lambda path: self.HELP[tuple(path)]))

    def test_commands_and_options_exist(self):
        for line, count in (
            ("tool round extend 7 --by 15m", 0),
            ("tool --config round round extend 7 --json", 0),
            ("tool --json round", 0),
            ("tool rounds", 1),
            ("tool round extend 7 --for 15m", 1),
            ("tool round shorten 7", 1),
            ("tool --by 3 round", 1),
        ):
            with self.subTest(line=line):
                self.assertEqual(self.problems(line), count)

    def test_run_has_a_help_of_its_own(self):
        for line, count in (
            ("run test --only x", 0),
            ("run --without-torch test", 0),
            ("run demo --whatever", 0),
            ("run tests", 1),
            ("run test --all", 1),
            ("run help --only", 1),
        ):
            with self.subTest(line=line):
                self.assertEqual(
                    len(doc_check.run_problems(line.split(), self.RUN)), count)

    def test_commands_are_found_where_they_stand(self):
        page = ("Say `./run test` or `round list`, not `round numbers` in\n"
                "prose; `run` alone is none.\n\n```\n"
                "consilium round start && consilium round watch   both\n"
                ".../bin/consilium --json status\nconsilium-layout 1\n```\n")
        self.assertEqual(
            [" ".join(words) for words in
             doc_check.commands_in(page, {"round"})],
            ["consilium round start", "consilium round watch",
             "consilium --json status", "run test", "consilium round list",
             "consilium round numbers"])

    def test_the_sdk_program_is_the_block_behind_its_name(self):
        page = f"x\n```cpp\nno\n```\nThis is `{doc_check.EXAMPLE}`:\n\n" \
               "```cpp\nint main() {}\n```\n"
        self.assertEqual(doc_check.sdk_program(page), "int main() {}\n")
        self.assertIsNone(doc_check.sdk_program("nothing"))


class SourceRulesTest(unittest.TestCase):

    def found(self, path, text):
        return len(source_rules.check_file(path, text))

    def test_length(self):
        self.assertEqual(self.found("a/b.cc", "x\n" * 600), 0)
        self.assertEqual(self.found("a/b.cc", "x\n" * 601), 1)
        self.assertEqual(self.found("examples/table.csv", "x\n" * 601), 0)

    def test_unfinished_work(self):
        self.assertEqual(self.found("run", "# TO" "DO: later"), 1)
        self.assertEqual(self.found("run", "# this to" "dos nothing"), 0)

    def test_paths_of_one_machine(self):
        self.assertEqual(self.found("a/b.cc", '"/ho' 'me/someone/x"'), 1)
        self.assertEqual(self.found("a.md", "see /wo" "rk/main"), 1)
        self.assertEqual(self.found("a.sh", 'rm "$X/wo' 'rk/a"'), 0)

    def test_sleep_is_banned_in_tests_only(self):
        text = "absl::Sleep" "For(x);"
        self.assertEqual(self.found("tests/unit/base/a_test.cc", text), 1)
        self.assertEqual(self.found("tests/bench/a_bench.cc", text), 0)
        self.assertEqual(self.found("client_sdk/session/a.cc", text), 0)

    def test_foreign_includes(self):
        for path, header, count in (
            ("aggregation/base/a.cc", "grpcpp/grpcpp.h", 1),
            ("aggregation/base/a.cc", "consilium/secure/aead.h", 1),
            ("client_sdk/include/consilium/client/a.h", "torch/torch.h", 2),
            ("client_sdk/training/a.cc", "torch/torch.h", 0),
            ("coordinator/store/a.cc", "openssl/evp.h", 1),
            ("secure/crypto/a.cc", "openssl/evp.h", 0),
            ("coordinator/engine/a.cc", "sqlite3.h", 1),
            ("coordinator/store/a.cc", "sqlite3.h", 0),
            ("coordinator/rpc/a.cc", "consilium/client/client.h", 1),
            ("client_sdk/session/a.cc", "coordinator/round/a.h", 1),
        ):
            with self.subTest(path=path, header=header):
                self.assertEqual(self.found(path, f"#include <{header}>"),
                                 count)

    def test_what_one_compiler_lacks(self):
        for word in ("std::vi" "ews::iota", "std::for" "mat(", "#include <ran"
                     "ges>", "#pragma on" "ce", "// na\u00efve"):
            with self.subTest(word=word):
                self.assertEqual(self.found("a/b.cc", word), 1)


if __name__ == "__main__":
    unittest.main()

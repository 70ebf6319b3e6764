"""Checks what the pages promise: the SDK program in README.md is the example
that is compiled and run, and every command line names commands and options that
the programs know, by their own --help.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys

import tree

EXAMPLE = "examples/link_sdk/take_part.cc"
PROGRAMS = ("run", "consilium", "consilium-client", "consilium-coordinator")


def sdk_program(markdown):
    """The first block of C++ behind the example's name, or None."""
    match = re.search(re.escape(EXAMPLE) + r".*?\n```cpp\n(.*?)```", markdown,
                      re.DOTALL)
    return match.group(1) if match else None


def split_command(text):
    """Words of each command in a line; a comment behind two spaces is cut."""
    text = re.split(r"\s{2,}|\s#", text.strip())[0]
    try:
        words = shlex.split(text)
    except ValueError:  # prose with an apostrophe
        return []
    commands = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";"):
            commands.append([])
        else:
            commands[-1].append(word.strip("[]"))
    return [command for command in commands if command]


def commands_in(markdown, verbs):
    """Commands of code blocks and of `spans`, as words; a span may leave out
    `consilium` before one of its `verbs`."""
    found = []
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", markdown,
                        re.DOTALL | re.MULTILINE)
    for block in blocks:
        for line in block.splitlines():
            found += split_command(line)
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        for words in split_command(" ".join(span.split())):
            found.append(["consilium", *words] if words[0] in verbs and
                         len(words) > 1 else words)
    return [[os.path.basename(words[0]), *words[1:]] for words in found
            if os.path.basename(words[0]) in PROGRAMS and words[0] != "run"]


def section(help_text, title):
    match = re.search(rf"^{title}:\n((?:[ \t].*\n?|\n(?=[ ]))*)", help_text,
                      re.MULTILINE)
    return match.group(1) if match else ""


def subcommands(help_text):
    lines = section(help_text, "Subcommands")
    return set(re.findall(r"^  ([a-z][a-z-]*)\b", lines, re.MULTILINE))


def options(help_text):
    """Name -> whether a value follows."""
    return {name: bool(value) for name, value in re.findall(
        r"^  (?:-\w,)?(--[a-z-]+)( \S+)?", section(help_text, "Options"),
        re.MULTILINE)}


def problems_of(words, help_of):
    """What is wrong with one command of a program that has --help."""
    shown = " ".join(words)
    path = [words[0]]
    known = options(help_of(path))
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        verbs = subcommands(help_of(path))
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            if name not in known:
                return [f"`{shown}`: {' '.join(path)} has no {name}"]
            if known[name] and not equals and rest:
                rest.pop(0)
        elif word in verbs:
            path.append(word)
            known = {**known, **options(help_of(path))}
        elif verbs:
            return [f"`{shown}`: {' '.join(path)} has no \"{word}\""]
    return []


def run_problems(words, help_text):
    """The same for ./run, whose help has a format of its own."""
    shown = "./" + " ".join(words)
    rest = [word for word in words[1:]
            if word not in ("--without-torch", "--no-packages")]
    if not rest:
        return []
    entry = re.search(rf"^  {re.escape(rest[0])}( .*\n(?:      .*\n)*|\n)",
                      help_text, re.MULTILINE)
    if not entry:
        return [f"`{shown}`: there is no such command"]
    if "[ARGS]" in entry.group(0):
        return []  # a program's own
    return [f"`{shown}`: {rest[0]} has no {word}" for word in rest[1:]
            if word.startswith("--") and word not in entry.group(0)]


def check_tree(root, programs):
    problems = []
    cache = {}

    def help_of(path):
        key = tuple(path)
        if key not in cache:
            result = subprocess.run(
                [os.path.join(programs, path[0]), *path[1:], "--help"],
                capture_output=True, text=True, check=True)
            cache[key] = result.stdout
        return cache[key]

    run_help = subprocess.run([os.path.join(root, "run"), "help"],
                              capture_output=True, text=True, check=True)
    verbs = subcommands(help_of(["consilium"]))
    count = 0
    for path in tree.files(root):
        if not path.endswith(".md"):
            continue
        short = verbs if path == "README.md" else ()
        for words in commands_in(tree.read(root, path), short):
            count += 1
            found = (run_problems(words, run_help.stdout)
                     if words[0] == "run" else problems_of(words, help_of))
            problems += [f"{path}: {problem}" for problem in found]
    if count < 40:
        problems.append(f"only {count} commands found in all pages: this "
                        "linter no longer reads them")
    if sdk_program(tree.read(root, "README.md")) != tree.read(root, EXAMPLE):
        problems.append(f"README.md: its program is not {EXAMPLE}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--programs", required=True,
                        help="folder of the built programs")
    args = parser.parse_args()
    return tree.finish("doc_check", check_tree(args.root, args.programs))


if __name__ == "__main__":
    sys.exit(main())

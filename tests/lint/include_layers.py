"""Checks that a file includes only its own library and lower layers.

CMake refuses links to the same or a higher layer; this reads the #include
lines, which also reach headers that nobody links. The table of libraries is
written by CMake (tests/lint/CMakeLists.txt).

A header belongs to the library that compiles a .cc of the same name in the same
module, or else to the one library of its folder. A header of neither kind is
"free": its own includes count as those of the file that includes it.
"""

import argparse
import os
import re
import sys

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)


class Library:
    def __init__(self, name, layer, folder, sources, links):
        self.name = name
        self.layer = layer
        self.folder = folder  # of its CMakeLists.txt, relative to the root
        self.sources = sources  # relative to the root
        self.links = links  # names of this project's libraries


def short(name):
    return name.replace("consilium_", "", 1)


def read_table(text, root):
    """Libraries by name, from the table that CMake writes."""
    libraries = {}
    for line in text.splitlines():
        name, layer, folder, sources, links = line.split("\t")
        paths = []
        for source in sources.split(";"):
            if source.endswith(tree.CODE) and not source.startswith("$<"):
                path = os.path.join(folder, source)
                paths.append(os.path.relpath(path, root))
        linked = set()
        for link in links.split(";"):
            match = re.match(r"^(?:\$<LINK_ONLY:)?consilium::(\w+)>?$", link)
            if match:
                linked.add("consilium_" + match.group(1))
        libraries[name] = Library(name, int(layer),
                                  os.path.relpath(folder, root), paths, linked)
    return libraries


def closure(libraries, name):
    """The libraries that `name` links, directly or through others."""
    reached, todo = set(), [name]
    while todo:
        for link in libraries[todo.pop()].links:
            if link in libraries and link not in reached:
                reached.add(link)
                todo.append(link)
    return reached


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


class Owners:
    """Which library a file belongs to."""

    def __init__(self, libraries):
        self._of_file = {}
        self._of_stem = {}  # (module, stem) -> names
        self._of_folder = {}  # folder -> names
        self._of_name = {short(name): name for name in libraries}
        for library in libraries.values():
            for path in library.sources:
                if path.startswith(".."):
                    continue
                self._of_file[path] = library.name
                module = path.split(os.sep)[0]
                self._of_stem.setdefault((module, stem(path)),
                                         set()).add(library.name)
                self._of_folder.setdefault(os.path.dirname(path),
                                           set()).add(library.name)

    def of(self, path):
        """The owner's name, or None for a free header."""
        if path in self._of_file:
            return self._of_file[path]
        parts = path.split(os.sep)
        folder = os.path.dirname(path)
        if parts[1:3] == ["include", "consilium"]:
            # include/consilium/base/ is all of the library of that name.
            if parts[3] in self._of_name:
                return self._of_name[parts[3]]
            candidates = self._of_stem.get((parts[0], stem(path)), set())
        else:
            beside = os.path.join(folder, stem(path) + ".cc")
            candidates = {self._of_file[beside]} if (
                beside in self._of_file) else self._of_folder.get(folder, set())
        return next(iter(candidates)) if len(candidates) == 1 else None


class Checker:
    def __init__(self, root, libraries):
        self._root = root
        self._libraries = libraries
        self._owners = Owners(libraries)
        self._reach = {name: closure(libraries, name) for name in libraries}
        self._includes = {}
        self.problems = []

    def resolve(self, include):
        """The project file that an include names, or None."""
        if include.startswith("consilium/"):
            for module in sorted(os.listdir(self._root)):
                path = os.path.join(module, "include", include)
                if os.path.isfile(os.path.join(self._root, path)):
                    return path
        path = os.path.normpath(include)
        if os.path.isfile(os.path.join(self._root, path)):
            return path
        return None

    def includes(self, path):
        if path not in self._includes:
            text = tree.read(self._root, path)
            self._includes[path] = [
                (name, self.resolve(name)) for name in INCLUDE.findall(text)]
        return self._includes[path]

    def check(self, path):
        owner = self._owners.of(path)
        if owner is None:
            return
        seen = set()
        todo = [(path, path)]
        while todo:
            source, via = todo.pop()
            for name, target in self.includes(source):
                if name.startswith("consilium/v1/"):
                    self._judge(path, owner, "consilium_proto", name, via)
                elif target is not None and target not in seen:
                    seen.add(target)
                    below = self._owners.of(target)
                    if below is None:
                        todo.append((target, target))
                    else:
                        self._judge(path, owner, below, name, via)

    def _judge(self, path, owner, below, include, via):
        if below == owner or below not in self._libraries:
            return
        through = "" if via == path else f" through {via}"
        have, want = self._libraries[owner], self._libraries[below]
        if want.layer >= have.layer:
            self.problems.append(
                f"{path}: {short(owner)} (layer {have.layer}) includes "
                f"{include} of {short(below)} (layer {want.layer}){through}; "
                "only lower layers are allowed")
        elif below not in self._reach[owner]:
            self.problems.append(
                f"{path}: {short(owner)} includes {include} of {short(below)}"
                f"{through} without linking consilium::{short(below)}")


def check_tree(root, table):
    checker = Checker(root, read_table(table, root))
    for path in tree.code_files(root):
        if path.split(os.sep)[0] not in ("tests", "examples"):
            checker.check(path)
    return checker.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--table", required=True)
    args = parser.parse_args()
    with open(args.table, encoding="utf-8") as f:
        table = f.read()
    return tree.finish("include_layers", check_tree(args.root, table))


if __name__ == "__main__":
    sys.exit(main())

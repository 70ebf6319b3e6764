"""Which files the linters read, and how they report."""

import os

# Folders of the project that hold sources; everything else at the top level is
# a build tree, a download or a file.
SOURCE_FOLDERS = ("aggregation", "client_sdk", "coordinator", "examples",
                  "proto", "scripts", "secure", "tests", ".ci")
CODE = (".h", ".cc", ".c", ".cu", ".cuh")


def files(root):
    """Every file of the project, as paths relative to its root, sorted."""
    found = [name for name in os.listdir(root)
             if os.path.isfile(os.path.join(root, name))]
    for folder in SOURCE_FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = [f for f in folders
                          if f not in ("build", "__pycache__")]
            found += [os.path.relpath(os.path.join(where, name), root)
                      for name in names]
    return sorted(found)


def code_files(root):
    """The C, C++ and CUDA files among them."""
    return [path for path in files(root) if path.endswith(CODE)]


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8",
              errors="surrogateescape") as f:
        return f.read()


def finish(name, problems):
    """Prints the problems; the exit status says whether there are any."""
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problem(s)")
    return 1 if problems else 0

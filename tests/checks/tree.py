"""What the checks share: the project's files, and how findings are told."""

import os
import sys

NOT_OURS = {".git", "build", ".cache", "__pycache__"}


def files(root):
    """Yields the path of every file of the project, relative to `root`, in order."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - NOT_OURS)
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), root)


def text(root, path):
    """The file's text; bytes that are not UTF-8 are replaced."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def run(findings):
    """Prints what `findings` says of the tree named on the command line, else of this project; exits 1 if anything."""
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..")
    lines = list(findings(os.path.abspath(root)))
    print("\n".join(lines), end="\n" if lines else "")
    sys.exit(1 if lines else 0)

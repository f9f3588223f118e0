#!/usr/bin/env python3
"""No file names a place that exists on one machine only: somebody's home or work folder, or, outside the documents,
a fixed path in /tmp."""

import re

import tree

ONE_MACHINE = re.compile(r"(?<![\w.}$-])/(?:" + "|".join(("home", "root", "Users", "work", "farm")) + r")/\w")
FIXED_TEMPORARY = re.compile(r"(?<![\w.}$-])/tmp/\w")


def findings(root):
    for path in tree.files(root):
        for number, line in enumerate(tree.text(root, path).splitlines(), 1):
            if ONE_MACHINE.search(line) or not path.endswith(".md") and FIXED_TEMPORARY.search(line):
                yield f"{path}:{number}: names a path of one machine: {line.strip()}"


if __name__ == "__main__":
    tree.run(findings)

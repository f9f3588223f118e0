#!/usr/bin/env python3
"""docs/testing.md names a test for each of its thirty cases, and each of those tests exists: Suite.Name in a C++ source,
or LABEL.name, a script or a target in that label's folder."""

import re

import tree

CASES = 30
ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)
GTEST = re.compile(r"^\s*TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.MULTILINE)
SCRIPTS = {"tests/e2e": "e2e", "tests/kernel": "kernel", "tests/kernel/pressure": "pressure"}
CASE_OF_FAULTS = re.compile(r'^    "([\w-]+)": ', re.MULTILINE)


def existing(root):
    """The names of all tests."""
    for path in tree.files(root):
        folder, _, name = path.rpartition("/")
        if folder == "tests" and name.endswith(".cc"):
            for suite, test in GTEST.findall(tree.text(root, path)):
                yield f"{suite}.{test}"
        if folder in SCRIPTS and name.endswith(".sh"):
            yield f"{SCRIPTS[folder]}.{name.removesuffix('.sh')}"
        if folder == "tests/fuzz" and name.endswith("_fuzz.cc"):
            yield f"fuzz.{name.removesuffix('_fuzz.cc')}"
        if path == "tests/faults/run":
            yield from (f"faults.{case}" for case in CASE_OF_FAULTS.findall(tree.text(root, path)))


def findings(root):
    path = "docs/testing.md"
    if path not in set(tree.files(root)):
        return
    rows = {int(number): re.findall(r"`([^`]+)`", tests) for number, tests in ROW.findall(tree.text(root, path))}
    there = set(existing(root))
    for case in range(1, CASES + 1):
        if not rows.get(case):
            yield f"{path}: case {case} has no test"
        yield from (f"{path}: case {case} names {test}, which does not exist" for test in rows.get(case, []) if test not in there)


if __name__ == "__main__":
    tree.run(findings)

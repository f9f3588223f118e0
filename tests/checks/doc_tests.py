#!/usr/bin/env python3
"""Every unit test that docs/*.md or README.md names exists: `Suite.Fact`, `Suite.*`, and facts alone, which are of the suite
named before them in the same line."""

import os
import re

import tree

TEST = re.compile(r"^\s*TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.MULTILINE)
NAMED = re.compile(r"`([A-Z][A-Za-z0-9]+)\.([A-Z][A-Za-z0-9]+|\*)`|`([A-Z][a-z]+(?:[A-Z][a-z0-9]*){2,})`")


def findings(root):
    everything = list(tree.files(root))
    tests = {match for path in everything if path.endswith("_test.cc") for match in TEST.findall(tree.text(root, path))}
    suites = {suite for suite, _ in tests}
    for path in everything:
        if not path.endswith(".md") or os.path.dirname(path) not in ("", "docs"):
            continue
        for line in tree.text(root, path).splitlines():
            suite = None
            for named, fact, alone in NAMED.findall(line):
                suite = named or suite
                if alone and suite and (suite, alone) not in tests:
                    yield f"{path}: names the test {suite}.{alone}, which does not exist"
                elif named and not ((named, fact) in tests or fact == "*" and named in suites):
                    yield f"{path}: names the test {named}.{fact}, which does not exist"


if __name__ == "__main__":
    tree.run(findings)

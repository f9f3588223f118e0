#!/usr/bin/env python3
"""Every path of the project that README.md or docs/*.md names exists: link targets, and words in code that look like
one of our paths. What a build makes (build/) is not looked for."""

import glob
import itertools
import os
import re

import tree

LINK = re.compile(r"\]\(([^)#\s]+)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
WORD = re.compile(r"[A-Za-z0-9_.*{},/-]+")
SOURCE = (".cc", ".md", ".py", ".sh", ".cmake")


def expand(word):
    """a.{h,cc} as a shell would expand it."""
    parts = re.split(r"(\{[^{}]*\})", word)
    choices = [p[1:-1].split(",") if p.startswith("{") else [p] for p in parts]
    return ["".join(c) for c in itertools.product(*choices)]


def named_paths(markdown, top_folders):
    """The words of a document that claim to be paths of ours."""
    for target in LINK.findall(markdown):
        if not re.match(r"[a-z]+:", target):
            yield target
    for code in CODE.findall(markdown):
        for word in WORD.findall(code):
            word = word.rstrip(".,").removeprefix("./")
            first = word.split("/")[0]
            if first == "build":
                continue
            if "/" in word and first in top_folders or word.endswith(SOURCE) and not word.startswith(("/", ".", "*")):
                yield word


def findings(root):
    everything = list(tree.files(root))
    top_folders = {p.split("/")[0] for p in everything if "/" in p}
    names = {os.path.basename(p) for p in everything}
    for path in everything:
        folder = os.path.dirname(path)
        if not path.endswith(".md") or folder not in ("", "docs"):
            continue
        for word in named_paths(tree.text(root, path), top_folders):
            for one in expand(word):
                places = [os.path.join(root, one), os.path.join(root, folder, one)]
                if one not in names and not any(glob.glob(p) for p in places):
                    yield f"{path}: names {one}, which does not exist"


if __name__ == "__main__":
    tree.run(findings)

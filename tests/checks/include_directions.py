#!/usr/bin/env python3
"""Includes point down only: cli -> blockdev -> {allocator, compress}; those two include nothing of ours but their own
folder. Includes of ours are written from the top. Expensive headers stay out of headers, spdlog behind one of them."""

import re

import tree

MAY_INCLUDE = {
    "allocator": {"allocator"},
    "compress": {"compress"},
    "blockdev": {"blockdev", "allocator", "compress"},
    "cli": {"cli", "blockdev", "allocator", "compress"},
    "tests": {"tests", "cli", "blockdev", "allocator", "compress"},
    "bench": {"bench", "cli", "blockdev", "allocator", "compress"},
}
EXPENSIVE = ("CLI/", "httplib.h", "nlohmann/json.hpp")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def findings(root):
    log_headers = set()
    for path in tree.files(root):
        if not path.endswith((".h", ".cc")):
            continue
        folder = path.split("/")[0]
        for style, name in INCLUDE.findall(tree.text(root, path)):
            if style == "<":
                if path.endswith(".h") and name.startswith(EXPENSIVE):
                    yield f"{path}: includes <{name}>, which belongs into a .cc"
                if name.startswith("spdlog/"):
                    log_headers.add(path)
                continue
            target = name.split("/")[0]
            if target not in MAY_INCLUDE:
                yield f'{path}: "{name}" is not written from the top'
            elif target not in MAY_INCLUDE.get(folder, set()):
                yield f'{path}: {folder} may not include {target} ("{name}")'
    headers = sorted(p for p in log_headers if p.endswith(".h"))
    yield from (f"{path}: spdlog stands behind {headers[0]} already" for path in headers[1:])


if __name__ == "__main__":
    tree.run(findings)

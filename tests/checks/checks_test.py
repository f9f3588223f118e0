#!/usr/bin/env python3
"""The checks can fail: each finds what it is there for, and only that."""

import os
import tempfile
import unittest

import doc_paths
import doc_tests
import include_directions
import machine_paths
import thirty_cases


class ChecksTest(unittest.TestCase):
    def findings(self, check, **content):
        """What the check says of a tree with these files (a__b_h is a/b.h)."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in content.items():
                path = os.path.join(root, name.replace("__", "/")[::-1].replace("_", ".", 1)[::-1])
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            return list(check.findings(root))

    def test_includes_that_point_down_pass(self):
        self.assertEqual([], self.findings(
            include_directions,
            allocator__a_h='#include <vector>\n#include "allocator/b.h"\n',
            blockdev__d_cc='#include "allocator/a.h"\n#include "compress/c.h"\n',
            cli__main_cc='#include <CLI/CLI.hpp>\n#include "blockdev/d.h"\n'))

    def test_an_include_that_points_up_is_found(self):
        self.assertEqual(['allocator/a.h: allocator may not include blockdev ("blockdev/d.h")'],
                         self.findings(include_directions, allocator__a_h='#include "blockdev/d.h"\n'))

    def test_an_include_that_points_aside_is_found(self):
        self.assertEqual(['compress/c.cc: compress may not include allocator ("allocator/a.h")'],
                         self.findings(include_directions, compress__c_cc='  #  include "allocator/a.h"\n'))

    def test_an_include_that_is_not_from_the_top_is_found(self):
        self.assertEqual(['blockdev/d.cc: "d.h" is not written from the top'],
                         self.findings(include_directions, blockdev__d_cc='#include "d.h"\n'))

    def test_an_expensive_header_in_a_header_is_found(self):
        self.assertEqual(["cli/c.h: includes <httplib.h>, which belongs into a .cc"],
                         self.findings(include_directions, cli__c_h="#include <httplib.h>\n"))

    def test_a_second_header_with_spdlog_is_found(self):
        self.assertEqual(["cli/m.h: spdlog stands behind cli/log.h already"],
                         self.findings(include_directions, cli__log_h="#include <spdlog/spdlog.h>\n",
                                       cli__m_h="#include <spdlog/spdlog.h>\n"))

    def test_paths_that_exist_pass(self):
        self.assertEqual([], self.findings(
            doc_paths, cli__a_cc="", cli__a_h="", docs__design_md="",
            README_md="[d](docs/design.md) `cli/a.{h,cc}` `cli/*.cc` `a.cc` `build/bin/x` `build/x.cmake` `std/or` https://x.org/y.md\n"))

    def test_a_path_that_is_missing_is_found(self):
        self.assertEqual(["README.md: names cli/b.cc, which does not exist"],
                         self.findings(doc_paths, cli__a_cc="", README_md="see `cli/b.cc`\n"))

    def test_a_missing_path_in_a_code_block_is_found(self):
        self.assertEqual(["docs/x.md: names cli/gone, which does not exist"],
                         self.findings(doc_paths, cli__a_cc="", docs__x_md="```\n$ cli/gone --fast\n```\n"))

    def test_a_link_to_nowhere_is_found(self):
        self.assertEqual(["README.md: names docs/x.md, which does not exist"],
                         self.findings(doc_paths, README_md="[x](docs/x.md)\n"))

    def test_tests_that_exist_pass(self):
        self.assertEqual([], self.findings(
            doc_tests, tests__s_test_cc="TEST(Suite, FactThatHolds) {\nTEST_F(Suite, AnotherFactHolds) {\n",
            docs__x_md="`Suite.FactThatHolds`, `AnotherFactHolds`, `Suite.*`, `Device::read`\n`LimitMemLock`\n"))

    def test_a_test_that_is_missing_is_found(self):
        for name in ("`Suite.Gone`", "`Other.*`", "`Suite.FactThatHolds`, `FactThatIsGone`"):
            self.assertEqual(1, len(self.findings(doc_tests, tests__s_test_cc="TEST(Suite, FactThatHolds) {\n",
                                                  docs__x_md=f"{name}\n")))

    def test_a_path_of_one_machine_is_found(self):
        for path in ("/".join(("", "home", "me", "x")), "/".join(("", "tmp", "mine"))):
            self.assertEqual([f"a.sh:1: names a path of one machine: cd {path}"],
                             self.findings(machine_paths, a_sh=f"cd {path}\n"))

    def test_paths_of_every_machine_pass(self):
        self.assertEqual([], self.findings(machine_paths, a_sh="cat /proc/stat $x/work/y /run/z ${TMPDIR:-/tmp}/x\n"))

    def test_a_case_whose_test_is_missing_or_not_named_is_found(self):
        rows = "".join(f"| {case} | x | `Suite.Name` |\n" for case in range(1, 29)) + "| 29 | x | `Suite.Gone` |\n"
        self.assertEqual(["docs/testing.md: case 29 names Suite.Gone, which does not exist",
                          "docs/testing.md: case 30 has no test"],
                         self.findings(thirty_cases, tests__x_cc="TEST_F(Suite, Name) {}\n", docs__testing_md=rows))

    def test_cases_with_a_test_each_pass(self):
        rows = "".join(f"| {case} | x | `Suite.Name`, `e2e.it_works` |\n" for case in range(1, 31))
        self.assertEqual([], self.findings(thirty_cases, tests__x_cc="TEST(Suite, Name) {}\n", tests__e2e__it_works_sh="",
                                           docs__testing_md=rows))


if __name__ == "__main__":
    unittest.main()

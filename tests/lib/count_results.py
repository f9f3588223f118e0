#!/usr/bin/env python3
"""Prints how many tests of a CTest report (--output-junit) have passed, and how many have not: count_results.py FILE.
What was skipped, disabled or not run has not passed."""

import sys
import xml.etree.ElementTree as xml

states = [case.get("status") for case in xml.parse(sys.argv[1]).iter("testcase")]
good = states.count("run")
print(good, len(states) - good)

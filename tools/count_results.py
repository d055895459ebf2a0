#!/usr/bin/env python3
"""Count the tests in a JUnit file of ctest or pytest.

    tools/count_results.py FILE           prints: PASSED FAILED SKIPPED
    tools/count_results.py --show FILE    prints each failed test with the end of its output

A ctest test that is a cmocka program counts as the tests it ran: cmocka's summary is in its output. Skipped is not
passed, and a test that ctest could not run is failed.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

CMOCKA = {word: re.compile(rf"^\[  {word} *\] (\d+) test\(s\)", re.M) for word in ("PASSED", "FAILED", "SKIPPED")}
SHOWN_LINES = 60


def output_of(case):
    """What the test printed, and why it failed."""
    texts = [case.findtext("system-out", ""), case.findtext("system-err", "")]
    for verdict in case.findall("failure") + case.findall("error") + case.findall("skipped"):
        texts += [verdict.get("message", ""), verdict.text or ""]
    return "\n".join(text for text in texts if text.strip())


def verdict_of(case):
    """passed, failed or skipped, for the test case as a whole."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skip = case.find("skipped")
    # ctest says "notrun" of a test that asked to be skipped, and of a program that is missing.
    if case.get("status") == "notrun" and not (skip is not None and skip.get("message", "").startswith("SKIP_")):
        return "failed"
    return "passed" if skip is None else "skipped"


def count(case):
    """(passed, failed, skipped) of one test case."""
    verdict = verdict_of(case)
    text = case.findtext("system-out", "")
    passed, failed, skipped = (
        sum(int(number) for number in CMOCKA[word].findall(text)) for word in ("PASSED", "FAILED", "SKIPPED")
    )
    if verdict == "skipped" or passed + failed + skipped == 0:
        return tuple(int(verdict == word) for word in ("passed", "failed", "skipped"))
    if verdict == "failed" and failed == 0:
        failed = 1  # a crash, a timeout, or a leak found at the end
    return passed, failed, skipped


def cases(path):
    return list(ElementTree.parse(path).getroot().iter("testcase"))


def show(path):
    for case in cases(path):
        if count(case)[1]:
            print(f"      -- {case.get('classname', '')} {case.get('name')}")
            for line in output_of(case).splitlines()[-SHOWN_LINES:]:
                print(f"      {line}")


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--show":
        show(sys.argv[2])
        return 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    counts = [count(case) for case in cases(sys.argv[1])]
    print(*(sum(column) for column in zip(*counts)) if counts else (0, 0, 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())

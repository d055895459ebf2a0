#!/usr/bin/env python3
"""No source file over 1,000 lines, no C function over 100.

    tools/check_lengths.py FILE...

Relies on clang-format: a function's opening line (or the last line of its parameters) ends in `) {`, and the first
brace in column 0 after it closes it.
"""

import re
import sys

FILE_LIMIT = 1000
FUNCTION_LIMIT = 100
FUNCTION_START = re.compile(r"\)\s*\{$")


def long_functions(lines):
    """(line number, length) of each C function over the limit."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None and FUNCTION_START.search(line):
            start = number
        elif start is not None and line.startswith("}"):
            if number - start + 1 > FUNCTION_LIMIT:
                yield start, number - start + 1
            start = None


def main():
    found = 0
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            lines = file.read().splitlines()
        if len(lines) > FILE_LIMIT:
            print(f"{name}: {len(lines)} lines, more than {FILE_LIMIT}: split it")
            found += 1
        if name.endswith((".c", ".h")):
            for start, length in long_functions(lines):
                print(f"{name}:{start}: a function of {length} lines, more than {FUNCTION_LIMIT}: split it")
                found += 1
    print(f"{len(sys.argv) - 1} files, {found} too long")
    return 1 if found or len(sys.argv) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())

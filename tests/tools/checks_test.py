#!/usr/bin/env python3
"""The checks of tools/ notice what they are there for: each is given a small tree with one fault."""

import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent / "tools"))
sys.dont_write_bytecode = True

import check_arrows
import check_lengths
import count_results


def tree(files):
    """A temporary directory with these files."""
    directory = tempfile.TemporaryDirectory()
    for name, text in files.items():
        path = pathlib.Path(directory.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


class Arrows(unittest.TestCase):
    HOUSE = {
        "include/disco/status.h": "",
        "include/disco/disco.h": "#include <tvm/ffi/c_api.h>\n",
        "include/disco/ccl.h": "#include <dlpack/dlpack.h>\n",
        "src/base/status.h": '#include "disco/status.h"\n',
        "src/os/wait.h": '#include "base/status.h"\n#include <sys/mman.h>\n',
        "src/wire/codec.h": "#include <tvm/ffi/c_api.h>\n",
        "src/channel/ring.h": '#include "os/wait.h"\n',
        "src/session/session.h": '#include "channel/ring.h"\n#include "wire/codec.h"\n#include "disco/disco.h"\n',
        "src/channel/ring_test.c": '#include "session/session.h"\n#include <sys/wait.h>\n',
        "examples/hello/hello.c": '#include "disco/disco.h"\n#include "own.h"\n',
        "examples/hello/own.h": "",
        "examples/llama/common/dims.h": "",
        "examples/llama/worker/part.h": '#include "common/dims.h"\n#include "disco/disco.h"\n',
    }

    def found(self, path, text):
        with tree({**self.HOUSE, path: text}) as root:
            return check_arrows.check(pathlib.Path(root))[0]

    def test_the_house_is_in_order(self):
        with tree(self.HOUSE) as root:
            self.assertEqual(check_arrows.check(pathlib.Path(root)), ([], len(self.HOUSE)))

    def test_each_wrong_arrow_is_named_with_its_place(self):
        for path, line, complaint in (
            ("src/channel/bad.c", '#include "wire/codec.h"', "room channel may not include room wire"),
            ("src/base/bad.c", '#include "os/wait.h"', "room base may not include room os"),
            ("src/wire/bad.c", '#include "channel/ring.h"', "room wire may not include room channel"),
            ("src/os/bad.c", "#include <tvm/ffi/c_api.h>", "room os may not include TVM-FFI (tvm/ffi/c_api.h)"),
            ("src/channel/bad.h", '# include "tvm/ffi/c_api.h"', "room channel may not include TVM-FFI (tvm/ffi/c_api.h)"),
            ("src/base/bad.c", "#include <dlpack/dlpack.h>", "room base may not include DLPack (dlpack/dlpack.h)"),
            ("src/base/bad.c", "#include <disco/disco.h>", "room base may not include disco/disco.h"),
            ("src/session/bad.c", "#include <sys/mman.h>", "room session may not make system calls (sys/mman.h): that is src/os"),
            ("src/session/bad.c", '#include "channel/ring_test.c"', "channel/ring_test.c is a test: nobody may include it"),
            ("examples/llama/common/bad.c", '#include "worker/part.h"', "room common may not include room worker"),
            ("examples/llama/attic/bad.c", '#include "common/dims.h"', "room attic of example llama is not in the table of tools/check_arrows.py"),
            ("examples/llama/worker/bad.c", '#include "common/gone.h"', "example llama has no common/gone.h"),
            ("src/attic/bad.c", '#include "base/status.h"', "room attic is not in the table of tools/check_arrows.py"),
            ("src/os/bad.c", '#include "wait.h"', 'write "wait.h" with its room: "os/wait.h"'),
            ("examples/hello/bad.c", '#include "os/wait.h"', "room examples may not include room os"),
            ("include/disco/bad.h", '#include "base/status.h"', "room public may not include room base"),
            ("plugins/x/bad.c", '#include "disco/disco.h"', "room plugins may not include disco/disco.h"),
            ("src/os/bad.c", '#include "nowhere.h"', "room os includes nowhere.h, which is neither in src/ nor in include/"),
        ):
            with self.subTest(path=path, line=line):
                self.assertEqual(self.found(path, f"/* one */\n{line}\n"), [f"{path}:2: {complaint}"])

    def test_a_plugin_sees_the_data_plane_only(self):
        self.assertEqual(self.found("plugins/x/x.c", '#include "disco/ccl.h"\n#include <dlpack/dlpack.h>\n'), [])


class Lengths(unittest.TestCase):
    @staticmethod
    def function(lines):
        return ["static int f(int a,", "             int b) {", *["  a++;"] * (lines - 2), "}"]

    def test_only_functions_over_the_limit_are_found(self):
        text = self.function(100) + ["struct s {", *["  int x;"] * 200, "};"] + self.function(101)
        self.assertEqual(list(check_lengths.long_functions(text)), [(305, 101)])


class Counting(unittest.TestCase):
    CMOCKA = "[==========] g: 4 test(s) run.\n[  PASSED  ] {} test(s).\n"

    def count(self, xml):
        return count_results.count(ElementTree.fromstring(xml))

    def test_ctest_cases(self):
        self.assertEqual(self.count('<testcase name="a" status="run"/>'), (1, 0, 0))
        self.assertEqual(self.count('<testcase name="a" status="fail"><failure message=""/></testcase>'), (0, 1, 0))
        skipped = '<testcase name="a" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>'
        self.assertEqual(self.count(skipped), (0, 0, 1))
        missing = '<testcase name="a" status="notrun"><skipped message="Unable to find executable"/></testcase>'
        self.assertEqual(self.count(missing), (0, 1, 0))

    def test_pytest_cases(self):
        self.assertEqual(self.count('<testcase name="a"/>'), (1, 0, 0))
        self.assertEqual(self.count('<testcase name="a"><error message=""/></testcase>'), (0, 1, 0))
        self.assertEqual(self.count('<testcase name="a"><skipped message="why"/></testcase>'), (0, 0, 1))

    def test_a_cmocka_program_counts_as_its_tests(self):
        text = self.CMOCKA.format(3) + "[  SKIPPED ] 1 test(s), listed below:\n" + self.CMOCKA.format(2)
        self.assertEqual(self.count(f'<testcase status="run"><system-out>{text}</system-out></testcase>'), (5, 0, 1))
        text = self.CMOCKA.format(2) + "[  FAILED  ] 2 test(s), listed below:\n"
        case = f'<testcase status="fail"><failure message=""/><system-out>{text}</system-out></testcase>'
        self.assertEqual(self.count(case), (2, 2, 0))

    def test_a_program_that_fails_after_its_tests_has_failed(self):
        case = f'<testcase status="fail"><failure message=""/><system-out>{self.CMOCKA.format(4)}</system-out></testcase>'
        self.assertEqual(self.count(case), (4, 1, 0))

    def test_a_failure_that_the_exit_status_hides_is_a_failure(self):
        text = self.CMOCKA.format(3) + "[  FAILED  ] 1 test(s), listed below:\n"
        self.assertEqual(self.count(f'<testcase status="run"><system-out>{text}</system-out></testcase>'), (3, 1, 0))


if __name__ == "__main__":
    unittest.main(verbosity=2)

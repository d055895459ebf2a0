#!/usr/bin/env python3
"""Prove the arrows of docs/architecture.md: reads every #include and compares it with the table below.

    tools/check_arrows.py [ROOT]

Prints each violation as `file:line: room a may not include b` and ends with 1 if there is one. Test files (*_test.c)
and tests/ may include anything, but nobody may include a test file.
"""

import pathlib
import re
import sys

# room -> the rooms of src/ it may include, besides itself
ARROWS = {
    "base": "",
    "os": "base",
    "ffi": "os base",
    "wire": "ffi base",
    "channel": "os base",
    "ccl": "os base",
    "weights": "os base",
    "worker": "wire channel ccl ffi os base",
    "builtin": "worker weights ccl ffi os base",
    "session": "worker ccl wire channel ffi os base",
    "api": "session builtin weights worker ccl wire channel ffi os base",
    # outside src/: nothing of it
    "public": "",
    "cli": "",
    "examples": "",
    "bench": "",
    "plugins": "",
}

# room -> the public headers it may include; "*" is all of them
PUBLIC = {
    "base": "disco/status.h",
    "os": "disco/status.h",
    "ffi": "disco/status.h",
    "wire": "disco/status.h",
    "channel": "disco/status.h disco/channel.h",
    "ccl": "disco/status.h disco/ccl.h",
    "weights": "disco/status.h disco/weights.h",
    "worker": "*",
    "builtin": "*",
    "session": "*",
    "api": "*",
    "public": "*",
    "cli": "*",
    "examples": "*",
    "bench": "*",
    "plugins": "disco/ccl.h",
}

# Who may see TVM-FFI's headers (tvm/ffi/*.h), and who DLPack's alone: a data plane speaks DLTensor, not FFI values.
TVM_FFI = "ffi wire worker builtin session api public cli examples bench".split()
DLPACK = TVM_FFI + ["ccl", "plugins"]

# Examples that have rooms of their own: example -> room -> the rooms it may include beside itself.
EXAMPLES = {
    "llama": {"common": "", "worker": "common", "tokenizer": "common", "controller": "tokenizer worker common"},
}

# Headers of system calls: src/os is the one room of src/ that makes them.
SYSTEM_CALLS = re.compile(r"^(sys|linux|asm)/")

TOP_FOLDERS = ("src", "include", "cli", "examples", "bench", "plugins", "tests")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCE_SUFFIXES = {".c", ".h", ".cc", ".cpp", ".hpp"}
TEST_FILE = re.compile(r"_test\.(c|h|cc|cpp|hpp)$")


def room_of(path):
    """The room of a file, given relative to the root; None for files that no rule covers."""
    top = path.parts[0]
    if top == "src":
        return path.parts[1] if len(path.parts) > 2 else None
    return "public" if top == "include" else top


def violation(root, path, quote, target):
    """What is wrong with this include, or None."""
    room = room_of(path)
    if TEST_FILE.search(target):
        return f"{target} is a test: nobody may include it"
    if room == "tests" or TEST_FILE.search(path.name):
        return None
    if room not in ARROWS:
        return f"room {room} is not in the table of tools/check_arrows.py"

    first = target.split("/")[0]
    if first == "disco" and (root / "include" / target).exists():
        if PUBLIC[room] == "*" or target in PUBLIC[room].split():
            return None
        return f"room {room} may not include {target}"
    if first == "tvm":
        return None if room in TVM_FFI else f"room {room} may not include TVM-FFI ({target})"
    if first == "dlpack":
        return None if room in DLPACK else f"room {room} may not include DLPack ({target})"
    if quote == "<":
        if path.parts[0] == "src" and room != "os" and SYSTEM_CALLS.match(target):
            return f"room {room} may not make system calls ({target}): that is src/os"
        return None
    if (root / "src" / target).exists():
        if first == room or first in ARROWS[room].split():
            return None
        return f"room {room} may not include room {first}"
    if path.parts[0] == "examples" and path.parts[1] in EXAMPLES and len(path.parts) == 4:
        return example_violation(root, path, target)
    is_cpp_face = path.parts[:3] == ("include", "disco", "cpp")  # found by TVM's paths: neighbours are its own root
    if path.parts[0] != "src" and (room != "public" or is_cpp_face) and (root / path.parent / target).exists():
        return None  # a neighbour in the same folder of a program
    if (root / path.parent / target).exists():
        return f'write "{target}" with its room: "{path.parent.relative_to(path.parts[0])}/{target}"'
    return f"room {room} includes {target}, which is neither in src/ nor in include/"


def example_violation(root, path, target):
    """The same between the rooms of an example."""
    rooms, room, other = EXAMPLES[path.parts[1]], path.parts[2], target.split("/")[0]
    if not (root / "examples" / path.parts[1] / target).exists():
        return f"example {path.parts[1]} has no {target}"
    if room not in rooms:
        return f"room {room} of example {path.parts[1]} is not in the table of tools/check_arrows.py"
    return None if other == room or other in rooms[room].split() else f"room {room} may not include room {other}"


def check(root):
    """All violations under root, as lines, and the number of files read."""
    found, files = [], 0
    for top in TOP_FOLDERS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SOURCE_SUFFIXES:
                continue
            files += 1
            relative = path.relative_to(root)
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                reason = violation(root, relative, *match.groups()) if match else None
                if reason:
                    found.append(f"{relative}:{number}: {reason}")
    return found, files


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found, files = check(root)
    for line in found:
        print(line)
    print(f"{files} files, {len(found)} violations")
    return 1 if found or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())

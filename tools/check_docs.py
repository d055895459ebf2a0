#!/usr/bin/env python3
"""The pages say nothing that the tree contradicts.

    tools/check_docs.py PYTHON        PYTHON has apache-tvm-ffi

- A relative link of a Markdown page leads to a file that exists.
- The C blocks of README.md compile as C11 without a warning.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
C_BLOCK = re.compile(r"^```c\n(.*?)^```", re.M | re.S)
CODE_BLOCK = re.compile(r"^```.*?^```", re.M | re.S)


def pages():
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "bench/**/*.md", "tests/**/*.md", "models/**/*.md"):
        yield from sorted(ROOT.glob(pattern))


def broken_links(page):
    text = CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
            yield f"{page.relative_to(ROOT)}: the link {target} leads nowhere"


def bad_examples(page, python):
    include = subprocess.run(
        [python, "-m", "tvm_ffi.config", "--includedir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    flags = "-std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c -".split()
    for number, block in enumerate(C_BLOCK.findall(page.read_text(encoding="utf-8")), 1):
        command = ["gcc", f"-I{ROOT / 'include'}", "-isystem", include, *flags]
        run = subprocess.run(command, input=block, capture_output=True, text=True)
        if run.returncode != 0:
            yield f"{page.relative_to(ROOT)}: C block {number} does not compile:\n{run.stderr}"


def main():
    read = list(pages())
    found = [line for page in read for line in broken_links(page)]
    found += bad_examples(ROOT / "README.md", sys.argv[1])
    for line in found:
        print(line)
    print(f"{len(read)} pages, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Run the code blocks of README.md and docs/*.md: what a page shows, works.

    tools/run_pages.py PYTHON FOLDER       PYTHON has libdisco, apache-tvm and NumPy; FOLDER is for what is compiled

```python   a program of its own, in a file; a comment `# [...]` on the line of a print() is what it prints
```c        with a main(): compiled, linked, run; without one: compiled
```cpp      the same with the C++ headers
```cmake    configured and built, with the first C program of the page
```sh, ```  shell: commands that compile a program.c or program.cc run with the page's own program; the others are
            transcripts and trees. Of those, calls of `disco` (where a model was fetched, on that) and
            `python -m libdisco` run as they are, after `$ cat FILE` has made the file that it shows
Prints a line for each block; exit code 1 if one fails.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SHOWN_FILE = re.compile(r"^\$ cat (\S+)\n(.*?)(?=^\$ |\Z)", re.M | re.S)
PRINTS = re.compile(r"^\s*print\(.*# (\[[^\]]*\])", re.M)
SECONDS = 100


def run(words, folder, **options):
    ended = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, **options
    )
    return ended.returncode == 0, ended.stdout, ended.stdout + ended.stderr


def ask(python, *words):
    return subprocess.run([python, "-m", *words], check=True, capture_output=True, text=True, cwd="/").stdout.strip()


class Pages:
    def __init__(self, python, folder):
        self.python, self.folder = python, folder
        self.include = ask(python, "libdisco", "--include-dir")
        self.cmake = ask(python, "libdisco", "--cmake-dir")
        self.library = ask(python, "libdisco", "--lib-dir")
        self.pkgconfig = ask(python, "libdisco", "--pkgconfig-dir")
        self.ffi = ask(python, "tvm_ffi.config", "--libdir")
        self.headers = ["-isystem", ask(python, "tvm_ffi.config", "--includedir")]
        self.rpath = f"-Wl,-rpath,{self.library}:{self.ffi}"

    def run_python(self, text, name):
        path = self.folder / f"{name}.py"
        path.write_text(text)
        ok, out, everything = run([self.python, str(path)], self.folder)
        wanted = [" ".join(words.split()) for words in PRINTS.findall(text)]
        got = [" ".join(line.split()) for line in out.splitlines()]
        return (ok and got == wanted), everything + ("" if got == wanted else f"\nit should print {wanted}")

    def run_c(self, text, name, compiler, suffix):
        source = self.folder / f"{name}.{suffix}"
        source.write_text(text)
        paths = [f"-I{self.include}/disco/cpp", f"-I{self.include}", *self.headers]
        strict = ["-Wall", "-Werror", "-Wno-unused-function"]
        if "main(" not in text:
            ok, _, everything = run(
                [*compiler, *paths, *strict, "-c", str(source)], self.folder
            )
            return ok, everything
        link = [f"-L{self.library}", "-ldisco", f"-L{self.ffi}", "-ltvm_ffi", self.rpath]
        program = str(self.folder / name)
        defines = ["-DDISCO_CPP_LINK"] if suffix == "cc" else []
        ok, _, everything = run([*compiler, *defines, *paths, "-Wall", str(source), "-o", program, *link], self.folder)
        if ok:
            ok, _, everything = run([program], self.folder)
        return ok, everything

    def run_cmake(self, text, name, program):
        project = self.folder / name
        project.mkdir(exist_ok=True)
        (project / "program.c").write_text(program)
        lists = "cmake_minimum_required(VERSION 3.25)\nproject(page C)\nset(CMAKE_C_STANDARD 11)\n"
        text = text.replace("target_link_libraries", "add_executable(program program.c)\ntarget_link_libraries", 1)
        (project / "CMakeLists.txt").write_text(lists + text)
        words = ["cmake", "-S", ".", "-B", "build", f"-Ddisco_DIR={self.cmake}", f"-DPython_EXECUTABLE={self.python}"]
        ok, _, everything = run(words, project)
        if ok:
            ok, _, everything = run(["cmake", "--build", "build"], project)
        return ok, everything

    def run_shell(self, text, name, programs):
        """The commands of a block that a reader can run anywhere."""
        for file, content in SHOWN_FILE.findall(text):
            (self.folder / file).write_text(content)
        model = next(iter(sorted((ROOT / ".cache" / "models").glob("**/*.gguf"))), None)
        if model is not None and not (self.folder / "model.gguf").exists():
            (self.folder / "model.gguf").symlink_to(model)
        lines = [line.split("  #")[0].removeprefix("$ ").strip() for line in text.splitlines()]
        environment = {
            "PATH": f"{pathlib.Path(self.python).parent}:/usr/bin:/bin",
            "PKG_CONFIG_PATH": self.pkgconfig,
            "LD_LIBRARY_PATH": f"{self.library}:{self.ffi}",
            "HOME": str(self.folder),
            "LIBRARY_PATH": self.ffi,
        }
        done = []
        for suffix, program in programs.items():
            (self.folder / f"program.{suffix}").write_text(program)
        for line in lines:
            compiles = re.match(r"(cc|c\+\+) .*program\.(c|cc)\b", line)
            asks = re.match(r"(disco (info|help|--version|--help)|python -m libdisco)( |$)", line)
            looks = model is not None and re.match(r"disco (inspect|shard) model.gguf", line)
            if not (compiles or asks or looks):
                continue
            ok, _, everything = run(["bash", "-c", line], self.folder, env=environment)
            if not ok:
                return False, f"$ {line}\n{everything}"
            done.append(line)
        return (True, "; ".join(done)) if done else (None, "")


def main():
    pages = Pages(sys.argv[1], pathlib.Path(sys.argv[2]).resolve())
    pages.folder.mkdir(parents=True, exist_ok=True)
    failed = ran = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        programs = {
            suffix: next((text for kind, text in blocks if kind == language and "main(" in text), "")
            for suffix, language in (("c", "c"), ("cc", "cpp"))
        }
        for number, (language, text) in enumerate(blocks, 1):
            name = f"{page.stem}-{number}"
            if language == "python":
                ok, said = pages.run_python(text, name)
            elif language == "c":
                ok, said = pages.run_c(text, name, ["cc", "-std=c11"], "c")
            elif language == "cpp":
                ok, said = pages.run_c(text, name, ["c++", "-std=c++17"], "cc")
            elif language == "cmake":
                ok, said = pages.run_cmake(text, name, programs["c"])
            elif language in ("", "sh"):
                ok, said = pages.run_shell(text, name, programs)
            else:
                ok, said = False, f"nobody knows how to run `{language}`"
            if ok is None:
                continue
            ran += 1
            failed += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {page.name}, block {number} ({language or 'shell'})")
            if not ok:
                print(said)
    print(f"{ran} blocks ran, {failed} failed")
    return 1 if failed or ran < 10 else 0


if __name__ == "__main__":
    sys.exit(main())

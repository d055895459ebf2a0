"""The command `disco`: what each subcommand prints, where, and with which exit status.

Runs bin/disco of the build folder DISCO_BINARY_DIR (default: build).
"""

import json
import os
import pathlib
import pty
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DISCO_BINARY_DIR", ROOT / "build")).resolve()
DISCO = BUILD / "bin" / "disco"
MAN_PAGE = ROOT / "docs" / "man" / "disco.1"
COMPLETION = ROOT / "cli" / "completion" / "disco.bash"
BOUND_SECONDS = 60

SUBCOMMANDS = ["info", "inspect", "shard", "perf", "help", "version", "worker"]
PERF = "op type redop min max factor iters warmup check workers groups in-group session private ccl json control"
OPTIONS = {
    "info": ["--json"],
    "inspect": ["--json", "--metadata", "--tensors"],
    "shard": ["--plan", "--workers", "--dry-run", "--verbose", "--manifest", "--json"],
    "perf": [f"--{name}" for name in PERF.split()],
    "help": [],
    "version": [],
    "worker": ["--load", "--cpu"],
}
SECTIONS = ["version", "machine", "limits", "settings", "data planes", "global functions", "paths"]
BOLD = "\033[1m"


def environment(**more):
    """This process's, without what changes the output."""
    kept = {name: value for name, value in os.environ.items() if not re.match(r"DISCO_|NO_COLOR$|TERM$", name)}
    return {**kept, **more}


def disco(*arguments, program=DISCO, env=None, **more):
    assert pathlib.Path(program).exists(), f"build libdisco first: {program} is missing"
    return subprocess.run(
        [str(program), *arguments],
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=more.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        timeout=BOUND_SECONDS,
        **more,
    )


def printed(*arguments, **more):
    """What a call prints that must succeed and complain of nothing."""
    ended = disco(*arguments, **more)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def refused(*arguments, **more):
    """What a call with wrong arguments says on stderr."""
    ended = disco(*arguments, **more)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("disco") and "Try `disco help" in ended.stderr
    return ended.stderr


def table_of(text):
    """The text of `disco info` as {section: {name: value}}."""
    table = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = table.setdefault(line.strip("[]"), {})
        elif line:
            name, value = line.split(": ", 1)
            assert name not in section
            section[name] = value
    return table


# ---- help and version ----


def test_no_arguments_is_a_short_help_on_stderr():
    ended = disco()
    assert (ended.returncode, ended.stdout) == (2, "")
    for name in SUBCOMMANDS:
        assert f"  {name} " in ended.stderr


@pytest.mark.parametrize("asking", [["help"], ["--help"], ["-h"]])
def test_help_lists_every_subcommand(asking):
    text = printed(*asking)
    listed = re.findall(r"^  ([a-z]+)  +\S", text, re.MULTILINE)
    assert listed == SUBCOMMANDS
    assert re.search(r"^  worker +\(internal\)", text, re.MULTILINE)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_a_page(name):
    page = printed("help", name)
    assert page.startswith("Usage:\n") and f"disco {name}" in page
    for option in OPTIONS[name]:
        assert re.search(rf"^  {option}\b", page, re.MULTILINE), f"{option} is not explained"
    assert set(re.findall(r"--[a-z][a-z-]*", page)) <= {*OPTIONS[name], "--help", "--version"}
    assert printed(name, "--help") == printed(name, "-h") == page
    assert BOLD not in page


def test_help_beside_other_arguments_wins():
    assert printed("worker", "1", "nonsense", "--help") == printed("help", "worker")


def test_version():
    version = re.search(r"VERSION_MAJOR (\d+)\n.*_MINOR (\d+)\n.*_PATCH (\d+)", read("include/disco/disco.h")).groups()
    text = printed("version")
    assert text.splitlines()[0] == "libdisco " + ".".join(version)
    assert re.fullmatch(r"TVM-FFI \d+\.\d+\.\d+", text.splitlines()[1])
    assert printed("--version") == text


# ---- wrong arguments ----


@pytest.mark.parametrize("typed, meant", [("inf", "info"), ("worke", "worker"), ("versoin", "version"), ("h", "help")])
def test_the_nearest_name_is_suggested(typed, meant):
    assert f"`{typed}`; did you mean `{meant}`" in refused(typed)
    assert f"`{typed}`; did you mean `{meant}`" in refused("help", typed)


@pytest.mark.parametrize("name", ["quite-another-thing", "", "x" * 5000, "%s%n"])
def test_a_far_name_has_no_suggestion(name):
    said = refused(name)
    assert "did you mean" not in said and len(said) < 400


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--nonsense"], "unknown option `--nonsense`"),
        (["info", "--jsn"], "unexpected argument `--jsn`"),
        (["info", "more"], "unexpected argument `more`"),
        (["version", "more"], "unexpected argument `more`"),
        (["--version", "more"], "unexpected argument `more`"),
        (["help", "info", "version"], "unexpected argument `version`"),
        (["worker"], "ID is missing"),
        (["worker", "1", "2", "1", "3"], "WRITE_FD is missing"),
        (["worker", "1", "2", "1", "3", "4", "5"], "unexpected argument `5`"),
        (["worker", "1", "2", "1", "3", "4", "--fast"], "unknown option `--fast`"),
        (["worker", "1", "2", "1", "3", "4", "--cpu"], "--cpu needs a value"),
        (["worker", "1", "2", "1", "3", "4", "--load"], "--load needs a value"),
        (["worker", "1", "2", "1", "3", "4", "--cpu", "two"], "not `two`"),
    ],
)
def test_wrong_arguments(arguments, said):
    assert said in refused(*arguments)


@pytest.mark.parametrize("number", ["", "x", "1x", "+1", "-1", " 1", "1 ", "0x1", "1.0", "2147483648", "9" * 40])
@pytest.mark.parametrize("place, name", enumerate(["ID", "WORKERS", "GROUPS", "READ_FD", "WRITE_FD"]))
def test_numbers_are_strict(number, place, name):
    numbers = ["1", "2", "1", "3", "4"]
    numbers[place] = number
    assert f"{name} is a number, not `{number}`" in refused("worker", *numbers)


# ---- worker ----


def test_worker_names_a_library_that_cannot_be_loaded(tmp_path):
    missing = str(tmp_path / "libmissing.so")
    ended = disco("worker", "1", "2", "1", "3", "4", "--load", missing)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"disco worker: cannot load {missing}: ")
    assert "No such file" in ended.stderr


def test_worker_loads_in_order(tmp_path):
    """The first failure ends it, after what stands before it, and whatever stands between."""
    good, bad = str(BUILD / "lib" / "libdisco.so"), str(tmp_path / "text.so")
    pathlib.Path(bad).write_text("no library")
    ended = disco("worker", "--load", good, "1", "2", "--load", bad, "1", "3", "4", "--load", str(tmp_path / "other.so"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"disco worker: cannot load {bad}: ")


def test_worker_names_a_cpu_that_does_not_exist():
    ended = disco("worker", "1", "2", "1", "3", "4", "--cpu", "100000")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("disco worker: ") and "100000" in ended.stderr


@pytest.mark.parametrize("numbers", [["1", "2", "1", "998", "999"], ["5", "2", "1", "998", "999"]])
def test_worker_says_what_the_library_refused(numbers):
    ended = disco("worker", *numbers)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.match(r"disco worker: \S", ended.stderr)


def test_worker_whose_controller_left_at_once_fails():
    reads, writes = os.pipe(), os.pipe()
    os.close(reads[1])
    try:
        ended = disco("worker", "1", "2", "1", str(reads[0]), str(writes[1]), pass_fds=[reads[0], writes[1]])
    finally:
        for fd in (reads[0], *writes):
            os.close(fd)
    assert (ended.returncode, ended.stdout) == (1, "")


# ---- info ----


def test_info_has_every_section():
    table = table_of(printed("info"))
    assert list(table) == SECTIONS
    assert all(table.values())
    assert table["version"]["libdisco"] == printed("version").splitlines()[0].split()[1]
    assert os.path.samefile(table["version"]["library"], BUILD / "lib" / "libdisco.so")
    assert int(table["machine"]["CPUs allowed by affinity"]) == len(os.sched_getaffinity(0))
    assert os.path.samefile(table["paths"]["program of worker processes"], DISCO)


def test_info_as_json_says_the_same():
    table = json.loads(printed("info", "--json"))
    text = table_of(printed("info"))
    assert {section: list(members) for section, members in table.items()} == {
        section: list(members) for section, members in text.items()
    }
    for section in ("version", "limits", "settings", "data planes", "paths"):  # the machine moves
        assert table[section] == text[section]


def test_info_tells_the_origin_of_settings():
    settings = settings_of_library()
    plain = table_of(printed("info"))["settings"]
    assert {name for name in plain if not name.startswith("option ")} == set(settings)
    for name in settings:
        assert plain[name].endswith(" (default)")
        given = table_of(printed("info", env={name: "error"}))["settings"]
        assert given[name] == "error (environment)"
        assert {k: v for k, v in given.items() if k != name} == {k: v for k, v in plain.items() if k != name}


def test_json_survives_any_bytes():
    value = b'a "quoted\\ \n\t line: \x01 \xc3\xa9 \xff \xed\xa0\x80 \xf0\x9f\x98\x80 end'
    shown = json.loads(printed("info", "--json", env={"DISCO_WORKER": os.fsdecode(value)}))
    broken = "\ufffd"
    expected = f'a "quoted\\ ?? line: ? é {broken} {broken * 3} \U0001f600 end'
    assert shown["paths"]["program of worker processes"] == expected
    assert shown["settings"]["DISCO_WORKER"] == expected + " (environment)"


def test_a_plugin_and_a_moved_tree_are_found(tmp_path):
    """A copy of the installed layout, its library found through a relative path and a symbolic link."""
    for folder in ("real/bin", "real/lib/disco"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(BUILD / "lib" / "libdisco.so.0", tmp_path / "real/lib/libdisco.so.0")
    shutil.copy(DISCO, tmp_path / "real/bin/disco")
    for name in ("libdisco_ccl_two.so", "libdisco_ccl_one.so", "libother.so", "libdisco_ccl_old.so.1"):
        (tmp_path / "real/lib/disco" / name).touch()
    (tmp_path / "link").symlink_to("real")
    for library_path in ("real/lib", "link/lib"):
        table = table_of(
            printed("info", program=tmp_path / "real/bin/disco", cwd=tmp_path, env={"LD_LIBRARY_PATH": library_path})
        )
        lib = (tmp_path / "real/lib").resolve()
        assert table["version"]["library"] == str(lib / "libdisco.so.0")
        assert list(table["data planes"].items())[:2] == [
            ("plugin one", str(lib / "disco/libdisco_ccl_one.so")),
            ("plugin two", str(lib / "disco/libdisco_ccl_two.so")),
        ]
        assert "plugins" not in table["data planes"]
        assert table["paths"]["program of worker processes"] == str(lib / "../bin/disco")


# ---- terminals and pipes ----


def on_a_terminal(*arguments, **env):
    """What it prints to a terminal."""
    master, slave = pty.openpty()
    try:
        ended = disco(*arguments, env={"TERM": "xterm", **env}, stdout=slave)
        os.close(slave)
        assert (ended.returncode, ended.stderr) == (0, "")
        text = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # Linux: EIO once the other side is closed
                break
            if not block:
                break
            text += block
        return text.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


@pytest.mark.parametrize("arguments", [["help"], ["help", "worker"], ["shard", "--help"], ["version", "--help"]])
def test_headings_are_bold_on_a_terminal_alone(arguments):
    bold = on_a_terminal(*arguments)
    plain = printed(*arguments)
    assert f"{BOLD}Usage:\033[0m" in bold
    assert bold.replace(BOLD, "").replace("\033[0m", "") == plain
    assert on_a_terminal(*arguments, NO_COLOR="1") == plain
    assert on_a_terminal(*arguments, TERM="dumb") == plain
    assert on_a_terminal(*arguments, NO_COLOR="") == bold


def test_info_is_bold_on_a_terminal_but_json_is_not():
    assert f"{BOLD}[version]\033[0m\n" in on_a_terminal("info")
    assert "\033" not in on_a_terminal("info", NO_COLOR="yes")
    assert "\033" not in on_a_terminal("info", "--json")


@pytest.mark.parametrize("arguments", [["help"], ["info"], ["info", "--json"], ["version"], ["worker", "--help"]])
@pytest.mark.parametrize("restore_signals", [True, False])  # False: SIGPIPE is ignored, as Python has it
def test_a_closed_pipe_is_no_reason_to_talk(arguments, restore_signals):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = disco(*arguments, stdout=writer, restore_signals=restore_signals)
    finally:
        os.close(writer)
    assert ended.stderr == ""
    assert ended.returncode == (-13 if restore_signals else 1)


def test_a_full_disk_is():
    with open("/dev/full", "w") as full:
        ended = disco("info", stdout=full)
    assert ended.returncode == 1
    assert ended.stderr.startswith("disco: cannot write the output: ")


# ---- man page and completion ----


def read(name):
    return (ROOT / name).read_text()


def settings_of_library():
    return ["DISCO_" + name for name in re.findall(r'^\s*X\((\w+),\s*"', read("src/base/settings.h"), re.MULTILINE)]


def test_the_man_page_has_everything():
    page = MAN_PAGE.read_text().replace("\\-", "-")
    for name in SUBCOMMANDS:
        assert f".SS disco {name}" in page
        for option in OPTIONS[name]:
            assert re.search(rf"^\.BI? {option}\b", page, re.MULTILINE), f"{option} is not explained"
    for word in [*settings_of_library(), "NO_COLOR", "--help", "-h", "--version"]:
        assert re.search(rf"(?<![\w-]){word}\b", page), f"{word} is missing"
    assert set(re.findall(r"--[a-z][a-z-]*", page)) <= {*sum(OPTIONS.values(), []), "--help", "--version"}
    assert f'"libdisco {printed("version").split()[1]}"' in page.splitlines()[0]


def test_the_man_page_is_one(tmp_path):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    ended = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(MAN_PAGE)], capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def completed(*words):
    script = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_disco
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
"""
    ended = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(COMPLETION), "disco", *words],
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split("\n")[:-1]


def test_completion_has_everything():
    assert set(completed("")) == {*SUBCOMMANDS, "--help", "-h", "--version"}
    assert completed("wo") == ["worker"]
    assert completed("help", "") == SUBCOMMANDS
    assert completed("help", "info", "") == []
    for name in SUBCOMMANDS:
        if name != "help":
            assert set(completed(name, "-")) == {*OPTIONS[name], "--help"}
    assert completed("worker", "1", "--cpu", "") == []


def test_completion_of_files(tmp_path):
    (tmp_path / "a library.so").touch()
    for before in (["worker", "--load"], ["inspect"], ["shard"], ["shard", "--plan"], ["shard", "x", "--manifest"]):
        assert completed(*before, f"{tmp_path}/a") == [f"{tmp_path}/a library.so"]
    for before in (["inspect", "--tensors"], ["shard", "--workers"], ["info"]):
        assert completed(*before, f"{tmp_path}/a") == []

"""disco perf: the shape of its table and of its JSON, that a check finds what is wrong, and what it refuses.

No time is asserted. Runs bin/disco of the build folder DISCO_BINARY_DIR (default: build).
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys

import pytest
from test_cli import BOLD, ROOT, disco, on_a_terminal, printed, refused

OPS = ["allreduce", "allgather", "broadcast", "scatter", "gather", "sendrecv"]
IN_PARTS = ["allgather", "scatter", "gather"]  # their size is that of all parts together
ROOTED = ["broadcast", "scatter", "gather"]
TYPES = ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64"]
BYTES = dict(zip(TYPES, [1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8]))
REDOPS = ["sum", "prod", "min", "max", "avg"]
SESSIONS = ["thread", "process"]
QUICK = ["--iters", "2", "--warmup", "1"]
PLACE = ["time", "algbw", "busbw", "#wrong", "p50", "p99"]


def table(text):
    """The rows of the table, as {operation: [{column: word, "out": {...}, "in": {...}}]}."""
    ops = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("#"):
            if len(words) == 2 and words[1] in OPS:
                rows = ops.setdefault(words[1], [])
            if "size" in words and "time" in words:
                assert words == ["#", "size", "count", "type", "redop", "root", *PLACE, *PLACE]
            continue
        assert len(words) == 5 + 2 * len(PLACE)
        row = dict(zip(["size", "count", "type", "redop", "root"], words))
        row["out"] = dict(zip(PLACE, words[5:11]))
        row["in"] = dict(zip(PLACE, words[11:]))
        rows.append(row)
    return ops


def as_json(*arguments, **more):
    return json.loads(printed("perf", "--json", *arguments, **more))


# ---- the table and its JSON ----


def test_a_table():
    text = printed("perf", "--min", "8", "--max", "128", "--factor", "4", *QUICK)
    rows = table(text)
    assert list(rows) == ["allreduce"]
    assert [(row["size"], row["count"]) for row in rows["allreduce"]] == [("8", "2"), ("32", "8"), ("128", "32")]
    for row in rows["allreduce"]:
        assert (row["type"], row["redop"], row["root"]) == ("f32", "sum", "-1")
        for place in (row["out"], row["in"]):
            assert place["#wrong"] == "N/A"
            assert float(place["time"]) > 0 and float(place["p99"]) >= float(place["p50"]) > 0
    assert text.splitlines()[0] == "# workers 2 (threads), groups 1, collectives among all"
    assert text.splitlines()[-1].startswith("# Avg bus bandwidth    : ")
    assert "Out of bounds" not in text


def test_columns_stand_in_line():
    lines = printed("perf", "--op", "all", "--max", "64K", "--factor", "64", *QUICK).splitlines()
    assert len({len(line) for line in lines if not line.startswith("#")}) == 1
    assert {len(line) for line in lines if "size" in line} == {len(line) for line in lines if not line.startswith("#")}


def test_json_has_every_operation():
    told = as_json("--op", "all", "--min", "64", "--max", "1K", "--factor", "16", "--check", *QUICK)
    assert (told["session"], told["workers"], told["groups"], told["in_group"]) == ("thread", 2, 1, False)
    assert (told["ccl"], told["memory"], told["iterations"], told["warmup"]) == ("cpu", "empty", 2, 1)
    assert (told["checked"], told["wrong"], told["error"]) == (True, 0, None)
    assert [(row["op"], row["size"]) for row in told["rows"]] == [(op, size) for op in OPS for size in (64, 1024)]
    for row in told["rows"]:
        parts = 2 if row["op"] in IN_PARTS else 1
        assert row["count"] * parts * 4 == row["size"]
        assert row["redop"] == ("sum" if row["op"] == "allreduce" else "none")
        assert row["root"] == (0 if row["op"] in ROOTED else -1)
        assert (row["in_place"] is None) == (row["op"] == "sendrecv")
        for place in filter(None, (row["out_of_place"], row["in_place"])):
            assert place["wrong"] == 0 and place["time_us"] > 0
            assert place["algbw"] == pytest.approx(row["size"] / place["time_us"] / 1000, rel=0.02, abs=2e-6)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_bus_bandwidths_are_those_of_nccl_tests(workers):
    n = workers
    factor = {"allreduce": 2 * (n - 1) / n, "broadcast": 1, "sendrecv": 1, **dict.fromkeys(IN_PARTS, (n - 1) / n)}
    told = as_json("--op", "all", "--workers", str(n), "--min", "12K", "--max", "12K", *QUICK)
    assert [row["op"] for row in told["rows"]] == OPS
    for row in told["rows"]:
        assert row["size"] == 12 << 10  # divisible by 2, 3 and 4 elements
        place = row["out_of_place"]
        assert place["busbw"] == pytest.approx(factor[row["op"]] * place["algbw"], rel=1e-3, abs=2e-6)


def test_sizes_are_those_that_fit():
    """What does not divide into equal parts of whole elements is left out, as nccl-tests does."""
    told = as_json("--op", "all", "--workers", "3", "--min", "31", "--max", "31", *QUICK)
    expected = {op: (24, 2) if op in IN_PARTS else (28, 7) for op in OPS}
    assert {row["op"]: (row["size"], row["count"]) for row in told["rows"]} == expected


@pytest.mark.parametrize("text, size", [("8", 8), ("4K", 4096), ("4k", 4096), ("1M", 1 << 20), ("0001M", 1 << 20)])
def test_sizes_have_units(text, size):
    told = as_json("--min", text, "--max", text, *QUICK)
    assert [row["size"] for row in told["rows"]] == [size]


def test_a_single_end_moves_the_other_default():
    """Where it lies beyond it."""
    assert [row["size"] for row in as_json("--max", "4", *QUICK)["rows"]] == [4]
    assert [row["size"] for row in as_json("--min", "5M", *QUICK)["rows"]] == [5 << 20]


@pytest.mark.parametrize("op, least", [("allreduce", 8), ("allgather", 24), ("sendrecv", 8)])
def test_no_row_is_about_nothing(op, least):
    """One element of each part is the least: smaller sizes become it, or are left out."""
    three = ["--op", op, "--type", "f64", "--workers", "3", "--check", *QUICK]
    told = as_json("--max", "1", *three)
    assert ([(row["size"], row["count"]) for row in told["rows"]], told["wrong"]) == ([(least, 1)], 0)
    told = as_json("--min", "1", "--max", "64", *three)
    assert [row["size"] for row in told["rows"]] == [size // least * least for size in (8, 16, 32, 64) if size >= least]


def test_the_page_explains_its_columns():
    page = printed("help", "perf")
    for line in printed("perf", "--control", "--workers", "1", "--iters", "5").splitlines():
        for column in line[1:].split() if line.startswith("#  workers") else []:
            assert f"\n  {column} " in page, column
    for column in ["size", "count", "root", "time", "algbw", "busbw", "#wrong", "p50 p99"]:
        assert f"\n  {column} " in page, column


def test_bold_on_a_terminal_alone():
    arguments = ["perf", "--min", "64", "--max", "64", *QUICK]
    heading = f"{BOLD}#       size         count"
    assert heading in on_a_terminal(*arguments)
    assert "\033" not in on_a_terminal(*arguments, NO_COLOR="1")
    assert "\033" not in printed(*arguments)
    assert "\033" not in on_a_terminal(*arguments, "--json")


@pytest.mark.parametrize("arguments", [["--max", "64"], ["--max", "64", "--json"], ["--control", "--iters", "9"]])
def test_a_closed_pipe_is_no_reason_to_talk(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = disco("perf", *arguments, stdout=writer, restore_signals=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


# ---- every case, checked ----


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("memory", [[], ["--private"]])
def test_every_operation_is_right(op, session, memory):
    told = as_json("--op", op, "--session", session, "--max", "128K", "--factor", "8", "--check", *QUICK, *memory)
    assert (told["session"], told["wrong"], told["error"]) == (session, 0, None)
    assert told["memory"] == ("heap" if memory else "empty")
    assert len(told["rows"]) == 5


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("redop", REDOPS)
@pytest.mark.parametrize("workers", [2, 5])
def test_every_reduction_of_every_type_is_right(redop, session, workers):
    told = as_json(
        *["--type", "all", "--redop", redop, "--session", session, "--workers", str(workers)],
        *["--min", "1000", "--max", "1000", "--check", *QUICK],
    )
    assert [row["type"] for row in told["rows"]] == TYPES
    assert {row["redop"] for row in told["rows"]} == {redop}
    assert [row["count"] for row in told["rows"]] == [1000 // BYTES[name] for name in TYPES]
    assert told["wrong"] == 0


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("workers, groups", [(4, 2), (6, 2), (3, 3)])
def test_in_group(session, workers, groups):
    told = as_json(
        *["--op", "all", "--workers", str(workers), "--groups", str(groups), "--in-group", "--session", session],
        *["--type", "i16", "--max", "2K", "--factor", "16", "--check", *QUICK],
    )
    assert (told["in_group"], told["wrong"]) == (True, 0)
    assert {row["op"] for row in told["rows"]} == {*OPS} - ({"sendrecv"} if workers == groups else set())


def test_among_all_with_groups():
    told = as_json("--op", "all", "--workers", "4", "--groups", "2", "--max", "512", "--check", *QUICK)
    assert (told["in_group"], told["groups"], told["wrong"]) == (False, 2, 0)


def test_a_single_worker_has_nobody_to_send_to():
    text = printed("perf", "--op", "all", "--workers", "1", "--max", "64", "--check", *QUICK)
    assert list(table(text)) == OPS[:-1]
    assert "# sendrecv: not run, " in text and "# Out of bounds values : 0 OK" in text


def test_the_reference_data_plane():
    told = as_json("--ccl", "ref", "--op", "all", "--max", "512", "--factor", "8", "--check", *QUICK)
    assert (told["ccl"], told["wrong"]) == ("ref", 0)


# ---- what is wrong is found ----

LIAR = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
/* A tensor begins with the pointer to its data. */
static int spoil(int status, void *recv) {
  if (status == 0 && recv != NULL) **(unsigned char **)recv ^= 1;
  return status;
}
int disco_allreduce(const void *send, int kind, bool in_group, void *recv) {
  int (*right)(const void *, int, bool, void *) = (int (*)(const void *, int, bool, void *))dlsym(RTLD_NEXT, __func__);
  return spoil(right(send, kind, in_group, recv), recv);
}
int disco_gather_to_worker0(const void *send, bool in_group, void *recv) {
  int (*right)(const void *, bool, void *) = (int (*)(const void *, bool, void *))dlsym(RTLD_NEXT, __func__);
  return spoil(right(send, in_group, recv), recv);
}
"""


@pytest.fixture(scope="module")
def liar(tmp_path_factory):
    """The environment of a library whose results have one bit wrong, in the first element."""
    folder = tmp_path_factory.mktemp("liar")
    (folder / "liar.c").write_text(LIAR)
    build = ["cc", "-shared", "-fPIC", "-o", str(folder / "libliar.so"), str(folder / "liar.c"), "-ldl"]
    subprocess.run(build, check=True, timeout=60)
    return {"LD_PRELOAD": str(folder / "libliar.so")}


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("op, wrong", [("allreduce", 3), ("gather", 1), ("broadcast", 0)])
def test_check_finds_and_counts_what_is_wrong(liar, op, wrong, session):
    arguments = ["perf", "--op", op, "--workers", "3", "--session", session, "--min", "48", "--max", "96", *QUICK]
    ended = disco(*arguments, "--check", env=liar)
    assert (ended.returncode, ended.stderr) == (1 if wrong else 0, "")
    rows = table(ended.stdout)[op]
    assert len(rows) == 2
    assert {row[place]["#wrong"] for row in rows for place in ("out", "in")} == {str(wrong)}
    summary = f"# Out of bounds values : {4 * wrong} {'FAILED' if wrong else 'OK'}"
    assert summary in ended.stdout.splitlines()
    ended = disco(*arguments, "--check", "--json", env=liar)
    assert (ended.returncode, json.loads(ended.stdout)["wrong"]) == (1 if wrong else 0, 4 * wrong)
    assert disco(*arguments, env=liar).returncode == 0  # nobody looks


class Values(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("op", "type", "redop", "first", "rank", "ranks")]
    _fields_ += [("count", ctypes.c_int64)]


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    """The functions that make tensors and look at results."""
    library = tmp_path_factory.mktemp("checker") / "libchecker.so"
    config = [sys.executable, "-m", "tvm_ffi.config", "--includedir"]
    include = subprocess.run(config, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    sources = [str(ROOT / "cli" / name) for name in ("perf_values.c", "perf_names.c")]
    build = ["cc", "-std=c11", "-shared", "-fPIC", "-o", str(library), f"-I{ROOT / 'include'}", f"-I{include}"]
    subprocess.run([*build, *sources], check=True, timeout=60)
    loaded = ctypes.CDLL(str(library))
    loaded.perf_count_wrong.restype = ctypes.c_int64
    return loaded


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("op", OPS)
def test_the_checker_counts_elements(checker, op, type_name):
    count, ranks, size = 10, 3, BYTES[type_name]
    values = Values(OPS.index(op), TYPES.index(type_name), 0, 4, 0, ranks, count)
    elements = count * (ranks if op in ("allgather", "gather") else 1)
    data = (ctypes.c_ubyte * (elements * size))()
    checker.perf_fill_expected(ctypes.byref(values), data)
    assert checker.perf_count_wrong(ctypes.byref(values), data) == 0
    for wrong, element in enumerate([0, 3, elements - 1], 1):
        data[element * size] ^= 1
        data[element * size + size - 1] ^= 64
        assert checker.perf_count_wrong(ctypes.byref(values), data) == wrong
    checker.perf_fill_wrong(ctypes.byref(values), data)
    assert checker.perf_count_wrong(ctypes.byref(values), data) == elements


@pytest.mark.parametrize("op", OPS)
def test_senders_and_receivers_agree(checker, op):
    """Moving what everybody sends by hand gives what everybody expects."""
    count, ranks, first = 7, 4, 8
    sent = []
    for rank in range(ranks):
        values = Values(OPS.index(op), TYPES.index("u32"), 0, first, rank, ranks, count)
        data = (ctypes.c_uint32 * (count * ranks))()
        checker.perf_fill_send(ctypes.byref(values), data)
        sent.append(list(data))
    for rank in range(ranks):
        received = {
            "allreduce": [sum(column) for column in zip(*sent)][:count],
            "allgather": [x for part in sent for x in part[:count]],
            "broadcast": sent[0][:count],
            "scatter": sent[0][rank * count : (rank + 1) * count],
            "gather": [x for part in sent for x in part[:count]] if rank == 0 else [],
            "sendrecv": sent[(rank - 1) % ranks][:count],
        }[op]
        values = Values(OPS.index(op), TYPES.index("u32"), 0, first, rank, ranks, count)
        assert checker.perf_count_wrong(ctypes.byref(values), (ctypes.c_uint32 * (count * ranks))(*received)) == 0
    assert len({tuple(part) for part in sent}) == (2 if op in ("broadcast", "scatter") else ranks)


# ---- the control plane ----


@pytest.mark.parametrize("session", SESSIONS)
def test_control(session):
    told = as_json("--control", "--workers", "3", "--session", session, "--iters", "30", "--warmup", "1")
    assert (told["session"], told["error"]) == (session, None)
    assert [rate["workers"] for rate in told["rates"]] == [1, 2, 3]
    for rate in told["rates"]:
        assert min(rate["calls_per_s"], rate["issue_ns"], rate["call_done_us"]) > 0
        assert rate["call_done_p99_us"] >= rate["call_done_us"]


def test_control_as_a_table():
    lines = printed("perf", "--control", "--workers", "1", "--iters", "5").splitlines()
    assert [line.startswith("#") for line in lines] == [True, True, False]
    assert len(lines[2].split()) == 5 and all(float(word) > 0 for word in lines[2].split())


# ---- errors ----


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["more"], "unexpected argument `more`"),
        (["--quick"], "unknown option `--quick`"),
        (["--op"], "--op needs a value"),
        (["--op", "reduce"], "--op takes one of allreduce, allgather, broadcast, scatter, gather, sendrecv, or all"),
        (["--type", "f8"], "--type takes one of i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, f32, f64, or all"),
        (["--redop", "all"], "--redop takes one of sum, prod, min, max, avg, not `all`"),
        (["--session", "fork"], "--session takes one of thread, process, not `fork`"),
        (["--workers", "0"], "--workers takes a number from 1 to 1024, not `0`"),
        (["--workers", "1025"], "--workers takes a number"),
        (["--workers", "2", "--groups", "3"], "--groups 3 does not divide the 2 workers"),
        (["--groups", "-1"], "--groups takes a number"),
        (["--iters", "0"], "--iters takes a number"),
        (["--iters", "1e3"], "--iters takes a number"),
        (["--warmup", ""], "--warmup takes a number"),
        (["--factor", "1"], "--factor takes a number from 2"),
        (["--min", "4K", "--max", "1K"], "--min is larger than --max: 4096 and 1024 bytes"),
        (["--op", "sendrecv", "--workers", "1"], "--op sendrecv needs two workers"),
        (["--op", "sendrecv", "--groups", "2", "--in-group"], "--op sendrecv needs two workers in a group"),
        (["--control", "--op", "all"], "--op says nothing to --control"),
        (["--check", "--control"], "--check says nothing to --control"),
        (["--ccl", "abacus"], "--ccl abacus: "),
        (["--ccl", ""], "--ccl "),
    ],
)
def test_wrong_arguments(arguments, said):
    assert said in refused("perf", *arguments)


@pytest.mark.parametrize("size", ["", "K", "0", "0K", "-8", "+8", " 8", "8 ", "8KB", "8KK", "8E", "0x8", "1.5K"])
@pytest.mark.parametrize("option", ["--min", "--max"])
def test_sizes_are_strict(option, size):
    said = refused("perf", option, size)
    assert f"{option} takes a number of bytes from 1 on, like 8, 4K or 1M, not `{size}`" in said


@pytest.mark.parametrize("size", ["8388608T", "9223372036854775808", "9007199254740992K", "9" * 30])
def test_sizes_have_an_end(size):
    assert "--max takes a number of bytes" in refused("perf", "--max", size)


def test_what_fails_on_the_way_is_told():
    """A tensor that fits no machine: what was measured before it stays, also as JSON."""
    arguments = ["perf", "--min", "8", "--max", "4096T", "--factor", "1048576", *QUICK]
    ended = disco(*arguments)
    assert ended.returncode == 1 and ended.stderr.startswith("disco perf: MemoryError: ")
    assert [row["size"] for row in table(ended.stdout)["allreduce"]][0] == "8"
    ended = disco(*arguments, "--json")
    told = json.loads(ended.stdout)
    assert ended.returncode == 1 and told["rows"][0]["size"] == 8
    assert told["error"].startswith("MemoryError: ") and ended.stderr.startswith("disco perf: MemoryError: ")


def test_worker_processes_run_this_very_program():
    """Whatever DISCO_WORKER says."""
    quick = ["--session", "process", "--min", "64", "--max", "64", *QUICK]
    assert as_json(*quick, env={"DISCO_WORKER": shutil.which("false")})["error"] is None

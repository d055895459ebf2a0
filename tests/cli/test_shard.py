"""disco shard: who gets what by a plan, what is in the way of one, and reading it, with a manifest.

No time is asserted. Runs bin/disco and make-weights of the build folder DISCO_BINARY_DIR (default: build).
"""

import itertools
import json
import os
import pty
import re
import subprocess

import pytest
from test_cli import BOLD, BOUND_SECONDS, DISCO, disco, environment, on_a_terminal, printed, refused
from weights import hostile, make, plan, safetensors

TENSORS = [
    ("embed", "F16", [50, 64], "float16"),
    ("blk.0.q", "Q8_0", [12, 256], "float32"),
    ("blk.0.down", "Q4_1", [12, 192], "float32"),
    ("blk.0.norm", "F32", [64], "float32"),
    ("rope", "F32", [32], "float32"),
]
RULES = [
    {"match": "embed", "axis": 0, "uneven": True, "decode": True},
    {"match": "*.q", "axis": 0},
    {"match": "*.down", "axis": -1, "decode": True},
    {"match": "rope", "skip": True},
    {"match": "*", "replicate": True},
]
FORMATS = ["gguf", "safetensors", "safetensors-index", "tensor-cache"]


@pytest.fixture
def model(tmp_path):
    return make(tmp_path, "gguf", tensors=TENSORS)


@pytest.fixture
def rules(tmp_path):
    return plan(tmp_path, *RULES)


def call(path, rules, workers, *options):
    return ["shard", str(path), "--plan", str(rules), "--workers", str(workers), *options]


def as_json(*arguments, **more):
    return json.loads(printed(*call(*arguments), "--json", **more))


def failed(*arguments, **more):
    """What it says on stderr, one line; with --json the same in the object on stdout."""
    ended = disco(*call(*arguments), **more)
    assert ended.returncode == 1
    assert ended.stderr.startswith("disco shard: ")
    if "--json" in arguments:
        assert ended.stderr.count("\n") == 1
        told = json.loads(ended.stdout)
        assert told["error"] == ended.stderr[len("disco shard: ") : -1]
        # A model and a plan that could be opened were judged; without both there is nothing to say.
        both = "rule" in ended.stderr and "tensor " in ended.stderr and "fit" in ended.stderr
        assert told["fits"] is (False if both else None)
    else:
        assert ended.stdout == ""
        warnings = [line for line in ended.stderr.splitlines() if line.startswith("disco shard: warning: ")]
        assert ended.stderr.count("\n") == 1 + len(warnings) and not ended.stderr.splitlines()[-1] in warnings
    return ended.stderr


def table(text, heading):
    """The rows under a heading, as {column: word}."""
    lines = list(itertools.takewhile(bool, text.split(f"[{heading}]\n", 1)[1].splitlines()))
    columns = lines[0].split()
    return [dict(zip(columns, re.split(r"  +", line.strip()))) for line in lines[1:]]


# ---- who gets what ----


def test_a_dry_run_says_what_each_worker_gets(model, rules):
    text = printed(*call(model, rules, 2, "--dry-run"))
    assert f"path: {model}\nformat: gguf\n" in text and f"plan: {rules}\n" in text
    assert "tensors: 5 (3 split, 1 replicated, 1 skipped)\nworkers: 2\nfits: yes\n" in text
    q, down, embed, norm = 6 * 256 // 32 * 34, 12 * 96 // 32 * 20, 25 * 64 * 2, 64 * 4
    reads, holds = q + down + embed + norm, q + 12 * 96 * 4 + 25 * 64 * 4 + norm
    each = {"tensors": "4", "reads": str(reads), "holds": str(holds)}
    assert table(text, "workers") == [
        {"worker": "0", **each},
        {"worker": "1", **each},
        {"worker": "all", "tensors": "8", "reads": str(2 * reads), "holds": str(2 * holds)},
    ]
    assert "[reading]" not in text and "[tensors]" not in text
    told = as_json(model, rules, 2, "--dry-run")
    assert (told["fits"], told["error"], told["dry_run"], told["manifest"]) == (True, None, True, None)
    assert (told["split"], told["replicated"], told["skipped"], told["num_tensors"]) == (3, 1, 1, 5)
    assert [told["workers"], told["format"], told["path"], told["plan"]] == [2, "gguf", str(model), str(rules)]
    sums = {"tensors": 4, "reads": reads, "holds": holds, "seconds": None, "gb_per_s": None}
    assert told["per_worker"] == [{"worker": worker, **sums} for worker in range(2)]
    assert told["all"] == {**sums, "tensors": 8, "reads": 2 * reads, "holds": 2 * holds}
    assert "tensors" not in told


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_verbose_says_it_of_each_tensor(model, rules, workers):
    told = as_json(model, rules, workers, "--dry-run", "--verbose")
    by_name = {tensor["name"]: tensor for tensor in told["tensors"]}
    assert [by_name[name]["share"] for name, *_ in TENSORS] == ["split", "split", "split", "replicate", "skip"]
    assert by_name["rope"]["shards"] == []
    assert [by_name[name]["axis"] for name in ("embed", "blk.0.q", "blk.0.down", "blk.0.norm")] == [0, 0, 1, None]
    assert [by_name[name]["dtype"] for name in ("embed", "blk.0.q", "blk.0.down")] == ["float32", "uint8", "float32"]
    for name, _, shape, _ in TENSORS[:3]:
        axis, end = by_name[name]["axis"], 0
        for worker, shard in enumerate(by_name[name]["shards"]):
            assert (shard["worker"], shard["first"]) == (worker, end)
            end += shard["count"]
        assert end == shape[axis] and worker == workers - 1
    assert by_name["blk.0.q"]["shards"][0]["shape"] == [12 // workers, 256 // 32 * 34]
    assert by_name["blk.0.down"]["shards"][0]["shape"] == [12, 192 // workers]
    counts = [shard["count"] for shard in by_name["embed"]["shards"]]
    assert max(counts) - min(counts) <= 1 and counts == sorted(counts, reverse=True)
    for key in ("reads", "holds"):
        for worker in told["per_worker"]:
            shards = [tensor["shards"][worker["worker"]] for tensor in told["tensors"] if tensor["shards"]]
            assert worker[key] == sum(shard[key] for shard in shards)


def test_the_verbose_table_says_what_json_says(model, rules):
    told = as_json(model, rules, 3, "--dry-run", "--verbose")
    rows = table(printed(*call(model, rules, 3, "--dry-run", "--verbose")), "tensors")
    at = iter(rows)
    for tensor in told["tensors"]:
        if tensor["share"] == "skip":
            row = next(at)
            assert (row["worker"], row["slice"], row["shape"], row["reads"]) == ("none", "-", "-", "0")
            continue
        for shard in tensor["shards"][: 1 if tensor["share"] == "replicate" else 3]:
            row = next(at)
            whole = tensor["share"] == "replicate"
            slice_ = "whole" if whole else f"axis {tensor['axis']}, {shard['count']} from {shard['first']}"
            assert (row["name"], row["worker"]) == (tensor["name"], "all" if whole else str(shard["worker"]))
            assert (row["slice"], row["shape"], row["dtype"]) == (slice_, str(shard["shape"]), tensor["dtype"])
            assert (int(row["reads"]), int(row["holds"])) == (shard["reads"], shard["holds"])
    assert next(at, None) is None


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format(tmp_path, kind):
    path = make(tmp_path, kind, tensors=[("a", "F32", [8, 3], ""), ("b", "BF16", [5], "")])
    rules = plan(tmp_path, {"match": "a", "axis": 0}, {"match": "*", "replicate": True})
    told = as_json(path, rules, 4)
    assert [worker["reads"] for worker in told["per_worker"]] == [2 * 3 * 4 + 5 * 2] * 4
    assert all(worker["seconds"] >= 0 for worker in told["per_worker"])


def test_many_workers(tmp_path):
    path = make(tmp_path, "gguf", tensors=[("a", "F32", [1024, 2], "")])
    told = as_json(path, plan(tmp_path, {"match": "*", "axis": 0}), 1024)
    assert [worker["holds"] for worker in told["per_worker"]] == [8] * 1024


# ---- rules that decide about nothing ----


def warnings_of(*arguments):
    """On stderr, and the same in the JSON object."""
    ended = disco(*call(*arguments))
    said = [line.removeprefix("disco shard: warning: ") for line in ended.stderr.splitlines() if " warning: " in line]
    as_object = disco(*call(*arguments), "--json")
    assert " warning: " not in as_object.stderr
    return said, json.loads(as_object.stdout)


def test_how_many_tensors_each_rule_decides(model, rules):
    told = as_json(model, rules, 2, "--dry-run")
    assert [rule["rule"] for rule in told["rules"]] == [1, 2, 3, 4, 5]
    assert [rule["match"] for rule in told["rules"]] == [rule["match"] for rule in RULES]
    assert [rule["tensors"] for rule in told["rules"]] == [1, 1, 1, 1, 1]
    assert told["warnings"] == []
    rows = table(printed(*call(model, rules, 2, "--dry-run")), "rules")
    assert [[row["rule"], row["tensors"], row["match"]] for row in rows] == [
        [str(i + 1), "1", f'"{rule["match"]}"'] for i, rule in enumerate(RULES)
    ]


def test_a_misspelt_rule_is_warned_of(model, tmp_path):
    """The first is misspelt, the last comes too late; and it still fits."""
    rules = plan(
        tmp_path,
        {"match": "*.qq", "axis": 0},
        {"match": "*", "replicate": True},
        {"parts": [6, 6], "axis": 0, "match": "blk\u00e9.\"[q]"},
    )
    said, told = warnings_of(model, rules, 2, "--dry-run")
    assert len(said) == 2 and told["warnings"] == said
    assert said[0].startswith(f'rule 1 ("*.qq") of {rules} decides about no tensor: is its pattern misspelt')
    assert said[1].startswith("rule 3 (")
    assert [rule["tensors"] for rule in told["rules"]] == [0, 5, 0]
    assert told["rules"][2]["match"] == 'blk\u00e9."[q]'
    assert told["fits"] is True


def test_it_is_warned_of_where_it_is_why_nothing_fits(model, tmp_path):
    rules = plan(tmp_path, {"match": "embd", "replicate": True}, {"match": "blk.*", "replicate": True})
    said, told = warnings_of(model, rules, 2, "--dry-run")
    assert len(said) == 1 and said[0].startswith('rule 1 ("embd")')
    assert (told["fits"], len(told["warnings"])) == (False, 1)
    assert 'warning: rule 1 ("embd")' in failed(model, rules, 2, "--dry-run")
    assert [rule["tensors"] for rule in told["rules"]] == [0, 3]
    assert told["suitable_workers"] == []


def test_many_rules_are_warned_of_in_few_lines(model, tmp_path):
    rules = plan(tmp_path, *({"match": f"none{i}", "skip": True} for i in range(40)), {"match": "*", "replicate": True})
    said, told = warnings_of(model, rules, 2, "--dry-run")
    assert len(said) == 9 and said[-1] == "32 more rules decide about no tensor"
    assert len(told["warnings"]) == 40 and told["rules"][40]["tensors"] == 5


@pytest.mark.parametrize(
    "text",
    [
        '{"rules":[{"match":"match","skip":true},{"axis":0,"match"\n:\t"*.q","uneven":true},{"match":"*","skip":true}]}',
        '\n{ "rules" : [ {"skip":true , "match" : "]}{\\"\\\\"} , {"match":"*.q","axis":0,"parts":[6, 6]},'
        '{"match":"*","replicate":true}] }\n',
    ],
)
def test_however_a_plan_is_written(model, tmp_path, text):
    (tmp_path / "odd.json").write_text(text)
    told = as_json(model, tmp_path / "odd.json", 2, "--dry-run")
    assert [rule["match"] for rule in told["rules"]] == [rule["match"] for rule in json.loads(text)["rules"]]
    assert [rule["tensors"] for rule in told["rules"]] == [0, 1, 4]


def test_a_name_in_escapes_is_not_looked_for(model, tmp_path):
    """Nothing is said of any rule, and nothing wrong."""
    (tmp_path / "odd.json").write_text(
        '{"rules": [{"\\u006datch": "*.q", "axis": 0, "uneven": true}, {"match": "*", "axis": 0}]}'
    )
    path = make(tmp_path, "safetensors", tensors=[("a.q", "F32", [50], ""), ("b", "F32", [7], "")])
    said, told = warnings_of(path, tmp_path / "odd.json", 7, "--dry-run")
    assert said == [] and (told["rules"], told["warnings"], told["fits"]) == (None, [], True)
    assert told["suitable_workers"] == [1, 7]


# ---- why not, and which would ----


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--json"], ["--dry-run", "--json", "--verbose"]])
def test_what_does_not_divide(model, rules, options):
    """12 rows of q, 6 blocks of down."""
    said = failed(model, rules, 5, *options)
    assert 'tensor "blk.0.q" [12, 256]' in said and str(model) in said
    assert "do not divide by 5 workers" in said and 'rule 2 ("*.q")' in said and str(rules) in said
    assert "2 of 5 tensors do not fit" in said
    assert said.rstrip().endswith("numbers of workers that suit all: 1 to 3, 6")


@pytest.mark.parametrize("workers", range(1, 13))
def test_the_numbers_that_are_told_are_those_that_do(model, rules, workers):
    ended = disco(*call(model, rules, workers, "--dry-run"))
    assert ended.returncode == (0 if workers in (1, 2, 3, 6) else 1)
    told = json.loads(disco(*call(model, rules, workers, "--dry-run", "--json")).stdout)
    assert told["suitable_workers"] == [1, 2, 3, 6]


def test_numbers_that_suit(model, tmp_path):
    """All of 1 to 1024, some, one, none; as many rules that leave each number as there can be."""
    everyone = {"match": "*", "replicate": True}
    cases = [
        ([everyone], list(range(1, 1025))),
        ([{"match": "embed", "axis": 0, "uneven": True}, everyone], list(range(1, 1025))),
        ([{"match": "embed", "axis": 0}, {"match": "*", "skip": True}], [1, 2, 5, 10, 25, 50]),
        ([{"match": "embed", "axis": 0}, {"match": "*.q", "axis": 0}, everyone], [1, 2]),
        ([{"match": "embed", "axis": 0, "parts": [20, 20, 10]}, everyone], [3]),
        ([{"match": "embed", "axis": 0, "parts": [20, 20, 10]}, {"match": "*.q", "axis": 0}, everyone], [3]),
        ([{"match": "embed", "axis": 0, "parts": [25, 25]}, {"match": "rope", "axis": 0, "parts": [32]}, everyone], []),
        ([{"match": "embed", "axis": 0, "unit": 7}, everyone], []),
        ([{"match": "blk.0.[qn]*", "axis": 0}, everyone], [1, 2, 4]),  # of 12 and 64
        ([{"match": "embed", "axis": 0}], []),
    ]
    for i, (rules, expected) in enumerate(cases):
        told = json.loads(disco(*call(model, plan(tmp_path, *rules), 3, "--dry-run", "--json")).stdout)
        assert told["suitable_workers"] == expected, i
        assert told["fits"] is (3 in expected)
    path = make(tmp_path, "gguf", tensors=[("a", "F32", [0, 3], ""), ("b", "F32", [10], "")])
    told = json.loads(disco(*call(path, plan(tmp_path, {"match": "*", "axis": 0}), 3, "--dry-run", "--json")).stdout)
    assert told["suitable_workers"] == [1, 2, 5, 10]  # 0 elements divide by any


@pytest.mark.parametrize(
    "rule, words",
    [
        ({"match": "blk*", "replicate": True}, ['"embed"', "no rule"]),
        ({"match": "*", "axis": 2}, ['"embed"', "no dimension 2, it has 2"]),
        ({"match": "*", "axis": 0, "unit": 7}, ['"embed"', "not a multiple of the unit 7"]),
        ({"match": "*", "axis": 0, "parts": [20, 20]}, ['"embed"', "40 elements together", "has 50"]),
        ({"match": "*", "axis": 0, "parts": [20, 20, 10]}, ["there are 3 parts and 2 workers"]),
    ],
)
def test_rules_that_do_not_fit(model, tmp_path, rule, words):
    said = failed(model, plan(tmp_path, rule), 2, "--dry-run")
    assert all(word in said for word in words), said


def test_unusable_encodings_fit_when_they_are_skipped(tmp_path):
    path = make(tmp_path, "gguf", tensors=[("a", "Q4_K", [2, 256], ""), ("b", "F32", [4], "")])
    everything = {"match": "*", "replicate": True}
    said = failed(path, plan(tmp_path, everything), 1, "--dry-run")
    assert '"a"' in said and "Q4_K" in said
    told = as_json(path, plan(tmp_path, {"match": "a", "skip": True}, everything), 1)
    assert (told["skipped"], told["all"]["reads"]) == (1, 16)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", []),
        ("{", []),
        ("[]", ["rules"]),
        ('{"rules": []}', ["no rules"]),
        ('{"rules": [{"match": "*"}]}', ["rule 1", "axis"]),
        ('{"rules": [{"match": "*", "axis": 0, "skip": true}]}', ["rule 1", "skip"]),
        ('{"rules": [{"match": "*", "axes": 0}]}', ['"axes"', "axis"]),
        ('{"rules": [{"match": "*", "axis": "0"}]}', ["integer"]),
        ('{"rules": [{"match": "[", "skip": true}]}', ["pattern"]),
    ],
)
def test_plans_that_are_wrong(model, tmp_path, text, words):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    for options in (["--dry-run"], ["--json"]):
        said = failed(model, path, 2, *options)
        assert all(word in said for word in [str(path), *words]), said


def test_missing_files(model, rules, tmp_path):
    for options in ([], ["--dry-run"], ["--json"]):
        assert f"{tmp_path}/missing: No such file" in failed(tmp_path / "missing", rules, 2, *options)
        assert f"{tmp_path}/missing.json: No such file" in failed(model, tmp_path / "missing.json", 2, *options)
    assert str(tmp_path) in failed(model, tmp_path, 2)


def test_hostile_files(rules, tmp_path):
    for name, (path, words) in hostile(tmp_path).items():
        for options in (["--dry-run"], [], ["--json"]):
            said = failed(path, rules, 2, *options)
            assert all(word in said for word in words), f"{name}: {said}"


def test_nothing_of_a_name_reaches_the_terminal(tmp_path):
    entry = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}
    path = safetensors(tmp_path / "odd.safetensors", {"x\x1b[31m\n": entry}, bytes(12))
    rules = plan(tmp_path, {"match": "*", "axis": 0})
    assert r"x\x1b[31m\x0a" in failed(path, rules, 2)
    text = printed(*call(path, rules, 3, "--verbose"))
    assert "\x1b" not in text and text.count(r"x\x1b[31m\x0a  ") == 3


# ---- reading ----


def lines_of_reading(text):
    return text.split("[reading]\n", 1)[1].splitlines()


def test_reading_tells_each_worker_in_a_line(model, rules):
    text = printed(*call(model, rules, 3))
    shape = re.compile(r"(.+): (\d+) bytes in \d+\.\d{3} s, \d+\.\d\d GB/s")
    said = [shape.fullmatch(line).groups() for line in lines_of_reading(text)]
    assert [who for who, _ in said] == ["worker 0", "worker 1", "worker 2", "all"]
    assert [reads for _, reads in said] == [row["reads"] for row in table(text, "workers")]
    assert "\r" not in text
    told = as_json(model, rules, 3)
    for worker in [*told["per_worker"], told["all"]]:
        assert worker["seconds"] > 0 and worker["gb_per_s"] > 0
        assert worker["gb_per_s"] == pytest.approx(worker["reads"] / worker["seconds"] / 1e9, rel=0.01, abs=2e-6)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_manifest_of_every_worker(model, rules, tmp_path, workers):
    out = tmp_path / "out.json"
    out.write_text("what was there before" * 1000)
    told = as_json(model, rules, workers, "--manifest", str(out))
    assert told["manifest"] == str(out)
    manifest = json.loads(out.read_text())
    assert (manifest["algorithm"], manifest["workers"]) == ("xxh3-64", workers)
    assert set(manifest["tensors"]) == {name for name, *_ in TENSORS} - {"rope"}
    for hashes in manifest["tensors"].values():
        assert len(hashes) == workers and all(re.fullmatch("[0-9a-f]{16}", text) for text in hashes)
    assert len(set(manifest["tensors"]["blk.0.norm"])) == 1
    assert len(set(manifest["tensors"]["blk.0.q"])) == workers
    again = tmp_path / "again.json"
    printed(*call(model, rules, workers, "--manifest", str(again)))
    assert again.read_text() == out.read_text()


def test_a_manifest_is_of_the_values(tmp_path):
    """The hash that other programs give these bytes; another seed gives others."""
    entry = {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}
    path = safetensors(tmp_path / "a.safetensors", {"a": entry}, b"123456789")
    rules = plan(tmp_path, {"match": "*", "replicate": True})
    out = tmp_path / "out.json"
    printed(*call(path, rules, 1, "--manifest", str(out)))
    assert json.loads(out.read_text())["tensors"] == {"a": ["72dcb18b67a17dff"]}
    manifests = set()
    for seed in (1, 2):
        printed(*call(make(tmp_path, "gguf", "--seed", str(seed)), rules, 1, "--manifest", str(out)))
        manifests.add(out.read_text())
    assert len(manifests) == 2


def test_a_manifest_that_cannot_be_written(model, rules, tmp_path):
    for options in ([], ["--json"]):
        ended = disco(*call(model, rules, 2, "--manifest", str(tmp_path / "no" / "folder"), *options))
        assert ended.returncode == 1
        assert ended.stderr.startswith("disco shard: ") and f"{tmp_path}/no/folder" in ended.stderr
        if options:
            told = json.loads(ended.stdout)
            assert (told["fits"], told["manifest"]) == (True, None) and "no/folder" in told["error"]


def test_a_manifest_is_not_written_when_reading_fails(tmp_path):
    """Here: the memory for a shard is refused, of a file that is one large hole."""
    size, out = 8 << 30, tmp_path / "out.json"
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    path = safetensors(tmp_path / "hole.safetensors", {"a": entry})
    os.truncate(path, path.stat().st_size + size)
    rules = plan(tmp_path, {"match": "*", "replicate": True})
    for options in ([], ["--json"]):
        arguments = call(path, rules, 2, "--manifest", str(out), *options)
        ended = disco("-c", 'ulimit -v 4000000; exec "$@"', "bash", str(DISCO), *arguments, program="/bin/bash")
        assert ended.returncode == 1
        assert ended.stderr == f"disco shard: no memory for the largest shard, {size} bytes\n"
        assert not out.exists()
        if options:
            told = json.loads(ended.stdout)
            assert (told["fits"], told["manifest"]) == (True, None) and told["all"]["seconds"] is None
    assert as_json(path, rules, 2, "--dry-run")["all"]["reads"] == 2 * size


# ---- what is refused ----


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "FILE is missing"),
        (["m"], "--plan is missing"),
        (["m", "--plan", "p"], "--workers is missing"),
        (["m", "--plan"], "--plan needs a value"),
        (["m", "--manifest"], "--manifest needs a value"),
        (["m", "--workers"], "--workers needs a value"),
        (["m", "n", "--plan", "p"], "one file or folder at a time: unexpected argument `n`"),
        (["m", "--dry"], "unknown option `--dry`"),
        (["m", "--plan", "p", "--workers", "2", "--dry-run", "--manifest", "o"], "--dry-run reads nothing"),
    ],
)
def test_wrong_arguments(arguments, said):
    assert said in refused("shard", *arguments)


@pytest.mark.parametrize("number", ["", "0", "-1", "+1", "x", "1x", " 1", "1.0", "1025", "9" * 40])
def test_numbers_of_workers_are_strict(number):
    assert f"--workers takes a number from 1 to 1024, not `{number}`" in refused(*call("m", "p", number))


# ---- terminals and pipes ----


def test_headings_are_bold_on_a_terminal_alone(model, rules):
    arguments = call(model, rules, 2, "--dry-run", "--verbose")
    plain, bold = printed(*arguments), on_a_terminal(*arguments)
    for heading in ("model", "rules", "tensors", "workers"):
        assert f"{BOLD}[{heading}]\033[0m\n" in bold
    assert bold.replace(BOLD, "").replace("\033[0m", "") == plain
    assert on_a_terminal(*arguments, NO_COLOR="1") == plain
    assert "\033" not in on_a_terminal(*arguments, "--json")


def with_a_terminal_as_stderr(arguments, **env):
    """What it prints to stdout, a pipe, and to stderr, a terminal."""
    master, slave = pty.openpty()
    try:
        ended = subprocess.run(
            [str(DISCO), *arguments],
            env=environment(**{"TERM": "xterm", **env}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            text=True,
            timeout=BOUND_SECONDS,
        )
        os.close(slave)
        assert ended.returncode == 0
        text = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:
                break
            text += block
        return ended.stdout, text.decode()
    finally:
        os.close(master)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_bar_on_a_terminal(model, rules, options):
    out, bar = with_a_terminal_as_stderr(call(model, rules, 2, *options))
    drawn = re.findall(r"\rworker (\d) of 2 \[([#-]{24})\] +(\d+)%  .+? of ", bar)
    assert [worker for worker, _ in itertools.groupby(drawn, key=lambda part: part[0])] == ["0", "1"]
    assert drawn[0] == ("0", "-" * 24, "0")
    assert bar.endswith(" \r") and "\033" not in bar and "\n" not in bar
    assert "worker 0 of" not in out
    if options:
        assert json.loads(out)["error"] is None
    else:
        assert len(lines_of_reading(out)) == 3


def test_no_bar_elsewhere(model, rules):
    assert with_a_terminal_as_stderr(call(model, rules, 2), TERM="dumb")[1] == ""
    assert with_a_terminal_as_stderr(call(model, rules, 2, "--dry-run"))[1] == ""
    assert with_a_terminal_as_stderr(call(model, rules, 2), NO_COLOR="1")[1] != ""  # it has no colour


@pytest.mark.parametrize("options", [[], ["--json"], ["--dry-run"], ["--verbose"]])
def test_a_closed_pipe_is_no_reason_to_talk(model, rules, options):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = disco(*call(model, rules, 2, *options), stdout=writer, restore_signals=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")

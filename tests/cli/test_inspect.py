"""disco inspect: what it lists of every format, what it makes of odd and hostile files, and what it refuses.

Runs bin/disco and make-weights of the build folder DISCO_BINARY_DIR (default: build).
"""

import json
import math
import os
import re
import struct

import pytest
from test_cli import BOLD, disco, on_a_terminal, printed, refused
from weights import BITS, PLAIN, hostile, make, safetensors

FORMATS = ["gguf", "safetensors", "safetensors-index", "tensor-cache"]
FORMAT_OF = {"safetensors-index": "safetensors"}
CACHE_NAMES = {"F16": "float16", "F32": "float32", "BF16": "bfloat16", "I64": "int64"}


def as_json(*arguments, **more):
    return json.loads(printed("inspect", "--json", *map(str, arguments), **more))


def failed(*arguments, **more):
    """What it says on stderr, one line."""
    ended = disco("inspect", *map(str, arguments), **more)
    assert ended.returncode == 1
    assert ended.stderr.startswith("disco inspect: ") and ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    return ended.stderr


def sections(text):
    """{heading: its lines}"""
    found = {}
    for line in text.splitlines():
        if re.fullmatch(r"\[[a-z]+\]", line):
            lines = found.setdefault(line.strip("[]"), [])
        elif line:
            lines.append(line)
    return found


def rows(text):
    """The table of tensors: {name: {column: word}}."""
    lines = sections(text)["tensors"]
    columns = re.split(r"  +", lines[0].strip())
    cells = [re.split(r"  +", line.strip()) for line in lines[1:]]
    return {words[0]: dict(zip(columns[1:], words[1:])) for words in cells}


# ---- every format ----


@pytest.mark.parametrize("kind", FORMATS)
def test_json_has_everything(tmp_path, kind):
    path = make(tmp_path, kind, "--metadata", "--seed", "5")
    told = as_json(path)
    assert (told["path"], told["format"]) == (str(path), FORMAT_OF.get(kind, kind))
    assert told["num_tensors"] == len(PLAIN) and told["unusable"] == 0
    assert told["parameters"] == sum(math.prod(shape) for _, _, shape, _ in PLAIN)
    assert told["bytes"] == sum(math.prod(shape) * BITS[encoding] // 8 for _, encoding, shape, _ in PLAIN)
    assert len(told["files"]) == (1 if kind in ("gguf", "safetensors") else 2)
    assert {tensor["name"] for tensor in told["tensors"]} == {name for name, *_ in PLAIN}
    by_name = {tensor["name"]: tensor for tensor in told["tensors"]}
    for name, encoding, shape, dtype in PLAIN:
        tensor = by_name[name]
        assert (tensor["shape"], tensor["dtype"], tensor["usable"]) == (shape, dtype, True)
        assert tensor["encoding"] == (CACHE_NAMES[encoding] if kind == "tensor-cache" else encoding)
        assert tensor["bytes"] == math.prod(shape) * BITS[encoding] // 8
        assert (tensor["block_elements"], tensor["block_bytes"]) == (1, BITS[encoding] // 8)


@pytest.mark.parametrize("kind", FORMATS)
def test_offsets_are_those_of_the_bytes(tmp_path, kind):
    """The first element of `ids` is a word of its seed, key and index: found where the offset says."""
    told = as_json(make(tmp_path, kind, "--seed", "7"))
    (ids,) = [tensor for tensor in told["tensors"] if tensor["name"] == "ids"]
    with open(told["files"][ids["file"]], "rb") as file:
        file.seek(ids["offset"])
        assert file.read(8) == struct.pack("<Q", word(7, "ids", 0))


def word(seed, name, i):
    """As tests/weights/writer.h has it."""
    mask = (1 << 64) - 1

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = ((hashed ^ byte) * 0x100000001B3) & mask
    return mix((mix(seed ^ hashed) + i * 0x9E3779B97F4A7C15) & mask)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_table_says_what_json_says(tmp_path, kind):
    path = make(tmp_path, kind, "--metadata")
    told, text = as_json(path), printed("inspect", str(path))
    table = rows(text)
    assert list(table) == [tensor["name"] for tensor in told["tensors"]]
    for tensor in told["tensors"]:
        row = table[tensor["name"]]
        assert row["shape"] == str(tensor["shape"])
        assert (row["encoding"], row["dtype"]) == (tensor["encoding"], tensor["dtype"])
        assert (int(row["bytes"]), int(row["offset"])) == (tensor["bytes"], tensor["offset"])
        assert int(row.get("file", 0)) == tensor["file"]
    found = sections(text)
    assert "metadata" not in found
    assert ("files" in found) == (len(told["files"]) > 1)
    if "files" in found:
        assert found["files"] == [f"{i}: {name}" for i, name in enumerate(told["files"])]
    model = dict(line.split(": ", 1) for line in found["model"])
    assert model["path"] == str(path) and model["format"] == told["format"]
    assert int(model["tensors"]) == told["num_tensors"] and int(model["parameters"]) == told["parameters"]
    assert model["bytes"].split()[0] == str(told["bytes"]) and "unusable" not in model
    assert int(model["metadata"]) == len(told["metadata"])


def test_columns_stand_in_line(tmp_path):
    text = printed("inspect", str(make(tmp_path, "safetensors-index")))
    assert len({len(line) for line in sections(text)["tensors"]}) == 1


def test_a_folder_is_opened_by_what_lies_in_it(tmp_path):
    for kind in FORMATS:
        folder = tmp_path / f"as-{kind}"
        folder.mkdir()
        path = make(folder, kind)
        folder = path if path.is_dir() else folder
        assert as_json(folder)["format"] == FORMAT_OF.get(kind, kind)
        assert as_json(f"{folder}/")["num_tensors"] == len(PLAIN)


def test_sizes_are_told_in_words(tmp_path):
    small = printed("inspect", str(make(tmp_path, "gguf", tensors=[("a", "I8", [1000])])))
    assert "\nbytes: 1000\n" in small
    large = printed("inspect", str(make(tmp_path, "gguf", tensors=[("a", "I8", [3 << 19])])))
    assert "\nbytes: 1572864 (1.5 MiB)\n" in large


# ---- metadata ----


def test_metadata_of_every_type(tmp_path):
    path = make(tmp_path, "gguf", "--metadata")
    metadata = as_json(path)["metadata"]
    odd = 'a "quoted" \\ line\nä€\U0001f600'
    assert metadata == {
        "general.architecture": "random",
        **{"test.u8": 200, "test.i8": -100, "test.u16": 60000, "test.i16": -30000, "test.u32": 4000000000},
        **{"test.i32": -2000000000, "test.u64": (1 << 64) - 1, "test.i64": -(1 << 63), "test.bool": True},
        "test.string": odd,
        "test.f32": pytest.approx(0.1),
        "test.f64": -1e-300,
        "test.array": [1, 0, -1],
        "test.strings": ["one", "", odd],
        "test.nested": [[0], [0, 1]],
        "test.empty": [],
        "test.long": list(range(1000)),
    }
    assert list(metadata)[0] == "general.architecture"
    lines = dict(line.split(": ", 1) for line in sections(printed("inspect", str(path), "--metadata"))["metadata"])
    assert list(lines) == list(metadata)
    for key, value in metadata.items():
        if key != "test.long":
            assert json.loads(lines[key]) == value


def test_long_metadata_is_cut(tmp_path):
    path = make(tmp_path, "gguf", "--metadata")
    (line,) = [line for line in printed("inspect", str(path), "--metadata").splitlines() if "test.long" in line]
    assert re.fullmatch(r"test\.long: \[0, 1, 2, [0-9, ]*\d, \.\.\.\] \(1000 elements\)", line) and len(line) < 120
    long = {"words": "ä" * 1000, "list": json.dumps(list(range(500)))}
    path = safetensors(tmp_path / "long.safetensors", {"__metadata__": long})
    lines = sections(printed("inspect", str(path), "--metadata"))["metadata"]
    assert re.fullmatch(r'words: "ä{30,40}\.\.\. \(2000 bytes\)', lines[0])
    assert lines[1].startswith('list: "[0, 1, ') and len(lines[1]) < 120
    assert as_json(path)["metadata"] == long


def test_no_metadata(tmp_path):
    path = make(tmp_path, "gguf")
    assert as_json(path)["metadata"] == {}
    assert sections(printed("inspect", str(path), "--metadata"))["metadata"] == []


# ---- some tensors only ----


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("*", [name for name, *_ in PLAIN]),
        ("blk.*", ["blk.0.w", "blk.1.w"]),
        ("blk.[1-9].w", ["blk.1.w"]),
        ("?ds", ["ids"]),
        ("embed", ["embed"]),
        ("*e*", ["embed", "scale"]),
    ],
)
def test_a_pattern_chooses(tmp_path, pattern, names):
    path = make(tmp_path, "gguf")
    told = as_json(path, "--tensors", pattern)
    assert [tensor["name"] for tensor in told["tensors"]] == names
    assert told["num_tensors"] == len(PLAIN)
    assert list(rows(printed("inspect", str(path), "--tensors", pattern))) == names


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_pattern_that_matches_nothing(tmp_path, options):
    ended = disco("inspect", str(make(tmp_path, "gguf")), "--tensors", "x*", *options)
    assert ended.returncode == 1
    assert ended.stderr == "disco inspect: none of the 6 tensors has a name that `x*` matches\n"
    if options:
        assert json.loads(ended.stdout)["tensors"] == []
    else:
        assert "[model]" in ended.stdout and "[tensors]" not in ended.stdout


@pytest.mark.parametrize("pattern", ["", "[x", "[b-a]", "x" * 5000])
def test_a_pattern_that_is_none(tmp_path, pattern):
    said = refused("inspect", str(make(tmp_path, "gguf")), "--tensors", pattern)
    assert "--tensors takes a pattern" in said and len(said) < 400


# ---- what cannot be read is marked ----


def test_unusable_encodings(tmp_path):
    unusable = [("a", "Q4_K", [2, 256]), ("c", "Q6_K", [256]), ("d", "Q4_K", [256])]
    tensors = [*unusable, ("b", "F32", [4]), ("q", "Q8_0", [2, 64])]
    path = make(tmp_path, "gguf", tensors=tensors)
    told = as_json(path)
    assert told["unusable"] == 3
    by_name = {tensor["name"]: tensor for tensor in told["tensors"]}
    assert {name for name, tensor in by_name.items() if not tensor["usable"]} == {"a", "c", "d"}
    assert (by_name["a"]["dtype"], by_name["a"]["bytes"], by_name["a"]["block_elements"]) == (None, 288, 256)
    assert (by_name["q"]["dtype"], by_name["q"]["bytes"], by_name["q"]["block_bytes"]) == ("float32", 136, 34)
    text = printed("inspect", str(path))
    assert {name: row["dtype"] for name, row in rows(text).items()} == {
        **dict.fromkeys("acd", "unusable"),
        **dict.fromkeys("bq", "float32"),
    }
    assert "\nunusable: 3 tensors, which can be listed but not read (Q4_K, Q6_K)\n" in text
    assert list(rows(printed("inspect", str(path), "--tensors", "[ab]"))) == ["a", "b"]


def test_types_that_nobody_knows(tmp_path):
    """Of a later version of the format, or of somebody's own."""
    entry = {"dtype": "Q9_[1m", "shape": [2], "data_offsets": [0, 8]}
    path = safetensors(tmp_path / "new.safetensors", {"a": entry}, bytes(8))
    (tensor,) = as_json(path)["tensors"]
    assert (tensor["encoding"], tensor["usable"], tensor["bytes"]) == ("Q9_[1m", False, 8)
    text = printed("inspect", str(path))
    assert rows(text)["a"] == {**rows(text)["a"], "encoding": "Q9_[1m", "dtype": "unusable", "bytes": "8"}
    assert "not read (Q9_[1m)" in text
    for dtype in ("Q9\x1b[1m", "Q 9", "Q\u00e49", "", "Q" * 65):  # no names: they would stand in sentences as they are
        entry["dtype"] = dtype
        ended = disco("inspect", str(safetensors(tmp_path / "new.safetensors", {"a": entry}, bytes(8))))
        assert ended.returncode == 1 and "is no name of an encoding" in ended.stderr and "\x1b" not in ended.stderr
    entry["dtype"] = "Q" * 64
    assert as_json(safetensors(tmp_path / "new.safetensors", {"a": entry}, bytes(8)))["tensors"]


# ---- names that are not harmless ----


def test_nothing_of_a_name_reaches_the_terminal(tmp_path):
    names = ["a\x1b[31mred", "b\nline", "c\x7f", "d\u009b1m", "e\u202eright", "f\u200bnot seen", "g ä€\U0001f600"]
    entries = {name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, name in enumerate(names)}
    entries["__metadata__"] = {"key\x1b]0;title\x07": "value\x1b[2J\u2028"}
    path = safetensors(tmp_path / "odd.safetensors", entries, bytes(len(names)))
    text = printed("inspect", str(path), "--metadata")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]", text)
    for shown in (r"a\x1b[31mred", r"b\x0aline", r"c\x7f", r"d\u009b1m", r"e\u202eright", r"f\u200bnot seen", names[6]):
        assert f"\n{shown}  " in text
    assert r"key\x1b]0;title\x07: " in text
    assert {tensor["name"] for tensor in as_json(path)["tensors"]} == set(names)
    assert as_json(path)["metadata"] == entries["__metadata__"]


def test_neither_does_a_path_or_a_message(tmp_path):
    said = failed(tmp_path / "no\x1b[31m\nfile")
    assert r"no\x1b[31m\x0afile" in said
    entry = {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}
    path = safetensors(tmp_path / "bad.safetensors", {"x\x1b[31m": entry})
    assert "\x1b" not in failed(path)


def test_long_names_stick_out(tmp_path):
    path = make(tmp_path, "gguf", tensors=[("n" * 3000, "F32", [4]), ("short", "F32", [4])])
    table = sections(printed("inspect", str(path)))["tensors"]
    assert table[1].startswith("n" * 3000 + "  [4]") and len(table[2]) < 200


# ---- what is refused ----


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "FILE is missing"),
        (["--json"], "FILE is missing"),
        (["a", "b"], "one file or folder at a time: unexpected argument `b`"),
        (["a", "--fast"], "unknown option `--fast`"),
        (["a", "--tensors"], "--tensors needs a value"),
    ],
)
def test_wrong_arguments(arguments, said):
    assert said in refused("inspect", *arguments)


def test_missing_files_and_what_is_no_model(tmp_path):
    assert "No such file" in failed(tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    assert str(tmp_path / "folder") in failed(tmp_path / "folder")
    assert "/dev/null" in failed("/dev/null")


def test_hostile_files(tmp_path):
    for name, (path, words) in hostile(tmp_path).items():
        for options in ([], ["--json"]):
            said = failed(path, *options)
            assert all(word in said for word in words), f"{name}: {said}"


def test_an_index_may_not_name_files_elsewhere(tmp_path):
    path = make(tmp_path, "safetensors-index")
    index = path / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    for bad in ("../model-00001-of-00002.safetensors", "/etc/passwd", "", "missing.safetensors"):
        told["weight_map"]["embed"] = bad
        index.write_text(json.dumps(told))
        assert (bad or str(index)) in failed(path)


# ---- terminals and pipes ----


def test_headings_are_bold_on_a_terminal_alone(tmp_path):
    path = str(make(tmp_path, "gguf", "--metadata"))
    plain = printed("inspect", path, "--metadata")
    bold = on_a_terminal("inspect", path, "--metadata")
    for heading in ("model", "metadata", "tensors"):
        assert f"{BOLD}[{heading}]\033[0m\n" in bold
    assert bold.replace(BOLD, "").replace("\033[0m", "") == plain
    assert on_a_terminal("inspect", path, "--metadata", NO_COLOR="1") == plain
    assert "\033" not in on_a_terminal("inspect", path, "--json")


def test_a_full_disk_is_told(tmp_path):
    path = str(make(tmp_path, "gguf", tensors=[(f"tensor.{i}", "F32", [4]) for i in range(500)]))
    with open("/dev/full", "w") as full:
        ended = disco("inspect", path, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "disco: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_pipe_is_no_reason_to_talk(tmp_path, options):
    path = str(make(tmp_path, "gguf", tensors=[(f"tensor.{i}", "F32", [4]) for i in range(500)]))  # more than a buffer
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = disco("inspect", path, *options, stdout=writer, restore_signals=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")

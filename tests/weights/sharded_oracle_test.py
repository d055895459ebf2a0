"""Real models on the workers of real sessions: 1 to 4 of them, threads and processes, and every byte of every worker's
part is what the packages `safetensors` and `gguf` read and NumPy cuts.

The models are those of safetensors_oracle_test.py (all-MiniLM-L6-v2) and gguf_oracle_test.py (SmolLM2-135M), the latter
as blocks and as floats. Floats, 540 MB, are compared by their XXH3.
"""

import fnmatch
import json
import subprocess

import gguf
import numpy as np
import pytest
import safetensors.numpy

from oracle import BINARIES, BOUND_SECONDS, fetch_minilm, fetch_smollm2, hash_of

KINDS = ["threads", "processes"]
FLOAT32, INT64, UINT8 = [2, 32], [0, 64], [1, 8]
DLPACK = {"float32": FLOAT32, "int64": INT64, "uint8": UINT8}

# As one splits a transformer: what makes heads and hidden units by rows, what takes them in by columns. 12 heads of 32
# divide by 1 to 4 workers; 12 pairs of heads of 64 do not.
MINILM_RULES = [
    {"match": "*.position_ids", "axis": -1, "uneven": True},
    {"match": "*.word_embeddings.*", "axis": 0, "uneven": True},
    {"match": "*.position_embeddings.*", "axis": 1},
    {"match": "*.self.query.*", "axis": 0, "unit": 32},
    {"match": "*.self.[kv]*", "axis": 0, "unit": 64, "uneven": True},
    {"match": "*.attention.output.dense.weight", "axis": 1, "unit": 64, "uneven": True},
    {"match": "*.intermediate.dense.*", "axis": 0},
    {"match": "*.output.dense.weight", "axis": -1, "unit": 32},
    {"match": "*", "replicate": True},
]
# 9 heads of 64, and 3 for keys and values: with 4 workers one of them has none. `parts` is what parts_for() makes of it.
SMOLLM2_RULES = [
    {"match": "token_embd.weight", "axis": 0},
    {"match": "*.attn_q.weight", "axis": 0, "unit": 64, "uneven": True},
    {"match": "*.attn_[kv].weight", "axis": 0, "unit": 64, "uneven": True},
    {"match": "*.attn_output.weight", "axis": 1, "unit": 64, "uneven": True},
    {"match": "*.ffn_gate.weight", "axis": 0},
    {"match": "*.ffn_up.weight", "axis": 0, "parts": 1536},
    {"match": "*.ffn_down.weight", "axis": 1},
    {"match": "*", "replicate": True},
]


# ---- The models as others read them: [(name, array, elements of a block, bytes of a block)] ----


@pytest.fixture(scope="module")
def minilm():
    path = fetch_minilm()
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        names = file.offset_keys()
    return path, [(name, arrays[name], 1, 1) for name in names]


@pytest.fixture(scope="module")
def smollm2():
    path = fetch_smollm2()
    blocks, floats = [], []
    for tensor in gguf.GGUFReader(path).tensors:
        is_plain = tensor.tensor_type == gguf.GGMLQuantizationType.F32
        sizes = (1, 1) if is_plain else gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        blocks.append((tensor.name, tensor.data, *sizes))
        decoded = tensor.data if is_plain else gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        floats.append((tensor.name, decoded, 1, 1))
    return path, blocks, floats


# ---- Cutting ----


def parts_for(length, workers):
    """The last one has most."""
    return [32] * (workers - 1) + [length - 32 * (workers - 1)]


def write_plan(path, rules, workers, decode):
    written = []
    for rule in rules:
        parts = {"parts": parts_for(rule["parts"], workers)} if "parts" in rule else {}
        written.append({**rule, **parts, **({"decode": True} if decode else {})})
    path.write_text(json.dumps({"rules": written}))
    return path


def cut(array, rule, block, block_bytes, workers):
    """What each worker has of a tensor. Along the last axis a block is so many bytes."""
    if "axis" not in rule:
        return [array] * workers
    axis = rule["axis"] % array.ndim
    is_last = axis == array.ndim - 1
    length = array.shape[axis] // block_bytes * block if is_last else array.shape[axis]
    if "parts" in rule:
        ends = np.cumsum(parts_for(length, workers))
    else:
        unit = max(rule.get("unit", 1), block if is_last else 1)
        assert length % unit == 0 and (rule.get("uneven") or length // unit % workers == 0)
        ends = np.cumsum([len(units) * unit for units in np.array_split(np.arange(length // unit), workers)])
    assert ends[-1] == length
    if is_last:
        ends = ends // block * block_bytes
    return np.split(array, ends[:-1], axis)


def check_model(output, tensors, rules, workers):
    room = np.empty(max(array.nbytes for _, array, *_ in tensors), np.uint8)
    for index, (name, array, block, block_bytes) in enumerate(tensors):
        rule = next(rule for rule in rules if fnmatch.fnmatchcase(name, rule["match"]))
        for worker, expected in enumerate(cut(array, rule, block, block_bytes, workers)):
            ours = json.loads(output.readline())
            assert (ours["tensor"], ours["worker"]) == (index, worker)
            assert ours["shape"] == list(expected.shape), name
            assert ours["dtype"] == DLPACK[str(expected.dtype)], name
            assert ours["bytes"] == expected.nbytes, name
            if ours["hash"] is not None:
                assert ours["hash"] == hash_of(expected), f"{name}, worker {worker} of {workers}"
                continue
            got = room[: expected.nbytes]
            assert output.readinto(got) == expected.nbytes
            same = np.array_equal(got, np.ascontiguousarray(expected).reshape(-1).view(np.uint8))
            assert same, f"{name}, worker {worker} of {workers}"


# ---- Sessions ----


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_every_part(tmp_path, minilm, smollm2, kind, workers):
    program = BINARIES / "tests" / "weights" / "sharded"
    assert program.exists(), f"build first: {program} is missing"
    loads = [
        (minilm[0], minilm[1], MINILM_RULES, False),
        (smollm2[0], smollm2[1], SMOLLM2_RULES, False),
        (smollm2[0], smollm2[2], SMOLLM2_RULES, True),
    ]
    arguments = []
    for i, (path, _, rules, decode) in enumerate(loads):
        plan = write_plan(tmp_path / f"plan{i}.json", rules, workers, decode)
        arguments += [path, plan, "hash" if decode else "bytes"]
    running = subprocess.Popen(
        ["timeout", str(BOUND_SECONDS), program, kind, str(workers), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=1 << 20,
    )
    with running:
        for _, tensors, rules, _ in loads:
            check_model(running.stdout, tensors, rules, workers)
        assert running.stdout.read() == b""
        said = running.stderr.read().decode()
    assert running.returncode == 0 and said == "", said

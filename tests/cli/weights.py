"""Files of weights for the tests of inspect and shard: good ones by make-weights, and hostile ones by hand."""

import json
import struct
import subprocess

from test_cli import BOUND_SECONDS, BUILD

MAKE_WEIGHTS = BUILD / "tests" / "weights" / "make-weights"
NAMES = {"gguf": "m.gguf", "safetensors": "m.safetensors"}
# name, encoding in the file, shape, and the type of an element that is read
PLAIN = [
    ("embed", "F16", [50, 64], "float16"),
    ("blk.0.w", "F32", [8, 6, 4], "float32"),
    ("blk.1.w", "BF16", [8, 6, 4], "bfloat16"),
    ("ids", "I64", [12], "int64"),
    ("scale", "F32", [], "float32"),
    ("nothing", "F16", [0, 3], "float16"),
]
BITS = {"F16": 16, "F32": 32, "BF16": 16, "I64": 64}


def make(folder, kind, *arguments, tensors=PLAIN):
    """Its path."""
    assert MAKE_WEIGHTS.exists(), f"build the tests first: {MAKE_WEIGHTS} is missing"
    out = folder / NAMES.get(kind, kind)
    given = sum((["--tensor", f"{t[0]}:{t[1]}:{'x'.join(map(str, t[2]))}"] for t in tensors), [])
    command = [str(MAKE_WEIGHTS), "--format", kind, *arguments, *given, str(out)]
    subprocess.run(command, check=True, timeout=BOUND_SECONDS)
    return out


def plan(folder, *rules, name="plan.json"):
    path = folder / name
    path.write_text(json.dumps({"rules": list(rules)}))
    return path


def safetensors(path, header, data=b""):
    """A file with any header: an object, or bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def hostile(folder):
    """{what is wrong: (path, words that the message has)}"""
    whole = make(folder, "gguf").read_bytes()
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    tensors = {"a": entry, "b": {**entry, "data_offsets": [4, 12]}}
    files = {}

    def put(name, content, *words):
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            safetensors(path, *content)
        files[name] = (path, [str(path), *words])

    put("empty", b"")
    put("noise", b"\x00\xff" * 500)
    put("text", b"just some text\n")
    put("cut.gguf", whole[: len(whole) // 2])
    put("short.gguf", whole[:10])
    put("many.gguf", whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:])
    put("version.gguf", whole[:4] + struct.pack("<I", 77) + whole[8:], "77")
    put("huge.safetensors", struct.pack("<Q", (1 << 63) - 1) + b"{}")
    put("overlap.safetensors", (tensors, bytes(12)), '"b"')
    put("beyond.safetensors", ({"a": {**entry, "data_offsets": [0, 4000]}}, bytes(8)), '"a"')
    put("size.safetensors", ({"a": {**entry, "shape": [3]}}, bytes(8)), '"a"')
    put("twice.safetensors", (b'{"a":' + json.dumps(entry).encode() + b',"a":{}}', bytes(8)))
    put("deep.safetensors", (b"[" * 100000, b""))
    return files

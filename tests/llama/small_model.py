#!/usr/bin/env python3
"""Small random Llamas as GGUF files, good ones and broken ones: for tests without a download, in a second.

    small_model.py PATH [--encoding F32|F16|BF16|Q8_0|Q4_1] [--untied] [--seed N]

They say nothing sensible, but what they say is text: tokens that are printable ASCII have far higher logits than all
others, by element 0 of the residual stream, which carries nothing else. So special tokens are never generated, unless
the metadata say that a printable one ends the text.
"""

import argparse
import math
import os
import sys
from dataclasses import dataclass, replace

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ENCODINGS = ["F32", "F16", "BF16", "Q8_0", "Q4_1"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, IM_START, IM_END = range(3)
# Ġ is a space; a merge is two tokens that are there already
MERGES = (
    "Ġ t, h e, Ġt he, i n, Ġ a, r e, o n, e r, Ġ s, n d, Ġa nd, i s, o u, Ġ w, a t, e n, in g, Ġ o, Ġo f, t i, ti on, "
    "l l, o r, Ġ m, Ġ b, a n, Ġ c, e s, i t, l e, Ġ in, e d, s t, a r"
).split(", ")
CONTROL, NORMAL = 3, 1
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LOUD = 4.0  # element 0 of a printable token's embedding; of others it is -LOUD


@dataclass(frozen=True)
class Shape:
    layers: int = 2
    width: int = 192
    heads: int = 6
    kv_heads: int = 3
    feed_forward: int = 256
    context: int = 512
    head_size: int = 0  # 0: width / heads


def byte_characters():
    """What stands for each byte in a byte-level vocabulary: itself when it is visible, else the next from U+0100."""
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


def vocabulary():
    return SPECIAL + byte_characters() + [merge.replace(" ", "") for merge in MERGES]


def bytes_of_token(text):
    """Of an entry of a byte-level vocabulary that is not special."""
    values = {character: byte for byte, character in enumerate(byte_characters())}
    return bytes(values[character] for character in text)


def is_printable(token):
    return token >= len(SPECIAL) and all(32 <= byte < 127 for byte in bytes_of_token(vocabulary()[token]))


def head_size_of(shape):
    return shape.head_size or shape.width // shape.heads


def metadata_of(shape):
    tokens = vocabulary()
    return {
        "general.architecture": "llama",
        "general.name": "small random",
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "llama.rope.dimension_count": head_size_of(shape),
        **({"llama.attention.key_length": shape.head_size} if shape.head_size else {}),
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * len(SPECIAL) + [NORMAL] * (len(tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": IM_START,
        "tokenizer.ggml.eos_token_id": IM_END,
        "tokenizer.ggml.unknown_token_id": END_OF_TEXT,
        "tokenizer.ggml.padding_token_id": IM_END,
        "tokenizer.chat_template": CHATML,
    }


def tensors_of(shape, seed, tied):
    """{name: float32}, such that activations and logits are of the size that real ones have."""
    random = np.random.default_rng(seed)
    q_width, kv_width = (head_size_of(shape) * heads for heads in (shape.heads, shape.kv_heads))
    tokens = vocabulary()

    def matrix(rows, columns, gain, muted=False):
        w = random.standard_normal((rows, columns)) * (gain / np.sqrt(columns))
        w[0] *= not muted
        return w

    def norm(muted=False):
        w = random.uniform(0.5, 1.5, shape.width)
        w[0] *= not muted
        return w

    def rows_of_tokens():
        w = random.standard_normal((len(tokens), shape.width)) * 0.25
        w[:, 0] = [LOUD if is_printable(token) else -LOUD for token in range(len(tokens))]
        return w

    tensors = {"token_embd": rows_of_tokens()}
    for i in range(shape.layers):
        layer = {
            "attn_norm": norm(muted=True),
            "attn_q": matrix(q_width, shape.width, 1.5),
            "attn_k": matrix(kv_width, shape.width, 1.5),
            "attn_v": matrix(kv_width, shape.width, 1.0),
            "attn_output": matrix(shape.width, q_width, 1.0, muted=True),
            "ffn_norm": norm(muted=True),
            "ffn_gate": matrix(shape.feed_forward, shape.width, 1.0),
            "ffn_up": matrix(shape.feed_forward, shape.width, 1.0),
            "ffn_down": matrix(shape.width, shape.feed_forward, 1.0, muted=True),
        }
        tensors.update({f"blk.{i}.{name}": w for name, w in layer.items()})
    # Signs: else a tied token's own embedding, still in the residual stream, makes it follow itself for ever.
    signs = random.choice([-1, 1], shape.width)
    tensors["output_norm"] = norm() * np.where(np.arange(shape.width) == 0, 1, signs)
    if not tied:
        tensors["output"] = rows_of_tokens()
    return {f"{name}.weight": np.ascontiguousarray(w, dtype=np.float32) for name, w in tensors.items()}


def encoding_of(name, w, encoding):
    """As such files do it: norms stay F32, and what tokens are looked up in keeps 8 bits."""
    if w.ndim == 1:
        return Type.F32
    if encoding == "Q4_1" and name in ("token_embd.weight", "output.weight"):
        return Type.Q8_0
    return Type[encoding]


def add_metadata(writer, name, value):
    if isinstance(value, (list, tuple)):
        writer.add_array(name, value)
    elif isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    else:
        writer.add_string(name, value)


def write(path, encoding="F32", *, tied=True, seed=0, shape=Shape(), metadata=None, tensors=None):
    """Its path. `metadata` and `tensors` replace or add values, or with None remove them."""
    values = {**metadata_of(shape), **(metadata or {})}
    arrays = {**tensors_of(shape, seed, tied), **(tensors or {})}
    writer = gguf.GGUFWriter(path, values.pop("general.architecture", "llama"))
    for name, value in values.items():
        if value is not None:
            add_metadata(writer, name, value)
    for name, w in arrays.items():
        if w is not None:
            kind = encoding_of(name, w, encoding)
            is_float = w.dtype == np.float32
            writer.add_tensor(name, gguf.quants.quantize(w, kind) if is_float else w, raw_dtype=kind if is_float else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_hole(path, feed_forward):
    """Its path. One layer with so many columns; all weights are zeros that take no room on the disk."""
    small = Shape(layers=1)
    values = metadata_of(replace(small, feed_forward=feed_forward))
    writer = gguf.GGUFWriter(path, values.pop("general.architecture"))
    for name, value in values.items():
        add_metadata(writer, name, value)
    for name, w in tensors_of(small, 0, True).items():
        shape = [feed_forward if size == small.feed_forward else size for size in w.shape]
        writer.add_tensor_info(name, shape, w.dtype, 4 * math.prod(shape))
    size = sum(writer.ggml_pad(info.nbytes, writer.data_alignment) for info in writer.tensors[0].values())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = writer.ggml_pad(path.stat().st_size, writer.data_alignment)
    os.truncate(path, header + size)
    return path


# ---- Broken ones ----


def truncated(path):
    whole = write(path).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def cut_in_metadata(path):
    path.write_bytes(write(path).read_bytes()[:2000])


def not_gguf(path):
    path.write_text("just some text\n" * 100)


def changed(**change):
    """A writer of a file with such metadata or tensors."""
    return lambda path: write(path, **change)


MISSING_KEYS = [
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.layer_norm_rms_epsilon",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges",
]
# what is wrong: (how it is written, words that a message about it has; none: its path)
BROKEN = {
    "truncated": (truncated, []),
    "cut in its metadata": (cut_in_metadata, []),
    "not GGUF": (not_gguf, []),
    "empty": (lambda path: path.write_bytes(b""), []),
    "other architecture": (changed(metadata={"general.architecture": "mamba"}), ["mamba", "llama"]),
    "no matrix": (changed(tensors={"blk.1.ffn_up.weight": None}), ["blk.1.ffn_up.weight"]),
    "no norm": (changed(tensors={"output_norm.weight": None}), ["output_norm.weight"]),
    "no embeddings": (changed(tensors={"token_embd.weight": None}), ["token_embd.weight"]),
    "matrix of other rows": (
        changed(tensors={"blk.1.attn_q.weight": np.ones((160, 192), np.float32)}),
        ["blk.1.attn_q.weight", "[192, 192]"],
    ),
    "matrix of other columns": (
        changed(tensors={"blk.0.ffn_down.weight": np.ones((192, 224), np.float32)}),
        ["blk.0.ffn_down.weight", "[192, 256]"],
    ),
    "norm of other size": (
        changed(tensors={"blk.0.ffn_norm.weight": np.ones(191, np.float32)}),
        ["blk.0.ffn_norm.weight", "[192]"],
    ),
    "norm as a matrix": (
        changed(tensors={"blk.0.attn_norm.weight": np.ones((1, 192), np.float32)}),
        ["blk.0.attn_norm.weight"],
    ),
    "matrix of bytes": (
        changed(tensors={"blk.0.ffn_up.weight": np.ones((256, 192), np.int8)}),
        ["blk.0.ffn_up.weight", "I8", "F32, F16, BF16, Q8_0 and Q4_1"],
    ),
    "norm of bytes": (changed(tensors={"blk.1.ffn_norm.weight": np.ones(192, np.int8)}), ["blk.1.ffn_norm.weight", "I8"]),
    "doubles": (changed(tensors={"blk.0.attn_k.weight": np.ones((96, 192))}), ["blk.0.attn_k.weight", "F64"]),
    "heads 0": (changed(metadata={"llama.attention.head_count": 0}), ["head_count", "0"]),
    "KV heads 0": (changed(metadata={"llama.attention.head_count_kv": 0}), ["head_count_kv", "0"]),
    "KV heads that do not divide": (changed(metadata={"llama.attention.head_count_kv": 4}), ["6", "4"]),
    "heads that do not divide": (changed(metadata={"llama.attention.head_count": 9}), ["192", "9"]),
    "layers 0": (changed(metadata={"llama.block_count": 0}), ["block_count"]),
    "layers without end": (changed(metadata={"llama.block_count": 4000000000}), ["block_count"]),
    "context 0": (changed(metadata={"llama.context_length": 0}), ["context_length"]),
    "width as text": (changed(metadata={"llama.embedding_length": "wide"}), ["embedding_length"]),
    "fewer tokens than rows": (changed(metadata={"tokenizer.ggml.tokens": vocabulary()[:-1]}), ["293", "292"]),
    "tokens of no type": (changed(metadata={"tokenizer.ggml.token_type": [1, 1]}), ["token_type"]),
    "other tokenizer": (changed(metadata={"tokenizer.ggml.model": "llama-spm"}), ["llama-spm"]),
    "other pre-tokenizer": (changed(metadata={"tokenizer.ggml.pre": "martian"}), ["martian"]),
    "scaled rotary embeddings": (changed(metadata={"llama.rope.scaling.type": "yarn"}), ["yarn"]),
    **{f"no {key}": (changed(metadata={key: None}), [key]) for key in MISSING_KEYS},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--encoding", choices=ENCODINGS, default="F32")
    parser.add_argument("--untied", action="store_true", help="with an output.weight of its own")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.path, arguments.encoding, tied=not arguments.untied, seed=arguments.seed)


if __name__ == "__main__":
    sys.exit(main())

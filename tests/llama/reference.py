#!/usr/bin/env python3
"""A Llama in float32, one operation after the other, with numpy and the package `gguf`: what disco-llama must compute.

    reference.py MODEL --tokens 1,2,3 [--generate N] [--trace FOLDER]

prints the N tokens that a greedy generation appends. --trace writes what `disco-llama --trace` writes, of the prompt.

It shares nothing with disco-llama. Written for being read, so it knows only what the models of the tests have, and
refuses the rest (biases, experts, rotary embeddings that are scaled by rule).
"""

import argparse
import pathlib
import sys
from dataclasses import dataclass

import gguf
import numpy as np

LAYER_TENSORS = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
OPTIONAL = {"output.weight", "rope_freqs.weight"}


class Unsupported(ValueError):
    """A model that this reference does not understand."""


@dataclass(frozen=True)
class Dims:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    rotated: int  # the first elements of each head, in pairs of neighbours
    context: int
    rope_base: float
    epsilon: float


@dataclass
class Pass:
    """Of a list of tokens. activations[2 * layers + 2][tokens][width]: the embeddings; the residual stream after each
    attention and each feed-forward, in turn; after the last norm. logits[tokens][vocabulary]."""

    activations: np.ndarray
    logits: np.ndarray


def dims_of(metadata):
    if metadata.get("general.architecture") != "llama":
        raise Unsupported(f"general.architecture is {metadata.get('general.architecture')!r}")
    for name in ("llama.rope.scaling.type", "llama.expert_count"):
        if metadata.get(name) not in (None, "none", 0):
            raise Unsupported(f"{name} is {metadata[name]!r}")
    width, heads = metadata["llama.embedding_length"], metadata["llama.attention.head_count"]
    head_size = metadata.get("llama.attention.key_length", width // heads)
    return Dims(
        layers=metadata["llama.block_count"],
        width=width,
        heads=heads,
        kv_heads=metadata.get("llama.attention.head_count_kv", heads),
        head_size=head_size,
        rotated=metadata.get("llama.rope.dimension_count", head_size),
        context=metadata["llama.context_length"],
        rope_base=metadata.get("llama.rope.freq_base", 10000.0),
        epsilon=metadata["llama.attention.layer_norm_rms_epsilon"],
    )


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    with np.errstate(over="ignore"):  # to 0, as it should
        return x / (1 + np.exp(-x))


def log_probabilities(logits, temperature=1.0):
    """[...][vocabulary], in float64."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


class Model:
    def __init__(self, path, dtype=np.float32):
        reader = gguf.GGUFReader(path)
        self.path = pathlib.Path(path)
        self.metadata = {name: field.contents() for name, field in reader.fields.items()}
        self.dims = dims_of(self.metadata)
        self.dtype = dtype
        expected = {"token_embd.weight", "output_norm.weight", *OPTIONAL}
        expected |= {f"blk.{i}.{name}.weight" for i in range(self.dims.layers) for name in LAYER_TENSORS}
        found = {tensor.name for tensor in reader.tensors}
        if found | OPTIONAL != expected:
            raise Unsupported(f"tensors too many or missing: {sorted((found ^ expected) - OPTIONAL)}")
        self.weights = {
            tensor.name.removesuffix(".weight"): gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(
                dtype, copy=False
            )
            for tensor in reader.tensors
        }
        self.embedding = self.weights["token_embd"]
        self.output = self.weights.get("output", self.embedding)

    # ---- The pass ----

    def norm(self, x, weight):
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.dtype(self.dims.epsilon)) * weight

    def rotate(self, x, first):
        """Elements 2i and 2i+1 of each head, by position * base^(-2i / rotated), over the i-th factor where the model
        has such. x[tokens][heads][head_size]"""
        n = self.dims.rotated
        frequencies = self.dims.rope_base ** (-np.arange(0, n, 2, dtype=np.float64) / n)
        frequencies /= self.weights.get("rope_freqs", 1.0)
        angles = np.outer(np.arange(first, first + len(x)), frequencies)[:, None, :]
        cos, sin = np.cos(angles).astype(self.dtype), np.sin(angles).astype(self.dtype)
        even, odd = x[..., 0:n:2], x[..., 1:n:2]
        rotated = x.copy()
        rotated[..., 0:n:2] = even * cos - odd * sin
        rotated[..., 1:n:2] = even * sin + odd * cos
        return rotated

    def attention(self, x, weights, cache, first):
        """Of new tokens to those in the cache and to themselves. The cache is (keys, values), each
        [positions][kv_heads][head_size]; returns the output and the longer cache."""
        dims = self.dims
        q, k, v = (
            (x @ weights[name].T).reshape(len(x), -1, dims.head_size) for name in ("attn_q", "attn_k", "attn_v")
        )
        q, k = self.rotate(q, first), self.rotate(k, first)
        keys = k if cache is None else np.concatenate([cache[0], k])
        values = v if cache is None else np.concatenate([cache[1], v])
        future = np.arange(len(keys)) > np.arange(first, first + len(x))[:, None]
        out = np.empty_like(q)
        for head in range(dims.heads):
            group = head // (dims.heads // dims.kv_heads)
            scores = q[:, head] @ keys[:, group].T / self.dtype(np.sqrt(dims.head_size))
            out[:, head] = softmax(np.where(future, self.dtype(-np.inf), scores)) @ values[:, group]
        return out.reshape(len(x), -1) @ weights["attn_output"].T, (keys, values)

    def feed_forward(self, x, weights):
        return (silu(x @ weights["ffn_gate"].T) * (x @ weights["ffn_up"].T)) @ weights["ffn_down"].T

    def layer(self, index):
        return {name: self.weights[f"blk.{index}.{name}"] for name in LAYER_TENSORS}

    def stages(self, tokens, caches):
        """The activations of Pass, one after the other; `caches`, one of each layer or None, become longer."""
        first = 0 if caches[0] is None else len(caches[0][0])
        if first + len(tokens) > self.dims.context:
            raise ValueError(f"{first + len(tokens)} tokens, but a context of {self.dims.context}")
        x = self.embedding[np.asarray(tokens)]
        yield x
        for index in range(self.dims.layers):
            weights = self.layer(index)
            attended, caches[index] = self.attention(
                self.norm(x, weights["attn_norm"]), weights, caches[index], first
            )
            x = x + attended
            yield x
            x = x + self.feed_forward(self.norm(x, weights["ffn_norm"]), weights)
            yield x
        yield self.norm(x, self.weights["output_norm"])

    def new_caches(self):
        return [None] * self.dims.layers

    def run(self, tokens):
        """Pass of all tokens at once, none cached."""
        activations = np.stack(list(self.stages(tokens, self.new_caches())))
        return Pass(activations, activations[-1] @ self.output.T)

    def step(self, tokens, caches):
        """The logits after the last of `tokens`, which follow what is in the caches."""
        for x in self.stages(tokens, caches):
            pass
        return x[-1] @ self.output.T

    # ---- What is made of it ----

    def greedy(self, tokens, count, ends=()):
        """`count` tokens that follow; fewer when one of `ends` follows, which is not among them."""
        caches, made, new = self.new_caches(), [], list(tokens)
        while len(made) < count:
            token = int(np.argmax(self.step(new, caches)))
            if token in ends:
                break
            made.append(token)
            new = [token]
        return made

    def margins(self, tokens, made):
        """How much the logit of each token in `made` is above the second best: near 0, rounding decides."""
        logits = self.run([*tokens, *made]).logits[len(tokens) - 1 : -1]
        return np.diff(np.sort(logits, axis=-1)[:, -2:])[:, 0]

    def perplexity(self, tokens):
        """Of each token but the first, given all before it."""
        log_p = log_probabilities(self.run(tokens).logits[:-1])
        return float(np.exp(-np.mean(log_p[np.arange(len(tokens) - 1), tokens[1:]])))


def write_trace(folder, tokens, result):
    """The three files of `disco-llama --trace`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tokens.npy", np.asarray(tokens, dtype=np.int32))
    np.save(folder / "activations.npy", result.activations.astype(np.float32))
    np.save(folder / "logits.npy", result.logits.astype(np.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", required=True, help="the prompt: ids with commas between them")
    parser.add_argument("--generate", type=int, default=0, metavar="N", help="how many tokens to append")
    parser.add_argument("--trace", metavar="FOLDER", help="write tokens, activations and logits of the prompt there")
    arguments = parser.parse_args()
    model = Model(arguments.model)
    tokens = [int(token) for token in arguments.tokens.split(",")]
    if arguments.trace:
        write_trace(arguments.trace, tokens, model.run(tokens))
    print(",".join(map(str, model.greedy(tokens, arguments.generate))))


if __name__ == "__main__":
    sys.exit(main())

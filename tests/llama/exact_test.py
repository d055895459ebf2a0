"""--precision exact: activations, logits and tokens are the reference's, for any number and kind of workers."""

import functools

import numpy as np
import pytest

import compare_layers
import small_model
from disco_llama import PASSAGE, answer, printed
from small_model import ENCODINGS, Shape

HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]
# More than go through a layer at once.
LONG = [int(token) for token in np.random.default_rng(5).integers(3, len(small_model.vocabulary()), 150)]
TOLERANCE = 1e-3
EXACT = {"precision": "exact", "temperature": 0}
SHAPES = {
    "3 KV heads": Shape(),
    "4 KV heads of 16": Shape(layers=3, width=128, heads=8, kv_heads=4),
    "no groups": Shape(layers=1, width=128, heads=4, kv_heads=4),
    "one KV head": Shape(layers=1, width=128, heads=4, kv_heads=1),
    "wide heads": Shape(width=128, heads=6, kv_heads=3, head_size=32),
}


def check_trace(model, path, tokens, folder, **options):
    """Against the reference, and that the tokens are those given. `folder` is made."""
    printed(path, **EXACT, tokens=tokens, max_tokens=0, trace=folder, **options)
    first, largest = compare_layers.compare(model, folder, TOLERANCE)
    assert first is None
    assert np.load(folder / "tokens.npy").tolist() == tokens
    return largest


@functools.cache
def expected_of(model, tokens, count):
    expected = model.greedy(tokens, count)
    assert min(model.margins(tokens, expected)) > TOLERANCE, "choose another model: rounding decides what it says"
    return expected


def check_greedy(model, path, tokens, count, **options):
    expected = expected_of(model, tuple(tokens), count)
    got = answer(path, **EXACT, tokens=tokens, max_tokens=count, **options)
    assert (got["prompt_tokens"], got["tokens"]) == (tokens, expected)


# ---- Small models ----


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_stage(small, reference_of, tmp_path, encoding, tied):
    path = small(encoding, tied=tied)
    check_trace(reference_of(path), path, HELLO, tmp_path / "trace", workers=1)


@pytest.mark.parametrize("session", ["thread", "process"])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("encoding", ["F32", "Q4_1"])
def test_every_stage_of_a_long_prompt(small, reference_of, tmp_path, encoding, workers, session):
    path = small(encoding)
    check_trace(reference_of(path), path, LONG, tmp_path / "trace", workers=workers, session=session)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("encoding", ["F32", "Q8_0"])
def test_shapes(small, reference_of, tmp_path, encoding, name):
    shape = SHAPES[name]
    path = small(encoding, shape=shape)
    for workers in range(1, shape.kv_heads + 1):
        check_trace(reference_of(path), path, LONG[:20], tmp_path / str(workers), workers=workers)


def test_heads_that_share_a_block(small, reference_of, tmp_path):
    """Two of 16 elements in each block of 32 columns: they go to the workers by pairs."""
    path = small("Q4_1", shape=Shape(layers=1, width=96, heads=6, kv_heads=6))
    for workers in (2, 3):
        check_trace(reference_of(path), path, LONG[:20], tmp_path / str(workers), workers=workers)


def test_a_feed_forward_that_is_no_multiple_of_32(small, reference_of, tmp_path):
    path = small("F16", shape=Shape(feed_forward=250))
    for workers in (1, 2, 3):
        check_trace(reference_of(path), path, HELLO, tmp_path / str(workers), workers=workers)


def test_other_metadata(small, reference_of, tmp_path):
    """What is not at its default: the base of the rotary embeddings, the norms' epsilon."""
    path = small(metadata={"llama.rope.freq_base": 500.0, "llama.attention.layer_norm_rms_epsilon": 0.01})
    check_trace(reference_of(path), path, LONG, tmp_path / "trace", workers=2)


def test_defaults_of_metadata_that_may_be_missing(small, reference_of, tmp_path):
    missing = ["llama.rope.freq_base", "llama.rope.dimension_count", "llama.vocab_size"]
    path = small(metadata=dict.fromkeys(missing))
    check_trace(reference_of(path), path, LONG, tmp_path / "trace", workers=2)


def test_rotary_factors(small, reference_of, tmp_path):
    factors = np.linspace(1, 30, 16, dtype=np.float32)
    path = small(tensors={"rope_freqs.weight": factors})
    check_trace(reference_of(path), path, LONG, tmp_path / "trace", workers=3)


@pytest.mark.parametrize("session", ["thread", "process"])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_greedy_tokens(small, reference_of, encoding, workers, session):
    path = small(encoding)
    check_greedy(reference_of(path), path, HELLO, 60, workers=workers, session=session)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 129])
def test_prompts_of_any_length(small, reference_of, length):
    path = small()
    check_greedy(reference_of(path), path, LONG[:length], 8, workers=2)


def test_a_text_is_its_tokens(small):
    path = small()
    by_text = answer(path, **EXACT, workers=1, prompt="the Hello<|im_end|>", max_tokens=5)
    words = ["t", "he", "\u0120", "H", "e", "ll", "o", "<|im_end|>"]
    assert by_text["prompt_tokens"] == [small_model.vocabulary().index(word) for word in words]
    by_tokens = answer(path, **EXACT, workers=1, tokens=by_text["prompt_tokens"], max_tokens=5)
    assert (by_tokens["tokens"], by_tokens["text"]) == (by_text["tokens"], by_text["text"])


def test_the_whole_context(small, reference_of):
    shape = Shape(context=64)
    path = small(shape=shape)
    check_greedy(reference_of(path), path, HELLO, shape.context - len(HELLO), workers=2)


def test_perplexity(small, reference_of, tmp_path):
    path, text = small(), PASSAGE.read_text()[:300]
    (tmp_path / "text").write_text(text)
    tokens = answer(path, **EXACT, workers=1, prompt=text, max_tokens=0)["prompt_tokens"]
    expected = reference_of(path).perplexity(tokens)
    for workers in (1, 2, 3):
        got = answer(path, workers=workers, precision="exact", perplexity=tmp_path / "text")["perplexity"]
        assert got == pytest.approx(expected, rel=1e-4)


# ---- The real one ----

PROMPT = [504, 3575, 282, 4649, 314]  # The capital of France is


def test_every_stage_of_the_real_model(real, reference_of, tmp_path):
    largest = check_trace(reference_of(real), real, PROMPT, tmp_path / "trace", workers=3, session="process")
    print(largest)


@pytest.mark.parametrize("workers, session", [(1, "thread"), (2, "process"), (3, "thread"), (3, "process")])
def test_greedy_tokens_of_the_real_model(real, reference_of, workers, session):
    check_greedy(reference_of(real), real, PROMPT, 16, workers=workers, session=session)


def test_perplexity_of_the_real_model(real, reference_of, tmp_path):
    text = PASSAGE.read_text()[:600]
    (tmp_path / "text").write_text(text)
    tokens = answer(real, **EXACT, workers=2, prompt=text, max_tokens=0)["prompt_tokens"]
    got = answer(real, workers=2, precision="exact", perplexity=tmp_path / "text")["perplexity"]
    assert got == pytest.approx(reference_of(real).perplexity(tokens), rel=1e-4)

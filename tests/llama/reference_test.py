"""The reference agrees with itself, with the real model's sense, and compare_layers notices what differs."""

import re
import subprocess
import sys

import numpy as np
import pytest

import compare_layers
import reference
import small_model
from disco_llama import BOUND_SECONDS, PASSAGE, ROOT
from sampling import is_sampled_from, uniforms

HERE = ROOT / "tests" / "llama"
HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]


def program(name, *arguments):
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_SECONDS)


# ---- The reference ----


@pytest.mark.parametrize("encoding", small_model.ENCODINGS)
def test_cached_steps_are_the_full_pass(small, reference_of, encoding):
    model = reference_of(small(encoding))
    tokens = HELLO + model.greedy(HELLO, 40)
    caches = model.new_caches()
    stepped = [model.step([token], caches) for token in tokens]
    assert np.abs(stepped - model.run(tokens).logits).max() < 1e-4


def test_float32_is_close_to_float64(small):
    path = small("Q4_1")
    narrow, wide = (reference.Model(path, dtype).run(range(200)) for dtype in (np.float32, np.float64))
    assert narrow.logits.dtype == np.float32 and wide.logits.dtype == np.float64
    assert np.abs(narrow.logits - wide.logits).max() < 1e-4
    assert np.abs(narrow.activations - wide.activations).max() < 1e-4


def test_later_tokens_change_nothing_before(small, reference_of):
    model = reference_of(small())
    one, other = model.run([*HELLO, 50]), model.run([*HELLO, 60])
    assert np.abs(one.logits[:-1] - other.logits[:-1]).max() < 1e-5
    assert np.abs(one.logits[-1] - other.logits[-1]).max() > 0.1


def test_positions_and_order_matter(small, reference_of):
    model = reference_of(small())
    a, b, c = 40, 50, 60
    assert np.abs(model.run([a, b, c]).logits[-1] - model.run([b, a, c]).logits[-1]).max() > 0.1
    assert np.abs(model.run([a, b, c]).logits[-1] - model.run([a, a, b, c]).logits[-1]).max() > 0.1


def test_perplexity(small, reference_of):
    """By its definition, a token at a time."""
    model = reference_of(small())
    tokens, log_p = [*HELLO, *model.greedy(HELLO, 10)], 0.0
    for i in range(1, len(tokens)):
        logits = model.step(tokens[:i], model.new_caches()).astype(np.float64)
        log_p += logits[tokens[i]] - np.log(np.sum(np.exp(logits)))
    assert model.perplexity(tokens) == pytest.approx(np.exp(-log_p / (len(tokens) - 1)), rel=1e-5)


@pytest.mark.parametrize("encoding", small_model.ENCODINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_small_models_say_various_printable_things(small, reference_of, encoding, tied):
    made = reference_of(small(encoding, tied=tied)).greedy(HELLO, 60)
    assert all(small_model.is_printable(token) for token in made)
    assert len(set(made)) >= 15


def test_the_real_model_knows_its_capitals(real, reference_of):
    model = reference_of(real)
    tokens = model.metadata["tokenizer.ggml.tokens"]
    prompt = [tokens.index(word) for word in ["The", "\u0120capital", "\u0120of", "\u0120France", "\u0120is"]]
    text = "".join(tokens[token] for token in model.greedy(prompt, 8)).replace("\u0120", " ")
    assert text.startswith(" Paris")


@pytest.mark.parametrize(
    "broken", ["other architecture", "no matrix", "no norm", "scaled rotary embeddings", "no llama.block_count"]
)
def test_the_reference_guesses_nothing(tmp_path, broken):
    path = tmp_path / "broken.gguf"
    small_model.BROKEN[broken][0](path)
    with pytest.raises((ValueError, KeyError)):
        reference.Model(path)


def test_as_a_program(small, reference_of, tmp_path):
    path = small("Q8_0")
    prompt = ",".join(map(str, HELLO))
    ended = program("reference.py", path, "--tokens", prompt, "--generate", 7, "--trace", tmp_path / "trace")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [int(token) for token in ended.stdout.split(",")] == reference_of(path).greedy(HELLO, 7)
    assert program("compare_layers.py", path, tmp_path / "trace").returncode == 0


def test_the_passage_is_plain_text():
    text = PASSAGE.read_text(encoding="ascii")
    assert 250 < len(text.split()) < 500


# ---- compare_layers ----


@pytest.fixture
def traced(small, reference_of, tmp_path):
    """(path of the model, folder of a true trace)"""
    path = small("Q4_1", shape=small_model.Shape(layers=3))
    reference.write_trace(tmp_path, HELLO, reference_of(path).run(HELLO))
    return path, tmp_path


def alter(folder, name, *places, by=0.0041):
    array = np.load(folder / f"{name}.npy")
    for place in places:
        array[place] += by
    np.save(folder / f"{name}.npy", array)


def test_a_true_trace(traced):
    ended = program("compare_layers.py", *traced)
    assert (ended.returncode, ended.stderr) == (0, "")
    kinds = [line.split(":")[0] for line in ended.stdout.splitlines()]
    assert kinds == ["embeddings", "after attention", "after feed-forward", "final norm", "logits"]
    assert all(re.search(r": +largest difference 0 of values up to \d", line) for line in ended.stdout.splitlines())


@pytest.mark.parametrize(
    "stage, name",
    [
        (0, "embeddings"),
        (1, "layer 0, after attention"),
        (3, "layer 1, after attention"),
        (4, "layer 1, after feed-forward"),
        (6, "layer 2, after feed-forward"),
        (7, "final norm"),
    ],
)
def test_the_first_stage_that_differs_is_named(traced, stage, name):
    alter(traced[1], "activations", *((later, 3, 41) for later in range(stage, 8)))
    alter(traced[1], "logits", (4, 7), by=1.0)
    ended = program("compare_layers.py", *traced)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith(f"{name}: token 3, element 41: ")
    got, expected = map(float, re.search(r": (-?[\d.e-]+) instead of (-?[\d.e-]+) \(", ended.stdout).groups())
    assert got - expected == pytest.approx(0.0041, abs=1e-5)
    assert "(largest difference of this stage 0.0041, 1 of 960 elements " in ended.stdout


def test_logits_alone(traced):
    alter(traced[1], "logits", (4, 7), (2, 100))
    ended = program("compare_layers.py", *traced)
    assert ended.returncode == 1 and ended.stdout.startswith("logits: token 2, element 100: ")


def test_the_tolerance(traced):
    alter(traced[1], "activations", (2, 0, 5))
    assert program("compare_layers.py", *traced, "--tolerance", 1e-2).returncode == 0
    assert program("compare_layers.py", *traced, "--tolerance", 1e-4).returncode == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_differs(traced, value):
    alter(traced[1], "activations", (5, 0, 0), by=value)
    ended = program("compare_layers.py", *traced)
    assert ended.returncode == 1 and ended.stdout.startswith("layer 2, after attention: token 0, element 0: ")


def test_large_elements_are_compared_relatively_but_never_logits():
    expected = reference.Pass(np.full((4, 1, 2), 20000, np.float32), np.full((1, 2), 20000, np.float32))
    trace = reference.Pass(expected.activations + np.float32(10), expected.logits.copy())
    assert compare_layers.first_difference(trace, expected, 1e-3) is None
    assert compare_layers.first_difference(trace, expected, 1e-4).startswith("embeddings: token 0, element 0: 20010")
    trace.logits += np.float32(0.01)
    assert compare_layers.first_difference(trace, expected, 1e-3).startswith("logits: ")


@pytest.mark.parametrize("change", ["layers", "dtype", "missing"])
def test_no_trace_of_this_model(traced, change):
    path, folder = traced
    activations = folder / "activations.npy"
    if change == "layers":
        np.save(activations, np.load(activations)[:-2])
    elif change == "dtype":
        np.save(activations, np.load(activations).astype(np.float64))
    else:
        activations.unlink()
    ended = program("compare_layers.py", path, folder)
    assert (ended.returncode, ended.stdout) == (2, "") and "activations.npy" in ended.stderr


# ---- The test of sampling ----


@pytest.mark.parametrize(
    "temperature, of_the_likeliest, passes", [(0.8, 1.0, True), (1.0, 1.0, False), (0.6, 1.0, False), (0.8, 0.9, False)]
)
def test_wrong_samplers_are_noticed(small, reference_of, temperature, of_the_likeliest, passes):
    """Tokens drawn by numpy; tested is a temperature of 0.8."""
    model = reference_of(small(shape=small_model.Shape(context=2048)))
    random, caches, tokens = np.random.default_rng(1), model.new_caches(), list(HELLO)
    logits = model.step(tokens, caches)
    for _ in range(1200):
        p = np.exp(reference.log_probabilities(logits, temperature))
        order = np.argsort(-p)
        p[order[np.cumsum(p[order]) > max(of_the_likeliest, p[order[0]])]] *= of_the_likeliest == 1.0
        tokens.append(int(random.choice(len(p), p=p / p.sum())))
        logits = model.step(tokens[-1:], caches)
    assert is_sampled_from(uniforms(model, HELLO, tokens[len(HELLO) :], 0.8)) == passes

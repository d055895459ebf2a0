"""--temperature and --seed: tokens come from the softmax, and the same ones from any number of workers."""

import numpy as np
import pytest

import small_model
from disco_llama import SCALE, answer
from sampling import is_sampled_from, uniforms, uniforms_of

HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]
EXACT = {"precision": "exact", "tokens": HELLO}


@pytest.fixture(scope="module")
def path(small):
    return small(shape=small_model.Shape(context=2048))


def test_temperature_0_is_greedy(path, reference_of):
    expected = reference_of(path).greedy(HELLO, 40)
    for seed in (0, 1, 2**62, -1):
        got = answer(path, **EXACT, workers=2, temperature=0, seed=seed, max_tokens=40)
        assert got["tokens"] == expected


def test_a_small_temperature_is_nearly_greedy(path, reference_of):
    expected = reference_of(path).greedy(HELLO, 10)
    assert answer(path, **EXACT, workers=2, temperature=1e-4, seed=7, max_tokens=10)["tokens"] == expected


@pytest.mark.parametrize("session", ["thread", "process"])
def test_a_seed_gives_the_same_text_with_any_number_of_workers(path, session):
    how = {**EXACT, "temperature": 0.8, "max_tokens": 60, "session": session}
    texts = [
        [answer(path, **how, workers=workers, seed=seed)["text"] for workers in (1, 2, 3, 1)] for seed in (1, 2, 99)
    ]
    assert all(len(set(of_one_seed)) == 1 for of_one_seed in texts)
    assert len({of_one_seed[0] for of_one_seed in texts}) == len(texts)


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.0, 1.5])
def test_tokens_follow_the_softmax(path, reference_of, temperature):
    count = max(1500 // SCALE, 400)
    got = answer(path, **EXACT, workers=2, temperature=temperature, seed=11, max_tokens=count)["tokens"]
    assert len(got) == count
    assert is_sampled_from(uniforms(reference_of(path), HELLO, got, temperature))


def test_first_tokens_of_neighbouring_seeds_follow_the_softmax(path, reference_of):
    """A generator that begins nearly alike for seeds 1, 2, 3 ... is fine within one text, and bad over many."""
    count = max(100 // SCALE, 40)
    how = {**EXACT, "workers": 1, "temperature": 1.0, "max_tokens": 1}
    first = [answer(path, **how, seed=seed)["tokens"][0] for seed in range(1, count + 1)]
    logits = reference_of(path).run(HELLO).logits[-1]
    assert len(set(first)) >= 5
    assert is_sampled_from(uniforms_of(np.tile(logits, (count, 1)), first, 1.0))


@pytest.mark.parametrize("encoding", ["Q4_1", "Q8_0"])
def test_fast_is_repeatable(small, encoding):
    how = {"precision": "fast", "tokens": HELLO, "workers": 3, "temperature": 0.8, "seed": 5, "max_tokens": 60}
    assert answer(small(encoding), **how)["tokens"] == answer(small(encoding), **how)["tokens"]


def test_the_real_model(real):
    how = {"precision": "exact", "prompt": "Once upon a time", "temperature": 0.8, "max_tokens": 12}
    texts = [answer(real, **how, workers=workers, seed=3)["text"] for workers in (1, 2, 3)]
    assert len(set(texts)) == 1 and texts[0].strip()
    assert answer(real, **how, workers=2, seed=4)["text"] != texts[0]

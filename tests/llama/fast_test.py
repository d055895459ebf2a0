"""--precision fast: weights stay quantised and activations have 8 bits, and the text stays sensible."""

import pytest

import small_model
from disco_llama import PASSAGE, SCALE, answer

HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]
KERNELS = ["avx512-vnni", "avx2", "portable"]


def perplexity(model, **options):
    value = answer(model, **options, perplexity=PASSAGE)["perplexity"]
    assert 1 < value < 1e6
    return value


@pytest.fixture(scope="module")
def exact(real):
    """Perplexity of the passage; exact_test.py compares such with the reference's."""
    if SCALE > 1:
        pytest.skip("some 100 GFLOP take minutes under sanitizers")
    return perplexity(real, precision="exact", workers=2)


@pytest.mark.parametrize("workers, session", [(1, "thread"), (2, "process"), (3, "process")])
def test_perplexity_is_within_2_percent_of_exact(real, exact, workers, session):
    assert perplexity(real, precision="fast", workers=workers, session=session) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("kernels", KERNELS)
def test_perplexity_with_lesser_kernels(real, exact, kernels):
    """Those that this machine lacks fall back to what it has."""
    how = {"precision": "fast", "workers": 2, "variables": {"LLAMA_KERNELS": kernels}}
    assert perplexity(real, **how) == pytest.approx(exact, rel=0.02)


def test_fast_is_not_exact_in_disguise(real, exact):
    assert perplexity(real, precision="fast", workers=2) != exact


def test_it_knows_its_capitals(real):
    got = answer(real, precision="fast", temperature=0, workers=2, prompt="The capital of France is", max_tokens=8)
    assert got["text"].startswith(" Paris")


@pytest.mark.parametrize("encoding", ["F32", "F16", "BF16"])
def test_what_is_not_quantised_is_exact(small, encoding):
    how = {"workers": 2, "temperature": 0, "tokens": HELLO, "max_tokens": 40}
    exact, fast = (answer(small(encoding), precision=precision, **how) for precision in ("exact", "fast"))
    assert exact["tokens"] == fast["tokens"]


@pytest.mark.parametrize("workers, session", [(1, "thread"), (2, "process"), (3, "thread")])
@pytest.mark.parametrize("encoding", small_model.ENCODINGS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_encoding(small, encoding, tied, workers, session):
    got = answer(
        small(encoding, tied=tied),
        precision="fast",
        workers=workers,
        session=session,
        temperature=0,
        tokens=HELLO,
        max_tokens=40,
    )
    assert len(got["tokens"]) == 40 and all(small_model.is_printable(token) for token in got["tokens"])

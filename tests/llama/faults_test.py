"""What is wrong with the command line, the model or the prompt: exit code 2, a message that names it, and no output."""

import re
import resource

import pytest

import small_model
from disco_llama import PASSAGE, SCALE, refused, run
from small_model import BROKEN, Shape

HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]
GIVEN = {"tokens": HELLO, "max_tokens": 3}
NARROW = Shape(layers=1, width=96, heads=6, kv_heads=6)


# ---- Models ----


@pytest.mark.parametrize("session", ["thread", "process"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_models(tmp_path, name, session):
    path = tmp_path / "broken.gguf"
    write, words = BROKEN[name]
    write(path)
    said = refused(path, **GIVEN, workers=2, session=session)
    for word in words or [str(path)]:
        assert word in said, f"no {word} in: {said}"
    assert len(said) < 1000


@pytest.mark.parametrize("size", [1, 3, 7, 100, 5000, 50000])
def test_cut_anywhere(tmp_path, size):
    whole = small_model.write(tmp_path / "whole.gguf", "Q8_0").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:size])
    assert "cut.gguf" in refused(tmp_path / "cut.gguf", **GIVEN)
    (tmp_path / "cut.gguf").write_bytes(whole[:-size])
    assert "cut.gguf" in refused(tmp_path / "cut.gguf", **GIVEN)


def test_no_such_file(tmp_path):
    assert str(tmp_path / "nowhere.gguf") in refused(tmp_path / "nowhere.gguf", **GIVEN)


def test_a_folder(tmp_path):
    assert str(tmp_path) in refused(tmp_path, **GIVEN)


def test_no_text(tmp_path, small):
    assert str(tmp_path / "nowhere.txt") in refused(small(), perplexity=tmp_path / "nowhere.txt")
    assert str(tmp_path) in refused(small(), perplexity=tmp_path)


# ---- Workers ----


@pytest.mark.parametrize("session", ["thread", "process"])
@pytest.mark.parametrize(
    "shape, workers",
    [
        (Shape(), 4),
        (Shape(), 1000),
        (Shape(layers=1, width=128, heads=8, kv_heads=4), 5),
        (Shape(layers=1, width=128, heads=4, kv_heads=1), 2),
    ],
)
def test_workers_that_do_not_fit(small, shape, workers, session):
    said = refused(small(shape=shape), **GIVEN, workers=workers, session=session)
    assert f"{workers} workers" in said
    assert f"{shape.kv_heads} key-value head" in said
    numbers = said.rsplit("Use ", 1)[1]
    assert re.findall(r"\d+", numbers) == [str(n) for n in range(1, shape.kv_heads + 1)]


@pytest.mark.parametrize("workers", [4, 6])
def test_workers_that_would_cut_a_block(small, workers):
    """6 heads of 16 elements, where 32 columns are encoded together: 3 pairs."""
    said = refused(small("Q4_1", shape=NARROW), **GIVEN, workers=workers)
    assert f"{workers} workers" in said and "6 key-value heads in groups of 2 " in said
    assert re.findall(r"\d+", said.rsplit("Use ", 1)[1]) == ["1", "2", "3"]


@pytest.mark.skipif(SCALE > 1, reason="sanitizers need more address space than such a limit leaves")
def test_workers_are_counted_before_anything_is_loaded(tmp_path):
    """Of a file of 4.6 GB, most of it a hole, where there is memory for 1: loading it fails, refusing does not."""

    def with_little_memory():
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))

    path = small_model.write_hole(tmp_path / "hole.gguf", feed_forward=2_000_000)
    how = {**GIVEN, "session": "thread", "precision": "exact", "before": with_little_memory}
    assert "4 workers" in refused(path, **how, workers=4)
    loading = run(path, **how, workers=3)
    assert loading.returncode in (2, 3) and b"memory" in loading.stderr


@pytest.mark.parametrize("workers", ["0", "-1", "two", "2.5", "", "99999999999999999999"])
def test_workers_that_are_no_number(small, workers):
    said = refused(small(), **GIVEN, workers=workers)
    assert "--workers" in said and workers in said


def test_the_real_model_on_4_workers(real):
    said = refused(real, prompt="Hello", workers=4)
    assert "4 workers" in said and "3 key-value heads" in said
    assert re.findall(r"\d+", said.rsplit("Use ", 1)[1]) == ["1", "2", "3"]


# ---- Prompts ----


@pytest.mark.parametrize("count", [33, 100])
def test_a_prompt_that_is_longer_than_the_context(small, count):
    said = refused(small(shape=Shape(context=32)), tokens=[50] * count, max_tokens=3)
    assert str(count) in said and "32" in said and "context" in said


def test_a_text_that_is_longer_than_the_context(small):
    assert "context" in refused(small(shape=Shape(context=32)), prompt="many words " * 50, max_tokens=3)
    assert "context" in refused(small(shape=Shape(context=32)), perplexity=PASSAGE)


@pytest.mark.parametrize("how", [{"prompt": "Hello, you"}, {"perplexity": PASSAGE}])
def test_a_prompt_that_is_longer_than_the_context_asked_for(small, how):
    said = refused(small(), **how, context=4)
    assert re.search(r"the prompt has \d+ tokens; --context is 4\b", said)


def test_a_context_that_the_model_does_not_have(small):
    said = refused(small(shape=Shape(context=32)), **GIVEN, context=33)
    assert "--context 33" in said and "32 tokens" in said


@pytest.mark.parametrize("tokens", ["293", "0,1,-1", "99999999999", "1,,2", "1,2,", ",", "a", "1;2", "1 2", "1.5", ""])
def test_tokens_that_there_are_not(small, tokens):
    said = refused(small(), tokens=tokens, max_tokens=3)
    assert "token" in said


def test_an_empty_prompt(small):
    assert "prompt" in refused(small(), prompt="", max_tokens=3)


def test_no_text_to_score(small, tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "one").write_text("x")
    for name in ("empty", "one"):
        assert re.search("empty|two tokens", refused(small(), perplexity=tmp_path / name))


# ---- Options ----


@pytest.mark.parametrize(
    "options, said",
    [
        (["--temperature", "-0.1"], "--temperature -0.1"),
        (["--temperature", "warm"], "--temperature warm"),
        (["--temperature", "nan"], "--temperature nan"),
        (["--temperature", ""], "--temperature"),
        (["--max-tokens", "-1"], "--max-tokens -1"),
        (["--max-tokens", "many"], "--max-tokens many"),
        (["--context", "0"], "--context 0"),
        (["--context", "all"], "--context all"),
        (["--seed", "x"], "--seed x"),
        (["--seed", "9223372036854775808"], "--seed 9223372036854775808"),
        (["--session", "fibre"], "--session fibre"),
        (["--precision", "fuzzy"], "--precision fuzzy"),
        (["--precision"], "--precision"),
        (["--nonsense"], "no option --nonsense"),
        (["--nonsense", "1"], "no option --nonsense"),
        (["more"], "more"),
        (["more", "words"], "more"),
        (["--prompt", "x"], "only one of"),
        (["--perplexity", "x"], "only one of"),
        (["--chat"], "--chat"),
        (["--system", "x"], "--system"),
    ],
)
def test_options(small, options, said):
    assert said in refused(small(), "--tokens", "75", *options)


def test_no_model():
    assert "--model" in refused(None, prompt="Hello")


def test_nothing_to_say(small):
    assert "--prompt" in refused(small())


def test_a_trace_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("")
    ended = run(small(), **GIVEN, trace=tmp_path / "file" / "trace")
    assert ended.returncode in (1, 2) and ended.stdout == b""
    assert str(tmp_path / "file") in ended.stderr.decode()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_output_that_cannot_be_written(small, options):
    """A disk that is full is told, with exit code 1."""
    with open("/dev/full", "wb") as full:
        ended = run(small(), *options, **GIVEN, stdout=full)
    assert ended.returncode == 1 and b"No space left" in ended.stderr

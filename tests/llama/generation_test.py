"""32 tokens on three worker processes: what runs under every sanitizer, too (ctest llama.generation)."""

import pytest

from disco_llama import answer

# Every kernel, attention over a context, sampling.
LENGTHS = {"max_tokens": 32, "temperature": 0.7, "seed": 11}


@pytest.mark.parametrize("encoding", ["F32", "F16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_three_processes_say_what_three_threads_say(small, encoding, precision):
    path = small(encoding)
    got = [
        answer(path, "--chat", prompt="Tell me.", precision=precision, workers=3, session=session, **LENGTHS)
        for session in ("process", "thread")
    ]
    assert len(got[0]["tokens"]) == 32 or got[0]["finish"] == "end"
    assert got[0]["tokens"] == got[1]["tokens"]


@pytest.mark.parametrize("session", ["process", "thread"])
def test_the_real_model(real, session):
    got = answer(real, "--chat", prompt="Why is the sky blue?", precision="fast", workers=3, session=session, max_tokens=32)
    assert len(got["tokens"]) == 32 and "blue" in got["text"]

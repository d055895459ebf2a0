"""Generations that are cut short: Ctrl-C, a worker that is killed, a controller that is killed, a reader that goes
away. Each ends soon, says why, and leaves no process behind.

A small model says endless things into a pipe that holds one page, so nothing ends by itself before its time, however
slow the machine is.
"""

import os
import random
import re
import signal
import time

import pytest

import small_model
from disco_llama import GONE_SECONDS, Running
from small_model import Shape

HELLO = [small_model.vocabulary().index(letter) for letter in "Hello"]
ENDLESS = {"tokens": HELLO, "max_tokens": 16000, "temperature": 1}
KILLS = 20


@pytest.fixture(scope="module")
def path(small):
    return small("Q8_0", shape=Shape(context=16384))


@pytest.fixture(scope="module")
def endless_json(small):
    """(model, options) of what prints nothing for a very long time."""
    return small("Q8_0", shape=Shape(context=65536)), {**ENDLESS, "max_tokens": 65000}


def check_lost(running, killed):
    """The four lines about a worker that was killed."""
    code, _ = running.end()
    said = running.said()
    assert code == 3, said
    number = re.search(r"\bworker (\d+) is lost: killed by SIGKILL\b", said)
    assert number, said
    assert re.search(rf"\bit was worker {number[1]} of 3 \(.*process {killed} on ", said), said
    assert "the others: " in said and "try: " in said
    assert len(said.splitlines()) <= 6, said
    running.wait_until_no_orphans()


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_worker_is_killed(path, seed):
    moment = random.Random(seed)
    precision = moment.choice(["exact", "fast"])
    with Running(path, **ENDLESS, workers=3, session="process", precision=precision, seed=seed) as running:
        running.read(moment.randint(1, 1500))
        victims = running.children()
        assert len(victims) == 2, running.said()
        victim = moment.choice(victims)
        time.sleep(moment.uniform(0, 0.002))
        os.kill(victim, signal.SIGKILL)
        check_lost(running, victim)


@pytest.mark.parametrize("seed", range(5))
def test_a_worker_is_killed_before_the_first_token(path, seed):
    """While it is started, or loads, or reads the prompt."""
    moment = random.Random(seed)
    with Running(path, **ENDLESS, workers=3, session="process") as running:
        victim = moment.choice(running.wait_for_children(2))
        time.sleep(moment.uniform(0, 0.02))
        os.kill(victim, signal.SIGKILL)
        code, _ = running.end()
        said = running.said()
        assert code == 3 and re.search(r"\bworker \d+ .*SIGKILL", said), said
        running.wait_until_no_orphans()


def test_json_of_a_lost_worker_is_no_half_object(endless_json):
    path, how = endless_json
    with Running(path, "--json", **how, workers=3, session="process") as running:
        victim = running.wait_for_children(2)[0]
        os.kill(victim, signal.SIGKILL)
        code, out = running.end()
        assert (code, out) == (3, b"")


@pytest.mark.parametrize("seed", range(3))
def test_a_worker_of_the_real_model_is_killed(real, seed):
    moment = random.Random(seed)
    how = {"prompt": "Once upon a time", "temperature": 1, "max_tokens": 4000, "precision": "fast", "seed": seed}
    with Running(real, **how, workers=3, session="process") as running:
        running.read(moment.randint(1, 100))
        victim = moment.choice(running.children())
        os.kill(victim, signal.SIGKILL)
        check_lost(running, victim)


def check_interrupted(running):
    code, rest = running.end()
    assert code == 130, running.said()
    assert "lost" not in running.said() and "Traceback" not in running.said()
    running.wait_until_no_orphans()
    return rest


@pytest.mark.parametrize("session, workers", [("thread", 1), ("thread", 3), ("process", 2), ("process", 3)])
@pytest.mark.parametrize("whom", ["controller", "all"])
def test_an_interrupt(path, session, workers, whom):
    """Of a shell reaches all processes of the command; of `kill` one."""
    with Running(path, **ENDLESS, workers=workers, session=session) as running:
        running.read(100)
        assert len(running.children()) == (workers - 1) * (session == "process"), running.said()
        (os.killpg if whom == "all" else os.kill)(running.pid, signal.SIGINT)
        check_interrupted(running)


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupt_before_the_first_token(real, seed):
    """While it loads, or reads a prompt that takes a while."""
    moment = random.Random(seed)
    with Running(real, prompt="word " * 1500, max_tokens=4000, workers=3, session="process") as running:
        running.wait_for_children(1 + seed % 2)
        time.sleep(moment.uniform(0, 0.3))
        os.killpg(running.pid, signal.SIGINT)
        check_interrupted(running)


def test_an_interrupt_while_the_workers_start(path, tmp_path):
    """Workers that never say a word: nobody knows whether they will."""
    silent = tmp_path / "worker"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    with Running(path, **ENDLESS, workers=3, session="process", variables={"DISCO_WORKER": str(silent)}) as running:
        running.wait_for_children(2)
        os.kill(running.pid, signal.SIGINT)
        assert check_interrupted(running) == b""


def test_an_interrupt_while_they_load(tmp_path):
    """A worker that does not come on with its part: it is stopped there."""
    hole = small_model.write_hole(tmp_path / "hole.gguf", feed_forward=100_000)
    with Running(hole, **ENDLESS, workers=2, session="process", precision="exact") as running:
        worker = running.wait_for_children(1)[0]
        running.wait_for_loading(worker, hole)
        os.kill(worker, signal.SIGSTOP)
        os.kill(running.pid, signal.SIGINT)
        check_interrupted(running)


@pytest.mark.parametrize("session", ["thread", "process"])
def test_an_interrupt_of_an_answer(path, session):
    how = {"max_tokens": 16000, "temperature": 1, "workers": 2, "session": session}
    with Running(path, "--chat", typed=b"Hello\n", **how) as running:
        running.read(100)
        running.children()
        os.kill(running.pid, signal.SIGINT)
        check_interrupted(running)


def test_an_interrupt_between_questions(path):
    """While it waits for what is typed next."""
    with Running(path, "--chat", typed=b"Hello\n\nHey\n", max_tokens=3, workers=2, session="process") as running:
        said = b""
        while said.count(b"\n") < 2:
            said += running.read(1)
        running.children()
        os.kill(running.pid, signal.SIGINT)
        assert check_interrupted(running) == b""


def test_interrupted_json(endless_json):
    path, how = endless_json
    with Running(path, "--json", **how, workers=2, session="process") as running:
        running.wait_for_children(1)
        os.kill(running.pid, signal.SIGINT)
        code, out = running.end()
        assert (code, out) == (130, b"")
        running.wait_until_no_orphans()


@pytest.mark.parametrize("seed", range(3))
def test_a_controller_is_killed(path, seed):
    moment = random.Random(seed)
    with Running(path, **ENDLESS, workers=3, session="process") as running:
        running.read(moment.randint(1, 1500))
        assert len(running.children()) == 2, running.said()
        os.kill(running.pid, signal.SIGKILL)
        assert running.process.wait(GONE_SECONDS) == -signal.SIGKILL
        running.wait_until_no_orphans()


def test_a_controller_is_terminated(path):
    with Running(path, **ENDLESS, workers=3, session="process") as running:
        running.read(100)
        assert len(running.children()) == 2, running.said()
        os.kill(running.pid, signal.SIGTERM)
        running.process.wait(GONE_SECONDS)
        running.wait_until_no_orphans()


@pytest.mark.parametrize("session", ["thread", "process"])
def test_a_reader_goes_away(path, session):
    """As in `disco-llama ... | head -1`."""
    with Running(path, **ENDLESS, workers=3, session=session) as running:
        running.read(100)
        running.children()
        running.stdout.close()
        code = running.process.wait(GONE_SECONDS)
        assert code in (1, -signal.SIGPIPE), running.said()
        running.wait_until_no_orphans()

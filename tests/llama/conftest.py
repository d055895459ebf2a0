"""Fixtures of the tests of disco-llama: small models, written once, and the real one, fetched once."""

import os
import pathlib
import sys

# Before numpy is imported: other tests run beside these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "weights"))

import pytest

import reference
import small_model
from oracle import fetch_smollm2


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """small(encoding, tied=..., shape=..., ...): the path of such a small model."""
    folder, written = tmp_path_factory.mktemp("small"), {}

    def path_of(encoding="F32", **how):
        key = repr((encoding, sorted(how.items())))
        if key not in written:
            written[key] = small_model.write(folder / f"{len(written)}-{encoding}.gguf", encoding, **how)
        return written[key]

    return path_of


@pytest.fixture(scope="session")
def reference_of():
    """reference_of(path): its reference.Model, loaded once."""
    loaded = {}

    def model_of(path):
        if path not in loaded:
            loaded[path] = reference.Model(path)
        return loaded[path]

    return model_of


@pytest.fixture(scope="session")
def real():
    """The path of SmolLM2-135M-Instruct: Q4_1, its embeddings Q8_0."""
    return fetch_smollm2()

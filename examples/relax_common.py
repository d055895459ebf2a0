"""What the Relax examples share: their command line, sessions, compiling, and weights through ShardLoader.

Everything goes through TVM's own client, `tvm.runtime.disco`, unchanged. libdisco has to be installed beside TVM and
nothing more: its entry point makes that client work at the end of `import tvm`, here and in every worker process.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, te, tirx
from tvm.contrib import tvmjs
from tvm.runtime import disco as di

DTYPE = "float32"

# What an example computes with a session: the output of each worker, and what NumPy gives.
Outputs = Tuple[List[np.ndarray], np.ndarray]


def new_session(workers: int, processes: bool) -> Any:
    """A session of TVM's client with libdisco's collectives on the CPU; one device id for each worker."""
    if di is None:
        sys.exit("tvm.runtime.disco is None: install libdisco beside TVM (pip install libdisco), it makes it work")
    session = di.ProcessSession(workers) if processes else di.ThreadedSession(workers)
    session.init_ccl("cpu", *range(workers))
    return session


def tensor(*shape: int) -> Any:
    """The type of a tensor of this shape."""
    return relax.TensorType(shape, DTYPE)


def one_function(inputs: List[Any], body: Callable[[relax.BlockBuilder], Any]) -> tvm.IRModule:
    """A module whose `main(inputs...)` is what `body` emits, with the functions that cut weights beside it."""
    builder = relax.BlockBuilder()
    with builder.function("main", inputs):
        with builder.dataflow():
            output = builder.emit_output(body(builder))
        builder.emit_func_output(output)
    module = builder.finalize()
    module["split_columns"] = split("split_columns", lambda whole, w, i, j, part: whole[i, w * part + j], rows=False)
    module["split_rows"] = split("split_rows", lambda whole, w, i, j, part: whole[w * part + i, j], rows=True)
    return module


def split(name: str, element: Callable[..., Any], rows: bool) -> Any:
    """A function that cuts a matrix into one part for each worker, along a new first dimension. Of any sizes: they are
    taken from the tensors. ShardLoader calls it on worker 0 and scatters what it wrote."""
    height, width, workers, part = (tirx.Var(each, "int64") for each in ("height", "width", "workers", "part"))
    whole = te.placeholder((height, width), DTYPE, "whole")
    shape = (workers, part, width) if rows else (workers, height, part)
    parts = te.compute(shape, lambda w, i, j: element(whole, w, i, j, part), "parts")
    return te.create_prim_func([whole, parts]).with_attr("global_symbol", name)


def compiled(module: tvm.IRModule, name: str, folder: pathlib.Path) -> str:
    """The path of the module's library, compiled by LLVM unless an earlier run left it in the folder."""
    path = folder / f"{name}-{tvm_ffi.structural_hash(module) % 2**64:016x}.so"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}.so")
        tvm.compile(module, target="llvm").export_library(str(fresh))
        fresh.rename(path)  # nobody sees half a library
    return str(path)


def load_weights(
    session: Any, module: Any, weights: List[np.ndarray], cuts: List[str], folder: pathlib.Path, name: str
) -> Any:
    """Write the weights as TVM does (tensor-cache.json and its files), and have every worker load its parts.

    `cuts` has for each weight a function of the compiled module, or "" for a weight that everybody needs whole. Worker
    0 reads the files, cuts, and scatters or broadcasts. Gives a DRef to the array of the parts.
    """
    cache = folder / f"{name}-weights"
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of each file
        named = {f"param_{i}": weight for i, weight in enumerate(weights)}
        tvmjs.dump_tensor_cache(named, str(cache), "raw", show_progress=False)
    workers = session.num_workers
    shard_info: Dict[str, Any] = {}
    for i, (weight, cut) in enumerate(zip(weights, cuts)):
        height, width = weight.shape
        part = {"split_columns": [height, width // workers], "split_rows": [height // workers, width]}.get(cut)
        if part is not None:
            shard_info[f"param_{i}"] = [[cut, [[workers, *part], DTYPE]]]
    description = cache / "tensor-cache.json"
    loader = session.get_global_func("runtime.disco.ShardLoader")(
        str(description), description.read_text(), json.dumps(shard_info), module
    )
    return session.get_global_func("runtime.disco.ShardLoaderLoadAll")(loader)


def on_each_worker(session: Any, result: Any) -> List[np.ndarray]:
    """The tensor that each worker has."""
    return [result.debug_get_from_remote(worker).numpy() for worker in range(session.num_workers)]


def max_error(outputs: Outputs) -> float:
    """Of all workers and elements, against NumPy's."""
    computed, expected = outputs
    return max(float(np.abs(each - expected).max()) for each in computed)


def main(about: str, compute: Callable[[Any, int, pathlib.Path], Outputs]) -> int:
    """An example's command line. `compute(session, seed, folder)` does the work. Returns the exit code."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, choices=(1, 2, 4), default=2, help="how many share the work (2)")
    parser.add_argument("--processes", action="store_true", help="workers are processes instead of threads")
    parser.add_argument("--seed", type=int, default=0, help="of the random input and weights (0)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="exit with 1 above this error (1e-4)")
    parser.add_argument(
        "--build-dir", type=pathlib.Path, help="keep the compiled library here, and use that of an earlier run"
    )
    options = parser.parse_args()
    kind = "processes" if options.processes else "threads"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.build_dir or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        session = new_session(options.workers, options.processes)
        error = max_error(compute(session, options.seed, folder))
        session.shutdown()
    fine = error <= options.tolerance
    print(f"{'ok' if fine else 'WRONG'}: {options.workers} worker {kind}, ", end="")
    print(f"max abs error against NumPy {error:.1e} (tolerance {options.tolerance:.1e})")
    return 0 if fine else 1

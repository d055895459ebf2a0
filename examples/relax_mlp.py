"""A tensor-parallel MLP, compiled by TVM from Relax and run on several workers:

    y = relu(x W + b) V + c

Each worker keeps some columns of W and b and the same rows of V, so that nothing has to be told between the two
products; one allreduce inside the compiled function adds up what the workers have. The loader of weights cuts W, b and
V with functions that were compiled into the same library. Every worker's y is compared with NumPy's.

    python examples/relax_mlp.py --workers 4
    python examples/relax_mlp.py --workers 2 --processes
"""

import pathlib
import sys
from typing import Any, List

import numpy as np
import tvm
from relax_common import Outputs, compiled, load_weights, main, on_each_worker, one_function, tensor
from tvm import relax

BATCH, WIDTH, HIDDEN = 8, 64, 256
CUTS = ["split_columns", "split_columns", "split_rows", ""]  # of W, b, V, c


def mlp(workers: int) -> tvm.IRModule:
    """What one of so many workers runs."""
    part = HIDDEN // workers
    x = relax.Var("x", tensor(BATCH, WIDTH))
    types = [tensor(WIDTH, part), tensor(1, part), tensor(part, WIDTH), tensor(1, WIDTH)]
    weights = relax.Var("weights", relax.TupleType(types))

    def body(builder: relax.BlockBuilder) -> Any:
        w, b, v, c = (builder.emit(relax.TupleGetItem(weights, i)) for i in range(len(types)))
        hidden = builder.emit(relax.op.nn.relu(relax.op.add(relax.op.matmul(x, w), b)))
        partial = builder.emit(relax.op.matmul(hidden, v))
        total = builder.emit(relax.op.ccl.allreduce(partial, "sum", in_group=False))
        return relax.op.add(total, c)  # after the sum: c is there once

    return one_function([x, weights], body)


def expected(x: np.ndarray, weights: List[np.ndarray]) -> np.ndarray:
    """The same in NumPy, on one machine."""
    w, b, v, c = weights
    return np.maximum(x @ w + b, 0) @ v + c


def compute(session: Any, seed: int, folder: pathlib.Path) -> Outputs:
    """Compile, load, run."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((BATCH, WIDTH), dtype="float32")
    shapes = [(WIDTH, HIDDEN), (1, HIDDEN), (HIDDEN, WIDTH), (1, WIDTH)]
    weights = [random.standard_normal(shape, dtype="float32") / 8 for shape in shapes]
    module = session.load_vm_module(compiled(mlp(session.num_workers), "mlp", folder))
    parts = load_weights(session, module, weights, CUTS, folder, "mlp")
    y = module["main"](session.broadcast(x), parts)
    return on_each_worker(session, y), expected(x, weights)


if __name__ == "__main__":
    sys.exit(main(__doc__, compute))

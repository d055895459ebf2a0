"""A tensor-parallel block of causal self-attention, compiled by TVM from Relax and run on several workers.

Each worker has some of the heads: the columns of Wq, Wk and Wv that make them, and the rows of Wo that take them up
again. A head never looks at another one, so one allreduce of the output is all that the workers tell each other; it
stands inside the compiled function. The loader of weights cuts the four matrices with functions that were compiled into
the same library. Every worker's output is compared with NumPy's.

    python examples/relax_attention.py --workers 4
    python examples/relax_attention.py --workers 2 --processes
"""

import pathlib
import sys
from typing import Any, List

import numpy as np
import tvm
from relax_common import DTYPE, Outputs, compiled, load_weights, main, on_each_worker, one_function, tensor
from tvm import relax

TOKENS, HEADS, HEAD = 16, 4, 16  # HEAD: the width of one
WIDTH = HEADS * HEAD
CUTS = ["split_columns", "split_columns", "split_columns", "split_rows"]  # of Wq, Wk, Wv, Wo
# A token sees itself and those before it. A constant of the compiled library.
MASK = np.triu(np.full((TOKENS, TOKENS), -1e9, dtype=DTYPE), k=1)


def attention(workers: int) -> tvm.IRModule:
    """What one of so many workers runs."""
    heads = HEADS // workers
    part = heads * HEAD
    x = relax.Var("x", tensor(TOKENS, WIDTH))
    types = [tensor(WIDTH, part)] * 3 + [tensor(part, WIDTH)]
    weights = relax.Var("weights", relax.TupleType(types))

    def by_head(builder: relax.BlockBuilder, weight: Any) -> Any:
        rows = builder.emit(relax.op.matmul(x, weight))
        return builder.emit(relax.op.permute_dims(relax.op.reshape(rows, (TOKENS, heads, HEAD)), [1, 0, 2]))

    def body(builder: relax.BlockBuilder) -> Any:
        wq, wk, wv, wo = (builder.emit(relax.TupleGetItem(weights, i)) for i in range(len(types)))
        q, k, v = (by_head(builder, weight) for weight in (wq, wk, wv))
        products = builder.emit(relax.op.matmul(q, relax.op.permute_dims(k, [0, 2, 1])))
        scores = builder.emit(relax.op.multiply(products, relax.const(HEAD**-0.5, DTYPE)))
        shares = builder.emit(relax.op.nn.softmax(relax.op.add(scores, relax.const(MASK)), axis=-1))
        seen = builder.emit(relax.op.permute_dims(relax.op.matmul(shares, v), [1, 0, 2]))
        partial = builder.emit(relax.op.matmul(relax.op.reshape(seen, (TOKENS, part)), wo))
        return relax.op.ccl.allreduce(partial, "sum", in_group=False)

    return one_function([x, weights], body)


def expected(x: np.ndarray, weights: List[np.ndarray]) -> np.ndarray:
    """The same in NumPy, on one machine."""
    wq, wk, wv, wo = weights
    q, k, v = ((x @ weight).reshape(TOKENS, HEADS, HEAD).transpose(1, 0, 2) for weight in (wq, wk, wv))
    scores = q @ k.transpose(0, 2, 1) * HEAD**-0.5 + MASK
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return (shares @ v).transpose(1, 0, 2).reshape(TOKENS, WIDTH) @ wo


def compute(session: Any, seed: int, folder: pathlib.Path) -> Outputs:
    """Compile, load, run."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((TOKENS, WIDTH), dtype="float32")
    weights = [random.standard_normal((WIDTH, WIDTH), dtype="float32") / 8 for _ in CUTS]
    module = session.load_vm_module(compiled(attention(session.num_workers), "attention", folder))
    parts = load_weights(session, module, weights, CUTS, folder, "attention")
    y = module["main"](session.broadcast(x), parts)
    return on_each_worker(session, y), expected(x, weights)


if __name__ == "__main__":
    sys.exit(main(__doc__, compute))

"""Compiled Relax programs over libdisco, through TVM's own client: the examples, and every function that compiled code
may call. Run by test_relax.py."""

import contextlib
import functools
import io
import sys

import beside_tvm
import numpy as np
import relax_attention
import relax_common
import relax_mlp
from relax_common import DTYPE, tensor
from tvm import relax

ENOUGH = 1e-5


@functools.lru_cache(maxsize=None)
def session_of(workers, processes):
    return relax_common.new_session(workers, processes)


def on_all_sizes(example, folder, processes):
    """Exact on 1, 2 and 4 workers; each compiles once for threads and processes."""
    for workers in (1, 2, 4):
        computed, expected = example.compute(session_of(workers, processes), 7, folder)
        assert len(computed) == workers
        assert np.abs(expected).max() > 1
        assert relax_common.max_error((computed, expected)) < ENOUGH, f"{workers} workers"


def check_mlp_on_threads(folder):
    on_all_sizes(relax_mlp, folder, processes=False)


def check_mlp_on_processes(folder):
    on_all_sizes(relax_mlp, folder, processes=True)


def check_attention_on_threads(folder):
    on_all_sizes(relax_attention, folder, processes=False)


def check_attention_on_processes(folder):
    on_all_sizes(relax_attention, folder, processes=True)


KINDS = {"sum": np.sum, "prod": np.prod, "min": np.min, "max": np.max, "avg": np.mean}


def everything(workers):
    """All that compiled code may ask of Disco, in one function of x, which has a row for each worker."""
    x = relax.Var("x", tensor(workers, 4))

    def body(builder):
        of_kind = [relax.op.ccl.allreduce(x, kind, in_group=False) for kind in KINDS]
        others = [
            relax.op.ccl.allreduce(x, "sum", in_group=True),
            relax.op.ccl.allgather(x, workers, in_group=False),
            relax.op.ccl.broadcast_from_worker0(x),
            relax.op.ccl.scatter_from_worker0(x, workers, axis=0),
            relax.op.ccl.scatter_from_worker0(x, 2, axis=1),
        ]
        number = relax.op.call_pure_packed("runtime.disco.worker_id", ty_args=relax.ShapeType(ndim=1))
        return relax.Tuple([builder.emit(each) for each in [*of_kind, *others, number]])

    return relax_common.one_function([x], body)


def expected_everything(inputs, worker):
    """What a worker gets when all workers call everything(): workers are the first axis of `inputs`."""
    workers = len(inputs)
    of_kind = [reduce(inputs, axis=0) for reduce in KINDS.values()]
    return [
        *of_kind,
        inputs.sum(axis=0),
        inputs.reshape(workers * workers, 4),
        inputs[0],
        inputs[0][worker : worker + 1],
        inputs[0][:, 2 * worker : 2 * worker + 2],
    ]


def call_everything(folder, processes):
    workers = 2
    session = session_of(workers, processes)
    inputs = np.random.default_rng(3).integers(-8, 9, (workers, workers, 4)).astype(DTYPE)  # exact in any order
    x = session.empty((workers, 4), DTYPE)
    for worker in range(workers):
        x.debug_copy_from(worker, inputs[worker])
    module = session.load_vm_module(relax_common.compiled(everything(workers), "everything", folder))
    item = session.get_global_func("vm.builtin.tuple_getitem")
    output = module["main"](x)
    for worker in range(workers):
        expected = expected_everything(inputs, worker)
        for i, array in enumerate(expected):
            got = item(output, i).debug_get_from_remote(worker).numpy()
            np.testing.assert_array_equal(got, array, err_msg=f"result {i} of worker {worker}")
        number = item(output, len(expected)).debug_get_from_remote(worker)
        assert list(number) == [worker]


def check_all_that_compiled_code_may_call_on_threads(folder):
    call_everything(folder, processes=False)


def check_all_that_compiled_code_may_call_on_processes(folder):
    call_everything(folder, processes=True)


def command_line(example, *words):
    """Exit code, and what it printed."""
    printed = io.StringIO()
    before, sys.argv = sys.argv, ["example.py", *map(str, words)]
    try:
        with contextlib.redirect_stdout(printed):
            return relax_common.main(example.__doc__, example.compute), printed.getvalue()
    except SystemExit as ended:
        return ended.code, printed.getvalue()
    finally:
        sys.argv = before


def check_an_error_above_the_tolerance_is_told(folder):
    code, out = command_line(relax_mlp, "--workers", 2, "--seed", 5, "--tolerance", -1, "--build-dir", folder)
    assert (code, out.split(":")[0]) == (1, "WRONG"), out


def check_help_teaches(folder):
    code, out = command_line(relax_attention, "--help")
    assert code == 0
    for word in ("allreduce", "--processes", "--workers {1,2,4}", "--seed", "--build-dir"):
        assert word in out


def check_sessions_end(folder):
    for workers in (1, 2, 4):
        for processes in (False, True):
            session_of(workers, processes).shutdown()


if __name__ == "__main__":
    beside_tvm.main(globals())

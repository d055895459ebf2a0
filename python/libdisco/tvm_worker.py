"""A worker process of a session of TVM's client, where `import tvm` alone does not bring libdisco in: as TVM's own
`python -m tvm.exec.disco_worker ID WORKERS GROUPS READ_FD WRITE_FD`, which it becomes."""

import runpy

from ._tvm import take_over

if __name__ == "__main__":
    take_over()
    runpy.run_module("tvm.exec.disco_worker", run_name="__main__", alter_sys=True)

"""Python that starts warm: a server that has loaded the libraries forks a process for each ``python -m MODULE``.

Loading torch, diffusers and the rest takes seconds, and the tests of the workflow start hundreds of jobs. In the folder
that :func:`warm_python` makes, ``python``, ``snakemake`` and ``dvc`` ask the server; with the folder in front of PATH,
commands stay as the rules have them. The package's own code is loaded in the fork, so that each checkout runs its own.

Not for what is about processes: the fork is no child of the one that asks, and gets none of its signals but by it being
killed, which kills it too. ``COLD_PYTHON=1`` in the environment has all tests start everything anew.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

_LIBRARIES = (
    "torch", "torchvision", "diffusers", "diffusers.loaders", "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.transformers", "diffusers.pipelines.stable_diffusion", "diffusers.pipelines.stable_diffusion_xl",
    "diffusers.pipelines.stable_diffusion_3", "transformers", "transformers.models.clip.modeling_clip", "accelerate",
    "open_clip", "cleanfid.fid", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.linalg", "matplotlib.pyplot",
    "jinja2", "pydantic", "snakemake.cli", "snakemake.report", "dvc.cli", "dvc.repo", "dulwich.client",
    "safetensors.torch", "sklearn.datasets", "joblib",
)  # fmt: skip
_CLIENT = """#!{python} -IS
import json, os, socket, sys
asked = ["-m", {module!r}, *sys.argv[1:]] if {module!r} else sys.argv[1:]
if asked[:1] != ["-m"]:
    os.execv({python!r}, [{python!r}, *asked])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    me = {{"cwd": os.getcwd(), "env": dict(os.environ), "python": {warm!r}}}
    message = json.dumps({{"module": asked[1], "options": asked[2:], **me}})
    socket.send_fds(server, [len(message.encode()).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(message.encode())
    code = server.recv(8)
sys.exit(int.from_bytes(code, "little") if code else 1)
"""


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """A folder of commands to put in front of PATH, while the server runs."""
    address = str(folder / "server")
    for name, module in {"python": "", "snakemake": "snakemake", "dvc": "dvc"}.items():
        (folder / name).write_text(
            _CLIENT.format(module=module, python=sys.executable, warm=str(folder / "python"), address=address)
        )
        (folder / name).chmod(0o755)
    # as many threads as Snakemake gives a job: they are counted when the libraries are loaded
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    environment = os.environ | threads | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, address]
    # its standard input ends when this process does, however it does
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n", "the warm server did not start"
            yield folder
        finally:
            server.terminate()


def _serve(address: str) -> None:
    for library in _LIBRARIES:
        importlib.import_module(library)
    assert "randcond" not in sys.modules
    gc.collect()
    gc.freeze()  # or every fork would look through all that the libraries left, again and again
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that serve a request
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _answer(connection)
                    os._exit(0)


def _answer(connection: socket.socket) -> None:
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    message = b""
    while not size or len(message) < int.from_bytes(size, "little"):
        part = connection.recv(1 << 20)
        if not part:  # who asked was killed while asking
            return
        message += part
    request = json.loads(message)
    child = os.fork()
    if child == 0:
        connection.close()
        _become(request, files)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([connection, ended], [], [])
    if ended not in ready:  # who asked is gone
        os.kill(child, signal.SIGKILL)
        return
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall((code if code >= 0 else 128 - code).to_bytes(8, "little"))


def _become(request: dict, files: list[int]) -> NoReturn:
    """Be the process that was asked for, from here to its end."""
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    more = filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [request["cwd"], *more, *sys.path[1:]]
    sys.argv = [request["module"], *request["options"]]
    sys.executable = request["python"]  # what Snakemake puts in front of its jobs' PATH
    sys.modules["numpy"].random.seed()  # or every fork would draw the same
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve(sys.argv[1])

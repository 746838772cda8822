"""Python processes that start at once, for tests of scripts: forked from a server that has imported the libraries.

`python train.py` spends most of its first five to eight seconds on importing TensorFlow and Keras. Each pytest process
has one server, begun at the first call, which imports them once. It runs no operation and starts no thread (a fork of a
process with threads may hang), and forks a child for every call. The child is a process like any other: it has an id,
memory, a working directory, an environment and standard streams of its own, can be killed, and ends as Python ends.

    done = run("train.py", folder, "--epochs", 1)              # also "-m", "Dataset.synthetic", ... and "-c", code, ...
    assert done.returncode == 0, done.stderr[-1000:]

An ordinary process is started instead, with the same results, where there is no fork as on Linux and where the
environment differs in a variable that a library reads while it is imported.

Protocol: a message (JSON: words, cwd, env) with four file descriptors (stdin, stdout, stderr, a socket) over the
server's standard input. The server forks a monitor, the monitor the child. The monitor writes the child's id to the
socket and, at its end, the return code, one a line. The end of its standard input ends the server.
"""
from __future__ import annotations

import atexit
import gc
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PIPE, DEVNULL, TimeoutExpired = subprocess.PIPE, subprocess.DEVNULL, subprocess.TimeoutExpired
AVAILABLE = sys.platform == "linux" and hasattr(os, "fork")
#: what the scripts import of other people's code
LIBRARIES = ("tensorflow", "keras", "cv2", "h5py", "matplotlib.figure", "matplotlib.backends.backend_agg", "open3d",
             "PIL.Image", "scipy.ndimage", "scipy.optimize", "scipy.sparse.linalg", "scipy.spatial", "skimage.data",
             "tqdm", "trimesh")
#: variables with these beginnings are read by an import, or by the start of Python; TF_CONFIG is read later
_READ_AT_IMPORT = ("CUDA_", "JAX_", "KERAS_", "LD_", "MKL_", "MPL", "OMP_", "OPENBLAS_", "PYTHON", "TF_", "XLA_")
_LARGEST = 1 << 17          # bytes of a message


def run(*words: object, timeout: float | None = None, check: bool = False, **more: Any) -> subprocess.CompletedProcess:
    """As subprocess.run([python, *words], capture_output=True, text=True), in the repository's root unless there is a
    `cwd`. TimeoutExpired after `timeout` seconds, CalledProcessError with `check`; bytes with text=False."""
    process = Popen(*words, stdout=PIPE, stderr=PIPE, **more)
    stdout, stderr = process.communicate(timeout=timeout)
    done = subprocess.CompletedProcess([sys.executable, *map(str, words)], process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done


def Popen(*words: object, cwd: str | os.PathLike = ROOT, env: dict[str, str] | None = None, stdout: int | None = None,
          stderr: int | None = None, text: bool = True) -> Process | subprocess.Popen:
    """As subprocess.Popen([python, *words], text=True); stdout and stderr are None (as here), PIPE or DEVNULL."""
    texts, environment = [str(word) for word in words], dict(os.environ) if env is None else env
    if AVAILABLE and _may_fork(texts, environment):
        return Process(texts, cwd, environment, stdout, stderr, text)
    return subprocess.Popen([sys.executable, *texts], cwd=cwd, env=environment, stdout=stdout, stderr=stderr, text=text)


def _may_fork(words: list[str], environment: dict[str, str]) -> bool:
    """Is the start of a fork the start of a new Python? Options of Python's own other than -c and -m need a new one."""
    begun = server().environment
    differing = {name for name in begun.keys() | environment.keys() if begun.get(name) != environment.get(name)}
    known = not words[0].startswith("-") or words[0] in ("-c", "-m")
    return known and not any(name.startswith(_READ_AT_IMPORT) for name in differing - {"TF_CONFIG"})


class Process:
    """A forked process, as subprocess.Popen shows one."""

    def __init__(self, words: list[str], cwd: str | os.PathLike, environment: dict[str, str], stdout: int | None,
                 stderr: int | None, text: bool) -> None:
        self.args, self.returncode = [sys.executable, *words], None
        ours, theirs = socket.socketpair()
        opened = [os.open(os.devnull, os.O_RDWR)]
        self.stdout, self.stderr, streams = None, None, [opened[0]]
        for name, wanted in (("stdout", stdout), ("stderr", stderr)):
            if wanted == PIPE:
                reading, writing = os.pipe()
                setattr(self, name, open(reading, "r" if text else "rb"))
                opened.append(writing)
            streams.append({None: ("stdout", "stderr").index(name) + 1, DEVNULL: opened[0]}.get(wanted, opened[-1]))
        message = json.dumps({"words": words, "cwd": os.fspath(cwd), "env": environment}).encode()
        try:
            socket.send_fds(server().socket, [message], [*streams, theirs.fileno()])
        finally:
            theirs.close()
            for descriptor in opened:
                os.close(descriptor)
        self._socket, self._lines = ours, ours.makefile("r")
        self.pid = self._number()

    def _number(self) -> int:
        line = self._lines.readline()
        if not line:
            raise RuntimeError("the fork server, or the monitor of one of its processes, has ended")
        return int(line)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._socket], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._socket], [], [], timeout)[0]:
                raise TimeoutExpired(self.args, timeout)
            self.returncode = self._number()
            self._lines.close()
            self._socket.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple:
        """The rest of what it writes to its pipes until its end. Killed, and TimeoutExpired, after `timeout` s."""
        with ThreadPoolExecutor(2) as readers:
            texts = [stream and readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        return tuple(text and text.result() for text in texts)


class Server:
    """The process that forks. environment: the one that its libraries were imported in."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = "from tests.forkserver import serve; serve()"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, cwd=ROOT, env=self.environment)
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self.socket.close()
        self.process.wait()


@lru_cache(maxsize=1)
def server() -> Server:
    """This process's server, begun at the first call."""
    return Server()


def serve() -> None:
    """The server; each forked child returns from the loop with its request and becomes what was asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # a Ctrl-C is the children's; pytest's end is this one's
    for name in LIBRARIES:
        try:
            __import__(name)
        except ImportError:
            pass                                        # the script that needs it says so
    gc.freeze()         # else the children's collections, above all the last one, write to each object and so copy it
    channel = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 4)
        if not message:
            return
        if os.fork() == 0:
            channel.close()
            if _monitor(descriptors):
                _become(json.loads(message), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()


def _reap() -> None:
    """Let the monitors go that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _monitor(descriptors: list[int]) -> bool:
    """Fork the child: True in it. The monitor tells its id and its return code, and ends here."""
    child = os.fork()
    if child == 0:
        return True
    for descriptor in descriptors[:3]:
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):                           # pytest's own streams end without waiting for this process
        os.dup2(null, standard)
    try:
        with socket.socket(fileno=descriptors[3]) as report:
            report.sendall(b"%d\n" % child)
            report.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    except OSError:
        pass                                            # nobody waits for it any more
    os._exit(0)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """What Python does at its start, and then the script, module or code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, standard)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(request["cwd"])
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()      # where spawned processes look for the script
    os.environ.clear()
    os.environ.update(request["env"])
    sys.modules["numpy"].random.seed()                  # each process draws its own; `random` does so by itself
    first, *rest = request["words"]
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = [first, *rest], os.path.dirname(os.path.abspath(first))
        runpy.run_path(first, run_name="__main__")

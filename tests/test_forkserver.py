"""tests/forkserver.py: its processes are like those of subprocess."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forkserver
from tests.forkserver import DEVNULL, PIPE, Popen, Process, TimeoutExpired, run, server

pytestmark = pytest.mark.skipif(not forkserver.AVAILABLE, reason="no fork server: processes are ordinary ones")

SAYS = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['WORD']); print('wrong', file=sys.stderr)\n"


@pytest.fixture
def words(tmp_path):
    """The same program as a script, a module and code."""
    (tmp_path / "says.py").write_text(SAYS + "sys.exit(3)\n")
    return {"script": ["says.py"], "module": ["-m", "says"], "code": ["-c", SAYS + "sys.exit(3)"]}


@pytest.mark.parametrize("form", ["script", "module", "code"])
def test_streams_environment_folder_and_code_are_those_of_a_process(form, words, tmp_path):
    more = {"cwd": tmp_path, "env": {**os.environ, "WORD": "é"}}
    found = run(*words[form], "a b", 7, **more)
    wanted = subprocess.run([sys.executable, *words[form], "a b", "7"], capture_output=True, text=True, **more)
    assert (found.returncode, found.stdout, found.stderr) == (3, wanted.stdout, "wrong\n")
    assert found.stdout == f"['a b', '7'] {tmp_path} é\n" and found.args == wanted.args


def test_operations_run_in_many_children_and_the_server_has_one_thread():
    code = ("import tensorflow as tf, numpy as np; x = tf.random.uniform((200, 200)); "
            "y = tf.data.Dataset.range(8).map(lambda i: i + 1, num_parallel_calls=2); "
            "assert sum(map(int, y)) == 36 and np.isfinite(tf.function(tf.matmul)(x, x)).all()")
    begun = [Popen("-c", code, stdout=DEVNULL, stderr=PIPE) for _ in range(4)]
    assert len({process.pid for process in begun}) == 4
    for process in begun:
        assert isinstance(process, Process)
        stdout, stderr = process.communicate(60)
        assert process.returncode == 0 and stdout is None, stderr
    status = Path(f"/proc/{server().process.pid}/status").read_text()
    assert "Threads:\t1\n" in status


def test_an_error_is_a_traceback_and_code_1():
    done = run("-c", "import atexit\natexit.register(print, 'ended')\nraise LookupError('what')")
    assert done.returncode == 1 and done.stdout == "ended\n"
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("LookupError: what\n")
    with pytest.raises(subprocess.CalledProcessError):
        run("-c", "raise SystemExit(2)", check=True)


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM),
                                          (signal.SIGINT, 130)])
def test_signals(number, code):
    program = ("import sys, time\ntry:\n    print('ready', flush=True); time.sleep(60)\n"
               "except KeyboardInterrupt:\n    sys.exit(130)")
    process = Popen("-c", program, stdout=PIPE)
    assert process.stdout.readline() == "ready\n" and process.poll() is None
    process.send_signal(number)
    assert process.wait(30) == process.poll() == code
    process.stdout.close()
    assert not Path(f"/proc/{process.pid}").exists()
    process.kill()                                      # of one that has ended: nothing


def test_more_than_a_pipe_holds_and_a_deadline():
    done = run("-c", "import sys; sys.stderr.write('e' * 300000); sys.stdout.write('o' * 300000)", timeout=60)
    assert (len(done.stdout), len(done.stderr)) == (300000, 300000)
    begun = time.monotonic()
    with pytest.raises(TimeoutExpired):
        run("-c", "import time; time.sleep(60)", timeout=0.2)
    assert time.monotonic() - begun < 30


def test_spawned_processes_find_the_script(tmp_path):
    (tmp_path / "spawns.py").write_text(
        "import multiprocessing, os\ndef say(): print('child of', os.getppid(), flush=True)\n"
        "if __name__ == '__main__':\n    process = multiprocessing.get_context('spawn').Process(target=say)\n"
        "    process.start(); process.join(); print(os.getpid())\n")
    done = run("spawns.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.split("\n")[:2]
    assert child == f"child of {parent}"


def test_what_an_import_reads_needs_a_new_python():
    for words, env in ((["-c", "pass"], {"KERAS_BACKEND": "jax"}), (["-c", "pass"], {"PYTHONHASHSEED": "1"}),
                       (["-W", "error", "-c", "pass"], {})):
        process = Popen(*words, env={**os.environ, **env})
        assert isinstance(process, subprocess.Popen) and process.wait(30) == 0

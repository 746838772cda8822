"""tests/conftest.py: what a user's shell and keras.json say does not reach the tests."""
import json
import os
import subprocess
import sys

from tests.forkserver import ROOT


def test_settings_of_the_user_do_not_leak_in(tmp_path):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"floatx": "float16", "backend": "jax", "epsilon": 0.5}))
    code = ("import tests.conftest, os, keras; assert 'TF_CONFIG' not in os.environ\n"
            "print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon())")
    environment = {**os.environ, "HOME": str(tmp_path), "KERAS_BACKEND": "jax", "TF_CONFIG": '{"cluster": {}}'}
    environment.pop("KERAS_HOME")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout == "tensorflow float32 1e-07\n"
    assert [path.name for path in (tmp_path / ".keras").iterdir()] == ["keras.json"]

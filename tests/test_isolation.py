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


def test_a_users_keras_json_does_not_reach_the_networks(tmp_path):
    """channels_first and a backend that is not installed: Keras's own programs use them, ours run on TensorFlow."""
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float16", "backend": "torch", "epsilon": 0.5,
                                                     "image_data_format": "channels_first"}))
    code = ("from Network.models.registry import get_network; network = get_network('compact')\n"
            "import keras\nprint(keras.config.backend(), keras.config.image_data_format(), keras.config.floatx(), "
            "keras.config.epsilon())")
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout == "tensorflow channels_last float32 1e-07\n"

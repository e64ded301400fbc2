"""Training and evaluation, checks and devices."""

import json
import signal
import subprocess
import sys
import time

import pytest

import wmic


def test_runs_are_those_of_the_command(run, recordings, command):
    evaluation = wmic.evaluate(run, recordings)
    assert evaluation == run.evaluation
    assert evaluation == json.loads(command("eval", run.path, recordings, "--json"))
    with pytest.raises(ValueError, match="`force` scores them anyway"):
        wmic.evaluate(run, recordings, split="all")
    with pytest.warns(UserWarning, match="may be too high"):
        wmic.evaluate(run, recordings, split="all", force=True)


def test_wrong_options_are_explained(recordings, tmp_path):
    with pytest.raises(ValueError, match='unknown option "epoch"'):
        wmic.train(recordings, epoch=3)
    with pytest.raises(ValueError, match="`epochs`"):
        wmic.train(recordings, epochs="many")
    with pytest.raises(ValueError, match="rf is not a neural network: remove `lr`"):
        wmic.train(recordings, "rf", lr=0.1)
    with pytest.raises(ValueError, match="a run needs a `dataset`"):
        wmic.train()
    names = {option["name"] for option in wmic.options()}
    assert {"epochs", "lr", "frontend_weights", "augment"} <= names


def test_an_interrupted_training_continues(command, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    command("synth", "--clips", 60, data)
    code = f"import wmic; wmic.train({str(data)!r}, 'att', out={str(run)!r}, epochs=400)"
    training = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not (run / "run.toml").exists() and training.poll() is None:
        time.sleep(0.05)
    training.send_signal(signal.SIGINT)
    errors = training.communicate(timeout=120)[1]
    assert training.returncode != 0 and "KeyboardInterrupt" in errors
    assert (run / "state.safetensors").exists() and not (run / "test.json").exists()
    with pytest.raises(ValueError, match="`epochs` cannot be used with `resume`"):
        wmic.train(resume=run, epochs=3)


def test_devices_and_checks():
    devices = wmic.devices()
    assert sum(device["used"] for device in devices) == 1
    rows = wmic.check("softmax")
    assert rows and all(row["passed"] and row["op"] == "softmax" for row in rows)
    with pytest.raises(ValueError, match="no-such-op"):
        wmic.check("no-such-op")

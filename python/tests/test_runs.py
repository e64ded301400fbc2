"""Training and evaluation, checks and devices."""

import hashlib
import json
import pathlib
import signal

import numpy as np
import pytest

import wmic


def weights(run):
    return (pathlib.Path(run.path) / "model.safetensors").read_bytes()


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
    with pytest.raises(ValueError, match="`epochs`: a whole number, 0 or above, is expected"):
        wmic.train(recordings, epochs="many")
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        wmic.train(recordings, epochs=np.int64(0), seeds=np.int64(2))
    with pytest.raises(TypeError, match="integer"):
        wmic.train(recordings, seeds="ab")
    with pytest.raises(ValueError, match="rf is not a neural network: remove `lr`"):
        wmic.train(recordings, "rf", lr=0.1)
    with pytest.raises(ValueError, match="a run needs a `dataset`"):
        wmic.train()
    names = {option["name"] for option in wmic.options()}
    assert {"epochs", "lr", "frontend_weights", "augment"} <= names


def test_an_interrupted_training_continues(command, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    command("synth", "--clips", 60, data)

    def interrupt(what, done, *_):
        if (what, done) == ("epochs", 2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        wmic.train(data, "att", out=run, epochs=4, progress=interrupt)
    assert (run / "state.safetensors").exists() and not (run / "test.json").exists()
    with pytest.raises(ValueError, match="`epochs` cannot be used with `resume`"):
        wmic.train(resume=run, epochs=3)
    epochs = []
    resumed = wmic.train(resume=run, progress=lambda what, done, *_: epochs.append(done))
    assert epochs == [3, 4]
    whole = wmic.train(data, "att", out=tmp_path / "whole", epochs=4)
    assert resumed.evaluation == whole.evaluation
    assert weights(resumed) == weights(whole)


def test_kept_tiles_are_used(command, tmp_path, monkeypatch):
    data, (device,) = tmp_path / "data", [device for device in wmic.devices() if device["used"]]
    command("synth", "--clips", 60, data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = hashlib.sha256(f"{device['name']}\n{device['driver']}".encode()).hexdigest()[:16]
    kept = tmp_path / "cache" / "wmic" / "tiles" / f"{name}.toml"
    kept.parent.mkdir(parents=True)
    text = f"adapter = {json.dumps(device['name'])}\ndriver = {json.dumps(device['driver'])}\n[tiles]\n"
    text += '"linear_backward_weight 128 x 128 x 200" = "64 / 2"\n'
    kept.write_text(f"# sha256 {hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    run = wmic.train(data, "att", out=tmp_path / "run", epochs=1, batch=20)
    assert '"64 / 2"' in (tmp_path / "run" / "run.toml").read_text()
    kept.write_text("garbage")
    with pytest.warns(UserWarning, match="is damaged.*the default tiles are used"):
        run.load()


def test_devices_and_checks():
    devices = wmic.devices()
    assert sum(device["used"] for device in devices) == 1
    rows = wmic.check("softmax")
    assert rows and all(row["passed"] and row["op"] == "softmax" for row in rows)
    with pytest.raises(ValueError, match="no-such-op"):
        wmic.check("no-such-op")

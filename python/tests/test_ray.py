"""Many machines. Slow: `scripts/test-python -m slow` installs Ray and runs these."""

import json
import os
import pathlib
import shutil
import signal
import threading
import time
import wave

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def many(clips, tmp_path_factory):
    """200 different clips of a second."""
    folder = tmp_path_factory.mktemp("many")
    paths = []
    for clip in clips:
        with wave.open(str(clip)) as file:
            params, rate = file.getparams(), file.getframerate()
            for part in range(5):
                paths.append(folder / f"{clip.stem}-{part}.wav")
                with wave.open(str(paths[-1]), "wb") as short:
                    short.setparams(params)
                    short.writeframes(file.readframes(rate))
    return paths


def kill_an_actor(killed):
    """Kills a process with an actor once it has begun to work."""
    deadline = time.monotonic() + 60
    while not killed and time.monotonic() < deadline:
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::") and b"_Predictor" in name or b"MapWorker" in name and b"ray::" in name:
                time.sleep(1.0)
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(int(process.name))
                return
        time.sleep(0.1)


def test_an_actor_that_is_killed_loses_no_row(cluster, run, many, command, tmp_path):
    import wmic.ray

    killed = []
    killer = threading.Thread(target=kill_an_actor, args=(killed,))
    killer.start()
    results = wmic.ray.predict(
        many, run.path, num_gpus=0, concurrency=2, batch_size=10, out=str(tmp_path / "results"), format="jsonl"
    )
    killer.join()
    assert killed, "no actor was killed"
    rows = {row["file"]: row for row in results.take_all()}
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in many))
    lines = command("predict", run.path, "--files-from", tmp_path / "list", "--format", "jsonl").splitlines()
    assert len(rows) == len(lines) == 200
    for line in map(json.loads, lines):
        row = rows[line["file"]]
        for ours, theirs in zip(row["instruments"], line["instruments"]):
            assert ours["name"] == theirs["name"]
            assert f"{ours['probability']:.6f}" == f"{theirs['probability']:.6f}"


def test_a_gpu_that_fails_is_opened_again_and_is_no_fault_of_a_recording(monkeypatch):
    pytest.importorskip("ray")
    import wmic
    import wmic.ray

    class Model:
        """Of a GPU that can do so many recordings before it is lost."""

        def __init__(self, recordings):
            self.recordings = recordings

        def predict(self, path):
            if path == "noise.wav":
                raise ValueError("noise.wav: not audio")
            self.recordings -= 1
            if self.recordings < 0:
                raise wmic.DeviceError("GPU: lost")
            return type("Result", (), {"to_json": lambda _: json.dumps({"file": path, "duration": 1.0})})()

    models = [Model(1), Model(2), Model(0)]
    monkeypatch.setattr(wmic, "load", lambda *_, **__: models.pop(0))
    monkeypatch.setattr(wmic.ray, "device", lambda: None)
    predictor = wmic.ray._Predictor(None, {})
    rows = [predictor._row(name) for name in ("a.wav", "noise.wav", "b.wav", "c.wav")]
    assert [row.get("error") for row in rows] == [None, "noise.wav: not audio", None, None]
    with pytest.raises(wmic.DeviceError, match="lost"):
        predictor._row("d.wav")


def test_a_comparison_in_blocks_of_seeds_is_that_of_the_command(cluster, command, tmp_path):
    import wmic.ray

    data, experiment = tmp_path / "data", tmp_path / "two.toml"
    command("synth", "--clips", 60, data)
    experiment.write_text(
        """
title = "Two models"
seeds = 3
[[entry]]
label = "attention"
model = "att"
epochs = 2
[[entry]]
label = "mean"
model = "fc-t"
epochs = 2
"""
    )
    ours = wmic.ray.compare(experiment, data, out=tmp_path / "ray", seed_block=2, num_gpus=0)
    theirs = json.loads(command("compare", data, "--experiment", experiment, "--out", tmp_path / "whole", "--json"))
    assert ours.skipped == [] and ours.comparison == theirs
    for entry in ("attention", "mean"):
        one, other = (tmp_path / folder / entry / "model.safetensors" for folder in ("ray", "whole"))
        assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "ray").glob("*.seeds-*"))
    # What an earlier call has left of an entry's seeds is made again.
    old = tmp_path / "ray" / "mean.seeds-0-1"
    shutil.copytree(tmp_path / "ray" / "attention", old)
    again = wmic.ray.compare(experiment, data, out=tmp_path / "ray", seed_block=2, num_gpus=0, force=True)
    assert again.comparison == theirs and not old.exists()

"""`wmic export` to ONNX: another runtime computes the same probabilities."""

import json
import wave

import numpy as np
import onnx
import onnxruntime as runtime
import pytest


@pytest.fixture(scope="module")
def dataset(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "data"
    command("synth", "--clips", 60, folder)
    return folder


def probabilities(session, features, lengths=None):
    inputs = {"features": features}
    if "lengths" in [of.name for of in session.get_inputs()]:
        inputs["lengths"] = np.full(len(features), features.shape[1]) if lengths is None else lengths
    return session.run(["probabilities"], inputs)[0]


def answers(command, run, archive, classes):
    lines = command("predict", run, archive, "--calibrate", "false", "--format", "jsonl").splitlines()
    rows = [{of["name"]: of["probability"] for of in json.loads(line)["instruments"]} for line in lines]
    return np.array([[row[name] for name in classes] for row in rows])


@pytest.mark.parametrize("model", ["att", "att --standardise true", "fc", "fc-t", "rnn", "bilstm-att", "att-gn"])
def test_probabilities_are_the_same(model, dataset, command, tmp_path):
    run, file = tmp_path / "run", tmp_path / "model.onnx"
    command("train", dataset, "--model", *model.split(), "--epochs", 1, "--out", run)
    command("export", run, file)
    onnx.checker.check_model(onnx.load(file), full_check=True)
    session = runtime.InferenceSession(file)
    classes = session.get_modelmeta().custom_metadata_map["classes"].split("\n")
    stored = np.load(dataset / "openmic-2018.npz", allow_pickle=True)["X"][:9]
    features = stored.astype(np.float32) / 255
    np.savez(tmp_path / "x.npz", X=stored)
    expected = answers(command, run, tmp_path / "x.npz", classes)
    assert np.abs(probabilities(session, features) - expected).max() < 1e-5
    if model == "fc":
        return
    # Of shorter clips the rest is not seen.
    np.savez(tmp_path / "short.npz", X=stored[:, :4])
    expected = answers(command, run, tmp_path / "short.npz", classes)
    features[:, 4:] = 0.5
    assert np.abs(probabilities(session, features, np.full(9, 4)) - expected).max() < 1e-5


@pytest.mark.slow
def test_notes(command, tmp_path):
    notes, run, file = tmp_path / "notes", tmp_path / "run", tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    for name, partials in [("flute", 2), ("guitar", 9), ("trombone", 30)]:
        (notes / name).mkdir(parents=True)
        for i in range(8):
            phase = 2 * np.pi * rng.uniform(200, 400) * np.arange(44_100) / 44_100
            sound = sum(np.sin(k * phase) / k for k in range(1, partials + 1))
            with wave.open(str(notes / name / f"{i}.wav"), "wb") as out:
                out.setnchannels(1), out.setsampwidth(2), out.setframerate(44_100)
                out.writeframes((8_000 * sound / np.abs(sound).max()).astype("<i2").tobytes())
    options = ["--width", "1/8", "--attention", 25, "--epochs", 1, "--batch", 8, "--cache", tmp_path / "cache"]
    command("train", notes, "--model", "aacnn", *options, "--out", run)
    command("export", run, file)
    session = runtime.InferenceSession(file)
    (cached,) = (tmp_path / "cache").glob("*.npz")
    archive = np.load(cached, allow_pickle=True)
    few = {key: archive[key][:2] if key in ("X", "sample_key") else archive[key] for key in archive}
    np.savez(tmp_path / "x.npz", **few)
    classes = session.get_modelmeta().custom_metadata_map["classes"].split("\n")
    expected = answers(command, run, tmp_path / "x.npz", classes)
    # One at a time: the attention of a batch fills gigabytes.
    found = [probabilities(session, row[None])[0] for row in few["X"].astype(np.float32)]
    assert np.abs(found - expected).max() < 1e-5

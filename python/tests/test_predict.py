"""Models: their results are the command line's."""

import json
import pickle

import numpy as np
import pytest

import wmic


def test_results_equal_the_command_lines(model, run, clips, command):
    lines = command("predict", run.path, *clips[:3], "--format", "jsonl").splitlines()
    results = model.predict(clips[:3])
    assert [result.to_json() for result in results] == [line + "\n" for line in lines]
    for result, line in zip(results, map(json.loads, lines)):
        by_name = {instrument["name"]: instrument for instrument in line["instruments"]}
        for k, name in enumerate(result.classes):
            expected = by_name[name]
            assert f"{result.probabilities[k]:.6f}" == f"{expected['probability']:.6f}"
            assert f"{result.spread[k]:.6f}" == f"{expected['spread']:.6f}"
            assert result.present[k] == expected["present"]
            segments = result.segments[result.segments["instrument"] == name]
            assert len(segments) == len(expected["segments"])
        assert result.timeline.shape == result.attention.shape == (len(result.timeline), 20)
        assert result.duration == pytest.approx(10.0)
        assert result.model == "att" and result.seeds == [0, 1]


def test_the_bundled_model_answers(clips, command):
    model = wmic.load(frontend="musicnn")
    result = model.predict(clips[0])
    assert result.to_json() == command("predict", clips[0], "--frontend", "musicnn", "--format", "jsonl")
    assert result.to_jams() == command("predict", clips[0], "--frontend", "musicnn", "--format", "jams")
    assert model.classes == result.classes and len(model.classes) == 20
    assert 0.0 <= result.probabilities.min() and result.probabilities.max() <= 1.0


def test_half_precision_is_that_of_the_command(run, clips, command):
    (device,) = [device for device in wmic.devices() if device["used"]]
    if not device["features"]["f16"]:
        with pytest.raises(wmic.DeviceError, match="f16"):
            run.load(arithmetic="f16").predict(clips[0])
        return
    result = run.load(arithmetic="f16").predict(clips[0])
    assert result.to_json() == command("predict", run.path, clips[0], "--arithmetic", "f16", "--format", "jsonl")
    assert result.to_json() != run.load().predict(clips[0]).to_json()


def test_samples_are_read_as_a_file_is(model, clips):
    import wave

    with wave.open(str(clips[0])) as file:
        sr, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    in_memory, on_disk = model.predict((samples, sr)), model.predict(clips[0])
    assert in_memory.file == "samples"
    np.testing.assert_array_equal(in_memory.probabilities, on_disk.probabilities)
    np.testing.assert_array_equal(in_memory.timeline, on_disk.timeline)


def test_results_can_be_sent_and_tabulated(model, clips):
    pandas = pytest.importorskip("pandas")
    result = model.predict(clips[0])
    sent = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(sent.probabilities, result.probabilities)
    table = result.to_dataframe()
    assert isinstance(table, pandas.DataFrame) and len(table) == 20
    assert table.probability.is_monotonic_decreasing


def test_features_are_predicted_without_audio(command, tmp_path):
    data = tmp_path / "data"
    command("synth", "--clips", 40, data)
    run = wmic.train(data, "fc-t", out=tmp_path / "run", epochs=1)
    with np.load(data / "openmic-2018.npz", allow_pickle=True) as archive:
        features, keys = archive["X"], archive["sample_key"]
    lines = [json.loads(line) for line in command("predict", run.path, data, "--format", "jsonl").splitlines()]
    model = run.load()
    results = model.predict_features(features)
    assert [line["file"] for line in lines] == list(keys)
    for result, line in zip(results, lines):
        best = line["instruments"][0]
        assert f"{result.probabilities[result.classes.index(best['name'])]:.6f}" == f"{best['probability']:.6f}"
    with pytest.raises(ValueError, match="front end"):
        model.predict("song.wav")


def test_embeddings_have_a_row_for_each_instance(model, clips):
    features = model.embed(clips[0])
    assert features.shape == (10, 128) and features.dtype == np.float32
    assert np.isfinite(features).all()


def test_progress_can_end_a_call(model, clips):
    done = []

    def progress(what, count, of, info):
        done.append((what, count, of, info))
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.predict(clips[:6], progress=progress)
    assert done == [("recordings", 1, 6, None), ("recordings", 2, 6, None)]
    assert len(model.predict(clips[:2])) == 2


def test_errors_are_the_librarys(model, clips, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such.wav"):
        model.predict("no-such.wav")
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"RIFF....WAVE")
    with pytest.raises(ValueError, match="noise.wav"):
        model.predict(noise)
    with pytest.warns(UserWarning, match="skipped: .*noise.wav"):
        results = model.predict([noise, clips[0]], on_error="skip")
    assert results[0] is None and results[1].file == str(clips[0])
    with pytest.raises(ValueError, match="average the channels"):
        model.predict((np.zeros((2, 100)), 44_100))
    with pytest.raises(ValueError, match="sample 1 is NaN"):
        model.predict((np.array([0.0, np.nan]), 44_100))
    for sr in (-8_000, 8_000.5, None):
        with pytest.raises(ValueError, match="sr must be a whole number of Hz"):
            model.predict(([0.0, 1.0], sr))
    for recordings in (np.zeros(8), 8, b"noise.wav"):
        with pytest.raises(TypeError, match="a path, paths, or .samples, sr., not this"):
            model.predict(recordings)
    with pytest.raises(FileNotFoundError, match="^no-such.wav: does not exist$"):
        model.embed("no-such.wav")
    with pytest.raises(ValueError, match="^[^:]*noise.wav: "):
        model.embed(noise)
    with pytest.raises(ValueError, match="^features: "):
        model.predict_features(np.zeros((2, 10, 7), np.uint8))
    with pytest.raises(ValueError, match="`aggregate`: unknown variant `median`"):
        wmic.load(aggregate="median")
    with pytest.raises(ValueError, match="`gate`: .*, expected a number"):
        wmic.load(gate="loud")
    with pytest.raises(ValueError, match="`hop` 99 s is out of range"):
        wmic.load(frontend="musicnn", hop=np.float32(99))
    with pytest.raises((OSError, ValueError), match="no-such-run"):
        wmic.load("no-such-run")
    with pytest.raises(wmic.DeviceError, match="no-such-gpu") as raised:
        wmic.load(device="no-such-gpu")
    assert isinstance(pickle.loads(pickle.dumps(raised.value)), OSError)

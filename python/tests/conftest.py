import os
import pathlib
import subprocess

import pytest

import wmic

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def command():
    """Runs the command `wmic`; gives its stdout."""
    program = os.environ.get("WMIC", ROOT / "target" / "checked" / "wmic")

    def run(*arguments):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def recordings(command, tmp_path_factory):
    """A dataset of recordings, in OpenMIC-2018's layout."""
    folder = tmp_path_factory.mktemp("data") / "recordings"
    command("synth", "--audio", "--clips", 40, folder)
    return folder


@pytest.fixture(scope="session")
def clips(recordings):
    return sorted((recordings / "audio").glob("*/*.wav"))


@pytest.fixture(scope="session")
def run(recordings, tmp_path_factory):
    """A small trained run on embeddings."""
    folder = tmp_path_factory.mktemp("runs")
    events = []
    run = wmic.train(
        recordings,
        "att",
        seeds=2,
        out=folder / "att",
        epochs=2,
        frontend_weights="random",
        width="1/8",
        cache=folder / "cache",
        progress=lambda *event: events.append(event),
    )
    assert events[0][0] == "files"
    assert [event[:3] for event in events if event[0] == "epochs"] == [("epochs", 1, 2), ("epochs", 2, 2)]
    assert [row["seed"] for row in events[-1][3]["rows"]] == [0, 1]
    return run


@pytest.fixture(scope="session")
def model(run):
    return run.load()

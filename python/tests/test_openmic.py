"""OpenMIC-2018 as its loader in mirdata expects it on disk."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

METADATA = "freesound_id,track_title,artist_name,track_genres,track_url,start_time,sample_key,duration\n"


@pytest.fixture(scope="module")
def home(recordings, tmp_path_factory):
    """A folder with one clip of the real dataset, where it is at hand, else of a synthetic one."""
    real = pathlib.Path(os.environ.get("WMIC_DATA", "")) / "openmic-one"
    if "WMIC_DATA" in os.environ and real.is_dir():
        return real
    home = tmp_path_factory.mktemp("openmic") / "openmic-2018"
    shutil.copytree(recordings, home)
    keys = [path.stem for path in home.glob("audio/*/*.wav")]
    rows = [f"0,title,artist,\"[{{'genre_title': 'Folk'}}]\",url,1.0,{key},10.0\n" for key in keys]
    (home / "openmic-2018-metadata.csv").write_text(METADATA + "".join(rows))
    return home


def test_a_clip_is_read_through_the_loader(model, home):
    clip = sorted(home.glob("audio/*/*"))[0]
    result = model.predict(clip)
    mirdata = pytest.importorskip("mirdata.datasets.openmic2018")
    index = {"tracks": {clip.stem: {"audio": [str(clip.relative_to(home)), ""], "vggish": [None, None]}}}
    metadata = mirdata.Dataset(str(home), version="test")._metadata
    track = mirdata.Track(clip.stem, str(home), "openmic2018", index, lambda: metadata)
    assert track.split in ("split01_train", "split01_test")
    assert set(track.instruments) <= set(model.classes)
    by_path = model.predict(track.audio_path)
    np.testing.assert_array_equal(by_path.probabilities, result.probabilities)
    # At another rate, 44.1 kHz.
    samples = model.predict(track.audio)
    np.testing.assert_allclose(samples.probabilities, result.probabilities, atol=0.02)


def test_the_folder_is_a_dataset(home):
    classes = json.loads((home / "class-map.json").read_text())
    assert classes["accordion"] == 0 and len(classes) == 20

"""Writes the golden files next to itself; see README.md. Re-running gives the same bytes.

    python tests/golden/make_golden.py        needs torch, numpy, scipy, scikit-learn, safetensors, librosa, soundfile

`clip.json`, `notes.safetensors` and `pca.safetensors` are written only where $WMIC_DATA holds the recordings and the
PCA.
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "benches" / "peers")]

from aacnn import aacnn  # noqa: E402
from attention import attention  # noqa: E402
from audio import audio, clip, audio_files  # noqa: E402
from augment import augment  # noqa: E402
from cnn_att import cnn_att  # noqa: E402
from events import measures
from forest import forest  # noqa: E402
from images import images  # noqa: E402
from layers import layers  # noqa: E402
from loss_mean import loss_mean  # noqa: E402
from metrics import metrics  # noqa: E402
from models import case, trajectories  # noqa: E402
from pretraining import objectives, pretraining  # noqa: E402
from recurrent import recurrent  # noqa: E402
from significance import significance  # noqa: E402
from sightreader import sightreader  # noqa: E402
from spectra import notes, spectra  # noqa: E402
from strong import strong  # noqa: E402
from vggish import pca, state_dict, vggish  # noqa: E402
from visual import visual  # noqa: E402


def write_tensors(name: str, tensors: dict[str, torch.Tensor]) -> None:
    """All tensors as f32; none may hold a NaN or an infinity."""
    stored = {key: value.detach().to(torch.float32).contiguous() for key, value in tensors.items()}
    for key, value in stored.items():
        assert value.isfinite().all(), f"{name}: {key} is not finite"
    save_file(stored, HERE / name)


def write_json(name: str, value) -> None:
    (HERE / name).write_text(json.dumps(value, allow_nan=False) + "\n")


def main() -> None:
    torch.set_num_threads(1)  # one summation order
    write_tensors("layers.safetensors", layers())
    write_json("loss_mean.json", loss_mean(HERE / "layers.safetensors"))
    write_json("strong.json", strong())
    write_tensors("augment.safetensors", augment())
    write_tensors("images.safetensors", images())
    write_tensors("recurrent.safetensors", recurrent())
    write_tensors("pretraining.safetensors", pretraining())
    write_json("objectives.json", objectives())
    write_tensors("attention.safetensors", attention())
    for model in ["att", "fc", "fc-t", "rnn", "bilstm-att", "att-gn"]:
        write_tensors(f"{model}.safetensors", case(model))
    runs = trajectories()
    for run in runs:
        print(f"{run['model']:10} {run['loss']:12} f32 and f64 losses differ by at most {run['max_relative_gap']:.1e}")
    write_json("trajectory.json", runs)
    write_json("metrics.json", metrics())
    write_json("events.json", measures())
    write_json("forest.json", forest())
    write_json("significance.json", significance())
    write_tensors("audio.safetensors", audio())
    audio_files(HERE)
    write_tensors("spectra.safetensors", spectra())
    write_tensors("vggish.safetensors", vggish())
    for divisor in [4, 8]:
        write_json(f"vggish-{divisor}.header.json", state_dict(divisor)[0])
    write_tensors("visual.safetensors", visual())
    write_tensors("cnn-att.safetensors", cnn_att())
    write_tensors("aacnn.safetensors", aacnn())
    write_tensors("sightreader.safetensors", sightreader())
    data = Path(os.environ.get("WMIC_DATA", ""))
    parameters = data / "vggish_pca_params.npz"
    if parameters.is_file():
        save_file(pca(parameters), HERE / "pca.safetensors")
    orchestra = data / "orchestra"
    if orchestra.is_dir():
        write_tensors("notes.safetensors", notes(orchestra))
    recording = data / "openmic-one/audio/000/000046_3840.ogg"
    if recording.is_file():
        write_json("clip.json", clip(recording))


if __name__ == "__main__":
    main()

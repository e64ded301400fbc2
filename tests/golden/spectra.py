"""librosa's STFT and constant-Q magnitudes, of generated signals and of three notes of $WMIC_DATA/orchestra."""

import warnings
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

# Every so many frames are stored.
CQT_STEP, STFT_STEP = 6, 12
AACNN21 = dict(sr=44100, hop_length=512, fmin=32.703, bins_per_octave=36, n_bins=252)
# An odd hop: nothing can be computed at a lower rate.
NARROW = dict(sr=22050, hop_length=441, fmin=55.0, bins_per_octave=24, n_bins=60)
# The first second of each, relative to $WMIC_DATA/orchestra.
NOTES = [
    "banjo/banjo_A3_very-long_forte_normal.mp3",
    "bass-clarinet/bass-clarinet_A2_15_fortissimo_normal.mp3",
    "flute/flute_A4_15_forte_normal.mp3",
]


def sines(sr: int, hz: list[float]) -> np.ndarray:
    """A second of sines of amplitude 0.2 with phases 0, 1, 2, ..., 50 ms to fade in and out."""
    t = np.arange(sr) / sr
    fade = np.sin(np.pi / 2 * np.minimum(1, np.minimum(t, 1 - t) / 0.05)) ** 2
    return fade * sum(0.2 * np.sin(2 * np.pi * f * t + i) for i, f in enumerate(hz))


def sweep(sr: int) -> np.ndarray:
    """A second from 40 to 4000 Hz, exponentially."""
    return 0.5 * np.sin(2 * np.pi * 40 * (100 ** (np.arange(sr) / sr) - 1) / np.log(100))


def cqt(name: str, y: np.ndarray, settings: dict) -> dict[str, torch.Tensor]:
    """As by default, with the filters' smallest values dropped, and with complete filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clips shorter than the filters of low octaves
        of = {"default": librosa.cqt(y, **settings), "whole": librosa.cqt(y, sparsity=0, **settings)}
    return {f"{name}.{kind}": torch.from_numpy(np.abs(v).T[::CQT_STEP].copy()) for kind, v in of.items()}


def spectra() -> dict[str, torch.Tensor]:
    tones = sines(44100, [55, 123.4, 440, 1000.3, 2793.8])
    stft = np.abs(librosa.stft(sweep(44100) + tones, n_fft=2048, hop_length=512, dtype=np.complex128))
    tensors = {"stft": torch.from_numpy(stft.T[::STFT_STEP].copy())}
    tensors |= cqt("sines", tones, AACNN21) | cqt("sweep", sweep(44100), AACNN21)
    return tensors | cqt("narrow", sines(22050, [60, 123.4, 250]), NARROW)


def notes(orchestra: Path) -> dict[str, torch.Tensor]:
    """`<i>.samples`: every 441st, to check that two decoders agree on the start of a file."""
    tensors = {}
    for i, name in enumerate(NOTES):
        samples, sr = soundfile.read(orchestra / name, dtype="float64", always_2d=True)
        assert sr == AACNN21["sr"]
        y = samples.mean(1)[:sr]
        tensors |= {f"{i}.samples": torch.from_numpy(y[::441].copy())} | cqt(str(i), y, AACNN21)
    return tensors

"""Mel spectrograms by librosa and VGGish's log-mel front end in numpy, on a generated signal; small audio files."""


import subprocess
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

from formula import frac

SIGNAL_SALT = 2000

# librosa's settings beside sr: name -> (sr, samples, n_fft, hop_length, win_length, n_mels, fmin, fmax, htk, norm,
# centred, power)
SETS = {
    "slaney": (22050, 11025, 2048, 512, 2048, 128, 0.0, 11025.0, False, "slaney", True, 2.0),
    "htk": (16000, 9000, 1024, 256, 800, 40, 50.0, 7000.0, True, None, False, 1.0),
    "slaney_narrow": (44100, 20000, 4096, 1024, 3000, 60, 80.0, 16000.0, False, None, True, 1.0),
    "htk_normalised": (8000, 6000, 256, 64, 256, 24, 0.0, 4000.0, True, "slaney", True, 2.0),
}


def signal(sr: int, samples: int, salt: int) -> np.ndarray:
    """Two gliding tones and noise, f32 values as f64; the noise is the formula's."""
    t = np.arange(samples) / sr
    tones = 0.4 * np.sin(2 * np.pi * (200 * t + 600 * t * t)) + 0.2 * np.sin(2 * np.pi * 0.31 * sr * t)
    noise = 0.1 * (2 * frac((samples,), SIGNAL_SALT + salt) - 1)
    return (tones + noise).astype(np.float32).astype(np.float64)


def vggish(samples: np.ndarray) -> np.ndarray:
    """ln(mel + 0.01) of MODELS' front end: (frames, 64)."""
    n = np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
    magnitude = np.abs(np.fft.rfft(frames * window, 512))

    def mel(hz):
        return 1127 * np.log1p(np.asarray(hz) / 700)

    edges = np.linspace(mel(125), mel(7500), 66)
    bins = mel(np.linspace(0, 8000, 257))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return np.log(magnitude @ weights + 0.01)


def audio() -> dict[str, torch.Tensor]:
    tensors = {}
    for i, (name, settings) in enumerate(SETS.items()):
        sr, samples, n_fft, hop, win, n_mels, fmin, fmax, htk, norm, centred, power = settings
        y = signal(sr, samples, i)
        how = {"n_fft": n_fft, "hop_length": hop, "win_length": win, "center": centred, "pad_mode": "reflect"}
        stft = librosa.stft(y, dtype=np.complex128, **how)
        bank = librosa.filters.mel(
            sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm=norm, dtype=np.float64
        )
        mel = bank @ np.abs(stft) ** power
        tensors[f"{name}.x"] = torch.from_numpy(y[None])
        tensors[f"{name}.mel"] = torch.from_numpy(mel.T[None].copy())
        db = librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=None)
        tensors[f"{name}.db"] = torch.from_numpy(db.T[None].copy())
    y = signal(16000, 16000, len(SETS))
    tensors["vggish.x"] = torch.from_numpy(y[None])
    tensors["vggish.log_mel"] = torch.from_numpy(vggish(y)[None])
    return tensors


def audio_files(folder: Path) -> None:
    """A tenth of a second of a stereo tone in formats that libsndfile writes, for the tests of damaged files.

    Existing files stay: the serial number of an Ogg stream is random.
    """
    t = np.arange(1600) / 16000
    tone = 0.4 * np.sin(2 * np.pi * 440 * t)
    stereo = np.stack([tone, -0.5 * tone], 1)
    for ending, subtype in [("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_16")]:
        path = folder / f"tone.{ending}"
        if not path.exists():
            soundfile.write(path, stereo, 16000, subtype=subtype)
    # Three tenths of a second, mono, with delays, edits and fragments that libsndfile does not write; one has no tag
    # and two channels.
    for name, options in [
        ("tone.m4a", "-ar 22050 -c:a aac -b:a 32k"),
        ("tone.opus", "-ar 48000 -c:a libopus -b:a 16k"),
        ("tone.webm", "-ar 48000 -c:a libopus -b:a 16k"),
        ("tone.mka", "-ar 22050 -c:a libvorbis -q:a 0"),
        (
            "tone_fragments.m4a",
            "-ar 22050 -c:a aac -b:a 32k -movflags empty_moov+default_base_moof -frag_duration 60000",
        ),
        ("tone_alac.m4a", "-ar 16000 -c:a alac"),
        ("tone_flac.oga", "-ar 16000 -c:a flac"),
        ("tone_stereo.mp3", "-ar 22050 -c:a libmp3lame -b:a 24k -ac 2 -write_xing 0 -id3v2_version 0"),
    ]:
        path = folder / name
        if not path.exists():
            source = "sine=frequency=440:sample_rate=48000:duration=0.3"
            ffmpeg = ["ffmpeg", "-v", "error", "-bitexact", "-f", "lavfi", "-i", source, *options.split(), str(path)]
            subprocess.run(ffmpeg, check=True)


def clip(path: Path) -> dict:
    """Every 4410th mono sample of a recording as libsndfile decodes it, and the sum of the squares of all."""
    samples, sr = soundfile.read(path, dtype="float64", always_2d=True)
    mono = samples.mean(1)
    step = 4410
    samples = [round(v, 7) for v in mono[::step].tolist()]
    return {"sr": sr, "len": len(mono), "step": step, "power": float((mono**2).sum()), "samples": samples}

"""PyTorch and librosa peers of `wmic bench --audio` on the CPU: log-mel and constant-Q spectrograms, VGGish forward, and training.

    python benches/peers/audio.py | tee audio.json         one JSON object per line, for `wmic bench --peer audio.json`

log-mel: 100 clips of 10 s at 16 kHz with VGGish's parameters (librosa clip by clip, torchaudio all at once; both with triangles
that are linear in Hz, which costs the same). Constant-Q: 4 clips of 10 s at 44.1 kHz with AACNN21's settings, all at once. VGGish:
10 patches of each of 4 clips. YAMNet: from the samples of 4 clips to 19 embeddings each, batch norm folded. Training: `att-tf` with all of VGGish at 1/4 of its width, 40 patches, forward, backward and Adam. 
Needs torch; librosa and torchaudio are measured where they are installed.
Results and data stay in memory; one thread runs per available core.
"""

import argparse
import json
import os
import statistics
import time
from typing import Callable, Iterator

import torch
from torch.nn import functional as F

from ismir19 import CLASSES, bce
from visual20 import BANDS, FRAMES, Vggish, Visual

SR, SECONDS, CLIPS, BATCH, PATCHES = 16_000, 10, 100, 4, 10


def times(run: Callable[[], object], least: float) -> list[float]:
    """Milliseconds of at least 7 runs, which last `least` seconds together; two before them warm up."""
    run(), run()
    taken = []
    while len(taken) < 7 or sum(taken) < 1e3 * least:
        start = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken


def log_mels() -> Iterator[tuple[str, Callable[[], object]]]:
    """Peers that compute 998 x 64 log-mel spectrograms of each clip."""
    sound = torch.rand(CLIPS, SR * SECONDS) * 2 - 1
    shape = dict(n_fft=512, win_length=400, hop_length=160, n_mels=BANDS)
    try:
        import torchaudio

        mel = torchaudio.transforms.MelSpectrogram(SR, f_min=125, f_max=7500, power=1, center=False, mel_scale="htk", **shape)
        yield f"torchaudio {torchaudio.__version__}", lambda: torch.log(mel(sound) + 0.01)
    except ImportError:
        pass
    try:
        import librosa
        import numpy as np

        clips = list(sound.numpy())
        bank = librosa.filters.mel(sr=SR, n_fft=512, n_mels=BANDS, fmin=125, fmax=7500, htk=True, norm=None)

        def clip(y: np.ndarray) -> np.ndarray:
            magnitude = np.abs(librosa.stft(y, n_fft=512, win_length=400, hop_length=160, center=False))
            return np.log(bank @ magnitude + 0.01)

        yield f"librosa {librosa.__version__}", lambda: [clip(y) for y in clips]
    except ImportError:
        pass


def constant_qs() -> Iterator[tuple[str, Callable[[], object]]]:
    """Peers that compute 862 x 252 constant-Q magnitudes of each clip."""
    try:
        import librosa
        import numpy as np
    except ImportError:
        return
    sound = (torch.rand(BATCH, 44_100 * SECONDS) * 2 - 1).numpy()
    settings = dict(sr=44_100, hop_length=512, fmin=32.703, bins_per_octave=36, n_bins=252)
    yield f"librosa {librosa.__version__}", lambda: np.abs(librosa.cqt(sound, **settings))


def forward(divisor: int, maps: bool) -> Callable[[], object]:
    model, patches = Vggish(divisor).eval(), torch.rand(BATCH * PATCHES, FRAMES, BANDS)
    run = torch.no_grad()(model.maps if maps else model.forward)
    return lambda: run(patches)


def yamnet() -> Callable[[], object]:
    first = [(1, 32, 3, 2, 1)]
    blocks = zip([32, 64, 128, 128, 256, 256] + 6 * [512] + [1024], [64, 128, 128, 256, 256] + 6 * [512] + 2 * [1024])
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    layers = first + [layer for (c, n), s in zip(blocks, strides) for layer in [(c, c, 3, s, c), (c, n, 1, 1, 1)]]
    convolutions = [torch.nn.Conv2d(c, n, size, s, groups=groups) for c, n, size, s, groups in layers]
    sound, window, bank = torch.rand(BATCH, SR * SECONDS) * 2 - 1, torch.hann_window(400), torch.rand(257, BANDS)

    @torch.no_grad()
    def run() -> torch.Tensor:
        spectrum = torch.fft.rfft(sound.unfold(-1, 400, 160) * window, 512).abs()
        x = torch.log(spectrum @ bank + 0.001).unfold(1, FRAMES, FRAMES // 2).transpose(2, 3)
        x = x.reshape(-1, 1, FRAMES, BANDS)
        for layer in convolutions:
            if layer.kernel_size[0] == 3:
                x = F.pad(x, (0, 1, 0, 1) if layer.stride[0] == 2 else (1, 1, 1, 1))
            x = F.relu(layer(x))
        return x.mean((2, 3))

    return run


def training() -> Callable[[], object]:
    model = Visual("att-tf", 4, PATCHES, convolve=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-5, fused=True)
    x, lengths = torch.rand(BATCH, PATCHES, FRAMES, BANDS), torch.full((BATCH,), PATCHES)
    y, mask = (torch.rand(BATCH, CLASSES) < 0.5).float(), (torch.rand(BATCH, CLASSES) < 0.3).float()
    mask[:, 0] = 1

    def step() -> None:
        optimiser.zero_grad()
        bce(model(x, lengths), y, mask).backward()
        optimiser.step()

    return step


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=cores, help=f"CPU threads [all cores: {cores}]")
    parser.add_argument("--seconds", type=float, default=10, help="time for each measurement [10]")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    torch_name = f"torch {torch.__version__}"

    def report(peer: str, model: str, batch: int, run: Callable[[], object]) -> None:
        taken = times(run, args.seconds)
        result = {"peer": peer, "model": model, "batch": batch, "threads": args.threads, "runs": len(taken)}
        median = statistics.median(taken)
        print(json.dumps(result | {"ms_per_step": median, "ms_per_step_min": min(taken)}), flush=True)

    # The first of several peers is compared with wmic.
    for peer, run in log_mels():
        report(peer, "log-mel", CLIPS, run)
    for peer, run in constant_qs():
        report(peer, "constant-Q", BATCH, run)
    for divisor, width in [(4, "1/4"), (1, "1")]:
        report(torch_name, f"VGGish convolutions {width}", BATCH, forward(divisor, maps=True))
        report(torch_name, f"VGGish {width}", BATCH, forward(divisor, maps=False))
    report(torch_name, "YAMNet", BATCH, yamnet())
    report(torch_name, "att-tf + VGGish 1/4", BATCH, training())


if __name__ == "__main__":
    main()

"""PyTorch and librosa peers of `wmic bench --audio`: log-mel and constant-Q spectrograms, VGGish forward, and training.

    python benches/peers/audio.py | tee audio.json         one JSON object per line, for `wmic bench --peer audio.json`

log-mel: 100 clips of 10 s at 16 kHz with VGGish's parameters (librosa clip by clip, torchaudio all at once; both with
triangles that are linear in Hz, which costs the same). Constant-Q: 4 clips of 10 s at 44.1 kHz with AACNN21's settings,
all at once. VGGish: 10 patches of each of 4 clips. YAMNet: from the samples of 4 clips to 19 embeddings each, batch
norm folded. Training: `att-tf` with all of VGGish at 1/4 of its width and, with --full, at the published one: 40
patches, forward, backward and Adam. Needs torch; librosa and torchaudio are measured where they are installed.
Results and data stay in memory, librosa's on the CPU; one thread runs per available core.
"""

import argparse
from typing import Callable, Iterator

import torch
from torch.nn import functional as F

from ismir19 import CLASSES, bce
from timing import name, options, prepare, report, times
from visual20 import BANDS, FRAMES, Vggish, Visual

SR, SECONDS, CLIPS, BATCH, PATCHES = 16_000, 10, 100, 4, 10


def log_mels(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    """Peers that compute 998 x 64 log-mel spectrograms of each clip."""
    sound = torch.rand(CLIPS, SR * SECONDS) * 2 - 1
    shape = dict(n_fft=512, win_length=400, hop_length=160, n_mels=BANDS)
    try:
        import torchaudio

        shape |= dict(f_min=125, f_max=7500, power=1, center=False, mel_scale="htk")
        mel, on_device = torchaudio.transforms.MelSpectrogram(SR, **shape).to(args.device), sound.to(args.device)
        peer = f"torchaudio {torchaudio.__version__}, {args.device.type}"
        yield peer, lambda: torch.log(mel(on_device) + 0.01)
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

        yield f"librosa {librosa.__version__}, cpu", lambda: [clip(y) for y in clips]
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
    yield f"librosa {librosa.__version__}, cpu", lambda: np.abs(librosa.cqt(sound, **settings))


def forward(divisor: int, maps: bool, device: torch.device) -> Callable[[], object]:
    model = Vggish(divisor).eval().to(device)
    patches = torch.rand(BATCH * PATCHES, FRAMES, BANDS, device=device)
    run = torch.no_grad()(model.maps if maps else model.forward)
    return lambda: run(patches)


def yamnet(device: torch.device) -> Callable[[], object]:
    first = [(1, 32, 3, 2, 1)]
    blocks = zip([32, 64, 128, 128, 256, 256] + 6 * [512] + [1024], [64, 128, 128, 256, 256] + 6 * [512] + 2 * [1024])
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    layers = first + [layer for (c, n), s in zip(blocks, strides) for layer in [(c, c, 3, s, c), (c, n, 1, 1, 1)]]
    convolutions = [torch.nn.Conv2d(c, n, size, s, groups=groups).to(device) for c, n, size, s, groups in layers]
    sound, window = torch.rand(BATCH, SR * SECONDS, device=device) * 2 - 1, torch.hann_window(400, device=device)
    bank = torch.rand(257, BANDS, device=device)

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


def training(divisor: int, device: torch.device) -> Callable[[], object]:
    model = Visual("att-tf", divisor, PATCHES, convolve=True).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-5, fused=True)
    x, lengths = torch.rand(BATCH, PATCHES, FRAMES, BANDS), torch.full((BATCH,), PATCHES)
    y, mask = (torch.rand(BATCH, CLASSES) < 0.5).float(), (torch.rand(BATCH, CLASSES) < 0.3).float()
    mask[:, 0] = 1
    x, lengths, y, mask = (t.to(device) for t in (x, lengths, y, mask))

    def step() -> None:
        optimiser.zero_grad()
        bce(model(x, lengths), y, mask).backward()
        optimiser.step()

    return step


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="time for each measurement [10]")
    parser.add_argument("--full", action="store_true", help="train VGGish at the published width as well")
    args = parser.parse_args()
    prepare(args)
    eager = name(args, "eager")

    def measure(peer: str, model: str, batch: int, run: Callable[[], object]) -> None:
        report(args, peer, model, batch, times(run, args.device, args.seconds))

    for peer, run in log_mels(args):
        measure(peer, "log-mel", CLIPS, run)
    for peer, run in constant_qs():
        measure(peer, "constant-Q", BATCH, run)
    for divisor, width in [(4, "1/4"), (1, "1")]:
        measure(eager, f"VGGish convolutions {width}", BATCH, forward(divisor, True, args.device))
        measure(eager, f"VGGish {width}", BATCH, forward(divisor, False, args.device))
    measure(eager, "YAMNet", BATCH, yamnet(args.device))
    for divisor, width in [(4, "1/4"), (1, "1")][: 2 if args.full else 1]:
        measure(eager, f"att-tf + VGGish {width}", BATCH, training(divisor, args.device))


if __name__ == "__main__":
    main()

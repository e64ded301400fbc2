"""What the timed peers share: the device, its precision, a clock, and the line that `wmic bench --peer` reads.

CUDA is used where there is one, and every reading of the clock waits for it. Products and convolutions are in full f32:
TF32 is off, for cuDNN as well, unless --tf32 is given; the peer's name says so.
"""

import argparse
import json
import math
import os
import statistics
import time
from typing import Callable

import torch
from torch import nn

WARM_UP_RUNS = 3
LEAST_SAMPLES = 7
SAMPLE_MS = 50  # a sample is several runs where one is shorter, so that waiting for the device costs next to nothing
MODES = ["eager", "compile", "graphs"]


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def options(description: str, modes: list[str] | None = None) -> argparse.ArgumentParser:
    """A parser with the options of every peer; `modes`: how the model can run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1 ... [auto]")
    parser.add_argument("--tf32", action="store_true", help="let CUDA round the factors of products to TF32")
    parser.add_argument("--threads", type=positive, default=cores, help=f"CPU threads [all cores: {cores}]")
    if modes:
        help_of_modes = f"{', '.join(modes)}: torch.compile, and CUDA graphs of whole training steps [eager]"
        parser.add_argument("--mode", choices=modes, default="eager", help=help_of_modes)
    return parser


def prepare(args: argparse.Namespace) -> None:
    """Resolves the device, pins the precision and the threads, and seeds PyTorch."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    args.device = torch.device(auto if args.device == "auto" else args.device)
    for option, wanted in [("--tf32", args.tf32), ("--mode graphs", getattr(args, "mode", "") == "graphs")]:
        if wanted and args.device.type != "cuda":
            raise SystemExit(f"{option} needs a CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)


def name(args: argparse.Namespace, mode: str = "") -> str:
    """The peer's name: version, how it runs, device and precision."""
    words = ["torch", torch.__version__, mode or args.mode]
    return f"{' '.join(words)}, {args.device.type}{', TF32' if args.tf32 else ''}"


def about(args: argparse.Namespace) -> dict:
    """The device and its settings."""
    device = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "device": device, "tf32": args.tf32, "threads": args.threads}


def in_mode(model: nn.Module, args: argparse.Namespace) -> Callable:
    """The model's forward pass, compiled or not."""
    return torch.compile(model) if args.mode == "compile" else model


def captured(step: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """`step` as a CUDA graph: replaying it takes one launch. It must read and write the same tensors in every call."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def clock(device: torch.device) -> float:
    """Milliseconds, once all that was begun on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * time.perf_counter()


def times(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of a run in each of at least 7 samples, which last `seconds` together, after some that warm up."""

    def sample(runs: int) -> float:
        start = clock(device)
        for _ in range(runs):
            run()
        return (clock(device) - start) / runs

    sample(WARM_UP_RUNS)
    runs = math.ceil(SAMPLE_MS / sample(1))
    taken = []
    while len(taken) < LEAST_SAMPLES or sum(taken) * runs < 1e3 * seconds:
        taken.append(sample(runs))
    return taken


def report(args: argparse.Namespace, peer: str, model: str, batch: int, taken: list[float]) -> None:
    """Prints a line of JSON; `taken`: milliseconds of a run in each sample."""
    lower, median, upper = statistics.quantiles(taken, n=4)
    result = {"peer": peer, "model": model, "batch": batch, "samples": len(taken), "ms_per_step": median}
    result |= {"quartiles_ms": [lower, upper], "ms_per_step_min": min(taken)}
    print(json.dumps(result | about(args)), flush=True)

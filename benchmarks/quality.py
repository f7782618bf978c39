"""Quality and speed of phase reconstruction, method by method.

    python benchmarks/quality.py RECORDINGS... [--hop-length 128] [--json FILE]

All methods get the same magnitudes and one thread; the clock, which counts
CPU time, runs from the magnitudes to the waveform, with compiled kernels warm.
What starts from random phases has a fixed seed. Peers that are not installed
are skipped:

    pip install librosa pghipy lws
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

# One thread for everyone; the libraries read this when they are imported.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import csv
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_phaseinv import summary
from speechbrain_phaseinv.audio import READABLE, replacing
from speechbrain_phaseinv.derivatives import gaussian_gamma
from speechbrain_phaseinv.evaluation import METHODS, Unavailable, compare
from speechbrain_phaseinv.reconstruct import stft_for
from speechbrain_phaseinv.stft import synthesis


def channelwise(solve):
    """An inverter from a function of one channel's magnitudes, [time, freq].

    Peers compute in NumPy and double precision, one channel at a time.
    """

    def invert(magnitude, length):
        rows = [solve(x.double().numpy(), length) for x in magnitude]
        return torch.from_numpy(np.stack(rows)).to(magnitude.dtype)

    return invert


def librosa_griffin_lim(config, n_iter=32):
    """librosa's fast Griffin-Lim, from random phases of a fixed seed."""
    try:
        import librosa
    except ImportError as error:
        raise Unavailable(f"librosa: {error}") from None
    window = config.window_tensor(torch.float64).numpy()

    def solve(magnitude, length):
        return librosa.griffinlim(
            magnitude.T,
            n_iter=n_iter,
            hop_length=config.hop_length,
            win_length=config.win_length,
            n_fft=config.n_fft,
            window=window,
            length=length,
            pad_mode="reflect",
            random_state=0,
        )

    return channelwise(solve)


def pghipy(config):
    """Phase gradient heap integration, offline (Prusa et al. 2017).

    It is given the window's own gamma, not that of its Gaussian default, and
    our synthesis.
    """
    try:
        from pghipy import pghi
    except ImportError as error:
        raise Unavailable(f"pghipy: {error}") from None
    gamma = gaussian_gamma(config)

    def solve(magnitude, length):
        # Its phases refer to the frame's first sample, as torch's do. It
        # calls the length of the transform "win_length".
        phase = pghi(magnitude, config.n_fft, config.hop_length, gamma)
        stft = torch.from_numpy(magnitude * np.exp(1j * phase))
        return synthesis(stft[None], config, length)[0].numpy()

    return channelwise(solve)


def lws(config, **options):
    """Local weighted sums (Le Roux et al. 2010).

    Its windows are symmetric: their centre lies half a sample before that of
    a periodic one. The magnitudes of a signal with the one window are those
    of the signal moved by half a sample with the other; its result is moved
    back, bin by bin, and synthesised as ours.
    """
    try:
        import lws
    except ImportError as error:
        raise Unavailable(f"lws: {error}") from None
    if config.window != "hann" or config.win_length != config.n_fft:
        raise Unavailable("lws: only its Hann window of n_fft samples")
    window = lws.hann(config.n_fft, symmetric=True)
    processor = lws.lws(window, config.hop_length, **options)
    shift = np.exp(-1j * np.pi * np.arange(config.num_bins) / config.n_fft)

    def solve(magnitude, length):
        found = processor.run_lws(magnitude) * shift
        stft = torch.from_numpy(found)
        return synthesis(stft[None], config, length)[0].numpy()

    return channelwise(solve)


PEERS = {
    "librosa-griffin-lim-32": lambda config: librosa_griffin_lim(config, 32),
    "pghipy": pghipy,
    "lws-online": lambda config: lws(
        config,
        nofuture_iterations=1,
        online_iterations=10,
        look_ahead=3,
        batch_iterations=0,
    ),
    "lws-100": lambda config: lws(config, mode="music", batch_iterations=100),
}


def main(arguments=None):
    """Print the table; write it as JSON and CSV where asked."""
    methods = {**METHODS, **PEERS}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="recordings, or folders")
    parser.add_argument("--n-fft", type=int, help="samples")
    parser.add_argument("--win-length", type=int, help="samples")
    parser.add_argument("--hop-length", type=int, help="samples")
    parser.add_argument("--window", default="hann")
    parser.add_argument(
        "--methods",
        default=",".join(methods),
        help="which, with commas (default: all): " + ", ".join(methods),
    )
    parser.add_argument("--limit", type=int, help="so many recordings only")
    parser.add_argument("--json", help="file for all rows and the summary")
    parser.add_argument("--csv", help="file for the summary")
    args = parser.parse_args(arguments)
    chosen = [name for name in args.methods.split(",") if name]
    unknown = sorted(set(chosen) - set(methods))
    if unknown:
        parser.error(f"unknown methods {unknown}: choose among {[*methods]}")
    files = recordings(args.paths)[: args.limit]
    if not files:
        parser.error(f"no recordings in {args.paths}")
    torch.set_num_threads(1)

    def stft(sample_rate):
        return stft_for(
            sample_rate,
            args.n_fft,
            args.win_length,
            args.hop_length,
            args.window,
        )

    skipped = {}
    comparison = compare(
        files,
        {name: methods[name] for name in chosen},
        stft,
        skip=skipped.__setitem__,
        clock=time.process_time,
    )
    bar = tqdm(comparison, total=len(files), unit="file", file=sys.stderr)
    rows = [row for rows in bar for row in rows]
    names = [name for name in summary.SCORES if name != "seconds"]
    found = summary.summarise(rows, names)
    settings = {
        "files": len(files),
        "n_fft": args.n_fft,
        "win_length": args.win_length,
        "hop_length": args.hop_length,
        "window": args.window,
        "threads": 1,
        "machine": machine(),
        "torch": torch.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    print("mean and 95 % confidence interval; RTF: median over files")
    print("PESQ sometimes fails to align a file: its median is in the JSON\n")
    print(summary.summary_table(found, names))
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    if args.json:
        write_json(args.json, settings, found, rows, skipped)
    if args.csv:
        write_csv(args.csv, found, names)
    return 0 if rows else 1


def recordings(paths):
    """The recordings named, or found below folders."""
    found = []
    for path in map(Path, paths):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [x for x in inside if x.suffix.lower() in READABLE]
    return found


def machine():
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [x.split(":")[1] for x in lines if x.startswith("model name")]
        return " ".join(names[0].split())
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def write_json(path, settings, found, rows, skipped):
    """Everything, whole or not at all."""
    data = {
        "settings": settings,
        "summary": found,
        "skipped": skipped,
        "rows": rows,
    }
    with replacing(path) as temporary, open(temporary, "w") as file:
        json.dump(data, file, indent=1)


def write_csv(path, found, names):
    """The summary, a method a line."""
    with replacing(path) as temporary:
        with open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            columns = [x for name in names for x in (name, f"{name}_ci95")]
            writer.writerow(["method", *columns])
            for method, scores in found.items():
                cells = [
                    cell
                    for name in names
                    for cell in (scores[name]["mean"], scores[name]["ci95"])
                ]
                writer.writerow([method, *cells])


if __name__ == "__main__":
    sys.exit(main())

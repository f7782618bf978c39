#!/usr/bin/env python3
"""What an inversion costs, beside the machine's limit and Griffin-Lim.

    python benchmarks/speed.py [--rounds 7] [--seconds 4] [--json FILE]

Prints, at 16 kHz, 512/128 Hann:

- one utterance, one thread, CPU time of a frame, and its ratio to
  torchaudio's Griffin-Lim of 32 iterations; the network's layers alone, and
  products of their shape by the BLAS that they use;
- batches on one and on two threads (``--threads``), wall time;
- how cost grows with length, bins and batch: fitted exponents;
- memory beyond input and output, of a long recording and of a batch.

Magnitudes are made up. All methods of a table take turns, round by round, so
that what disturbs the machine disturbs all; figures are medians. Many streams
at a time, and one frame at a time, are measured by ``stream.py``.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from speechbrain_phaseinv import SpectrogramInverter, StftConfig
from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.evaluation.compare import machine
from speechbrain_phaseinv.evaluation.methods import (
    METHODS,
    timed,
)
from speechbrain_phaseinv.evaluation.tables import format_table

CONFIG = StftConfig(16000, n_fft=512, hop_length=128)
PEER = "griffin-lim-32"
ALONE = ("network-1", "network-1-paired", "network-0", "gradient-1", PEER)
TOGETHER = ("network-1", PEER)
BATCHES = (1, 4, 16, 64)
# Inputs and memory of a worker, by name: batch and seconds.
MEMORY = {"one hour": (1, 3600), "64 x 10 s": (64, 10)}


def magnitudes(seconds, batch=1, config=CONFIG):
    """Something to invert, [batch, time, freq]."""
    frames = int(seconds * config.sample_rate) // config.hop_length + 1
    return torch.rand(batch, frames, config.num_bins)


def take_turns(calls, rounds, clock):
    """Median seconds of each call, by name, after one to warm up."""
    found = {name: [] for name in calls}
    for i in range(1 + rounds):
        for name, (invert, magnitude, length) in calls.items():
            _, seconds = timed(invert, magnitude, length, clock)
            found[name] += [seconds] * (i > 0)
    return {name: float(np.median(x)) for name, x in found.items()}


def one_utterance(seconds, rounds):
    """Microseconds of CPU time a frame, by method."""
    magnitude = magnitudes(seconds)
    length = CONFIG.num_samples(magnitude.shape[1])
    calls = {x: (METHODS[x](CONFIG), magnitude, length) for x in ALONE}
    found = take_turns(calls, rounds, time.process_time)
    return {x: 1e6 * y / magnitude.shape[1] for x, y in found.items()}


def products(rounds):
    """Of the network's layers: the network's rate, and the products' alone.

    In billions of multiply-accumulates a second, CPU time, one thread. The
    products have the shapes and the blocks of the layers, in a compiled loop.
    """
    from speechbrain_phaseinv.kernels import compiled, network

    @compiled()
    def repeat(weight, factors, output, count):
        for _ in range(count):
            np.dot(weight, factors, output)

    estimator = SpectrogramInverter(CONFIG).estimator
    logs, passes = torch.randn(1, 600, CONFIG.num_bins), 600
    pairs, macs = [], 0
    for layer in estimator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            weight = layer.weight.detach().flatten(1).numpy()
            bins = min(network._block.py_func(*weight.shape), CONFIG.num_bins)
            factors = np.ones((weight.shape[1], bins), np.float32)
            output = np.empty((len(weight), bins), np.float32)
            share = CONFIG.num_bins / bins
            pairs.append((weight, factors, output, int(passes * share)))
            macs += weight.size * CONFIG.num_bins

    def multiply(*_):
        for pair in pairs:
            repeat(*pair)

    calls = {
        "network": (lambda *_: estimator(logs), None, None),
        "products": (multiply, None, None),
    }
    with torch.no_grad():
        found = take_turns(calls, rounds, time.process_time)
    return {x: macs * passes / y / 1e9 for x, y in found.items()}


def batches(seconds, rounds, threads):
    """Real-time factors by wall clock: {threads: {batch: {method: rtf}}}."""
    found, before = {}, torch.get_num_threads()
    for count in threads:
        torch.set_num_threads(count)
        found[count] = {}
        for batch in BATCHES:
            magnitude = magnitudes(seconds, batch)
            length = CONFIG.num_samples(magnitude.shape[1])
            calls = {
                x: (METHODS[x](CONFIG), magnitude, length) for x in TOGETHER
            }
            own = take_turns(calls, max(rounds // 2, 1), time.perf_counter)
            sound = batch * length / CONFIG.sample_rate
            found[count][batch] = {x: y / sound for x, y in own.items()}
    torch.set_num_threads(before)
    return found


def growth(rounds):
    """Exponents of the time over length, bins and batch, of a network."""
    long = {x: (magnitudes(x), CONFIG) for x in (1, 4, 16, 64)}
    wide = {}
    for n_fft in (512, 1024, 2048, 4096):
        config = StftConfig(16000, n_fft=n_fft, hop_length=n_fft // 4)
        wide[n_fft] = torch.rand(1, 250, config.num_bins), config
    many = {x: (magnitudes(1, x), CONFIG) for x in (1, 4, 16)}
    found = {}
    for name, cases in {"length": long, "bins": wide, "batch": many}.items():
        calls = {}
        for size, (magnitude, config) in cases.items():
            inverter = SpectrogramInverter(config)
            length = config.num_samples(magnitude.shape[1])
            calls[size] = (
                lambda x, n, inverter=inverter: inverter(x, length=n),
                magnitude,
                length,
            )
        with torch.no_grad():
            times = take_turns(calls, rounds, time.process_time)
        logs = np.log([list(times), list(times.values())])
        found[name] = float(np.polyfit(*logs, 1)[0])
    return found


def peak():
    """The largest memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_of(name):
    """Bytes beyond input and output: of all, and of a sample of sound."""
    batch, seconds = MEMORY[name]
    inverter = SpectrogramInverter(CONFIG)
    with torch.no_grad():
        inverter(magnitudes(1, 2))
        magnitude = magnitudes(seconds, batch)
        before = peak()
        waveform = inverter(magnitude)
    beyond = max(peak() - before - waveform.nbytes, 0)
    return {"bytes": beyond, "a sample": beyond / waveform.numel()}


def memory():
    """`memory_of` all, each in a process of its own."""
    found = {}
    for name in MEMORY:
        line = [sys.executable, __file__, "--memory", name]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout)
    return found


def report(data):
    """Print the tables."""
    alone, rates = data["one utterance"], data["GMAC/s"]
    rows = [["method", "us a frame", "of Griffin-Lim 32", "RTF"]]
    hop = 1e6 * CONFIG.hop_length / CONFIG.sample_rate
    for name, cost in alone.items():
        ratio = f"{cost / alone[PEER]:.3f}"
        rows.append([name, f"{cost:.0f}", ratio, f"{cost / hop:.4f}"])
    print(f"{data['machine']}\n\nOne utterance, one thread, CPU time\n")
    print(format_table(rows))
    print(
        f"\nThe network's layers: {rates['network']:.0f} GMAC/s, features and "
        f"gates included; such products alone: {rates['products']:.0f}\n"
    )
    print("Batches, real-time factor, wall clock\n")
    rows = [["threads", "batch", *TOGETHER, "ratio", "faster than one thread"]]
    first = next(iter(data["batches"].values()))
    for threads, cases in data["batches"].items():
        for batch, own in cases.items():
            ours, peer = (own[x] for x in TOGETHER)
            gain = first[batch][TOGETHER[0]] / ours
            cells = f"{ours:.4f}", f"{peer:.4f}", f"{ours / peer:.2f}"
            rows.append([str(threads), str(batch), *cells, f"{gain:.2f}"])
    print(format_table(rows))
    grown = ", ".join(f"{x} {y:.2f}" for x, y in data["growth"].items())
    print(f"\nExponents of the time over {grown}\n")
    rows = [["memory beyond input and output", "MB", "bytes a sample"]]
    for name, x in data["memory"].items():
        rows.append([name, f"{x['bytes'] / 1e6:.0f}", f"{x['a sample']:.1f}"])
    print(format_table(rows))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="where figures are written")
    parser.add_argument("--memory", choices=MEMORY, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.memory:
        print(json.dumps(memory_of(args.memory)))
        return
    torch.set_num_threads(1)
    # First: on Linux, a process begins with the peak of the one it comes from.
    memories = memory()
    data = {
        "machine": machine(),
        "one utterance": one_utterance(args.seconds, args.rounds),
        "GMAC/s": products(args.rounds),
        "batches": batches(args.seconds, args.rounds, args.threads),
        "growth": growth(args.rounds),
        "memory": memories,
    }
    report(data)
    if args.json:
        with replacing(args.json) as temporary:
            Path(temporary).write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()

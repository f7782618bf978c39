"""The stream: time per frame, part by part; many streams; memory over hours.

    python benchmarks/stream.py [--frames 2000] [--hours 10] [--json FILE]

One thread, one channel, one frame per push (two for a paired network, whose
times are of both). The sound is made up. Times are median, 99th percentile and
worst, in microseconds, by two clocks: the wall's, which other programs of the
machine disturb, and the thread's own CPU time, which they do not. "push" is
the inversion, from magnitudes to samples, and "frame" that with the analysis
before it. "offline" is the cost of a frame of a whole recording, and
"estimate" and "synthesise" are the halves of `SpectrogramInverter.step` for a
frame that comes alone. ONNX Runtime executes the exported pass.

With --hours, that much sound is streamed in one process, in chunks of 1 to
1000 frames (or 1 only, with --single). Memory must not grow and no sample may
be NaN. On the last minute the stream is compared with two others: "resumed",
which is handed the old one's state of a minute ago and must agree bit for bit,
and "fresh", which has no past: its phase differs, and the spectral convergence
of both against the magnitudes is shown, in dB.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import gc
import json
import math
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from speechbrain_phaseinv import (
    InversionStream,
    SpectrogramInverter,
    StftConfig,
    analysis,
)
from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.evaluation.compare import machine
from speechbrain_phaseinv.evaluation.tables import format_table
from speechbrain_phaseinv.pretrained import find_pretrained, load_pretrained
from speechbrain_phaseinv.stft import analysis_step

BLOCK_SECONDS = 10
CHUNKS = (1, 1, 1, 1, 2, 3, 7, 64, 200, 1000)
BATCHES = (1, 8, 64)
TURNS = 5
COLUMNS = ("median", "p99", "worst")


def inverters(config):
    """All operating points, by name."""
    found = {}
    for lookahead in (0, 1):
        name = f"gradient theorem, latency {lookahead}"
        found[name] = SpectrogramInverter(config, lookahead, "gradient")
    for name, lookahead, paired in (
        ("network, latency 0", 0, False),
        ("network, latency 1", 1, False),
        ("network, latency 1, paired", 1, True),
    ):
        packaged = find_pretrained(config, lookahead, paired)
        if packaged:
            network = load_pretrained(packaged)
        else:  # its speed does not depend on its weights
            network = PhaseDerivativeNet(config, lookahead, paired)
            network.eval().requires_grad_(False)
        found[name] = SpectrogramInverter(config, lookahead, network)
    return found


def sound(config, block):
    """Ten seconds that change as speech does, another for each number."""
    generator = torch.Generator().manual_seed(block)
    rate = config.sample_rate
    time = torch.arange(BLOCK_SECONDS * rate, dtype=torch.float64) / rate
    low, depth, speed = torch.rand(3, generator=generator).double().tolist()
    pitch = 90 + 120 * low + 40 * depth * torch.sin(2 * math.pi * speed * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / rate
    voiced = sum(torch.sin(k * phase) / k for k in range(1, 16))
    noise = torch.randn(len(time), generator=generator, dtype=torch.float64)
    syllables = torch.sin(2 * math.pi * 2 * time).clamp_min(0)
    fricatives = (-torch.sin(2 * math.pi * 2 * time + 0.5)).clamp_min(0)
    speech = voiced * syllables + 0.2 * noise * fricatives + 1e-4 * noise
    if block % 7 == 3:
        speech[: 2 * rate] = 0  # a pause of digital zeros
    return (0.1 * speech).float().unsqueeze(0)


def statistics(wall, cpu):
    """Of times in nanoseconds; in microseconds."""
    found = {}
    for clock, values in (("", wall), ("cpu_", cpu)):
        values = np.array(values) / 1e3
        found[f"{clock}median"] = float(np.median(values))
        found[f"{clock}p99"] = float(np.percentile(values, 99))
        found[f"{clock}worst"] = float(values.max())
    return found


def measure(function, inputs, warm=100):
    """Times of a function of each input, after some for warming up."""
    return statistics(*clock(function, inputs, warm))


def clock(function, inputs, warm=100):
    """The same as two lists of nanoseconds, of the wall's and of CPU time."""
    wall, cpu = [], []
    gc.collect()
    gc.freeze()
    for i, given in enumerate([*inputs[:warm], *inputs]):
        before = time.perf_counter_ns(), time.thread_time_ns()
        function(given)
        after = time.perf_counter_ns(), time.thread_time_ns()
        if i >= len(inputs[:warm]):
            wall.append(after[0] - before[0])
            cpu.append(after[1] - before[1])
    gc.unfreeze()
    return wall, cpu


@torch.inference_mode()
def time_stream(inverter, frames):
    """Times of a frame and its parts, by name.

    All are measured by turns, since a machine changes its speed: their ratios
    are worth more than their values.
    """
    config, stride = inverter.config, inverter.stride
    hop = stride * config.hop_length
    blocks = range(-(-frames // (BLOCK_SECONDS * config.sample_rate // hop)))
    samples = torch.cat([sound(config, i) for i in blocks], dim=1)
    hops = list(samples.split(hop, dim=1))[: max(frames, 2)]
    pending = analysis_step(samples[:, :0], config)[1]

    def analyse(chunk):
        nonlocal pending
        stft, pending = analysis_step(chunk, config, pending)
        return stft.abs()

    # Each has frames from the first call on.
    analyse(sound(config, 1)[:, : config.n_fft])
    stream, parts = InversionStream(inverter), {}

    def time_block(block):
        magnitudes = [x for x in map(analyse, block) if x.shape[1]]
        whole = torch.cat(magnitudes, dim=1)
        state = inverter.step(torch.cat(magnitudes[:8], dim=1))[1]
        estimates = inverter.estimate(magnitudes[0], state)
        count = whole.shape[1] / stride
        yield "analysis", analyse, block, 1
        yield "push", stream.push, magnitudes, 1
        yield "frame", lambda x: stream.push(analyse(x)), block, 1
        yield "offline", lambda _: inverter(whole), range(3), count
        yield "estimate", lambda x: inverter.estimate(x, state), magnitudes, 1
        synthesise = inverter.synthesise
        yield "synthesise", lambda _: synthesise(*estimates), magnitudes, 1

    size = max(-(-len(hops) // TURNS), 2)
    for start in range(0, len(hops), size):
        for name, function, inputs, frames in time_block(
            hops[start : start + size]
        ):
            times = clock(function, inputs, warm=20)
            for kept, new in zip(parts.setdefault(name, ([], [])), times):
                kept += [x / frames for x in new]
    return {name: statistics(*times) for name, times in parts.items()}


@torch.inference_mode()
def time_batches(inverter, frames, sizes=BATCHES):
    """Microseconds per stream and frame, by the number of streams."""
    config, found = inverter.config, {}
    size = analysis(sound(config, 0), config).abs()
    for batch in sizes:
        stream = InversionStream(inverter)
        chunks = size.expand(batch, -1, -1).split(inverter.stride, dim=1)
        chunks = chunks[: max(frames // batch, 20)]
        median = measure(stream.push, chunks)["cpu_median"]
        found[batch] = median / (batch * inverter.stride)
    return found


def time_exported(inverter, frames):
    """Times of a push through ONNX Runtime."""
    from speechbrain_phaseinv.edge.export import export_onnx
    from speechbrain_phaseinv.edge.runtime import Stream

    config = inverter.config
    size = analysis(sound(config, 0), config).abs()[0].numpy()
    count = len(size) // inverter.stride * inverter.stride
    chunks = np.split(size[:count], count // inverter.stride)[:frames]
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(inverter, folder)
        return {"push": measure(Stream(folder).push, chunks)}


def difference(inverter):
    """Stream against offline, relative to the peak."""
    magnitude = analysis(sound(inverter.config, 0), inverter.config).abs()
    magnitude = magnitude[:, :200]
    offline, stream = inverter(magnitude), InversionStream(inverter)
    pieces = [stream.push(x) for x in magnitude.split(1, dim=1)]
    online = torch.cat([*pieces, stream.flush()], dim=1)
    return ((online - offline).abs().max() / offline.abs().max()).item()


def resident_memory():
    """Of this process, in bytes; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        if find_spec("psutil"):
            import psutil

            return psutil.Process().memory_info().rss
        return None


@torch.no_grad()
def soak(inverter, hours, chunks=CHUNKS, report=lambda text: None):
    """Stream hours of sound through one stream; see the head of this file."""
    config = inverter.config
    blocks = max(round(hours * 3600 / BLOCK_SECONDS), 2)
    minute = min(60 // BLOCK_SECONDS, blocks // 2)
    stream, state, memory, start = InversionStream(inverter), None, [], None
    finite, turn, begin = True, 0, time.process_time()
    for block in range(blocks):
        stft, state = analysis_step(sound(config, block), config, state)
        magnitude = stft.abs()
        if block == blocks - minute:
            start, last, played = stream.state, [], []
        while magnitude.shape[1]:
            size = chunks[turn % len(chunks)]
            turn += 1
            head, magnitude = magnitude[:, :size], magnitude[:, size:]
            samples = stream.push(head)
            finite = finite and bool(samples.isfinite().all())
            if start is not None:
                last.append(head)
                played.append(samples)
        if start is None:  # the last minute is kept for the comparison
            memory.append(resident_memory())
        if block % 360 == 359 and memory[-1] is not None:
            report(
                f"{(block + 1) * BLOCK_SECONDS / 3600:g} h: "
                f"{memory[-1] / 2**20:.1f} MiB"
            )
    # The process has all that it needs by then.
    settled = memory[min(max(blocks // 100, 6), len(memory) - 1)]
    found = {
        "hours": blocks * BLOCK_SECONDS / 3600,
        "frames": stream.state.frames,
        "cpu_seconds": time.process_time() - begin,
        "state_bytes": stream.state_bytes,
        "memory_settled": settled,
        "memory_end": memory[-1],
        "finite": finite,
    }
    return found | drift(inverter, start, torch.cat(last, dim=1), played)


def drift(inverter, start, magnitude, played):
    """The last minute again, by a stream that resumes and by a fresh one."""
    config, played = inverter.config, torch.cat(played, dim=1)
    resumed, fresh = InversionStream(inverter), InversionStream(inverter)
    resumed.state = start
    again = resumed.push(magnitude)
    found = {"resumed_difference": (again - played).abs().max().item()}
    # Samples that come out begin a known number of them after the frames went
    # in; compare where no window reaches out of the minute.
    pushed = magnitude.shape[1] * config.hop_length
    late = inverter.latency // config.hop_length
    skip = 2 * late
    for name, samples in (("old", played), ("fresh", fresh.push(magnitude))):
        lost = pushed - samples.shape[1]
        # The old stream's first sample belongs to an earlier frame.
        first = late - lost // config.hop_length if lost else late
        rebuilt = analysis(samples, config).abs()[:, skip:-skip]
        size = magnitude[:, max(skip - first, 0) :][:, : rebuilt.shape[1]]
        rebuilt = rebuilt[:, max(first - skip, 0) :][:, : size.shape[1]]
        level = (rebuilt - size).norm() / size.norm()
        found[f"spectral_convergence_{name}"] = 20 * level.log10().item()
    return found


def show(found):
    """The tables as text."""
    for name, parts in found.items():
        header = ["part", *COLUMNS, *(f"cpu {x}" for x in COLUMNS)]
        rows = [header]
        for part, values in parts.items():
            cells = [values[x] for x in COLUMNS]
            cells += [values[f"cpu_{x}"] for x in COLUMNS]
            rows.append([part, *(f"{x:.0f}" for x in cells)])
        print(f"\n{name} [microseconds]")
        print(format_table(rows))


def main(arguments=None):
    """Print all tables; write them as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--n-fft", type=int, default=512)
    parser.add_argument("--hop-length", type=int, default=128)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=0)
    parser.add_argument("--single", action="store_true")
    parser.add_argument(
        "--only", help="this operating point only", metavar="NAME"
    )
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = StftConfig(
        args.sample_rate, args.n_fft, hop_length=args.hop_length
    )
    settings = {
        "machine": machine(),
        "threads": 1,
        "torch": torch.__version__,
        "n_fft": config.n_fft,
        "hop": config.hop_length,
        "hop_microseconds": round(1e6 * config.hop_length / args.sample_rate),
    }
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    data = {"settings": settings, "difference": {}, "soak": {}}
    names = [args.only] if args.only else list(inverters(config))
    if args.frames:
        points = inverters(config)
        missing = [x for x in ("onnx", "onnxruntime") if not find_spec(x)]
        data["times"] = {x: time_stream(points[x], args.frames) for x in names}
        for name in [] if missing else names:
            exported = time_exported(points[name], args.frames)
            data["times"][f"{name}, ONNX Runtime"] = exported
        show(data["times"])
        for package in missing:
            print(f"no ONNX Runtime: {package} is not installed")
        rows = [["streams at a time", *map(str, BATCHES)]]
        data["batches"] = {}
        for name in names:
            found = time_batches(points[name], args.frames)
            data["batches"][name] = found
            rows.append([name, *(f"{x:.0f}" for x in found.values())])
        print("\nmicroseconds of CPU per stream and frame")
        print(format_table(rows))
        hop = settings["hop_microseconds"]
        for name, found in data["batches"].items():
            streams = hop / found[max(found)]
            print(f"{name}: {streams:.0f} streams in real time on one core")
    print("\nstream against offline, largest difference relative to the peak")
    for name in names:
        gap = difference(inverters(config)[name])
        data["difference"][name] = gap
        print(f"{name}: {gap:.1e}")
    for name in names if args.hours else []:
        print(f"\n{name}, {args.hours:g} hours", flush=True)
        chunks = (1,) if args.single else CHUNKS
        found = soak(
            inverters(config)[name], args.hours, chunks, lambda x: print(x)
        )
        data["soak"][name] = found
        for key, value in found.items():
            print(f"  {key} {value}", flush=True)
    if args.json:
        with replacing(args.json) as temporary, open(temporary, "w") as file:
            json.dump(data, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

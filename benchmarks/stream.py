"""The stream: time per frame, part by part; memory; drift over hours.

    python benchmarks/stream.py [--frames 2000] [--hours 10] [--json FILE]

One thread, one channel, one frame per push. The sound is made up. Times are
median, 99th percentile and worst, in microseconds, by two clocks: the wall's,
which other programs of the machine disturb, and the thread's own CPU time,
which they do not. "push" is the inversion, from magnitudes to samples, "frame"
that with the analysis before it; they are timed in a run of their own, without
the clocks in between. A paired network gets two frames at a time, and its
times are of both. ONNX Runtime executes the network; what is around it is
`edge.py`, NumPy and Python, with its own ladder solver, with the package's
compiled one, and with the solver as ONNX.

With --hours, so much sound is streamed in one process, in chunks of 1 to 1000
frames (or 1 only, with --single). Memory must not grow, no sample may be NaN,
and on the last minute the stream is compared with others:

- resumed: a new stream that is handed the old one's state of a minute ago,
  which is all it could have inherited. Must agree bit for bit;
- heir: a new stream that has heard the eight frames before, and is then handed
  what the old one's inverter has heard, phases and samples, and nothing else.
  Must agree bit for bit too, from the first sample on that those frames do not
  reach;
- fresh: a new stream, with no past at all. Its phase differs from the old
  one's by what that inherited; told is the spectral convergence of all three
  against the magnitudes, in dB.
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
from unittest import mock

import numpy as np
import torch

from speechbrain_phaseinv import (
    InversionStream,
    SpectrogramInverter,
    StftConfig,
    analysis,
    inversion,
    streaming,
)
from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.edge import edge
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.evaluation.compare import machine
from speechbrain_phaseinv.evaluation.tables import format_table
from speechbrain_phaseinv.integration import recursion
from speechbrain_phaseinv.pretrained import find_pretrained, load_pretrained
from speechbrain_phaseinv.stft import analysis_step

BLOCK_SECONDS = 10
PARTS = ("analysis", "estimator", "weights", "solver", "synthesis")
WHOLE = ("push", "frame")
CHUNKS = (1, 1, 1, 1, 2, 3, 7, 64, 200, 1000)


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


class Stopwatch:
    """Times of functions, by name: wall and CPU, in microseconds.

    Only of those that are named first, if any are.
    """

    def __init__(self, *names):
        self.names, self.times = names, {}

    def wrap(self, name, function):
        """The function, timed."""
        if self.names and name not in self.names:
            return function
        times = self.times.setdefault(name, [])

        def timed(*args, **kwargs):
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            result = function(*args, **kwargs)
            cpu = time.thread_time_ns() - cpu
            times.append(((time.perf_counter_ns() - wall) / 1e3, cpu / 1e3))
            return result

        return timed

    def statistics(self, keep):
        """Of the last `keep` calls."""
        found = {}
        for name, times in self.times.items():
            wall, cpu = np.array(times[-keep:]).T
            found[name] = {
                "median": float(np.median(wall)),
                "p99": float(np.percentile(wall, 99)),
                "worst": float(wall.max()),
                "cpu_median": float(np.median(cpu)),
                "cpu_p99": float(np.percentile(cpu, 99)),
                "cpu_worst": float(cpu.max()),
            }
        return found


@torch.inference_mode()
def time_eager(inverter, frames):
    """Times of a frame and of its parts in PyTorch."""
    return both(frames, lambda watch: run_eager(inverter, frames, watch))


def both(frames, run):
    """Statistics of the parts, then of the whole."""
    parts, whole = Stopwatch(*PARTS), Stopwatch(*WHOLE)
    run(parts)
    run(whole)
    return parts.statistics(frames) | whole.statistics(frames)


def run_eager(inverter, frames, watch):
    """Frame after frame, under a stopwatch."""
    config = inverter.config
    stream = InversionStream(inverter)
    timed = [
        (inversion, "arrange", "weights"),
        (recursion, "run", "solver"),
        (streaming, "overlap_add_step", "synthesis"),
    ]
    patches = [
        mock.patch.object(where, name, watch.wrap(label, getattr(where, name)))
        for where, name, label in timed
    ]
    estimator = inverter.estimator
    forward = watch.wrap("estimator", estimator.forward)
    patches.append(mock.patch.object(estimator, "forward", forward))
    analyse = watch.wrap("analysis", analysis_step)
    push = watch.wrap("push", stream.push)
    state = None

    def frame(samples):
        nonlocal state
        stft, state = analyse(samples, config, state)
        return push(stft.abs())

    run_frames(frame, inverter, frames, patches, watch)


def time_edge(folder, inverter, frames, solver):
    """Times of a frame and of its parts in NumPy and ONNX Runtime."""
    return both(
        frames, lambda watch: run_edge(folder, inverter, frames, solver, watch)
    )


def run_edge(folder, inverter, frames, solver, watch):
    """Frame after frame, under a stopwatch."""
    config = inverter.config
    stream = edge.EdgeStream(folder, solver)
    stream.estimate = watch.wrap("estimator", stream.estimate)
    stream.step = watch.wrap("solver", stream.step)
    stream._overlap_add = watch.wrap("synthesis", stream._overlap_add)
    pending = np.zeros(config.n_fft, np.float32)

    def analyse(samples):
        pending[: -config.hop_length] = pending[config.hop_length :]
        pending[-config.hop_length :] = samples
        return np.abs(np.fft.rfft(pending * stream_window))

    stream_window = np.zeros(config.n_fft, np.float32)
    start = stream.offset
    stream_window[start : start + config.win_length] = stream.window
    analyse = watch.wrap("analysis", analyse)
    push = watch.wrap(
        "push", lambda magnitudes: [stream.push(x) for x in magnitudes]
    )

    def frame(samples):
        hops = samples.numpy().reshape(-1, config.hop_length)
        return push([analyse(x) for x in hops])

    run_frames(frame, inverter, frames, [], watch)


def run_frames(frame, inverter, frames, patches, watch):
    """Frame after frame; the first tenth warms up."""
    config = inverter.config
    stride = inverter.stride
    for patch in patches:
        patch.start()
    gc.collect()
    gc.freeze()  # as `phaseinv stream` does, and says why
    frame = watch.wrap("frame", frame)
    try:
        blocks = sound(config, 0).split(stride * config.hop_length, dim=1)
        for i in range(frames + frames // 10):
            frame(blocks[i % (len(blocks) - 1)])
    finally:
        for patch in patches:
            patch.stop()


@torch.no_grad()
def difference(inverter):
    """Largest difference of stream and offline result, to its peak."""
    config = inverter.config
    magnitude = analysis(sound(config, 0), config).abs()
    whole = inverter(magnitude)
    stream, worst = InversionStream(inverter), 0.0
    for size in (1, 7, 1000):
        pieces = [stream.push(x) for x in magnitude.split(size, dim=1)]
        found = torch.cat([*pieces, stream.flush()], dim=1)
        worst = max(worst, float((found - whole).abs().max()))
    return worst / float(whole.abs().max())


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
    """Stream hours of sound through one stream.

    Returns
    -------
    found : dict
        See the head of this file; memory in bytes.
    """
    config = inverter.config
    blocks = max(round(hours * 3600 / BLOCK_SECONDS), 2)
    minute = min(60 // BLOCK_SECONDS, blocks // 2)
    stream, state, memory, start = InversionStream(inverter), None, [], None
    finite, turn, recent, begin = True, 0, None, time.process_time()
    for block in range(blocks):
        stft, state = analysis_step(sound(config, block), config, state)
        magnitude = stft.abs()
        if block == blocks - minute:
            start, last, played = stream.state, [], []
            before = recent
        recent = magnitude[:, -9:].clone()
        while magnitude.shape[1]:
            size = chunks[turn % len(chunks)]
            turn += 1
            head, magnitude = magnitude[:, :size], magnitude[:, size:]
            found = stream.push(head)
            finite = finite and bool(found.isfinite().all())
            if start is not None:
                last.append(head)
                played.append(found)
        if start is None:  # the last minute is kept for the comparison
            memory.append(resident_memory())
        if block % 360 == 359:
            report(
                f"{(block + 1) * BLOCK_SECONDS / 3600:g} h: "
                f"{memory[-1] / 2**20:.1f} MiB"
            )
    seconds = time.process_time() - begin
    # What the process needs at all, it has by then.
    settled = memory[min(max(blocks // 100, 6), len(memory) - 1)]
    found = {
        "hours": blocks * BLOCK_SECONDS / 3600,
        "frames": stream.state.frames,
        "cpu_seconds": seconds,
        "state_bytes": stream.state_bytes,
        "memory_settled": settled,
        "memory_most": max(memory),
        "memory_end": memory[-1],
        "finite": finite,
    }
    last = torch.cat(last, dim=1)
    found.update(drift(inverter, stream, start, before, last, played))
    return found


def drift(inverter, stream, start, before, magnitude, played):
    """The last minute of a long stream against new ones, see above."""
    config = inverter.config
    old = torch.cat([*played, stream.flush()], dim=1)
    resumed = InversionStream(inverter)
    resumed.state = start
    same = run(resumed, magnitude)
    gap = float((old - same).abs().max() / old.abs().max())
    # From the centre of the minute's first frame to that of its last.
    hop, found = config.hop_length, {"old": old}
    found["old"] = old[:, start.frames * hop - start.samples :]
    # Eight or nine frames, so that a pair begins where the old one's do.
    heard = before[:, -8 - start.frames % 2 :]
    heir = InversionStream(inverter)
    skipped = heir.push(heard).shape[1]
    heir.state = heir.state._replace(
        inverter=heir.state.inverter._replace(heard=start.inverter.heard)
    )
    found["heir"] = run(heir, magnitude)[:, heard.shape[1] * hop - skipped :]
    found["fresh"] = run(InversionStream(inverter), magnitude)
    edges = slice(config.n_fft // hop, -16)
    reference, result = magnitude[:, edges], {"resumed_difference": gap}
    other = (found["heir"] - found["old"])[:, config.n_fft :].abs()
    result["heir_difference"] = float(other.max() / found["old"].abs().max())
    for name, waveform in found.items():
        error = analysis(waveform, config).abs()[:, edges] - reference
        result[f"spectral_convergence_{name}"] = 20 * math.log10(
            error.norm() / reference.norm()
        )
    return result


def run(stream, magnitude):
    """All samples that a stream gives."""
    pieces = [stream.push(x) for x in magnitude.split(500, dim=1)]
    return torch.cat([*pieces, stream.flush()], dim=1)


def compiled_ladder(anchor, coupling, target):
    """The package's own solver, for `EdgeStream`."""
    from speechbrain_phaseinv.kernels.ladder import solve_rows

    rows = (anchor[None], coupling[None], anchor[None], target[None])
    return solve_rows(*rows, 1.0)[0]


def times(config, frames, names=None):
    """All tables: {operating point: {engine: {part: statistics}}}."""
    found, missing = {}, []
    packages = ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in packages if not find_spec(name)]
    for name, inverter in inverters(config).items():
        if names and name not in names:
            continue
        found[name] = {"PyTorch": time_eager(inverter, frames)}
        if missing:
            continue
        from speechbrain_phaseinv.edge.export import export_onnx

        with tempfile.TemporaryDirectory() as folder:
            export_onnx(inverter, folder)
            for engine, solver in (
                ("edge.py", "ladder"),
                ("edge.py, compiled ladder", compiled_ladder),
                ("edge.py, solver.onnx", "onnx"),
            ):
                found[name][engine] = time_edge(
                    folder, inverter, frames, solver
                )
    return found, missing


def show(found):
    """The tables as text."""
    columns = ["median", "p99", "worst"]
    for name, engines in found.items():
        rows = []
        for engine, parts in engines.items():
            for part in [*PARTS, *WHOLE]:
                if part in parts:
                    cells = [parts[part][x] for x in columns]
                    cells += [parts[part][f"cpu_{x}"] for x in columns]
                    cells = [f"{x:.0f}" for x in cells]
                    rows.append([engine, part, *cells])
        header = ["engine", "part", *columns, *(f"cpu {x}" for x in columns)]
        print(f"\n{name} [microseconds]")
        print(format_table([header, *rows]))


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
        "--only", help="soak this operating point only", metavar="NAME"
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
        data["times"], missing = times(config, args.frames, names)
        show(data["times"])
        if missing:
            print(f"\nno ONNX Runtime: {', '.join(missing)} missing")
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

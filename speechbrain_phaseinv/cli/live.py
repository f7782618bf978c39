"""Sound in, its magnitudes inverted online, sound out, until it ends."""

import gc
import math
import signal
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ..audio import READABLE, check_format
from ..inversion import SpectrogramInverter
from ..stft import analysis_flush, analysis_step
from ..streaming import InversionStream
from . import say
from .options import config_of
from .pcm import Format, SampleReader, SampleWriter, open_input, open_output

# What is read from the wrong encoding: its transform would overflow.
ABSURD = 1e30


class LiveInversion:
    """Throw the phase of a sound away and find it again, while it sounds.

    As many samples come out as went in, those that `InversionStream` gives
    for their magnitudes.
    """

    def __init__(self, inverter):
        self._config = inverter.config
        self._stream = InversionStream(inverter)
        self._analysis = None
        self.samples = 0

    def push(self, waveform):
        """Take samples [channels, any], give those that are ready."""
        with torch.inference_mode():
            stft, self._analysis = analysis_step(
                waveform, self._config, self._analysis
            )
            magnitude = stft.abs()
        self.samples += waveform.shape[1]
        return self._stream.push(magnitude)

    @torch.no_grad()
    def finish(self):
        """The samples that are still owed; then begin anew."""
        samples, self.samples = self.samples, 0
        if samples == 0:
            return torch.zeros(1, 0)
        rest = analysis_flush(self._config, self._analysis)
        self._analysis = None
        head = self._stream.push(rest.abs())
        return torch.cat([head, self._stream.flush(samples)], dim=1)


def stream(args):
    """Run the command, with what its options say.

    The status is 0 at the end of the input, or if nobody reads the output any
    more; 130 after Ctrl-C, 143 after SIGTERM, as a shell expects.
    """
    source, target, *more = [*args.paths, "-", "-"][: max(len(args.paths), 2)]
    if more:
        raise ValueError(f"expected IN and OUT, got {len(args.paths)} paths.")
    _check_name(target)
    raw_format = _raw_format(args)
    torch.set_num_threads(1)  # frames are too small to be shared
    file, name = open_input(source)
    with file:
        reader = SampleReader(file, name, raw_format)
        rate, channels, encoding = reader.format
        inverter = SpectrogramInverter(
            config_of(args, rate), args.lookahead, args.estimator
        ).eval()
        _warm_up(inverter, channels)
        # Sixteen bits stay what they are, all else is kept without loss.
        out = args.dtype or ("s16le" if encoding == "s16le" else "f32le")
        header = not args.raw or target.lower().endswith(".wav")
        with open_output(target, args.overwrite, file) as output:
            writer = SampleWriter(output, Format(rate, channels, out), header)
            # Python's collector of garbage now and then looks at all there
            # is, torch included: a tenth of a second, in which no frame would
            # come. It leaves out what is there now; frames leave no garbage.
            gc.collect()
            gc.freeze()
            try:
                outcome = _run(reader, writer, inverter)
            finally:
                gc.unfreeze()
    if reader.missing and not outcome.remark:
        warnings.warn(
            f"{name}: the input is truncated: it ended {reader.missing} bytes "
            "before its header says.",
            stacklevel=2,
        )
    if not args.quiet:
        say(outcome.describe(inverter, writer, name), err=True)
    return outcome.status


class Outcome:
    """How a run went: its end, and the times of its frames.

    Times are counted by their logarithm, to a percent: memory stays constant.
    """

    def __init__(self):
        self.status, self.remark = 0, ""
        self.seconds = self.worst = 0.0
        self.invalid = self.samples = 0
        self._counts = Counter()

    def add(self, seconds):
        """Count one frame's time."""
        self.seconds += seconds
        self.worst = max(self.worst, seconds)
        self._counts[round(100 * math.log(max(seconds, 1e-9)))] += 1

    def median(self):
        """Of all frames, in seconds."""
        left = (self._counts.total() + 1) // 2
        for key in sorted(self._counts):
            left -= self._counts[key]
            if left <= 0:
                return math.exp(key / 100)
        return 0.0

    def describe(self, inverter, writer, name):
        """The lines on stderr."""
        config = inverter.config
        rate, hop = config.sample_rate, config.hop_length
        duration = self.samples / rate
        lines = [
            f"{name}: {duration:.2f} s in, {writer.samples / rate:.2f} s "
            f"out{self.remark}",
            f"{inverter.method}; latency {inverter.latency} samples, "
            f"{1000 * inverter.latency / rate:.1f} ms",
            f"real-time factor {self.seconds / max(duration, 1e-9):.3f}; "
            f"time per frame: median {1000 * self.median():.2f} ms, worst "
            f"{1000 * self.worst:.2f} ms, of {1000 * hop / rate:.1f} ms",
        ]
        if self.invalid:
            lines.append(
                f"{self.invalid} samples were NaN, infinite or beyond "
                f"{ABSURD:g} and were taken as zeros"
            )
        if writer.clipped:
            lines.append(
                f"{writer.clipped} samples beyond full scale were clipped: "
                "pass --dtype f32le to keep them"
            )
        return "\n".join(lines)


def _run(reader, writer, inverter):
    """A hop in, a hop out, until something ends it."""
    live, outcome = LiveInversion(inverter), Outcome()
    hop = inverter.config.hop_length
    with _Stop() as stop:
        try:
            while not stop.asked:
                block = stop.wait(lambda: reader.read(hop))
                if block is None or block.shape[1] == 0:
                    break
                valid = np.abs(block) < ABSURD  # false for NaN, too
                outcome.invalid += int(valid.size - valid.sum())
                block = torch.from_numpy(np.where(valid, block, 0))
                start = time.perf_counter()
                ready = live.push(block)
                outcome.add(time.perf_counter() - start)
                outcome.samples += block.shape[1]
                if ready.shape[1]:
                    writer.write(ready.numpy())
            if live.samples:
                writer.write(live.finish().numpy())
        except BrokenPipeError:
            outcome.remark = "; nobody reads the output any more"
        finally:
            writer.close()
    if stop.asked:
        outcome.status, outcome.remark = 128 + stop.asked, "; interrupted"
    return outcome


class _Stop:
    """Turns Ctrl-C and SIGTERM into the end of the input.

    They interrupt only the waiting for input: whatever is being computed or
    written is completed. A second one interrupts anything.
    """

    def __enter__(self):
        self.asked, self._waiting, self._before = 0, False, {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, read):
        """What `read` returns, or None if a signal comes first."""
        try:
            self._waiting = True
            return None if self.asked else read()
        except _Interrupted:
            return None
        finally:
            self._waiting = False

    def _handle(self, number, _):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = number
        if self._waiting:
            raise _Interrupted


class _Interrupted(Exception):
    """Raised in a read that waits."""


def _check_name(path):
    """An error if a name promises a format that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix in READABLE and suffix != ".wav":
        raise ValueError(
            f"{path}: a stream is written as .wav, or raw. Pipe it into sox "
            "or ffmpeg for other formats."
        )


def _raw_format(args):
    """The format of samples without a header, if that is what comes."""
    if not args.raw:
        if args.sample_rate or args.channels:
            raise ValueError(
                "--sample-rate and --channels are for --raw; a WAV file says "
                "them itself."
            )
        return None
    if not args.sample_rate:
        raise ValueError("--raw needs --sample-rate HZ.")
    channels = 1 if args.channels is None else args.channels
    check_format("--raw", args.sample_rate, channels)
    return Format(args.sample_rate, channels, args.dtype or "s16le")


def _warm_up(inverter, channels):
    """Compile what has to be, before the first sample waits for it."""
    hop = inverter.config.hop_length
    live = LiveInversion(inverter)
    for _ in range(8):
        live.push(torch.zeros(channels, hop))
    live.finish()

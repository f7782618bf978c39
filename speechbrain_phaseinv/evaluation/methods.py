"""What is compared: this package's operating points, and Griffin-Lim.

A method is a function (config) -> invert for one transform, and `invert` is
called with magnitudes [batch, time, freq] and a length in samples, and returns
a waveform [batch, samples]. It may have attributes: `latency`, in samples
(None: the whole signal); `parameters`, the number of trained ones; and
`needs`, the field of `Recording` to be called with instead of "magnitude".
A method that cannot be built here raises `Unavailable` with the reason.
"""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from ..audio import read_audio, resample
from ..checks import check_magnitude
from ..griffinlim import griffin_lim
from ..inversion import SpectrogramInverter
from ..stft import analysis, synthesis


class Unavailable(Exception):
    """A method cannot be built here; the message is one line that says why."""


class Recording(NamedTuple):
    """What an inverter may be called with."""

    file: Path
    waveform: torch.Tensor  # [channels, samples]
    stft: torch.Tensor  # [channels, time, freq], complex
    magnitude: torch.Tensor  # [channels, time, freq]


def read_recording(file, config):
    """A file of any rate as a `Recording` with the transform of `config`."""
    audio, rate, _ = read_audio(file)
    waveform = torch.from_numpy(resample(audio, rate, config.sample_rate))
    stft = analysis(waveform, config)
    # Samples may be finite and so loud that their magnitudes are not.
    magnitude = check_magnitude(stft.abs(), config)
    return Recording(Path(file), waveform, stft, magnitude)


@contextmanager
def one_thread():
    """One thread of torch, for times that can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def timed(invert, magnitude, length, clock=time.perf_counter):
    """Waveform [batch, length] of an inverter, and the seconds it takes.

    With one thread, ``time.process_time`` is the clock that other programs on
    the machine do not disturb.
    """
    start = clock()
    waveform = invert(magnitude, length)
    return waveform, clock() - start


def warm_up(invert, config):
    """Load compiled kernels before the clock runs."""
    # Longer than a window, which some peers insist on.
    frames = 8 + config.n_fft // config.hop_length
    magnitude = torch.ones(1, frames, config.num_bins)
    if getattr(invert, "needs", "") == "stft":
        magnitude = magnitude.to(magnitude.dtype.to_complex())
    invert(magnitude, config.num_samples(frames))


class Inversion:
    """This package's own inversion, and Griffin-Lim iterations if wanted.

    Arguments
    ---------
    inverter : SpectrogramInverter
        At the operating point wanted.
    n_iter : int
        Number of fast Griffin-Lim iterations that follow.
    """

    def __init__(self, inverter, n_iter=0):
        self.inverter = inverter
        self.n_iter = n_iter

    @torch.no_grad()
    def __call__(self, magnitude, length):
        """Magnitude [batch, time, freq] to waveform [batch, length]."""
        if self.n_iter == 0:
            return self.inverter(magnitude, length=length)
        config = self.inverter.config
        stft = self.inverter.invert(magnitude)
        stft = griffin_lim(magnitude, config, stft, self.n_iter, length=length)
        return synthesis(stft, config, length)

    @property
    def latency(self):
        """Algorithmic latency, in samples; None: the whole signal."""
        return None if self.n_iter else self.inverter.latency

    @property
    def parameters(self):
        """Number of trained parameters."""
        return sum(p.numel() for p in self.inverter.parameters())


def operating_point(estimator, lookahead, n_iter=0, **options):
    """A method of this package, see `SpectrogramInverter`."""

    def make(config):
        try:
            inverter = SpectrogramInverter(
                config, lookahead, estimator, **options
            )
        except ValueError as error:  # no weights for this transform
            raise Unavailable(str(error).partition(". ")[0]) from None
        return Inversion(inverter, n_iter)

    return make


def torchaudio_griffin_lim(config, n_iter=32, seed=0):
    """torchaudio's fast Griffin-Lim, from random phases of a fixed seed."""
    try:
        from torchaudio.transforms import GriffinLim
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(
            f"torchaudio cannot be imported: {reason[0]}"
        ) from None

    def window(_, **options):
        return config.window_tensor(**options)

    @torch.no_grad()
    def invert(magnitude, length):
        if length <= config.n_fft // 2:
            raise Unavailable(
                f"torchaudio pads by reflection and needs at least "
                f"{config.n_fft // 2 + 1} samples, got {length}"
            )
        transform = GriffinLim(
            config.n_fft,
            n_iter,
            config.win_length,
            config.hop_length,
            window,
            power=1.0,
            wkwargs={"dtype": magnitude.dtype},
            length=length,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return transform(magnitude.transpose(1, 2))

    return invert


METHODS = {
    "gradient-0": operating_point("gradient", 0),
    "gradient-1": operating_point("gradient", 1),
    "gradient-0+16": operating_point("gradient", 0, n_iter=16),
    "gradient-1+16": operating_point("gradient", 1, n_iter=16),
    "network-0": operating_point("network", 0),
    "network-1": operating_point("network", 1),
    "network-1-paired": operating_point("network", 1, paired=True),
    "network-0+16": operating_point("network", 0, n_iter=16),
    "network-1+16": operating_point("network", 1, n_iter=16),
    "griffin-lim-32": lambda config: torchaudio_griffin_lim(config, 32),
    "griffin-lim-100": lambda config: torchaudio_griffin_lim(config, 100),
}

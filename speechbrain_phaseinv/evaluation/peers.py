"""Other methods, for comparison: each is optional, and built on demand.

A peer is a method as in `methods`. Each is used as its paper describes it
where its defaults differ, and with our synthesis where it leaves that open.
To install them:

    pip install pghipy lws torch-specinv
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from ..audio import READABLE, read_audio, resample
from ..config import steady_envelope
from ..estimation.derivatives import (
    PhaseDerivatives,
    gaussian_gamma,
    phase_derivatives,
)
from ..estimation.features import log_magnitude
from ..integration.least_squares import integrate
from ..stft import synthesis
from .methods import Unavailable


def channelwise(solve, latency=None):
    """An inverter from a function of one channel, in NumPy arrays.

    `solve` takes magnitudes [time, freq] in double precision and a length,
    and returns samples.
    """

    def invert(magnitude, length):
        rows = [solve(x.double().numpy(), length) for x in magnitude]
        return torch.from_numpy(np.stack(rows)).to(magnitude.dtype)

    invert.latency = latency
    return invert


def _synthesis(stft, config, length):
    """Our synthesis of one channel, from NumPy to NumPy."""
    return synthesis(torch.from_numpy(stft)[None], config, length)[0].numpy()


def constant_phase(config):
    """No phase at all: every bin has that of the window's centre."""

    def invert(magnitude, length):
        start = config.start_phasor(magnitude.dtype.to_complex())
        return synthesis(magnitude * start, config, length)

    invert.latency = config.synthesis_latency
    return invert


def random_phase(config, seed=0):
    """Phases drawn at random, from a fixed seed."""

    def invert(magnitude, length):
        generator = torch.Generator().manual_seed(seed)
        turns = torch.rand(magnitude.shape, generator=generator)
        phasor = torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
        return synthesis(magnitude * phasor, config, length)

    invert.latency = config.synthesis_latency
    return invert


def true_derivatives(config, power=1.5):
    """What the least squares make of the derivatives of the true phase.

    The one method that is called with the phase.
    """

    def invert(stft, length):
        magnitude = stft.abs()
        level, _ = log_magnitude(magnitude)
        before = torch.cat([level[:, :1], level[:, :-1]], dim=1)
        below = torch.cat([level[..., :1], level[..., :-1]], dim=2)
        weights = torch.stack([before, below]) * power + (power + 2) * level
        # The largest weight of a frame is 1, the smallest still normal.
        weights = weights - weights.amax((0, -1), keepdim=True)
        weights = weights.clamp_min(-80).exp()
        derivatives = PhaseDerivatives(*phase_derivatives(stft, config)[:2])
        phasors = integrate(derivatives, *weights, config)
        start = config.start_phasor(phasors.dtype)
        return synthesis(magnitude * phasors * start, config, length)

    invert.latency = config.synthesis_latency
    invert.needs = "stft"
    return invert


def pghipy(config):
    """Phase gradient heap integration, offline (Prusa et al. 2017).

    It is given the window's own gamma, not that of its Gaussian default.
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
        return _synthesis(magnitude * np.exp(1j * phase), config, length)

    return channelwise(solve)


def lws(config, look_ahead=None, **options):
    """Local weighted sums (Le Roux et al. 2010).

    Its windows are symmetric: their centre lies half a sample before the
    centre of a periodic window. The magnitudes with one window are those of
    the signal moved by half a sample with the other, so its result is moved
    back, bin by bin.
    """
    try:
        import lws
    except ImportError as error:
        raise Unavailable(f"lws: {error}") from None
    if config.window != "hann" or config.win_length != config.n_fft:
        raise Unavailable("lws: only its Hann window of n_fft samples")
    window = lws.hann(config.n_fft, symmetric=True)
    latency = None
    if look_ahead is not None:
        options["look_ahead"] = look_ahead
        latency = config.synthesis_latency + look_ahead * config.hop_length
    processor = lws.lws(window, config.hop_length, **options)
    shift = np.exp(-1j * np.pi * np.arange(config.num_bins) / config.n_fft)

    def solve(magnitude, length):
        return _synthesis(processor.run_lws(magnitude) * shift, config, length)

    return channelwise(solve, latency)


class _OldTorch:
    """torch, with the transforms of version 1.6, which torch-specinv calls.

    Complex numbers were pairs of real ones then.
    """

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def stft(*args, **kwargs):
        stft = torch.stft(*args, return_complex=True, **kwargs)
        return torch.view_as_real(stft)

    @staticmethod
    def irfft(x, signal_ndim, normalized, onesided, signal_sizes):
        return torch.fft.irfft(torch.view_as_complex(x.contiguous()))


def rtisi_la(config):
    """Iterations over a few frames at a time (Zhu et al. 2007).

    The method of torch-specinv, with its defaults: 25 iterations for each
    frame, and as many frames of look-ahead as overlap it.
    """
    try:
        spec = importlib.util.find_spec("torch_specinv.methods")
    except ImportError as error:
        raise Unavailable(f"torch-specinv: {error}") from None
    hop = config.hop_length
    envelope = steady_envelope(config)
    if envelope.std() > 1e-6 * envelope.mean():
        raise Unavailable(
            "torch-specinv: only windows whose shifted squares have a "
            "constant sum, such as Hann with an overlap of 75 %"
        )
    # A copy of the module: what is installed stays as it is.
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.torch = _OldTorch()
    settings = {
        "window": config.window_tensor(torch.float64),
        "win_length": config.win_length,
        "hop_length": hop,
        "verbose": False,
    }

    def solve(magnitude, length):
        # It takes levels below 1e-7 for silence, and never comes back from
        # silence, since it can only turn the phases of a signal.
        peak = max(magnitude.max(), 1e-30)
        raised = np.maximum(magnitude.T / peak, 1e-5)
        signal = module.RTISI_LA(torch.from_numpy(raised), **settings)
        signal = torch.nn.functional.pad(signal, (0, length - len(signal)))
        return peak * signal.numpy()

    look_ahead = (config.win_length - 1) // hop
    return channelwise(solve, config.synthesis_latency + look_ahead * hop)


def rendered(folder):
    """The output of another system, read from a folder of recordings.

    A recording belongs to the original of the same name; the name of its
    folder and an underscore in front do not count. The sample rate and the
    format are free.
    """
    files = {
        _name(file): file
        for file in sorted(Path(folder).glob("*"))
        if file.suffix.lower() in READABLE
    }
    if not files:
        raise ValueError(
            f"{folder}: expected a folder of recordings "
            f"({', '.join(sorted(READABLE))}), got none."
        )

    def make(config):
        def invert(original, length):
            file = files.get(_name(original))
            if file is None:
                raise Unavailable(f"{folder} holds no recording of this name")
            try:
                samples, rate, _ = read_audio(file)
            except (ValueError, OSError) as error:
                raise Unavailable(str(error)) from None
            samples = resample(samples, rate, config.sample_rate)
            missing = length - samples.shape[-1]
            if abs(missing) > config.sample_rate / 4:
                raise Unavailable(
                    f"{file} lasts {samples.shape[-1]} samples at "
                    f"{config.sample_rate} Hz, the original {length}"
                )
            waveform = torch.from_numpy(samples)
            return torch.nn.functional.pad(waveform, (0, missing))

        invert.needs = "file"
        return invert

    return make


def _name(file):
    """The name that a recording and its renderings share."""
    return Path(file).stem.removeprefix(f"{Path(file).parent.name}_")


PEERS = {
    "pghipy": pghipy,
    "rtisi-la": rtisi_la,
    "lws-online": lambda config: lws(
        config,
        look_ahead=3,
        nofuture_iterations=1,
        online_iterations=10,
        batch_iterations=0,
    ),
    "lws-100": lambda config: lws(config, mode="music", batch_iterations=100),
    "zero-phase": constant_phase,
    "random-phase": random_phase,
    "true-derivatives": true_derivatives,
}
# Limits, not contenders: no phase, and one that nobody has.
BOUNDS = ("zero-phase", "random-phase", "true-derivatives")

"""Other methods, for comparison: each is optional, and built on demand.

As `methods.METHODS`: a name, and a function that builds the inverter for
one transform or raises `Unavailable`. Each peer is given what its paper
assumes where its defaults assume something else, and our synthesis where it
leaves that open. To install them:

    pip install pghipy lws torch-specinv
"""

import importlib.util

import numpy as np
import torch

from ..config import steady_envelope
from ..estimation.derivatives import (
    PhaseDerivatives,
    gaussian_gamma,
    phase_derivatives,
)
from ..integration.least_squares import integrate, log_magnitude, phase_weights
from ..inversion import DEFAULT_POWER
from ..stft import synthesis
from .methods import Unavailable


def channelwise(solve, latency=None):
    """An inverter from a function of one channel's magnitudes.

    Arguments
    ---------
    solve : callable
        (magnitude [time, freq] in double precision, length) -> samples, both
        NumPy arrays.
    latency : int, optional
        In samples; None if it needs the whole signal.

    Returns
    -------
    invert : callable
        As `methods.Inversion`.
    """

    def invert(magnitude, length):
        rows = [solve(x.double().numpy(), length) for x in magnitude]
        return torch.from_numpy(np.stack(rows)).to(magnitude.dtype)

    invert.latency = latency
    return invert


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


def true_derivatives(config):
    """What is reached if the derivatives are known: our least squares alone.

    The one method that is given the phase.
    """

    def invert(stft, length):
        magnitude = stft.abs()
        level = log_magnitude(magnitude)
        before = torch.cat([level[:, :1], level[:, :-1]], dim=1)
        derivatives = PhaseDerivatives(*phase_derivatives(stft, config)[:2])
        weights = phase_weights(level, before, derivatives, DEFAULT_POWER)
        phasors = integrate(derivatives, *weights, config)
        start = config.start_phasor(phasors.dtype)
        return synthesis(magnitude * phasors * start, config, length)

    invert.latency = config.synthesis_latency
    invert.needs_phase = True
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
        stft = torch.from_numpy(magnitude * np.exp(1j * phase))
        return synthesis(stft[None], config, length)[0].numpy()

    return channelwise(solve)


def lws(config, look_ahead=None, **options):
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
    latency = None
    if look_ahead is not None:
        options["look_ahead"] = look_ahead
        latency = config.synthesis_latency + look_ahead * config.hop_length
    processor = lws.lws(window, config.hop_length, **options)
    shift = np.exp(-1j * np.pi * np.arange(config.num_bins) / config.n_fft)

    def solve(magnitude, length):
        found = processor.run_lws(magnitude) * shift
        stft = torch.from_numpy(found)
        return synthesis(stft[None], config, length)[0].numpy()

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

    Those of torch-specinv, with its defaults: 25 for each frame, with as many
    frames of look-ahead as overlap it.
    """
    try:
        found = importlib.util.find_spec("torch_specinv.methods")
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
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.torch = _OldTorch()
    settings = {
        "window": config.window_tensor(torch.float64),
        "win_length": config.win_length,
        "hop_length": hop,
        "verbose": False,
    }

    def solve(magnitude, length):
        # It takes what is below 1e-7 for silence, and never comes back from
        # silence: phases are found by turning what there is.
        peak = max(magnitude.max(), 1e-30)
        raised = np.maximum(magnitude.T / peak, 1e-5)
        made = module.RTISI_LA(torch.from_numpy(raised), **settings)
        missing = length - len(made)
        return peak * torch.nn.functional.pad(made, (0, missing)).numpy()

    look_ahead = (config.win_length - 1) // hop
    return channelwise(solve, config.synthesis_latency + look_ahead * hop)


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

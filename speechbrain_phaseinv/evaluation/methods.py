"""What is compared: this package's operating points, and Griffin-Lim.

A method is a function that builds, for one transform, an inverter: magnitudes
[batch, time, freq] and a length in samples in, waveform [batch, samples] out.
An inverter may say its `latency`, in samples (None: the whole signal), and its
number of trained `parameters`; one with `needs_phase` is given the complex
spectrogram. `METHODS` names those that this package and its dependencies
provide, `peers.PEERS` others; where one cannot be built, its builder raises
`Unavailable` with the reason.
"""

import torch

from ..griffinlim import griffin_lim
from ..inversion import SpectrogramInverter
from ..stft import synthesis


class Unavailable(Exception):
    """A method cannot be built here; the message is one line that says why."""


class Inversion:
    """This package's own inversion, and iterations if wanted.

    Arguments
    ---------
    inverter : SpectrogramInverter
        At the operating point wanted.
    n_iter : int
        Fast Griffin-Lim iterations that follow.
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
    """A method of ours: (config) -> invert, see `SpectrogramInverter`."""

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
                f"torchaudio pads by reflection, which takes more than the "
                f"{length} samples there are: {config.n_fft // 2 + 1}"
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

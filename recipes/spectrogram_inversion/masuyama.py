"""The network that the package's is compared with: the previous best.

Masuyama, Yatabe, Nagatomo and Oikawa, "Online phase reconstruction via
DNN-based phase differences estimation", IEEE/ACM TASLP 31 (2023): two
networks of the same form, one for each derivative, from the log-magnitudes of
four frames. 412 thousand parameters in all. It is trained by
``hparams/masuyama.yaml``, on the derivatives alone, as published.
"""

import math
from collections import OrderedDict

import torch

from speechbrain_phaseinv.estimation import Estimates, Schedule

# Frames that go through the layers together when no gradient is wanted: of a
# few sizes tried, the fastest.
BLOCK_FRAMES = 16


class GatedConvolution(torch.nn.Module):
    """A convolution along frequency times the logistic function of another.

    Arguments
    ---------
    channels : int
        Channels in and out.
    kernel_size : int
        Odd, in bins.
    """

    def __init__(self, channels, kernel_size):
        super().__init__()
        self.conv = torch.nn.Conv2d(
            channels,
            2 * channels,
            (1, kernel_size),
            padding=(0, kernel_size // 2),
        )

    def forward(self, x):
        """[batch, channels, time, freq] to the same shape."""
        return torch.nn.functional.glu(self.conv(x), dim=1)


class Residual(torch.nn.Module):
    """Two gated convolutions, and a way around both."""

    def __init__(self, channels, kernel_size):
        super().__init__()
        self.inner = torch.nn.Sequential(
            GatedConvolution(channels, kernel_size),
            GatedConvolution(channels, kernel_size),
        )

    def forward(self, x):
        """[batch, channels, time, freq] to the same shape."""
        return x + self.inner(x)


class MasuyamaNet(torch.nn.Module):
    """Both phase derivatives from four frames of log-magnitudes.

    An estimator, as `speechbrain_phaseinv.network.PhaseDerivativeNet` is, and
    called in the same way.

    Arguments
    ---------
    config : StftConfig
        The transform that the magnitudes come from.
    channels : int
        Width of both networks.
    kernel_size : int
        Odd, in bins.
    history : int
        Frames before the current one that the networks see.
    power : float
        Exponent of the least-squares weights, see `phase_weights`.
    coupling : float
        Factor on the weight of the derivative over frequency.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> net = MasuyamaNet(config)
    >>> sum(p.numel() for p in net.parameters())
    411650
    >>> estimates, state = net(torch.randn(2, 10, 257))
    >>> estimates.time.shape
    torch.Size([2, 10, 1, 257])
    """

    lookahead = 0
    schedule = Schedule(stride=1, lookahead=lookahead, offsets=(0,))

    def __init__(
        self,
        config,
        channels=64,
        kernel_size=5,
        history=3,
        power=1.5,
        coupling=1.0,
    ):
        super().__init__()
        self.config = config
        self.history = history
        self.power = power
        self.coupling = coupling
        self.time = _network(history + 1, channels, kernel_size)
        self.frequency = _network(history + 1, channels, kernel_size)

    def forward(self, log_magnitude, state=None):
        """Estimates of the next frames; see `PhaseDerivativeNet`.

        Arguments
        ---------
        log_magnitude : torch.Tensor, [batch, time, freq]
            Natural logarithm of the magnitudes of the next frames.
        state : torch.Tensor, [batch, history, freq], optional
            What the previous call returned; None at the stream's start.

        Returns
        -------
        estimates : Estimates
            [batch, time, 1, freq].
        state : torch.Tensor, [batch, history, freq]
            The last log-magnitudes.
        """
        if state is None:
            state = log_magnitude[:, :1].repeat(1, self.history, 1)
        frames = torch.cat([state, log_magnitude], dim=1)
        time = log_magnitude.shape[1]
        seen = [frames[:, i : i + time] for i in range(self.history + 1)]
        features = torch.stack(seen, dim=1)
        # Of what a pass sees, only the mean is left out: so the level of the
        # recording does not matter, and the slopes over frequency do.
        features = features - features.mean((1, 3), keepdim=True)
        block = time if torch.is_grad_enabled() else BLOCK_FRAMES
        pieces = [
            torch.cat([self.time(x), self.frequency(x)], dim=1)
            for x in features.split(max(block, 1), dim=2)
        ]
        time, frequency = torch.cat(pieces, dim=2).to(frames).unbind(1)
        confidence = torch.full_like(time, math.log(self.coupling))
        estimates = Estimates.single(time, frequency, None, confidence)
        return estimates, frames[:, frames.shape[1] - self.history :]


def _network(frames, channels, kernel_size):
    """One of the two: frames in, one derivative out."""
    layers = {
        "first": torch.nn.Conv2d(frames, channels, 1),
        "gated": GatedConvolution(channels, kernel_size),
        "residual1": Residual(channels, kernel_size),
        "residual2": Residual(channels, kernel_size),
        "last": torch.nn.Conv2d(channels, 1, 1),
    }
    return torch.nn.Sequential(OrderedDict(layers))

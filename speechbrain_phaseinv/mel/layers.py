"""What the networks from log-mels to magnitudes share.

A network is called as `MelInversion` is: frames and a state go in, magnitudes
and a state come out. It is causal, no frame waits for another, and only
bounded differences of logarithms go in. How a convolution rounds depends on
how many frames go through it together; the rows of a matrix product are
independent. So the layers are products where no gradient is needed, and a
stream gives the bits of the offline call.
"""

import torch

from ..estimation.network import STEP_SCALE, GatedBlock
from .config import natural_log
from .inversion import Tabulated

# A correction beyond this, in nepers, is a mistake.
LARGEST_CORRECTION = 10.0

# Frames that go through the layers together when no gradient is wanted.
BLOCK_FRAMES = 16


class MelNet(Tabulated):
    """The frames of a network from log-mels to magnitudes, without layers.

    A subclass has `config`, the tables `below` and `above`, the bands that
    each bin lies between, and ``correct(log_mel, steps, trained)``, magnitudes
    from [frames, n_mels] and [frames, bands, steps].
    """

    lookahead = 0

    def add_layers(self, channels, blocks, bin_channels, kernel_size, history):
        """Make the layers over bands and bins, of so many frames before."""
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}.")
        self.history = history
        self.first = torch.nn.Conv2d(
            1 + history, channels, (1, 3), padding=(0, 1)
        )
        self.blocks = torch.nn.Sequential(
            *(GatedBlock(channels, kernel_size) for _ in range(blocks))
        )
        self.to_bins = torch.nn.Conv2d(channels, 2 * bin_channels, 1)
        self.detail = torch.nn.Conv2d(
            2,
            2 * bin_channels,
            (1, kernel_size),
            padding=(0, kernel_size // 2),
        )

    def levels(self, log_mel):
        """What the steps are taken of, [batch, time, bands], in nepers."""
        return log_mel

    def forward(self, log_mel, state=None):
        """Magnitudes of the next frames.

        Arguments
        ---------
        log_mel : torch.Tensor, [batch, time, n_mels]
            In the convention of the description.
        state : torch.Tensor, [batch, history, n_mels], optional
            What the previous call returned; None at the stream's start,
            before which the first frame is repeated.

        Returns
        -------
        magnitude : torch.Tensor, [batch, time, freq]
        state : torch.Tensor, [batch, history, n_mels]
            The last frames.
        """
        log_mel = natural_log(log_mel, self.config).to(self.first.weight)
        if log_mel.shape[1] == 0:
            shape = (*log_mel.shape[:2], self.config.stft.num_bins)
            return log_mel.new_zeros(shape), state
        if state is None:
            state = log_mel[:, :1].repeat(1, self.history, 1)
        frames = torch.cat([state, log_mel], dim=1)
        return self.magnitudes(frames), frames[:, -self.history :]

    def is_trained(self):
        """Whether a gradient of the weights is wanted."""
        return torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in self.parameters()
        )

    def magnitudes(self, frames):
        """Those of all frames but the first, which are history."""
        steps = torch.stack(self._steps(frames), dim=-1).flatten(0, 1)
        log_mel = frames[:, self.history :]
        rows = log_mel.flatten(0, 1)
        trained = self.is_trained()
        size = len(rows) if trained else BLOCK_FRAMES
        blocks = zip(rows.split(size), steps.split(size))
        # Half precision is not enough for magnitudes that become a phase.
        with torch.autocast(rows.device.type, enabled=False):
            magnitude = torch.cat([self.correct(*x, trained) for x in blocks])
        return magnitude.unflatten(0, log_mel.shape[:2])

    def _steps(self, frames):
        """Bounded steps, [batch, time, bands] each: up, and from before."""
        levels = self.levels(frames)
        here = levels[:, self.history :]
        slope = torch.nn.functional.pad(here.diff(dim=2), (1, 0))
        rise = torch.tanh(levels.diff(dim=1) / STEP_SCALE)
        time = here.shape[1]
        rises = [rise[:, i : i + time] for i in range(self.history)]
        return [torch.tanh(slope / STEP_SCALE), *rises]

    def spread(self, bands, share):
        """Interpolate over the bins, from [frames, bands, ...]."""
        below = bands.index_select(1, self.below)
        return below.lerp(bands.index_select(1, self.above), share)


def run(layer, x, trained):
    """A flat convolution or gated block on [frames, freq, channels]."""
    if not trained:
        return _as_products(layer, x)
    x = x.permute(2, 0, 1).unsqueeze(0)
    return layer(x).squeeze(0).permute(1, 2, 0)


def gated(x):
    """The first half of the channels through the gates of the second."""
    value, gate = x.chunk(2, dim=-1)
    return value * logistic(gate)


def logistic(x):
    """The logistic function; unlike sigmoid's, the rounding of tanh is the
    same in the middle of an array and at its end."""
    return 0.5 + 0.5 * torch.tanh(0.5 * x)


def _as_products(layer, x):
    """The same as products of matrices."""
    if isinstance(layer, GatedBlock):
        value, gate = _as_products(layer.conv, x).chunk(2, dim=-1)
        return torch.addcmul(x, value, logistic(gate))
    kernel, reach = layer.kernel_size[1], layer.padding[1]
    frames, freq, channels = x.shape
    if kernel > 1:
        x = torch.nn.functional.pad(x, (0, 0, reach, reach)).as_strided(
            (frames, freq, kernel, channels),
            ((freq + 2 * reach) * channels, channels, channels, 1),
        )
    rows = x.reshape(frames * freq, kernel * channels)
    weight = layer.weight.permute(3, 1, 0, 2).flatten(2).flatten(0, 1)
    return torch.addmm(layer.bias, rows, weight).unflatten(0, (frames, freq))

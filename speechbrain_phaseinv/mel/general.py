"""One network for any mel spectrogram.

`MelInversionNet` learns what each band and each bin is. Here two small
functions of geometry say it: see `geometry`. They are computed once for a
convention, so that a frame costs what it costs with tables.
"""

import numpy as np
import torch

from ..backends import compiled_serves, over_signals, to_arrays
from ..checks import check_integer
from ..estimation.network import STEP_SCALE
from . import geometry
from .config import SMALLEST
from .inversion import MelInversion
from .layers import LARGEST_CORRECTION, MelNet, gated, run

# Nepers below the bands around, from where it does not matter how far.
DEEPEST = 5.0


class GeneralMelNet(MelNet):
    """Magnitudes from any log-mels: `MelInversion`, corrected by a network.

    It is called as `MelInversion` is. It is causal, no frame waits for
    another, and the level does not matter: only differences of logarithms go
    in. Empty bands do not count. Bins below the first band's centre stay as
    the updates leave them, nearly silent: what is guessed there is no better
    than hum.

    Arguments
    ---------
    config : MelConfig
        The convention.
    channels : int
        Width of the layers over bands.
    blocks : int
        Gated convolutions over bands.
    bin_channels : int
        Width of the layers over bins.
    kernel_size : int
        Width of the gated convolutions, odd, in bands or bins.
    history : int
        Frames before the current one that the network sees, at least 1.
    geometry_channels : int
        Width of the functions of geometry.
    n_iter : int
        Updates of the non-negative inversion.

    Example
    -------
    >>> from speechbrain_phaseinv.mel import mel_preset
    >>> net = GeneralMelNet(mel_preset("vocos-24000"))
    >>> magnitude, state = net(torch.randn(2, 10, 100))
    >>> magnitude.shape
    torch.Size([2, 10, 513])
    >>> sum(p.numel() for p in net.parameters()) <= 30000
    True
    """

    def __init__(
        self,
        config,
        channels=24,
        blocks=2,
        bin_channels=8,
        kernel_size=5,
        history=2,
        geometry_channels=64,
        n_iter=4,
    ):
        super().__init__()
        self.bin_channels = bin_channels
        self.n_iter = check_integer("n_iter", n_iter)
        history = check_integer("history", history, 1)
        self.add_layers(channels, blocks, bin_channels, kernel_size, history)
        width = check_integer("geometry_channels", geometry_channels, 1)
        self.of_band = _function(geometry.BAND_NUMBERS, width, 2 * channels)
        self.of_bin = _function(
            geometry.BIN_NUMBERS, width, 3 * bin_channels + 1
        )
        self.describe(config)
        self.float()  # as the bands are, whatever the default

    def describe(self, config):
        """Work on another convention from now on, with the same weights."""
        self.config = config
        self.learned = None
        device = self.first.weight.device
        with torch.device(device):
            self.inversion = MelInversion(config, self.n_iter)
            self.add_tables()

    def tables(self):
        """The geometry, and the two bands that each bin lies between."""
        with torch.device("cpu"):
            centres = geometry.band_centres(self.config)
            bins = torch.arange(self.config.stft.num_bins).double()
            above = torch.searchsorted(centres, bins).clamp(1, len(centres) - 1)
            below = above - 1
            share = (bins - centres[below]) / (centres[above] - centres[below])
            kept = geometry.kept_bands(self.config)
            inversion = MelInversion(self.config, 0).tables()
            return {
                "kept": kept,
                "level": inversion["level"][kept].log(),
                "inside": inversion["filterbank"].sum(1) > 0,
                "below": below,
                "above": above,
                "beneath": bins < centres[0],
                "share": share.clamp(0, 1).float(),
                "band_geometry": geometry.band_geometry(self.config),
                "bin_geometry": geometry.bin_geometry(self.config),
            }

    def levels(self, log_mel):
        """Of magnitudes that are flat over a band, [..., bands]."""
        kept = log_mel.index_select(-1, self.kept)
        return (kept + self.level) / self.config.power

    def magnitudes(self, frames):
        """By the kernel where that serves, else by `correct`."""
        serves = compiled_serves(frames, self.first.weight)
        if self.is_trained() or not serves:
            return super().magnitudes(frames)
        from ..kernels import mel

        batch, time, _ = frames.shape
        shape = batch, time - self.history, len(self.share)
        output = frames.new_empty(shape)
        arrays = self._arrays()
        over_signals(mel.run, batch, frames.numpy(), *arrays, output.numpy())
        return output

    @torch.no_grad()
    def _arrays(self):
        """What the kernel needs, kept until the weights may have changed."""
        if self.learned is None or self.training:
            shift, scale, gate, last, offset = self.learn()
            self.learned = (
                _numpy(self.kept, self.level, self.inside, self.beneath)
                + _numpy(self.below, self.share),
                np.array(
                    [1 / self.config.power, 1 / STEP_SCALE, DEEPEST]
                    + [SMALLEST, LARGEST_CORRECTION, self.n_iter]
                ),
                _numpy(*_two_bands(self.inversion)),
                (
                    _matrix(self.first),
                    tuple(zip(*(_matrix(x.conv) for x in self.blocks))),
                    *(_matrix(self.to_bins), _matrix(self.detail)),
                    *_numpy(shift, scale),
                    _numpy(gate.T, last.T, offset),
                ),
            )
        return self.learned

    def learn(self):
        """What stands for tables of bands and of bins."""
        shift, scale = self.of_band(self.band_geometry).chunk(2, dim=1)
        sizes = 2 * self.bin_channels, self.bin_channels, 1
        gate, last, offset = self.of_bin(self.bin_geometry).split(sizes, dim=1)
        return shift, 1 + scale, gate, last, offset.squeeze(1)

    def correct(self, log_mel, steps, trained):
        """Magnitudes from [frames, n_mels] and [frames, bands, steps]."""
        shift, scale, gate, last, offset = self.learn()
        smooth = self.spread(self.levels(log_mel), self.share)
        plain = self.inversion.bins(log_mel).clamp_min(SMALLEST).log()
        plain = plain / self.config.power
        inverted = torch.where(self.inside, plain, smooth)
        inverted = inverted.maximum(smooth - DEEPEST)
        x = torch.addcmul(shift, run(self.first, steps, trained), scale)
        for block in self.blocks:
            x = run(block, x, trained)
        x = run(self.to_bins, x, trained)
        x = self.spread(x, self.share.unsqueeze(-1))
        slope = torch.nn.functional.pad(inverted.diff(dim=1), (1, 0))
        detail = torch.stack([slope, inverted - smooth], dim=-1)
        x = x + run(self.detail, torch.tanh(detail / STEP_SCALE), trained)
        correction = (gated(x + gate) * last).sum(-1) + offset
        limit = LARGEST_CORRECTION
        corrected = inverted + correction.clamp(-limit, limit)
        return torch.where(self.beneath, plain, corrected).exp()

    def train(self, mode=True):
        """As any module; weights may change from here on."""
        self.learned = None
        return super().train(mode)

    def _apply(self, fn, recurse=True):
        self.learned = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args):
        self.learned = None
        super()._load_from_state_dict(*args)


def _two_bands(inversion):
    """Tables of a `MelInversion`, as the kernel has them: see there."""
    filterbank = inversion.filterbank
    bands = torch.arange(filterbank.shape[1], device=filterbank.device)
    highest = torch.where(filterbank > 0, bands, -1).amax(1)
    low = (highest - 1).clamp(0, len(bands) - 2)
    both = torch.stack([low, low + 1])
    tables = (inversion.first, filterbank.T, inversion.shares)
    return low, inversion.level, *(x.gather(0, both) for x in tables)


def _matrix(layer):
    """Weight and bias of a convolution with a flat kernel."""
    return _numpy(layer.weight.flatten(1), layer.bias)


def _numpy(*tensors):
    """As a tuple of arrays."""
    return tuple(to_arrays(*tensors))


def _function(numbers, width, outputs):
    """A function of geometry that begins as zero."""
    last = torch.nn.Linear(width, outputs)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return torch.nn.Sequential(
        torch.nn.Linear(numbers, width),
        torch.nn.SiLU(),
        torch.nn.Linear(width, width),
        torch.nn.SiLU(),
        last,
    )

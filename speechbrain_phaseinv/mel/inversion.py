"""From a mel spectrogram to magnitudes, without training.

A mel band is a weighted sum of a few bins: 80 numbers a frame instead of 513.
Of all the magnitudes with the right sums the pseudo-inverse gives the ones of
least energy, and many of these are negative. `MelInversion` looks for
non-negative magnitudes whose bands are nearest in the sense of Kullback and
Leibler: a fixed number of multiplicative updates (Lee and Seung 2001, with
one factor fixed), frame by frame.
"""

from dataclasses import replace

import torch

from ..checks import check_integer
from .config import SMALLEST, log_mel, mel_filterbank, natural_log

# Rows that go through a matrix product together, at least. A single row is
# multiplied by other code, which rounds differently, and a stream would not
# give the bits of the offline call.
_LEAST_ROWS = 8


class Tabulated(torch.nn.Module):
    """A module with constant tables that follow from its description.

    A subclass has ``tables()``, which makes them by name, on the CPU.

    The tables are buffers, but no checkpoint has them. So they are filled
    again after every move: a module that was built on the device meta gets
    them with ``to_empty``.
    """

    def add_tables(self):
        """Register the tables, once what they follow from is there."""
        for name, table in self.tables().items():
            table = table.to(torch.get_default_device())
            self.register_buffer(name, table, persistent=False)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        for name, table in self.tables().items():
            if not getattr(self, name).is_meta:
                getattr(self, name).copy_(table)
        return self


class MelInversion(Tabulated):
    """Non-negative magnitudes from log-mels, without training.

    Every front end is called with frames and a state, and returns as many
    frames and a new state; this one needs no state. Bins outside all bands,
    above `f_max`, come back as zeros.

    Arguments
    ---------
    config : MelConfig
        The convention.
    n_iter : int
        Multiplicative updates. Most of the gain is in the first ten.
    edges : bool
        Whether bins beyond the centres of the outermost bands start lower, the
        more so the less they weigh: what is hardly measured is not taken for
        as loud as the band.

    Example
    -------
    >>> from speechbrain_phaseinv.config import StftConfig
    >>> from speechbrain_phaseinv.mel import MelConfig
    >>> config = MelConfig(StftConfig(22050, 1024))
    >>> bands = log_mel(torch.rand(1, 9, 513), config)
    >>> magnitude, _ = MelInversion(config)(bands)
    >>> (log_mel(magnitude, config) - bands).abs().mean() < 0.05
    tensor(True)
    """

    def __init__(self, config, n_iter=10, edges=True):
        super().__init__()
        self.config = config
        self.n_iter = check_integer("n_iter", n_iter)
        self.edges = edges
        self.add_tables()

    def tables(self):
        """The bands, their level, and each bin's shares, at first and later."""
        filterbank = mel_filterbank(self.config).double()
        shares = filterbank / filterbank.sum(1, keepdim=True).clamp_min(1e-12)
        total = filterbank.sum(0)
        level = torch.where(total > 0, 1 / total, 0)  # no bin: no level
        first = shares
        if self.edges:
            # Triangles of height 1 sum to 1 but at both ends.
            covered = mel_filterbank(replace(self.config, norm=None)).sum(1)
            first = shares * covered.clamp_max(1).square().unsqueeze(1)
        return {
            "filterbank": filterbank.float(),
            "first": first.T.float().contiguous(),
            "shares": shares.T.float().contiguous(),
            "level": level.float(),
        }

    def forward(self, log_mel, state=None):
        """Magnitudes of the next frames.

        Arguments
        ---------
        log_mel : torch.Tensor, [batch, time, n_mels]
            In the convention of the description.
        state : None
            There is none.

        Returns
        -------
        magnitude : torch.Tensor, [batch, time, freq]
        state : None
        """
        with torch.autocast(self.filterbank.device.type, enabled=False):
            bands = natural_log(log_mel, self.config).to(self.filterbank)
            magnitude = self.bins(bands.flatten(0, 1))
        if self.config.power != 1:
            zero = magnitude == 0  # where the root has no gradient
            root = magnitude.masked_fill(zero, 1) ** (1 / self.config.power)
            magnitude = root.masked_fill(zero, 0)
        return magnitude.unflatten(0, bands.shape[:2]), None

    def bins(self, log_bands):
        """Bins, to the power of the sums, from nepers, [frames, n_mels]."""
        bands = log_bands.exp()
        magnitude = _product(bands * self.level, self.first)
        for _ in range(self.n_iter):
            sums = _product(magnitude, self.filterbank).clamp_min(SMALLEST)
            magnitude = magnitude * _product(bands / sums, self.shares)
        return magnitude


def through_mel(magnitude, inversion):
    """Magnitudes after the way through a mel spectrogram and back.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        The true ones.
    inversion : torch.nn.Module
        Such as `MelInversion`.

    Returns
    -------
    magnitude : torch.Tensor, [batch, time, freq]
    """
    return inversion(log_mel(magnitude, inversion.config))[0]


def _product(rows, matrix):
    """A matrix product whose rows do not depend on how many there are."""
    missing = max(_LEAST_ROWS - len(rows), 0)
    if not missing:
        return rows @ matrix
    padded = torch.nn.functional.pad(rows, (0, 0, 0, missing))
    return (padded @ matrix)[: len(rows)]

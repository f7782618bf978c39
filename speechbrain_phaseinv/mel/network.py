"""A small network that puts back into magnitudes what a mel band lost.

Inside a band a mel spectrogram does not say how its sum is spread over the
bins, and above the last band it says nothing. `MelInversion` spreads
smoothly. The network sees the bands around, in frequency and in time, and
corrects the logarithm of each bin: where harmonics and their gaps lie, how
noise falls off towards half the sampling rate. Most layers work on the few
bands; only the last ones work on the bins.
"""

import torch

from ..checks import check_integer
from ..estimation.network import STEP_SCALE
from .config import SMALLEST, mel_filterbank
from .inversion import MelInversion
from .layers import LARGEST_CORRECTION, MelNet, gated, run


class MelInversionNet(MelNet):
    """Magnitudes from log-mels: `MelInversion`, corrected by a network.

    It is called as `MelInversion` is. It is causal, no frame waits for
    another, and the level does not matter: only differences of logarithms go
    in.

    Arguments
    ---------
    config : MelConfig
        The convention: slaney's bands of magnitudes.
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
    n_iter : int
        Updates of the non-negative inversion.

    Example
    -------
    >>> from speechbrain_phaseinv.config import StftConfig
    >>> from speechbrain_phaseinv.mel import MelConfig
    >>> net = MelInversionNet(MelConfig(StftConfig(22050, 1024)))
    >>> magnitude, state = net(torch.randn(2, 10, 80))
    >>> magnitude.shape
    torch.Size([2, 10, 513])
    >>> sum(p.numel() for p in net.parameters()) <= 30000
    True
    """

    def __init__(
        self,
        config,
        channels=32,
        blocks=2,
        bin_channels=8,
        kernel_size=5,
        history=2,
        n_iter=10,
    ):
        super().__init__()
        if (config.scale, config.norm, config.power) != ("slaney", "slaney", 1):
            raise ValueError(
                "the network is for magnitudes in slaney's bands, got "
                f"{config}. MelInversion takes any mel spectrogram."
            )
        empty = (mel_filterbank(config).sum(0) == 0).nonzero().flatten()
        if len(empty):
            raise ValueError(
                f"no bin falls into band {int(empty[0])} of {config.n_mels}: "
                f"take fewer bands, or an n_fft above {config.stft.n_fft}."
            )
        self.config = config
        self.hyperparameters = {
            "channels": check_integer("channels", channels, 1),
            "blocks": check_integer("blocks", blocks),
            "bin_channels": check_integer("bin_channels", bin_channels, 1),
            "kernel_size": check_integer("kernel_size", kernel_size, 1),
            "history": check_integer("history", history, 1),
            "n_iter": check_integer("n_iter", n_iter),
        }
        # As in the training of the packaged weights.
        self.inversion = MelInversion(config, n_iter, edges=False)
        self.add_layers(channels, blocks, bin_channels, kernel_size, history)
        # Bands differ in width: what a step means depends on where it is.
        self.band = torch.nn.Parameter(torch.zeros(channels, config.n_mels))
        self.last = torch.nn.Parameter(torch.zeros(bin_channels))
        self.bin = torch.nn.Parameter(torch.zeros(config.stft.num_bins))
        self.add_tables()
        self.float()  # as the bands are, whatever the default

    def tables(self):
        """Bins inside a band, and the two bands that each bin lies between."""
        filterbank = mel_filterbank(self.config).double()
        bins = torch.arange(len(filterbank), dtype=torch.float64, device="cpu")
        centres = (bins @ filterbank) / filterbank.sum(0)
        above = torch.searchsorted(centres, bins)
        above = above.clamp(1, self.config.n_mels - 1)
        below = above - 1
        share = (bins - centres[below]) / (centres[above] - centres[below])
        return {
            "inside": filterbank.sum(1) > 0,
            "below": below,
            "above": above,
            "share": share.clamp(0, 1).float(),
        }

    def get_extra_state(self):
        """The mel spectrogram that the weights are trained for."""
        stft, mel = self.config.stft, self.config
        numbers = [stft.sample_rate, stft.n_fft, stft.win_length]
        numbers += [stft.hop_length, mel.n_mels, mel.f_min, mel.f_max]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state):
        """Refuse weights of other bands: their shapes may well fit."""
        own = self.get_extra_state()
        if not torch.equal(state.to(own), own):
            raise ValueError(
                "the weights are for another mel spectrogram: sample_rate, "
                "n_fft, win_length, hop_length, n_mels, f_min, f_max = "
                f"{state.tolist()}, not {own.tolist()}."
            )

    def correct(self, log_mel, steps, trained):
        """Magnitudes from [frames, n_mels] and [frames, n_mels, steps]."""
        level = log_mel + self.inversion.level.log()
        smooth = self.spread(level, self.share)
        inverted = self.inversion.bins(log_mel).clamp_min(SMALLEST).log()
        inverted = torch.where(self.inside, inverted, smooth)
        x = run(self.first, steps, trained) + self.band.T
        for block in self.blocks:
            x = run(block, x, trained)
        x = run(self.to_bins, x, trained)
        x = self.spread(x, self.share.unsqueeze(-1))
        slope = torch.nn.functional.pad(inverted.diff(dim=1), (1, 0))
        detail = torch.stack([slope, inverted - smooth], dim=-1)
        x = x + run(self.detail, torch.tanh(detail / STEP_SCALE), trained)
        correction = (gated(x) * self.last).sum(-1) + self.bin
        limit = LARGEST_CORRECTION
        return (inverted + correction.clamp(-limit, limit)).exp()

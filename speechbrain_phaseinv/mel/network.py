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
from ..estimation.network import STEP_SCALE, GatedBlock
from .config import SMALLEST, mel_filterbank, natural_log
from .inversion import MelInversion, Tabulated

# A correction beyond this, in nepers, is a mistake.
LARGEST_CORRECTION = 10.0

# Frames that go through the layers together when no gradient is wanted.
BLOCK_FRAMES = 16


class MelInversionNet(Tabulated):
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

    lookahead = 0

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
        self.history = check_integer("history", history, 1)
        self.hyperparameters = {
            "channels": check_integer("channels", channels, 1),
            "blocks": check_integer("blocks", blocks),
            "bin_channels": check_integer("bin_channels", bin_channels, 1),
            "kernel_size": check_integer("kernel_size", kernel_size, 1),
            "history": self.history,
            "n_iter": check_integer("n_iter", n_iter),
        }
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}.")
        # As in the training of the packaged weights.
        self.inversion = MelInversion(config, n_iter, edges=False)
        self.first = torch.nn.Conv2d(
            1 + self.history, channels, (1, 3), padding=(0, 1)
        )
        # Bands differ in width: what a step means depends on where it is.
        self.band = torch.nn.Parameter(torch.zeros(channels, config.n_mels))
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
        log_mel = natural_log(log_mel, self.config).to(self.band)
        if log_mel.shape[1] == 0:
            shape = (*log_mel.shape[:2], self.config.stft.num_bins)
            return log_mel.new_zeros(shape), state
        if state is None:
            state = log_mel[:, :1].repeat(1, self.history, 1)
        frames = torch.cat([state, log_mel], dim=1)
        steps = torch.stack(self._steps(frames), dim=-1).flatten(0, 1)
        rows = log_mel.flatten(0, 1)
        # How a convolution rounds depends on how many frames go through it
        # together; the rows of a matrix product are independent. So the
        # layers are products where no gradient is needed, and a stream gives
        # the bits of the offline call.
        trained = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in self.parameters()
        )
        size = len(rows) if trained else BLOCK_FRAMES
        blocks = zip(rows.split(size), steps.split(size))
        # Half precision is not enough for magnitudes that become a phase.
        with torch.autocast(log_mel.device.type, enabled=False):
            magnitude = torch.cat([self._correct(*x, trained) for x in blocks])
        magnitude = magnitude.unflatten(0, log_mel.shape[:2])
        return magnitude, frames[:, -self.history :]

    def _steps(self, frames):
        """Bounded steps of log-mels, [batch, time, n_mels] each."""
        here = frames[:, self.history :]
        slope = torch.nn.functional.pad(here.diff(dim=2), (1, 0))
        rise = torch.tanh(frames.diff(dim=1) / STEP_SCALE)
        time = here.shape[1]
        rises = [rise[:, i : i + time] for i in range(self.history)]
        return [torch.tanh(slope / STEP_SCALE), *rises]

    def _correct(self, log_mel, steps, trained):
        """Magnitudes from [frames, n_mels] and [frames, n_mels, steps]."""

        def run(layer, x):
            if trained:
                x = x.permute(2, 0, 1).unsqueeze(0)
                return layer(x).squeeze(0).permute(1, 2, 0)
            return _as_products(layer, x)

        level = log_mel + self.inversion.level.log()
        smooth = self._spread(level, self.share)
        inverted = self.inversion.bins(log_mel).clamp_min(SMALLEST).log()
        inverted = torch.where(self.inside, inverted, smooth)
        x = run(self.first, steps) + self.band.T
        for block in self.blocks:
            x = run(block, x)
        x = run(self.to_bins, x)
        x = self._spread(x, self.share.unsqueeze(-1))
        slope = torch.nn.functional.pad(inverted.diff(dim=1), (1, 0))
        detail = torch.stack([slope, inverted - smooth], dim=-1)
        x = x + run(self.detail, torch.tanh(detail / STEP_SCALE))
        value, gate = x.chunk(2, dim=-1)
        x = value * _logistic(gate)
        correction = (x * self.last).sum(-1) + self.bin
        limit = LARGEST_CORRECTION
        return (inverted + correction.clamp(-limit, limit)).exp()

    def _spread(self, bands, share):
        """Interpolate over the bins, from [frames, n_mels, ...]."""
        below = bands.index_select(1, self.below)
        return below.lerp(bands.index_select(1, self.above), share)


def _as_products(layer, x):
    """A flat convolution or gated block on [frames, freq, channels]."""
    if isinstance(layer, GatedBlock):
        value, gate = _as_products(layer.conv, x).chunk(2, dim=-1)
        return torch.addcmul(x, value, _logistic(gate))
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


def _logistic(x):
    """The logistic function; unlike sigmoid's, the rounding of tanh is the
    same in the middle of an array and at its end."""
    return 0.5 + 0.5 * torch.tanh(0.5 * x)

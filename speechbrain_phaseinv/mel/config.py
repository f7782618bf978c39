"""Mel spectrograms, and the linear magnitudes that they come from.

A mel band is a weighted sum of a few bins: 80 numbers a frame instead of 513.
Of all the magnitudes with the right sums the pseudo-inverse gives the ones of
least energy, and many of these are negative. `MelInversion` looks for the
magnitudes, none of them negative, whose bands are nearest in the sense of
Kullback and Leibler: a fixed number of multiplicative updates (Lee and Seung
2001, with one factor known), frame by frame.

Mel filters and log-mels are those of SpeechBrain's and most other
text-to-speech: the natural logarithm of magnitudes, not powers, in slaney's
bands. Nothing here needs torchaudio.
"""

import math
from dataclasses import dataclass

import torch

from ..config import StftConfig

# Slaney's scale: linear up to 1 kHz, 15 mels; above, 27 mels each factor 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27

# Rows that go through a matrix product together, at least. A single row is
# multiplied by other code, which rounds differently, and a stream would not
# give the bits of the offline call.
_LEAST_ROWS = 8

# Far below any band of any recording, far above the smallest float32.
NOTHING = 1e-20


@dataclass(frozen=True)
class MelConfig:
    """What a mel spectrogram is, in one immutable object.

    The defaults are those of SpeechBrain's recipes for LJSpeech. Bands are
    triangles of equal area on slaney's scale.

    Arguments
    ---------
    stft : StftConfig
        The transform whose magnitudes are summed.
    n_mels : int
        Number of bands.
    f_min, f_max : float
        Where the first band begins and the last one ends, in Hz.
    floor : float
        Bands are not smaller than this before the logarithm is taken.

    Raises
    ------
    ValueError
        If the range is none, or exceeds half of the sampling rate.

    Example
    -------
    >>> stft = StftConfig(22050, n_fft=1024, hop_length=256)
    >>> MelConfig(stft).n_mels
    80
    """

    stft: StftConfig
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    floor: float = 1e-5

    def __post_init__(self):
        nyquist = self.stft.sample_rate / 2
        if not (self.n_mels >= 1 and self.floor > 0):
            raise ValueError(
                "n_mels and floor must be positive, got "
                f"{self.n_mels} and {self.floor}."
            )
        if not 0 <= self.f_min < self.f_max <= nyquist:
            raise ValueError(
                f"expected 0 <= f_min < f_max <= {nyquist:g} Hz, half of the "
                f"sampling rate, got {self.f_min:g} and {self.f_max:g}."
            )
        # The same numbers are the same object, also from JSON.
        object.__setattr__(self, "f_min", float(self.f_min))
        object.__setattr__(self, "f_max", float(self.f_max))


def mel_filterbank(config):
    """Weight of each bin in each band.

    Triangles over the centres of three neighbouring bands, two over their
    width in Hz high: a flat spectrum has the same level in every band.

    Arguments
    ---------
    config : MelConfig
        The bands.

    Returns
    -------
    filterbank : torch.Tensor, [freq, n_mels]
        ``torchaudio.functional.melscale_fbanks`` with `norm` and `mel_scale`
        "slaney", in single precision.

    Raises
    ------
    ValueError
        If a band is so narrow that no bin falls into it.

    Example
    -------
    >>> mel_filterbank(MelConfig(StftConfig(22050, 1024))).shape
    torch.Size([513, 80])
    """
    ends = torch.tensor([config.f_min, config.f_max], dtype=torch.float64)
    low, high = hz_to_mel(ends).tolist()
    steps = torch.linspace(low, high, config.n_mels + 2, dtype=torch.float64)
    edges = mel_to_hz(steps)
    stft = config.stft
    bins = torch.arange(stft.num_bins, dtype=torch.float64)
    hertz = (bins * stft.sample_rate / stft.n_fft).unsqueeze(1)
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    empty = (triangles.sum(0) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"no bin falls into band {empty[0]} of {config.n_mels}: take "
            f"fewer bands, or an n_fft above {stft.n_fft}."
        )
    return (triangles * 2 / (edges[2:] - edges[:-2])).float()


def hz_to_mel(hertz):
    """Slaney's scale.

    Example
    -------
    >>> hz_to_mel(torch.tensor([1000.0, 6400.0])).round(decimals=3)
    tensor([15., 42.])
    """
    linear = hertz.clamp_max(_BREAK_HZ) / _LINEAR_HZ
    above = (hertz / _BREAK_HZ).clamp_min(1).log() / _LOG_STEP
    return linear + above


def mel_to_hz(mels):
    """The inverse of `hz_to_mel`."""
    break_mel = _BREAK_HZ / _LINEAR_HZ
    above = ((mels - break_mel).clamp_min(0) * _LOG_STEP).exp()
    return mels.clamp_max(break_mel) * _LINEAR_HZ * above


def log_mel(magnitude, config):
    """Log-mel spectrogram of magnitudes, as SpeechBrain's recipes take it.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Magnitudes, not powers.
    config : MelConfig
        The bands.

    Returns
    -------
    log_mel : torch.Tensor, [batch, time, n_mels]
        Natural logarithm of the bands, at least that of the floor.

    Example
    -------
    >>> config = MelConfig(StftConfig(22050, 1024))
    >>> log_mel(torch.zeros(1, 1, 513), config)[0, 0, :2]
    tensor([-11.5129, -11.5129])
    """
    filterbank = mel_filterbank(config).to(magnitude)
    return (magnitude @ filterbank).clamp_min(config.floor).log()


def least_squares(log_mel, config):
    """Magnitudes by the pseudo-inverse, negative ones set to zero.

    What ``torchaudio.transforms.InverseMelScale`` answers; here to compare
    with.

    Arguments
    ---------
    log_mel : torch.Tensor, [batch, time, n_mels]
        Natural logarithm of the bands.
    config : MelConfig
        The bands.

    Returns
    -------
    magnitude : torch.Tensor, [batch, time, freq]
    """
    inverse = torch.linalg.pinv(mel_filterbank(config).double())
    return (log_mel.exp() @ inverse.to(log_mel)).clamp_min(0)


class MelInversion(torch.nn.Module):
    """Non-negative magnitudes from log-mels, without training.

    As all that stands in its place, it is called with frames and a state,
    and answers with as many frames and a new state; this one remembers
    nothing. Bins that are in no band, above `f_max`, come back as zeros.

    Arguments
    ---------
    config : MelConfig
        The bands.
    n_iter : int
        Multiplicative updates. Most of the gain is in the first ten.

    Example
    -------
    >>> config = MelConfig(StftConfig(22050, 1024))
    >>> bands = log_mel(torch.rand(1, 9, 513), config)
    >>> magnitude, _ = MelInversion(config)(bands)
    >>> (log_mel(magnitude, config) - bands).abs().mean() < 0.05
    tensor(True)
    """

    def __init__(self, config, n_iter=10):
        super().__init__()
        self.config = config
        self.n_iter = int(n_iter)
        filterbank = mel_filterbank(config).double()
        # Of the bands that a bin is in, the weighted mean.
        shares = filterbank / filterbank.sum(1, keepdim=True).clamp_min(1e-12)
        level = 1 / filterbank.sum(0)
        buffers = {
            "filterbank": filterbank,
            "shares": shares.T,
            "level": level,
        }
        for name, tensor in buffers.items():
            self.register_buffer(
                name, tensor.float().contiguous(), persistent=False
            )

    def forward(self, log_mel, state=None):
        """Magnitudes of the next frames.

        Arguments
        ---------
        log_mel : torch.Tensor, [batch, time, n_mels]
            Natural logarithm of the bands.
        state : None
            There is none.

        Returns
        -------
        magnitude : torch.Tensor, [batch, time, freq]
        state : None
        """
        rows = log_mel.to(self.filterbank).flatten(0, 1)
        return self.bins(rows).unflatten(0, log_mel.shape[:2]), None

    def bins(self, log_mel):
        """The same for [frames, n_mels]."""
        bands = log_mel.exp()
        magnitude = product(bands * self.level, self.shares)
        for _ in range(self.n_iter):
            found = product(magnitude, self.filterbank).clamp_min(NOTHING)
            magnitude = magnitude * product(bands / found, self.shares)
        return magnitude


def through_mel(magnitude, inversion):
    """What is left of magnitudes once they have been a mel spectrogram.

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
    estimate, _ = inversion(log_mel(magnitude, inversion.config))
    return estimate


def product(rows, matrix):
    """A matrix product whose rows do not depend on how many there are."""
    missing = max(_LEAST_ROWS - len(rows), 0)
    if missing:
        padded = torch.nn.functional.pad(rows, (0, 0, 0, missing))
        return (padded @ matrix)[: len(rows)]
    return rows @ matrix

"""What a mel spectrogram is: its bands, and the logarithm of their sums.

The defaults are the convention of SpeechBrain's and most other text-to-speech
systems: the natural logarithm of magnitudes, not powers, in slaney's bands.
"""

import math
from dataclasses import dataclass

import torch

from ..checks import check_integer, check_magnitude, check_real
from ..config import StftConfig

# Slaney's scale: linear up to 1 kHz, 15 mels; above, 27 mels each factor 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27


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
        Number of bands, at most the transform's bins.
    f_min, f_max : float
        Where the first band begins and the last one ends, in Hz.
    floor : float
        Smallest value of a band before the logarithm is taken.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range, or `f_max` exceeds half of the
        sampling rate.

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
        check_integer("n_mels", self.n_mels, 1, self.stft.num_bins)
        if not 0 < self.floor < math.inf:
            raise ValueError(f"floor must be positive, got {self.floor}.")
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
        "slaney", in single precision, on the CPU.

    Raises
    ------
    ValueError
        If a band is so narrow that no bin falls into it.

    Example
    -------
    >>> mel_filterbank(MelConfig(StftConfig(22050, 1024))).shape
    torch.Size([513, 80])
    """
    stft = config.stft
    double = {"dtype": torch.float64, "device": "cpu"}
    ends = torch.tensor([config.f_min, config.f_max], **double)
    low, high = hz_to_mel(ends).tolist()
    edges = mel_to_hz(torch.linspace(low, high, config.n_mels + 2, **double))
    bins = torch.arange(stft.num_bins, **double)
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

    Raises
    ------
    TypeError, ValueError
        If `magnitude` is not what its name says.

    Example
    -------
    >>> config = MelConfig(StftConfig(22050, 1024))
    >>> log_mel(torch.zeros(1, 1, 513), config)[0, 0, :2]
    tensor([-11.5129, -11.5129])
    """
    magnitude = check_magnitude(magnitude, config.stft)
    filterbank = mel_filterbank(config).to(magnitude)
    return (magnitude @ filterbank).clamp_min(config.floor).log()


def check_log_mel(log_mel, config):
    """A real tensor [batch, time, n_mels], or an error that helps."""
    log_mel = check_real(log_mel, "log-mels")
    if log_mel.dim() != 3 or log_mel.shape[2] != config.n_mels:
        raise ValueError(
            f"expected log-mels [batch, time, {config.n_mels}], got shape "
            f"{list(log_mel.shape)}."
        )
    return log_mel

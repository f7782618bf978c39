"""What a mel spectrogram is: its bands, and the numbers that stand for them.

A band is a weighted sum of magnitudes, or of their powers. Its value is

    gain * log(max(band, floor)) + offset,

less a mean and by a deviation, if the system normalises each band. The
defaults are the convention of SpeechBrain's and many other text-to-speech
systems: the natural logarithm of magnitudes in slaney's bands. `presets`
has the conventions of other systems.
"""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import torch

from ..checks import check_integer, check_magnitude, check_real
from ..config import StftConfig

# Slaney's scale: linear up to 1 kHz, 15 mels; above, 27 mels each factor 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27

# Nepers of one unit of each logarithm.
NEPERS = {"ln": 1.0, "log10": math.log(10)}

# Far below any band of any recording, far above the smallest float32.
SMALLEST = 1e-20


@dataclass(frozen=True)
class MelConfig:
    """What a mel spectrogram is, in one immutable object.

    The defaults are those of SpeechBrain's recipes for LJSpeech.

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
    scale : str
        "slaney" or "htk".
    norm : str or None
        "slaney" for triangles of equal area, None for triangles of height 1.
    power : float
        Exponent of the magnitudes in the sums: 1, or 2 for powers.
    logarithm : str or None
        "ln", "log10", or None for the sums themselves.
    gain, offset : float
        Factor of the logarithm, and what is added to it.
    add_floor : bool
        The floor is added to a band, instead of a lower bound for it.
    dynamic_range : float, optional
        Largest distance below the spectrogram's maximum, in units of the
        logarithm; smaller values are raised.
    limits : tuple of float, optional
        Values outside are clipped.
    mean, deviation : tuple of float, [n_mels], optional
        Of each band, for systems that normalise.

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
    scale: str = "slaney"
    norm: Optional[str] = "slaney"
    power: float = 1.0
    logarithm: Optional[str] = "ln"
    gain: float = 1.0
    offset: float = 0.0
    add_floor: bool = False
    dynamic_range: Optional[float] = None
    limits: Optional[Tuple[float, float]] = None
    mean: Optional[Tuple[float, ...]] = None
    deviation: Optional[Tuple[float, ...]] = None

    def __post_init__(self):
        nyquist = self.stft.sample_rate / 2
        check_integer("n_mels", self.n_mels, 1, self.stft.num_bins)
        for name in ("floor", "power", "gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be positive, got {getattr(self, name)}."
                )
        for name, choices in (
            ("scale", ("slaney", "htk")),
            ("norm", ("slaney", None)),
            ("logarithm", (*NEPERS, None)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {choices}, got "
                    f"{getattr(self, name)!r}."
                )
        if not 0 <= self.f_min < self.f_max <= nyquist:
            raise ValueError(
                f"expected 0 <= f_min < f_max <= {nyquist:g} Hz, half of the "
                f"sampling rate, got {self.f_min:g} and {self.f_max:g}."
            )
        # The same numbers are the same object, also from JSON.
        object.__setattr__(self, "f_min", float(self.f_min))
        object.__setattr__(self, "f_max", float(self.f_max))
        for name, count in (
            ("limits", 2),
            ("mean", self.n_mels),
            ("deviation", self.n_mels),
        ):
            if getattr(self, name) is not None:
                numbers = tuple(float(x) for x in getattr(self, name))
                if len(numbers) != count:
                    raise ValueError(
                        f"{name} must hold {count} numbers, got {len(numbers)}."
                    )
                object.__setattr__(self, name, numbers)


def mel_filterbank(config):
    """Weight of each bin in each band.

    Triangles over the centres of three neighbouring bands. With slaney's
    norm they are two over their width in Hz high: a flat spectrum has the
    same level in every band. A band between two bins is empty.

    Returns
    -------
    filterbank : torch.Tensor, [freq, n_mels]
        Equal to ``torchaudio.functional.melscale_fbanks``, in single
        precision, on the CPU.

    Example
    -------
    >>> mel_filterbank(MelConfig(StftConfig(22050, 1024))).shape
    torch.Size([513, 80])
    """
    stft, edges = config.stft, band_edges(config)
    bins = torch.arange(stft.num_bins, dtype=torch.float64, device="cpu")
    hertz = (bins * stft.sample_rate / stft.n_fft).unsqueeze(1)
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    if config.norm == "slaney":
        triangles = triangles * 2 / (edges[2:] - edges[:-2])
    return triangles.float()


def band_edges(config):
    """Where bands begin, are centred and end, [n_mels + 2], float64, in Hz."""
    double = {"dtype": torch.float64, "device": "cpu"}
    ends = torch.tensor([config.f_min, config.f_max], **double)
    low, high = hz_to_mel(ends, config.scale).tolist()
    mels = torch.linspace(low, high, config.n_mels + 2, **double)
    return mel_to_hz(mels, config.scale)


def hz_to_mel(hertz, scale="slaney"):
    """Mels of frequencies.

    Example
    -------
    >>> hz_to_mel(torch.tensor([1000.0, 6400.0])).round(decimals=3)
    tensor([15., 42.])
    """
    if scale == "htk":
        return 2595 * torch.log10(1 + hertz / 700)
    linear = hertz.clamp_max(_BREAK_HZ) / _LINEAR_HZ
    above = (hertz / _BREAK_HZ).clamp_min(1).log() / _LOG_STEP
    return linear + above


def mel_to_hz(mels, scale="slaney"):
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    break_mel = _BREAK_HZ / _LINEAR_HZ
    above = ((mels - break_mel).clamp_min(0) * _LOG_STEP).exp()
    return mels.clamp_max(break_mel) * _LINEAR_HZ * above


def log_mel(magnitude, config):
    """Mel spectrogram of magnitudes, as its description says.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Magnitudes, not powers.
    config : MelConfig
        The convention.

    Returns
    -------
    log_mel : torch.Tensor, [batch, time, n_mels]
        By default the natural logarithm of the bands.

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
    if config.power != 1:
        magnitude = magnitude**config.power
    values = magnitude @ mel_filterbank(config).to(magnitude)
    if config.logarithm is not None:
        if config.add_floor:
            values = values + config.floor
        values = values.clamp_min(config.floor).log()
        values = values / NEPERS[config.logarithm]
        if config.dynamic_range is not None and values.numel():
            loudest = values.amax((1, 2), keepdim=True)
            values = values.maximum(loudest - config.dynamic_range)
    values = config.gain * values + config.offset
    if config.limits is not None:
        values = values.clamp(*config.limits)
    if config.mean is not None:
        values = values - values.new_tensor(config.mean)
    if config.deviation is not None:
        values = values / values.new_tensor(config.deviation)
    return values


def natural_log(values, config):
    """The natural logarithm of the bands behind a mel spectrogram.

    Arguments
    ---------
    values : torch.Tensor, [batch, time, n_mels]
        As from `log_mel`; values below those of silence count as silence.
    config : MelConfig
        The convention.

    Returns
    -------
    log_bands : torch.Tensor, [batch, time, n_mels]
        In nepers.

    Example
    -------
    >>> config = MelConfig(StftConfig(16000, 512), 40, logarithm="log10")
    >>> natural_log(torch.full((1, 1, 40), 2.0), config)[0, 0, 0]
    tensor(4.6052)
    """
    values = check_real(values, "log-mels")
    if values.dim() != 3 or values.shape[2] != config.n_mels:
        raise ValueError(
            f"expected log-mels [batch, time, {config.n_mels}], got shape "
            f"{list(values.shape)}."
        )
    if config.deviation is not None:
        values = values * values.new_tensor(config.deviation)
    if config.mean is not None:
        values = values + values.new_tensor(config.mean)
    values = (values - config.offset) / config.gain
    if config.logarithm is None:
        return values.clamp_min(SMALLEST).log()
    values = values * NEPERS[config.logarithm]
    if config.add_floor:
        return (values.exp() - config.floor).clamp_min(SMALLEST).log()
    return values.clamp_min(math.log(config.floor))

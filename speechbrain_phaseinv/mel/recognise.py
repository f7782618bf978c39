"""Is this mel spectrogram what it is taken for?

A mel spectrogram of another convention than expected may have the right shape
and give wrong sound. Its values tell: those of silence and of full scale
bound a convention, and the logarithms of speech have a typical mean and
spread. What is impossible is an error, what is unusual a warning; both name
the conventions that the values would fit.
"""

import math
import warnings
from functools import lru_cache

import torch

from .config import NEPERS, log_mel
from .presets import available_mels, mel_preset

# Nepers above a flat spectrum at full scale that a recording may reach.
HEADROOM = 1.5

# Mean of speech, in nepers below that limit, and its standard deviation: the
# ranges of 24 recordings in every convention, with some margin.
MEANS = 7.3, 14.5
SPREADS = 1.35, 3.3

# Share of values that may lie below silence: what a network predicts may.
BELOW = 0.05

# Fewer frames say little about mean and spread.
LEAST_FRAMES = 20


def check_mel(values, config, whole=True):
    """Refuse impossible values of a convention, and warn of unusual ones.

    Arguments
    ---------
    values : torch.Tensor, [batch, time, n_mels]
        A mel spectrogram; minus infinity counts as silence.
    config : MelConfig
        The convention that it is taken for.
    whole : bool
        Whether this is a whole spectrogram. A few frames may be all silence,
        or all loud: then only what no frame may hold is an error.

    Raises
    ------
    ValueError
        If these values cannot be of that convention.

    Example
    -------
    >>> config = mel_preset("speechbrain-22050")
    >>> check_mel(-2 * torch.rand(1, 2, 80), config)
    """
    if not values.numel():
        return
    low, high = (x.item() for x in torch.aminmax(values))
    if math.isnan(low) or high == math.inf:
        raise ValueError("the spectrogram holds NaN or infinite values.")
    low = values.masked_fill(values == -math.inf, math.inf).min().item()
    if low == math.inf:
        return
    silence, limit = value_range(config)
    got = f"{_describe(config)} from {silence:.3g} to {limit:.3g}, got values"
    if not _possible(values, config, whole):
        raise ValueError(
            f"expected log_mel, {got} from {low:g} to {high:g}, which look "
            "like decibels, powers, normalised features or no logarithms at "
            f"all.{_advise(values, config)}"
        )
    if not whole:
        return
    if config.logarithm and silence < 0 <= low and high > 0:
        raise ValueError(
            f"expected log_mel, {got} from {low:g} to {high:g}, none of them "
            "negative. Without a logarithm? Then pass "
            f"spectrogram.clamp_min({config.floor:g}).log()."
        )
    if not _usual(values, config):
        warnings.warn(
            f"this mel spectrogram is unusual for {_describe(config)}: mean "
            "or spread are not those of speech. Another convention, or a very "
            f"quiet or loud recording?{_advise(values, config)}",
            stacklevel=4,
        )


@lru_cache(maxsize=64)
def value_range(config):
    """Values of digital silence, and the largest that a recording may have.

    Example
    -------
    >>> [round(x, 1) for x in value_range(mel_preset("coqui-22050"))]
    [-4.0, 4.0]
    """
    stft = config.stft
    with torch.device("cpu"):
        zeros = torch.zeros(1, 1, stft.num_bins)
        # A sine of amplitude 1 has half the window's sum.
        peak = stft.window_tensor().sum().item() / 2 * math.exp(HEADROOM)
        silence = log_mel(zeros, config).max().item()
        return silence, log_mel(zeros + peak, config).max().item()


def _possible(values, config, whole=True):
    """Whether values lie within a convention's range."""
    silence, limit = value_range(config)
    values = values[values > -math.inf]
    if config.logarithm is None:
        return values.min().item() >= 0 and values.max().item() <= limit
    below = (values < silence - 1 / _nepers(config)).float().mean().item()
    few = below <= BELOW or not whole
    return values.max().item() <= limit + 1e-3 and few


def _usual(values, config):
    """Whether mean and spread are those of speech, as far as one can see."""
    silence, limit = value_range(config)
    # Padding and pauses of digital silence do not count.
    heard = values[(values > silence + 1e-3).any(-1)].clamp_min(silence)
    few = heard.numel() < LEAST_FRAMES * config.n_mels
    if few or config.logarithm is None or config.mean is not None:
        return True
    nepers = _nepers(config)
    mean = (limit - heard.mean().item()) * nepers
    spread = heard.std().item() * nepers
    return MEANS[0] <= mean <= MEANS[1] and SPREADS[0] <= spread <= SPREADS[1]


def _nepers(config):
    """Nepers of magnitude of one unit of a convention's values."""
    unit = NEPERS.get(config.logarithm, 1.0)
    spread = 1 if config.deviation is None else min(config.deviation)
    return unit * spread / config.gain / config.power


def _describe(config):
    """A convention's values in words."""
    if config.logarithm is None:
        return f"sums of magnitudes to the power {config.power:g}"
    kind = {"ln": "natural", "log10": "decimal"}[config.logarithm]
    kind += f" logarithms of {'powers' if config.power == 2 else 'magnitudes'}"
    changed = (config.gain, config.offset) != (1, 0) or config.mean is not None
    return f"scaled {kind}" if changed else kind


def _advise(values, config):
    """The conventions by name that the values would fit."""
    names = []
    for name in available_mels():
        other = mel_preset(name)
        if other.n_mels == config.n_mels and other.logarithm:
            if _possible(values, other) and _usual(values, other):
                names.append(name)
    return f" They would fit {', '.join(names)}." if names else ""

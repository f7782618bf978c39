"""A constant offset, as many a sound card adds: its bins keep their phase.

Where it is far above all else in a frame, the bins of the window's main lobe
around DC hold next to nothing else, and their phase, referred to the window's
centre, is that of a constant: zero, or pi, in every frame. Whatever estimates
it anew is off by a hundredth of a radian or more; and where one frame takes
over from another in the middle of the window, that is a step in the signal,
which is heard in pauses that lie 60 dB lower.
"""

from functools import lru_cache

import torch

# An offset's magnitude at DC, relative to all outside of its bins.
ABOVE = 4.0

# The main lobe ends where the window's spectrum falls below this part of it.
LOBE_END = 0.05


@lru_cache(maxsize=64)
def offset_bins(config):
    """Bins, from DC on, in which an offset is seen.

    Arguments
    ---------
    config : StftConfig
        The transform.

    Returns
    -------
    bins : int

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> offset_bins(StftConfig(16000, n_fft=512, hop_length=128))
    2
    >>> offset_bins(StftConfig(16000, 512, hop_length=128, window="blackman"))
    3
    """
    window = config.window_tensor(torch.float64)
    spectrum = torch.fft.rfft(window, config.n_fft).abs()
    outside = (spectrum < LOBE_END * spectrum[0]).nonzero()
    last = config.num_bins - 1
    return min(int(outside[0]) if len(outside) else last, last)


def is_offset(magnitude, config):
    """Which bins hold an offset and next to nothing else.

    Arguments
    ---------
    magnitude : torch.Tensor, [..., freq]
    config : StftConfig
        The transform.

    Returns
    -------
    held : torch.Tensor, [..., freq], bool

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> speech = torch.randn(1, 16000)
    >>> held = is_offset(analysis(speech + 10, config).abs(), config)
    >>> held.sum(-1).unique()
    tensor([2])
    >>> is_offset(analysis(speech, config).abs(), config).any()
    tensor(False)
    """
    bins = offset_bins(config)
    above = magnitude[..., :1] > ABOVE * magnitude[..., bins:].amax(-1, True)
    inside = torch.arange(magnitude.shape[-1], device=magnitude.device) < bins
    return above & inside

"""A constant offset, as many a sound card adds: its bins keep their phase.

Where it is far above all else in a frame, the bins of the window's main lobe
around DC hold next to nothing else, and their phase, referred to the window's
centre, is that of a constant: zero, or pi, in every frame. Whatever estimates
it anew is off by a hundredth of a radian or more; and where one frame takes
over from another in the middle of the window, that is a step in the signal,
which is heard in pauses that lie 60 dB lower.
"""

import torch

from ..windows import constant

# An offset's magnitude at DC, relative to all outside of its bins.
ABOVE = 10.0

# How far its bins may be from the window's spectrum, relative to that at DC.
# In rumble they are not that near it.
TOLERANCE = 0.02

# The main lobe ends where the window's spectrum falls below this part of it.
LOBE_END = 0.05


@constant
def main_lobe(config):
    """Magnitudes of a constant, relative to that at DC, while they last.

    Arguments
    ---------
    config : StftConfig
        The transform.

    Returns
    -------
    lobe : torch.Tensor, [bins], double

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> main_lobe(StftConfig(16000, n_fft=512, hop_length=128))
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    window = config.window_tensor(torch.float64)
    spectrum = torch.fft.rfft(window, config.n_fft).abs()
    spectrum = spectrum[:-1] / spectrum[0]
    outside = (spectrum < LOBE_END).nonzero()
    return spectrum[: int(outside[0])] if len(outside) else spectrum


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
    >>> held = is_offset(analysis(speech + 20, config).abs(), config)
    >>> held.sum(-1).unique()
    tensor([2])
    >>> is_offset(analysis(speech, config).abs(), config).any()
    tensor(False)
    """
    lobe = main_lobe(config).to(magnitude)
    inside, outside = magnitude.tensor_split([len(lobe)], dim=-1)
    level = magnitude[..., :1]
    found = level > ABOVE * outside.amax(-1, True)
    near = (inside - lobe * level).abs() <= TOLERANCE * level
    found = found & near.all(-1, True)
    return torch.cat(
        [found.expand_as(inside), torch.zeros_like(outside, dtype=bool)], -1
    )

"""The derivatives of a phase: what they are, and what magnitudes tell of them.

Two numbers a bin and frame describe how the phase of an STFT evolves, both
referred to the window's centre (`StftConfig.centre_phasor`):

- `time`, the baseband phase difference (BPD of Masuyama et al.): how much
  further than a sinusoid in the bin's centre the phase turns from the previous
  frame to this one, in radians per hop. It is the instantaneous frequency, as
  seen from the bin, and vanishes at a spectral peak.
- `frequency`, the frequency phase difference (FPD): how much the phase turns
  from the bin below to this one, in radians per bin. It is the negative group
  delay, as seen from the window's centre, and vanishes at a temporal peak.
"""

import math
from typing import NamedTuple

import torch

from ..windows import constant


class PhaseDerivatives(NamedTuple):
    """Both derivatives of a phase.

    Attributes
    ----------
    time : torch.Tensor, [batch, time, freq]
        Baseband phase difference, in radians per hop.
    frequency : torch.Tensor, [batch, time, freq]
        Frequency phase difference, in radians per bin. Bin 0 is ignored.
    """

    time: torch.Tensor
    frequency: torch.Tensor


def wrap(angle):
    """Principal value of an angle, in [-pi, pi).

    Example
    -------
    >>> wrap(torch.tensor([0.5, 0.5 + 8 * math.pi]))
    tensor([0.5000, 0.5000])
    """
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def expected_advance(config, dtype=torch.float32, device="cpu"):
    """Phase advance of a bin's centre frequency per hop, [freq], in radians.

    ``2 pi k hop / n_fft``, reduced to one turn in integers, so that it is
    exact for any bin of any transform. The tensor is shared, and not to be
    written to.
    """
    return _expected_advance(config, dtype, str(device))


@constant
def _expected_advance(config, dtype, device):
    """Made once: a stream asks for it at every frame."""
    k = torch.arange(config.num_bins, dtype=torch.int64)
    turns = (k * config.hop_length) % config.n_fft
    advance = turns.double() * (2 * math.pi / config.n_fft)
    return advance.to(device, dtype)


def phase_derivatives(stft, config):
    """Both derivatives of a given phase: training targets, test oracle.

    Arguments
    ---------
    stft : torch.Tensor, [batch, time, freq], complex
        Spectrogram in the convention of `stft.analysis`.
    config : StftConfig
        The transform it was made with.

    Returns
    -------
    derivatives : PhaseDerivatives
        Principal values. Differences across the border, those of frame 0 over
        time and of bin 0 over frequency, are taken to a phase of zero.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> tone = torch.cos(2 * math.pi * 1010 / 16000 * torch.arange(16000.0))
    >>> time, *_ = phase_derivatives(analysis(tone[None], config), config)
    >>> round(time[0, 60, 32].item(), 3), round(2 * math.pi * 10 / 125, 3)
    (0.503, 0.503)
    """
    phase = (stft * config.centre_phasor(stft.dtype, stft.device)).angle()
    before = torch.nn.functional.pad(phase[:, :-1], (0, 0, 1, 0))
    below = torch.nn.functional.pad(phase[..., :-1], (1, 0))
    advance = expected_advance(config, phase.dtype, phase.device)
    return PhaseDerivatives(wrap(phase - before - advance), wrap(phase - below))


@constant
def gaussian_gamma(config):
    """Time-frequency ratio of the Gaussian nearest to the window.

    The gradient theorem is exact for the window ``exp(-pi n^2 / gamma)``. For
    any other, gamma is that of the Gaussian of the same peak nearest to it in
    least squares, outside the window's support included. The values agree
    with those of Prusa, Balazs and Sondergaard (2017), Hann: 0.25645 N^2,
    to a tenth of a percent.

    Arguments
    ---------
    config : StftConfig
        Its window is fitted.

    Returns
    -------
    gamma : float
        In samples squared.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=1024, hop_length=256)
    >>> round(gaussian_gamma(config) / 1024**2, 4)
    0.2562
    """
    window = config.window_tensor(torch.float64)
    length = config.win_length
    # The centre of a periodic window of N samples is sample N / 2. Time is
    # relative to N, so that the search is the same at any length, and runs to
    # three windows' lengths, where no Gaussian of interest is left.
    steps = torch.arange(-length, 2 * length, dtype=torch.float64)
    squares = (steps / length - 0.5) ** 2
    window = torch.nn.functional.pad(window / window.max(), (length, length))

    def misfit(log_gamma):
        gaussian = torch.exp(-math.pi * squares / math.exp(log_gamma))
        return float((gaussian - window).square().sum())

    return math.exp(_minimum(misfit, -9.0, 2.0)) * length**2


def _minimum(function, low, high):
    """Where a function with one minimum has it: golden-section search.

    SciPy has a better one, and takes half a second to be imported.
    """
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    values = function(left), function(right)
    while high - low > 1e-7:
        if values[0] < values[1]:
            high, right, left = right, left, right - golden * (right - low)
            values = function(left), values[0]
        else:
            low, left, right = left, right, left + golden * (high - left)
            values = values[1], function(right)
    return (low + high) / 2

"""Magnitudes to log-magnitudes: level and floor, the same in a stream.

Neither the level of a recording nor its silences should matter. The level is
taken out by a power of two, that of the first frame that is not silent: an
exact division, so that a signal scaled by a power of two gives the same
log-magnitudes bit for bit. Zeros, as behind a mask, and whatever else lies
far below the sound so far are raised to a floor relative to its peak.
"""

import math

import torch

# Of log-magnitudes before any sound, in nepers: 1e-30. Far enough above the
# smallest float32 that its reciprocal is a normal number too.
LOG_FLOOR = -69.0

# The floor relative to the largest magnitude of the stream so far: -240 dB.
FLOOR = 1e-12

# Of the first sound's level: the reciprocal of two to this power is finite.
LEAST_EXPONENT = -120


def start_level(magnitude):
    """The level before any frame, [batch, 2]: see `log_magnitude`."""
    return magnitude.new_zeros(len(magnitude), 2)


def log_magnitude(magnitude, level=None):
    """Natural logarithm of magnitudes, relative to the level of the stream.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Non-negative magnitudes, in single or double precision.
    level : torch.Tensor, [batch, 2], optional
        What the last call returned: what magnitudes are multiplied by, a
        power of two, zero before the first sound; and the largest product so
        far. None at the stream's start.

    Returns
    -------
    log_magnitude : torch.Tensor, [batch, time, freq]
        At least `LOG_FLOOR`, with a finite gradient.
    level : torch.Tensor, [batch, 2]
        For the next call.

    Example
    -------
    >>> x = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [8.0, 2.0]]])
    >>> log, level = log_magnitude(x)
    >>> log[0, :, 1]
    tensor([-69.0000,  -0.6931,   0.0000])
    >>> torch.equal(log, log_magnitude(x / 1024)[0])
    True
    """
    if level is None:
        level = start_level(magnitude)
    peaks = magnitude.detach().amax(-1)
    scale, peak = level.unbind(1)
    # The first sound: all peaks before it are zero.
    sounds = peaks > 0
    first = sounds & (sounds.cumsum(1) == 1)
    loudest = torch.where(first, peaks, 0).sum(1)
    exponent = torch.frexp(loudest)[1].clamp_min(LEAST_EXPONENT)
    own = torch.ldexp(torch.ones_like(peak), -exponent)
    begins = first.any(1) & (scale == 0)
    scale = torch.where(begins, own, scale)
    relative = magnitude * scale[:, None, None]
    peaks = torch.cat([peak.unsqueeze(1), peaks * scale.unsqueeze(1)], dim=1)
    peaks = peaks.cummax(1)[0]
    floor = (FLOOR * peaks[:, 1:]).clamp_min(math.exp(LOG_FLOOR))
    log = torch.maximum(relative, floor.unsqueeze(-1)).log()
    return log, torch.stack([scale, peaks[:, -1]], dim=1)

"""Magnitudes to log-magnitudes: level and floor, the same in a stream.

Neither the level of a recording nor its silences should matter. The level is
taken out by a power of two, that of the first frame that is not silent: an
exact division, so that a signal scaled by a power of two gives the same
log-magnitudes bit for bit. Zeros, as behind a mask, and whatever else lies
far below the sound so far are raised to a floor relative to its peak.
"""

import math

import torch

from ..backends import compiled_serves, to_arrays
from ..windows import constant

# Of log-magnitudes before any sound, in nepers: 1e-30. Far enough above the
# smallest float32 that its reciprocal is a normal number too.
LOG_FLOOR = -69.0

# The floor relative to the peak of the stream: -80 dB. Chosen on validation
# speech, whole and with its weakest bins set to zero.
FLOOR = 1e-4

# The peak falls by this factor a frame: as fast as speech, so that soft pauses
# keep their detail, and slower than a mask opens and shuts.
DECAY = 0.9

# It is looked for above one bin in this many, since an offset or rumble below
# says nothing of how soft the others may be.
LOWEST_BINS = 64

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
        power of two, zero before the first sound; and the peak of the
        products, above the lowest bins. None at the stream's start.

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
    if magnitude.numel() == 0:
        return magnitude, level
    if compiled_serves(magnitude, level):
        return _log_compiled(magnitude, level)
    peaks = magnitude.detach().amax(-1)
    scale, peak = level.unbind(1)
    # The first sound: all peaks before it are zero.
    sounds = peaks > 0
    first = sounds & (sounds.long().cumsum(1) == 1)
    loudest = torch.where(first, peaks, 0).sum(1, keepdim=True)
    powers, reciprocals = _powers_of_two(peaks.dtype, str(peaks.device))
    own = reciprocals[(loudest >= powers).sum(1)]
    begins = first.any(1) & (scale == 0)
    scale = torch.where(begins, own, scale)
    # Far above a first sound that is next to nothing, levels saturate. The
    # reciprocal of a subnormal magnitude, its gradient, would not be finite.
    limits = torch.finfo(magnitude.dtype)
    relative = magnitude * scale[:, None, None]
    relative = torch.where(
        magnitude < limits.tiny, relative.detach(), relative
    ).clamp_max(limits.max)
    above = magnitude.detach()[..., magnitude.shape[-1] // LOWEST_BINS :]
    peaks = above.amax(-1) * scale.unsqueeze(1)
    falling = []
    for loudest in peaks.clamp_max(limits.max).unbind(1):
        peak = torch.maximum(loudest, DECAY * peak)
        falling.append(peak)
    floor = FLOOR * torch.stack(falling, dim=1)
    floor = floor.clamp_min(math.exp(LOG_FLOOR)).unsqueeze(-1)
    log = torch.maximum(relative, floor).log()
    return log, torch.stack([scale, peak], dim=1)


def _log_compiled(magnitude, level):
    """The same by the kernel."""
    from ..kernels import features

    log, level = torch.empty_like(magnitude), level.clone()
    features.log_magnitude(
        *to_arrays(magnitude),
        level.numpy(),
        *limits(magnitude.dtype, magnitude.shape[-1]),
        log.numpy(),
    )
    return log, level


def limits(dtype, num_bins):
    """What the kernels have to know: five numbers, and a bin."""
    largest = torch.finfo(dtype).max
    numbers = FLOOR, LOG_FLOOR, LEAST_EXPONENT, largest, DECAY
    return numbers, num_bins // LOWEST_BINS


@constant
def _powers_of_two(dtype, device):
    """Powers of two from the least on; reciprocals of each one's next.

    A number that reaches the first n has the n-th reciprocal: the same as by
    `frexp`, which ONNX lacks.
    """
    end = math.frexp(torch.finfo(dtype).max)[1]
    powers = [2.0**n for n in range(LEAST_EXPONENT, end)]
    reciprocals = [2.0**-n for n in range(LEAST_EXPONENT, end + 1)]
    return (
        torch.tensor(powers, dtype=dtype, device=device),
        torch.tensor(reciprocals, dtype=dtype, device=device),
    )

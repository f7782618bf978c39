"""What logarithms are taken of; the definition is `estimation.features`."""

import math

from . import compiled


@compiled(inner=True)
def _relative(here, level, limits, first, to):
    """A frame by its level, raised to the floor; see `relative_magnitude`."""
    freq = here.size
    number = type(here[0])
    relative, lowest = number(limits[0]), number(math.exp(limits[1]))
    largest, decay = number(limits[3]), number(limits[4])
    scale, peak = level
    loudest = number(0)
    for k in range(freq):
        loudest = here[k] if here[k] > loudest else loudest
    if scale == 0 and loudest > 0:
        exponent = math.frexp(loudest)[1]
        least = int(limits[2])
        exponent = exponent if exponent > least else least
        scale = number(math.ldexp(1.0, -exponent))
    loudest = number(0)
    for k in range(first, freq):
        loudest = here[k] if here[k] > loudest else loudest
    loudest = loudest * scale
    loudest = loudest if loudest < largest else largest
    peak *= decay
    peak = loudest if loudest > peak else peak
    floor = relative * peak
    floor = floor if floor > lowest else lowest
    for k in range(freq):
        x = here[k] * scale
        x = x if x < largest else largest
        to[k] = x if x > floor else floor
    level[0], level[1] = scale, peak


@compiled()
def relative_magnitude(magnitude, level, limits, first, output):
    """Magnitudes [batch, time, freq] by their level, raised to the floor.

    Written to `output`. NumPy takes the logarithm, many bins at a time.

    `level`, [batch, 2], becomes the level after them. `limits` holds the
    relative floor, the lowest logarithm, the least exponent of a level, the
    largest number, and the peak's decay; the peak is looked for from bin
    `first` on.
    """
    batch, time, _ = magnitude.shape
    for i in range(batch):
        for t in range(time):
            _relative(magnitude[i, t], level[i], limits, first, output[i, t])


@compiled()
def advance(magnitude, level, limits, first, sizes, logs):
    """The next frame of each signal, [batch, freq], goes into kept arrays.

    The rows of `sizes` and `logs`, [batch, frames, freq], move up by one. The
    last ones become the magnitudes and, before the logarithm, what
    `relative_magnitude` makes of them.
    """
    batch, frames, freq = sizes.shape
    for i in range(batch):
        for t in range(frames - 1):
            for k in range(freq):
                sizes[i, t, k] = sizes[i, t + 1, k]
                logs[i, t, k] = logs[i, t + 1, k]
        for k in range(freq):
            sizes[i, frames - 1, k] = magnitude[i, k]
        _relative(magnitude[i], level[i], limits, first, logs[i, frames - 1])

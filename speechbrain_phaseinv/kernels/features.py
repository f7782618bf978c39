"""Log-magnitudes, compiled; the definition is `estimation.features`."""

import math

from . import compiled
from .ladder import logarithm


@compiled(inner=True)
def _log_frame(here, level, limits, first, to):
    """The log-magnitudes of a frame; see `log_magnitude`."""
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
        to[k] = logarithm(x if x > floor else floor)
    level[0], level[1] = scale, peak


@compiled()
def log_magnitude(magnitude, level, limits, first, output):
    """Logarithms of magnitudes [batch, time, freq], written to `output`.

    `level`, [batch, 2], becomes the level after them. `limits` holds the
    relative floor, the lowest logarithm, the least exponent of a level, the
    largest number, and the peak's decay; the peak is looked for from bin
    `first` on.
    """
    batch, time, _ = magnitude.shape
    for i in range(batch):
        for t in range(time):
            _log_frame(magnitude[i, t], level[i], limits, first, output[i, t])


@compiled()
def accepts(magnitude, quietest, loudest):
    """Whether all of [batch, time, freq] are zero, or between the two."""
    batch, time, freq = magnitude.shape
    number = type(magnitude[0, 0, 0])
    quietest, loudest = number(quietest), number(loudest)
    others = 0
    for i in range(batch):
        for t in range(time):
            for k in range(freq):
                x = magnitude[i, t, k]
                fits = (x == 0) | ((x > quietest) & (x <= loudest))
                others += 0 if fits else 1
    return others == 0


@compiled()
def advance(magnitude, t, level, limits, first, sizes, logs):
    """Frame t of [batch, time, freq] goes into arrays that are kept.

    The rows of `sizes` and `logs`, [batch, frames, freq], move up by one, and
    the last ones become the magnitudes and their logarithms.
    """
    batch, _, freq = magnitude.shape
    last = sizes.shape[1] - 1
    for i in range(batch):
        for n in range(last):
            for k in range(freq):
                sizes[i, n, k] = sizes[i, n + 1, k]
                logs[i, n, k] = logs[i, n + 1, k]
        for k in range(freq):
            sizes[i, last, k] = magnitude[i, t, k]
        _log_frame(sizes[i, last], level[i], limits, first, logs[i, last])

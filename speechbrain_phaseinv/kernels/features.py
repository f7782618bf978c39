"""What logarithms are taken of; the definition is `estimation.features`."""

import math

from . import compiled


@compiled()
def relative_magnitude(magnitude, level, limits, first, output):
    """Magnitudes [batch, time, freq] by their level, raised to the floor.

    Written to `output`. NumPy takes the logarithm, many bins at a time.

    `level`, [batch, 2], becomes the level after them. `limits` holds the
    relative floor, the lowest logarithm, the least exponent of a level, the
    largest number, and the peak's decay; the peak is looked for from bin
    `first` on.
    """
    batch, time, freq = magnitude.shape
    number = type(magnitude[0, 0, 0])
    relative, lowest = number(limits[0]), number(math.exp(limits[1]))
    largest, decay = number(limits[3]), number(limits[4])
    for i in range(batch):
        scale, peak = level[i]
        for t in range(time):
            here, to = magnitude[i, t], output[i, t]
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
        level[i, 0], level[i, 1] = scale, peak

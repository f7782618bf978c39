"""From log-mels to magnitudes, compiled; the definition is `mel.general`.

A bin lies in two bands at most, so that the updates of the non-negative
inversion take a few operations a bin instead of a row of a matrix. A frame
goes through all layers alone: a stream gives the bits of the offline call.
"""

import numpy as np

from . import compiled
from .ladder import exponential
from .network import OPTIONS, add_gated, bounded, convolve


@compiled(inner=True, **OPTIONS)
def _tanh(x):
    """The hyperbolic tangent, in single precision."""
    p, q = bounded(x / 2)
    return (p + p) * q / (p * p + q * q)


@compiled(inner=True, **OPTIONS)
def _features(levels, scale, x):
    """Steps up in the newest frame, then steps from frame to frame."""
    here = levels[-1]
    for j in range(here.size):
        x[0, j] = _tanh((here[j] - here[j - 1 if j > 0 else 0]) * scale)
        for i in range(len(levels) - 1):
            x[1 + i, j] = _tanh((levels[i + 1, j] - levels[i, j]) * scale)


@compiled(inner=True, **OPTIONS)
def _updates(bands, inversion, count, smallest, magnitude):
    """The bins, to the power of the sums, by multiplicative updates."""
    low, level, first, weight, share = inversion
    ratio = np.empty_like(bands)
    for k in range(magnitude.size):
        j = low[k]
        magnitude[k] = (
            first[0, k] * bands[j] * level[j]
            + first[1, k] * bands[j + 1] * level[j + 1]
        )
    for _ in range(count):
        ratio[:] = 0
        for k in range(magnitude.size):
            j, x = low[k], magnitude[k]
            ratio[j] += weight[0, k] * x
            ratio[j + 1] += weight[1, k] * x
        for j in range(bands.size):
            x = ratio[j]
            ratio[j] = bands[j] / (x if x > smallest else smallest)
        for k in range(magnitude.size):
            j = low[k]
            magnitude[k] *= share[0, k] * ratio[j] + share[1, k] * ratio[j + 1]


@compiled(inner=True, **OPTIONS)
def _layer(x, weight, bias, y):
    """A plain convolution without margins, [inputs, n] to [outputs, n]."""
    inputs, bins = x.shape
    reach = weight.shape[1] // inputs // 2
    padded = np.zeros((inputs, bins + 2 * reach), x.dtype)
    padded[:, reach : reach + bins] = x
    factors = np.empty((weight.shape[1], bins), x.dtype)
    convolve(padded, 0, weight, 1, factors, y)
    for c in range(len(y)):
        for k in range(bins):
            y[c, k] += bias[c]


@compiled(inner=True, **OPTIONS)
def _bands(x, first, blocks, to_bins, shift, scale):
    """The layers over bands, [1 + history, bands] to [channels, bands]."""
    bands, width = x.shape[1], len(first[1])
    weights, biases = blocks
    terms = 1
    for weight in weights:
        terms = max(terms, weight.shape[1])
    reach = terms // width // 2
    state = np.zeros((2, width, reach + bands + reach), x.dtype)
    y = np.empty((width, bands), x.dtype)
    _layer(x, first[0], first[1], y)
    for c in range(width):
        for j in range(bands):
            state[0, c, reach + j] = y[c, j] * scale[j, c] + shift[j, c]
    factors = np.empty((terms, bands), x.dtype)
    y = np.empty((2 * width, bands), x.dtype)
    for i in range(len(weights)):
        source, to = state[i % 2], state[1 - i % 2]
        convolve(source, 0, weights[i], 1, factors, y)
        add_gated(y, biases[i], source, to, reach)
    x = np.ascontiguousarray(state[len(weights) % 2, :, reach : reach + bands])
    y = np.empty((len(to_bins[1]), bands), x.dtype)
    _layer(x, to_bins[0], to_bins[1], y)
    return y


@compiled(inner=True, **OPTIONS)
def _correct(logs, smooth, bands, detail, place, tables, scale, limit, output):
    """Magnitudes from their first logarithms, [freq]."""
    below, share = place
    gate, last, offset = tables
    freq, width = logs.size, len(last)
    number = type(logs[0])
    half, quarter = number(0.5), number(0.25)
    x = np.empty((2, freq), logs.dtype)
    for k in range(freq):
        x[0, k] = _tanh((logs[k] - logs[k - 1 if k > 0 else 0]) * scale)
        x[1, k] = _tanh((logs[k] - smooth[k]) * scale)
    y = np.empty((2 * width, freq), logs.dtype)
    _layer(x, detail[0], detail[1], y)
    for c in range(2 * width):
        here, of_bin, of_band = y[c], gate[c], bands[c]
        for k in range(freq):
            a, b = of_band[below[k]], of_band[below[k] + 1]
            here[k] += a + share[k] * (b - a) + of_bin[k]
    total = offset.copy()
    for c in range(width):
        value, gates, factor = y[c], y[width + c], last[c]
        for k in range(freq):
            p, q = bounded(quarter * gates[k])
            open_ = half + p * q / (q * q + p * p)
            total[k] += open_ * value[k] * factor[k]
    for k in range(freq):
        more = total[k]
        more = more if more < limit else limit
        more = more if more > -limit else -limit
        output[k] = exponential(logs[k] + more)


@compiled(**OPTIONS)
def run(signals, frames, about, numbers, inversion, layers, output):
    """All that `GeneralMelNet` makes of frames.

    Arguments
    ---------
    signals : tuple of int
        The first signal of the batch, and the one after the last.
    frames : array, [batch, history + time, n_mels]
        Natural logarithms of the bands.
    about : tuple
        Indices and levels of the bands that count; which bins lie inside, and
        which beneath the first centre; for each bin the band below it and its
        share of the next.
    numbers : array
        The inverse of the power and of `STEP_SCALE`, `DEEPEST`, `SMALLEST`,
        `LARGEST_CORRECTION` and the number of updates.
    inversion : tuple
        The lower of each bin's two bands, the bands' levels, and the bins'
        weights at first, in the sums, and in the updates, [2, freq] each.
    layers : tuple
        Weight and bias of the first layer; tuples of those of the blocks;
        those of the layer to bins and of that over bins; the two tables of
        bands, [bands, channels], and the three of bins, [channels, freq].
    output : array, [batch, time, freq]
        Written to.
    """
    kept, level, inside, beneath, below, share = about
    first, blocks, to_bins, detail, shift, scale, tables = layers
    power, step, deepest, smallest, limit, count = numbers
    _, time, freq = output.shape
    number = type(share[0])
    window, bands = frames.shape[1] - time + 1, kept.size
    root = number(power)
    levels = np.empty((window, bands), output.dtype)
    x = np.empty((window, bands), output.dtype)
    rows = np.empty((3, freq), output.dtype)
    smooth, plain, logs = rows[0], rows[1], rows[2]
    for s in range(signals[0], signals[1]):
        for t in range(time):
            for i in range(window):
                for j in range(bands):
                    here = frames[s, t + i, kept[j]]
                    levels[i, j] = (here + level[j]) * root
            _features(levels, number(step), x)
            y = _bands(x, first, blocks, to_bins, shift, scale)
            sums = np.exp(frames[s, t + window - 1])
            _updates(sums, inversion, int(count), number(smallest), plain)
            here = levels[-1]
            for k in range(freq):
                a, b = here[below[k]], here[below[k] + 1]
                around = a + share[k] * (b - a)
                plain[k] = np.log(max(plain[k], number(smallest))) * root
                log = plain[k] if inside[k] else around
                lowest = around - number(deepest)
                logs[k] = log if log > lowest else lowest
                smooth[k] = around
            _correct(
                logs,
                smooth,
                y,
                detail,
                (below, share),
                tables,
                number(step),
                number(limit),
                output[s, t],
            )
            for k in range(freq):
                if beneath[k]:
                    output[s, t, k] = np.exp(plain[k])

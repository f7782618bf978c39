"""The network, compiled for use: what a frame becomes is its own affair.

How a library's convolutions round depends, in the last digit, on how many
frames come together, and least squares amplify that where the data decide
little. Here every pass goes through all layers alone: a stream gives the bits
of the offline call. A layer is a product of matrices, by the BLAS that SciPy
brings; what a block of bins needs fits into the first-level cache.

`network` defines the same in PyTorch, for training and for other devices.
"""

import math

import numpy as np

from . import compiled, kept
from .ladder import fraction

# A product and the sum that it goes into may become one operation: faster, and
# more exact. Nothing else is reordered.
OPTIONS = {"fastmath": {"contract"}}

# Multiplications up to which OpenBLAS stays on the thread that calls it.
_SMALL = 2**18


@compiled(inner=True, **OPTIONS)
def bounded(z):
    """p and q with p / q = tanh(z), which is 1 above 4.5 or nearly so."""
    most = type(z)(4.5)
    z = most if z > most else z
    z = -most if z < -most else z
    return fraction(z, z * z)


@compiled(inner=True, **OPTIONS)
def _features(frames, history, scale, x, margin):
    """Bounded steps of log-magnitude, as `PhaseDerivativeNet` has them.

    frames[window, freq], of which `history` is the current one, to
    x[window, margin + freq + margin].
    """
    window, freq = frames.shape
    number = type(x[0, 0])
    share = number(0.5 / scale)
    here = frames[history]
    for i in range(window):
        feature = x[i, margin:]
        for k in range(freq):
            if i > 0:
                step = frames[i, k] - frames[i - 1, k]
            else:
                step = here[k] - here[k - 1 if k > 0 else 0]
            p, q = bounded(share * number(step))
            feature[k] = (p + p) * q / (p * p + q * q)


@compiled(inner=True, **OPTIONS)
def _block(height, terms):
    """Bins that a layer takes at a time: whole vectors, where that is few."""
    most = max(1, _SMALL // (height * terms))
    return most - most % 16 if most > 16 else most


@compiled(inner=True, **OPTIONS)
def convolve(x, start, weight, dilation, factors, y):
    """y[i, k] = sum of weight[i, c, j] x[c, start + j dilation + k] over c, j.

    Gathers the factors, a row for each term, so that BLAS can do the rest.
    """
    terms, bins = factors.shape
    kernel = terms // x.shape[0]
    for c in range(x.shape[0]):
        for j in range(kernel):
            row, source = factors[c * kernel + j], x[c, start + j * dilation :]
            for k in range(bins):
                row[k] = source[k]
    np.dot(weight, factors, y)


@compiled(inner=True, **OPTIONS)
def add_gated(y, bias, x, output, start):
    """output = x + value / (1 + exp(-gate)) for y + bias = [values, gates].

    With t = tanh(gate / 4), the logistic function is 1/2 + t / (1 + t^2).
    """
    number, width = type(y[0, 0]), x.shape[0]
    half, quarter = number(0.5), number(0.25)
    for c in range(width):
        value, gate = y[c], y[width + c]
        a, b = bias[c], quarter * bias[width + c]
        state, to = x[c, start:], output[c, start:]
        for k in range(y.shape[1]):
            p, q = bounded(quarter * gate[k] + b)
            share = half + p * q / (q * q + p * p)
            to[k] = state[k] + share * (value[k] + a)


@compiled(inner=True, **OPTIONS)
def _all_layers(state, channels, freq, layers, room):
    """What they make of state[0, channels, margin + freq + margin].

    Each layer goes from one half of `state` to the other, whose margins stay
    zero. Returns the half that holds the last one's outputs.
    """
    weights, biases, dilations = layers
    x, output = state[0], state[1]
    margin, last = (x.shape[1] - freq) // 2, len(weights) - 1
    for i in range(last + 1):
        weight, bias, dilation = weights[i], biases[i], dilations[i]
        height, terms = weight.shape
        reach, block = terms // channels // 2 * dilation, _block(height, terms)
        for first in range(0, freq, block):
            bins, start = min(block, freq - first), margin + first
            factors = room[0, : terms * bins].reshape(terms, bins)
            y = room[1, : height * bins].reshape(height, bins)
            convolve(x[:channels], start - reach, weight, dilation, factors, y)
            if 0 < i < last:
                add_gated(y, bias, x[:channels], output, start)
                continue
            for c in range(height):
                row, a, to = y[c], bias[c], output[c, start:]
                for k in range(bins):
                    to[k] = row[k] + a
        x, output, channels = output, x, weights[0].shape[0]
    return x


def _workspace(layers, channels, freq):
    """Both halves of what goes through the layers, and room for products."""
    weights, _, dilations = layers
    shapes = tuple(x.shape for x in weights)
    return _make_workspace(shapes, dilations, channels, freq, weights[0].dtype)


@kept
def _make_workspace(shapes, dilations, channels, freq, dtype):
    """The margins of the halves are zero, and stay so."""
    inputs = (channels, *[shapes[0][0]] * (len(shapes) - 1))
    reaches = [
        terms // x // 2 * dilation
        for (_, terms), x, dilation in zip(shapes, inputs, dilations)
    ]
    rows = max(channels, *(height for height, _ in shapes))
    width = max(reaches) + freq + max(reaches)
    most = max(min(freq, _block.py_func(*x)) * max(x) for x in shapes)
    return np.zeros((2, rows, width), dtype), np.empty((2, most), dtype)


def run_layers(signals, features, layers, output):
    """All layers on features that are there, a pass at a time.

    Arguments
    ---------
    signals : tuple of int
        The first signal of the batch, and the one after the last.
    features : array, [batch, passes, channels, freq]
        What goes in.
    layers : tuple
        As for `run`.
    output : array, [batch, passes, outputs, freq]
        Written to.
    """
    work = _workspace(layers, *features.shape[2:])
    _run_layers(signals, work, features, layers, output)


@compiled(**OPTIONS)
def _run_layers(signals, work, features, layers, output):
    """The same in this workspace."""
    _, passes, channels, freq = features.shape
    state, room = work
    margin = (state.shape[2] - freq) // 2
    for b in range(signals[0], signals[1]):
        for t in range(passes):
            for c in range(channels):
                for k in range(freq):
                    state[0, c, margin + k] = features[b, t, c, k]
            y = _all_layers(state, channels, freq, layers, room)
            for c in range(output.shape[2]):
                for k in range(freq):
                    output[b, t, c, k] = y[c, margin + k]


@compiled(inner=True, **OPTIONS)
def _add_theorem(before, here, ahead, share, slope, scale, time, frequency):
    """Add the gradient theorem's estimates, as `GradientTheorem` has them.

    `ahead` is the frame to which the slope over time goes, `share` what is
    taken of it.
    """
    number = type(time[0])
    freq = time.size
    for_time = number(scale[0] * slope / 4)
    for_frequency = number(scale[1] * math.pi)
    to_turns = number(-share / (2 * math.pi * slope) / 2)
    for k in range(1, freq - 1):
        above, below = here[k + 1] + before[k + 1], here[k - 1] + before[k - 1]
        time[k] += for_time * (above - below)
    for k in range(1, freq):
        rise = ahead[k] - before[k] + ahead[k - 1] - before[k - 1]
        p, q = bounded(to_turns * rise)
        frequency[k] += for_frequency * ((p + p) * q / (p * p + q * q))


def run(signals, frames, net, *others):
    """All that `PhaseDerivativeNet` makes of frames; all is as for `_run`."""
    layers = others[-2]
    work = _workspace(layers, net[1], frames.shape[2])
    _run(signals, work, frames, net, *others)


@compiled(**OPTIONS)
def _run(
    signals,
    work,
    frames,
    net,
    about,
    step_scale,
    theorem,
    prior,
    layers,
    output,
):
    """All that `PhaseDerivativeNet` makes of frames.

    Arguments
    ---------
    signals : tuple of int
        The first signal of the batch, and the one after the last.
    work : tuple
        What `_workspace` returns.
    frames : array, [batch, time, freq]
        Log-magnitudes.
    net : tuple of int
        The network's `history`, `window` and `stride`, and the frame that the
        first pass begins with.
    about : array of int, [estimates]
        The frames that the outputs are about, from the current one.
    step_scale : float
        Its `STEP_SCALE`.
    theorem : tuple of float
        The gradient theorem's `slope`, and its shares of a backward and of a
        central difference.
    prior : array, [2]
        The network's `prior_scale`; zeros where it has none.
    layers : tuple
        Weights [outputs, channels * kernel], biases [outputs] and dilations,
        a tuple of each. The first layer and the last are plain, the others
        gated and residual; kernels are odd.
    output : array, [4, batch, passes, estimates, freq]
        Written to: in order of time, zeros where the network has no outputs.
    """
    weights, _, _ = layers
    history, window, stride, begin = net
    slope, backward, central = theorem
    _, _, passes, estimates, freq = output.shape
    oldest, outputs = 0, weights[-1].shape[0] // estimates
    for j in range(estimates):
        oldest = about[j] if about[j] < oldest else oldest
    state, room = work
    margin = (state.shape[2] - freq) // 2
    for b in range(signals[0], signals[1]):
        for t in range(passes):
            start = begin + t * stride
            seen = frames[b, start : start + window]
            _features(seen, history, step_scale, state[0], margin)
            y = _all_layers(state, window, freq, layers, room)
            for j in range(estimates):
                place = about[j] - oldest
                for c in range(4):
                    to = output[c, b, t, place]
                    if c < outputs:
                        row = y[j * outputs + c, margin:]
                        for k in range(freq):
                            to[k] = row[k]
                    else:
                        to[:] = 0
                now = history + about[j]
                newest = now + 1 == window
                _add_theorem(
                    seen[now - 1],
                    seen[now],
                    seen[now if newest else now + 1],
                    backward if newest else central,
                    slope,
                    prior,
                    output[0, b, t, place],
                    output[1, b, t, place],
                )

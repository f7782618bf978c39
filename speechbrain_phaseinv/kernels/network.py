"""The network, compiled for use: what a frame becomes is its own affair.

How a library's convolutions round depends, in the last digit, on how many
frames come together, and least squares amplify that where the data decide
little. Here every pass goes through all layers alone: a stream gives the bits
of the offline call. All that a pass needs fits into the first-level cache,
which makes this the faster way, too.

`network` defines the same in PyTorch, for training and for other devices.
"""

import math

import numpy as np

from . import compiled
from .ladder import fraction

# A product and the sum that it goes into may become one operation: faster, and
# more exact. Nothing else is reordered.
_OPTIONS = {"fastmath": {"contract"}}


@compiled(**_OPTIONS)
def _fraction(z):
    """p and q with p / q = tanh(z), which is 1 above 4.5 or nearly so."""
    most = type(z)(4.5)
    z = most if z > most else z
    z = -most if z < -most else z
    return fraction(z, z * z)


@compiled(**_OPTIONS)
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
            p, q = _fraction(share * number(step))
            feature[k] = (p + p) * q / (p * p + q * q)


@compiled(**_OPTIONS)
def _pack(weight, bias, channels, dilation, span, margin):
    """A layer as `_convolve` wants it, filled up with zeros to fours.

    The weights, [outputs, terms + 1], biases last; and where in
    x[channel, margin + freq + margin] the factors of each term begin.
    """
    outputs, terms = weight.shape
    kernel = terms // channels
    fours = (terms + 3) // 4 * 4
    packed = np.zeros(((outputs + 3) // 4 * 4, fours + 1), weight.dtype)
    offsets = np.zeros(fours, np.int64)
    for j in range(terms):
        channel, tap = j // kernel, j % kernel
        offsets[j] = channel * span + margin + (tap - kernel // 2) * dilation
        for i in range(outputs):
            packed[i, j] = weight[i, j]
    for i in range(outputs):
        packed[i, fours] = bias[i]
    return packed, offsets


@compiled(**_OPTIONS)
def _convolve(x, offsets, weight, y):
    """y[i, k] = weight[i, -1] + sum over j of weight[i, j] x[offsets[j] + k].

    Four outputs by four terms at a time: sixteen multiplications for twelve
    accesses to memory.
    """
    freq, terms = y.shape[1], offsets.size
    for i in range(0, weight.shape[0], 4):
        v0, v1, v2, v3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        y0, y1, y2, y3 = y[i], y[i + 1], y[i + 2], y[i + 3]
        for k in range(freq):
            y0[k], y1[k] = v0[terms], v1[terms]
            y2[k], y3[k] = v2[terms], v3[terms]
        for j in range(0, terms, 4):
            a0, a1, a2, a3 = v0[j], v0[j + 1], v0[j + 2], v0[j + 3]
            b0, b1, b2, b3 = v1[j], v1[j + 1], v1[j + 2], v1[j + 3]
            c0, c1, c2, c3 = v2[j], v2[j + 1], v2[j + 2], v2[j + 3]
            d0, d1, d2, d3 = v3[j], v3[j + 1], v3[j + 2], v3[j + 3]
            x0, x1 = x[offsets[j] :], x[offsets[j + 1] :]
            x2, x3 = x[offsets[j + 2] :], x[offsets[j + 3] :]
            for k in range(freq):
                p, q, r, s = x0[k], x1[k], x2[k], x3[k]
                y0[k] += a0 * p + a1 * q + a2 * r + a3 * s
                y1[k] += b0 * p + b1 * q + b2 * r + b3 * s
                y2[k] += c0 * p + c1 * q + c2 * r + c3 * s
                y3[k] += d0 * p + d1 * q + d2 * r + d3 * s


@compiled(**_OPTIONS)
def _add_gated(y, width, x, margin):
    """x += value / (1 + exp(-gate)) for y = [values, gates].

    With t = tanh(gate / 4), the logistic function is (1 + t)^2 / 2 (1 + t^2).
    """
    number = type(x[0, 0])
    half, quarter = number(0.5), number(0.25)
    for c in range(width):
        value, gate, state = y[c], y[width + c], x[c, margin:]
        for k in range(y.shape[1]):
            p, q = _fraction(quarter * gate[k])
            share = (q + p) * (q + p) / (q * q + p * p)
            state[k] += half * share * value[k]


@compiled(**_OPTIONS)
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
        p, q = _fraction(to_turns * rise)
        frequency[k] += for_frequency * ((p + p) * q / (p * p + q * q))


@compiled(**_OPTIONS)
def run(
    signals, frames, net, about, step_scale, theorem, prior, layers, output
):
    """All that `PhaseDerivativeNet` makes of frames.

    Arguments
    ---------
    signals : tuple of int
        The first signal of the batch, and the one after the last.
    frames : array, [batch, time, freq]
        Log-magnitudes.
    net : tuple of int
        The network's `history`, `window` and `stride`.
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
    weights, biases, dilations = layers
    history, window, stride = net
    slope, backward, central = theorem
    _, _, passes, estimates, freq = output.shape
    width, last = weights[0].shape[0], len(weights) - 1
    outputs, oldest, margin = weights[last].shape[0] // estimates, 0, 0
    for j in range(estimates):
        oldest = about[j] if about[j] < oldest else oldest
    for i in range(last + 1):
        channels = width if i else window
        reach = weights[i].shape[1] // channels // 2 * dilations[i]
        margin = reach if reach > margin else margin
    span, rows = margin + freq + margin, width if width > window else window
    layer = []
    for i in range(last + 1):
        channels = width if i else window
        layer.append(
            _pack(weights[i], biases[i], channels, dilations[i], span, margin)
        )
    x = np.zeros((rows, span), weights[0].dtype)
    flat = x.reshape(-1)
    most = 2 * width if 2 * width > outputs * estimates else outputs * estimates
    y = np.zeros(((most + 3) // 4 * 4, freq), x.dtype)
    for b in range(signals[0], signals[1]):
        for t in range(passes):
            seen = frames[b, t * stride : t * stride + window]
            _features(seen, history, step_scale, x, margin)
            for i in range(last + 1):
                packed, offsets = layer[i]
                _convolve(flat, offsets, packed, y)
                if 0 < i < last:
                    _add_gated(y, width, x, margin)
                elif i == 0:
                    for c in range(width):
                        for k in range(freq):
                            x[c, margin + k] = y[c, k]
            for j in range(estimates):
                place = about[j] - oldest
                for c in range(4):
                    row = j * outputs + c if c < outputs else -1
                    for k in range(freq):
                        value = y[row, k] if row >= 0 else 0
                        output[c, b, t, place, k] = value
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

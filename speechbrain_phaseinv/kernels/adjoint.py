"""The compiled gradient of `_recursion`, last pass first.

Every step of a pass but two is linear: its adjoint takes the same transforms
and sums in the other direction. The least squares have that of `integration`;
and of a spectrum Z whose direction is kept, u = Z / |Z|, only a turn counts: a
cotangent U of u becomes (U - u Re(conj(u) U)) / |Z|.

Cotangents of complex numbers are those of their real and imaginary parts. A
real frame x = Re(sum_k w[k] X[k] exp(2j pi k n / N)) / N, with w = 1 for the
bins that are real and 2 for the others, hands its own on to X as w / N times
their transform; and what a transform hands on to its real input is N times
the inverse of its cotangents over w.
"""

import numpy as np

from .frame import _held, _synthesise, _to_spectra
from .ladder import LANES, compiled, factor, least_squares_adjoint


@compiled()
def _overlap(added, total, hop, reopened, frames, before, signal):
    """Of `_recursion._overlap`: to frames, frames before and signal."""
    new = len(added)
    for n in range(signal.size):
        signal[n] += total[n]
    for j in range(new):
        place = total[(reopened + j) * hop :]
        for n in range(added.shape[1]):
            added[j, n] += place[n]
            frames[reopened + j, n] += added[j, n]
    for i in range(reopened):
        later = (reopened - i) * hop
        for n in range(added.shape[1] - later):
            frames[i, later + n] += added[0, n]
            before[i, later + n] -= added[0, n]


@compiled()
def _synthesis(frames, phasors, sizes, counts, frame, forth, work, given):
    """Of `_recursion._synthesise`: from up to two frames, which are spent."""
    window, offset, _, n_fft = frame
    signals, spectra = work
    d_phasors, d_sizes = given
    both = len(frames) > 1
    for n in range(window.size):
        other = window[n] * frames[1, n] if both else frames[0, n] * 0
        signals[offset + n] = complex(window[n] * frames[0, n], other)
    _to_spectra(signals, spectra)
    for j in range(len(frames)):
        count = sizes.dtype.type(counts[j])
        for k in range(sizes.shape[1]):
            x = count * forth[k] * spectra[j, k]
            z = phasors[j, k]
            d_phasors[j, k] += sizes[j, k] * x
            d_sizes[j, k] += z.real * x.real + z.imag * x.imag
        frames[j] = 0


@compiled()
def _iteration(first, turns, slopes, given, gradients, work):
    """Of one iteration of `_recursion._iterate`, on the frames from `first`."""
    sizes, counts, frame, scale, forth, back = given
    d_phasors, d_sizes, d_frames, d_before, d_signal = gradients
    signals, spectra, added, total, parts = work
    window, _, hop, _ = frame
    pair = slice(first, first + 2)
    _synthesis(
        d_frames[pair],
        turns,
        sizes[pair],
        counts[pair],
        frame,
        forth,
        (signals, spectra),
        (d_phasors[pair], d_sizes[pair]),
    )
    for j in range(2):
        for k in range(sizes.shape[1]):
            slope, u, z = slopes[j, k], turns[j, k], d_phasors[first + j, k]
            radial = u.real * z.real + u.imag * z.imag
            spectra[j, k] = slope * (z - radial * u)
            if slope > 0:
                d_phasors[first + j, k] = 0
    # `back` takes the place of sizes: of the transform, without counts.
    _synthesise(spectra, back, np.ones(2), frame, parts)
    total[:] = 0
    added[:] = 0
    for j in range(2):
        place = (first + j) * hop
        for n in range(window.size):
            total[place + n] += scale[place + n] * parts[j, n]
    reopened = len(d_before)
    _overlap(added, total, hop, reopened, d_frames, d_before, d_signal)


@compiled()
def run(
    anchor,
    coupling,
    sizes,
    target,
    pull,
    before,
    to_start,
    frame,
    scale,
    counts,
    cancelled,
    constant,
    real,
    hops,
    record,
    d_output,
    d_added,
    d_heard,
    d_sizes,
    d_drawn,
    total_gradient,
    y,
):
    """Cotangents of what `_recursion.run` was given; names as there.

    `record` is what it wrote, `d_output` and `d_added` are the cotangents of
    its results. `d_heard`, those of magnitudes, phasors, frames and signal of
    the `Heard` after it, becomes those of the one before it. Writes those of
    the sizes and, if something was drawn, of target and pull; of each answer
    the cotangent of its phasors and the solution of the adjoint system, both
    [batch, passes * answers, freq].
    """
    batch, passes, answers, freq = sizes.shape
    window, _, hop, n_fft = frame
    emitted, new = hops
    reopened, rows = before.shape[1], passes * answers
    opened, stop = reopened + new, reopened + emitted
    first = opened - answers
    steps, all_turns, all_slopes = record
    n_iter, dtype = all_turns.shape[2], sizes.dtype
    # w / N, and its reciprocal.
    forth = np.full(freq, 2 / n_fft).astype(dtype)
    for k in range(freq):
        if 2 * k % n_fft == 0:
            forth[k] /= 2
    back = np.empty((2, freq), dtype)
    back[:] = 1 / forth
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    carry = np.empty(freq, np.complex128)
    row_y = np.empty(freq, np.complex128)
    phasors = np.empty((opened, freq), d_output.dtype)
    known = np.empty((opened, freq), dtype)
    g_phasors = np.empty((opened, freq), d_output.dtype)
    g_sizes = np.empty((opened, freq), dtype)
    g_frames = np.empty((opened, window.size), dtype)
    g_signal = np.empty(d_heard[3].shape[1], dtype)
    spectra = np.zeros((2, freq), d_output.dtype)
    signals = np.zeros(n_fft, d_output.dtype)
    parts = np.empty((2, window.size), dtype)
    added = np.empty((new, window.size), dtype)
    total = np.empty((opened - 1) * hop + window.size, dtype)
    given = known, counts, frame, scale, forth, back
    work = signals, spectra, added, total, parts
    for i in range(batch):
        d_known, d_phasors, d_frames, d_signal = (
            d_heard[0][i],
            d_heard[1][i],
            d_heard[2][i],
            d_heard[3][i],
        )
        for p in range(passes - 1, -1, -1):
            # The sizes as they were: the last that came before, then new ones.
            for j in range(opened):
                out = p * emitted + j - reopened
                if j >= reopened:
                    known[j] = sizes[i, p, answers - opened + j]
                elif out < 0:
                    known[j] = before[i, reopened + out]
                else:
                    q, r = out // emitted, out % emitted
                    known[j] = sizes[i, q, answers - new + r]
            # What was handed over, and what came out.
            for j in range(emitted):
                kept = d_phasors[reopened - emitted + j]
                for k in range(freq):
                    kept[k] += d_output[i, p * emitted + j, k]
            g_phasors[:] = 0
            g_sizes[:] = 0
            g_frames[:] = 0
            g_signal[:] = 0
            for j in range(reopened):
                for k in range(freq):
                    z = d_phasors[j, k] * to_start[k]
                    g_phasors[emitted + j, k] = z
                for k in real:
                    g_phasors[emitted + j, k] = 0
                g_sizes[emitted + j] = d_known[j]
                g_frames[emitted + j] = d_frames[j]
            d_frames[:] = 0
            total[:] = 0
            total[emitted * hop : emitted * hop + d_signal.size] = d_signal
            added[:emitted] = d_added[i, p * emitted : (p + 1) * emitted]
            _overlap(
                added[:emitted],
                total,
                hop,
                reopened,
                g_frames[:stop],
                d_frames,
                g_signal,
            )
            gradients = g_phasors, g_sizes, g_frames, d_frames, g_signal
            for it in range(n_iter - 1, -1, -1):
                place = opened - 2 - it % (opened - 1)
                turns, slopes = all_turns[i, p, it], all_slopes[i, p, it]
                _iteration(place, turns, slopes, given, gradients, work)
            # The frames as they were before the iterations.
            for j in range(answers):
                for k in range(freq):
                    z = steps[i, p * answers + j, 1, k]
                    phasors[first + j, k] = z * to_start[k]
            for j in range(first, opened, 2):
                two = slice(j, min(j + 2, opened))
                _synthesis(
                    g_frames[two],
                    phasors[two],
                    known[two],
                    counts[two],
                    frame,
                    forth,
                    (signals, spectra),
                    (g_phasors[two], g_sizes[two]),
                )
            carry[:] = 0
            for j in range(answers - 1, -1, -1):
                row = p * answers + j
                lane = row % LANES
                if lane == LANES - 1 or row == rows - 1:
                    begin = row - lane
                    factor(
                        anchor[i].reshape(rows, freq)[begin : row + 1],
                        coupling[i].reshape(rows, freq)[begin : row + 1],
                        ratio,
                        inverse,
                    )
                for k in range(freq):
                    z = g_phasors[first + j, k] * to_start[k].conjugate()
                    carry[k] += z
                carry[: _held(known[first + j], constant)] = 0
                total_gradient[i, row] = carry
                least_squares_adjoint(
                    carry,
                    steps[i, row, 2],
                    steps[i, row, 4],
                    ratio[lane],
                    inverse[lane],
                    cancelled,
                    real,
                    row_y,
                )
                y[i, row] = row_y
                for k in range(freq):
                    z = anchor[i, p, j, k] * row_y[k]
                    carry[k] = z * steps[i, row, 3, k].conjugate()
                if pull.size > 0:
                    for k in range(freq):
                        z, part = carry[k], pull[i, p, j, k]
                        way = target[i, p, j, k] - steps[i, row, 0, k]
                        d_drawn[0][i, p, j, k] = part * z
                        d_drawn[1][i, p, j, k] = (
                            way.real * z.real + way.imag * z.imag
                        )
                        carry[k] = (1 - part) * z
            # To the pass before.
            for j in range(reopened):
                for k in range(freq):
                    z = to_start[k].conjugate()
                    d_phasors[j, k] = g_phasors[j, k] * z if j < first else 0
                d_known[j] = g_sizes[j]
                if j < first:
                    d_frames[j] += g_frames[j]
            d_phasors[first - 1] += carry
            for j in range(new):
                d_sizes[i, p, answers - new + j] = g_sizes[reopened + j]
            d_signal[:] = g_signal

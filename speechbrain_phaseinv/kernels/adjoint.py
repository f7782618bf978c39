"""The gradient of `frame.run`, compiled, last pass first.

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

from . import compiled
from .frame import _held, _synthesise, _to_spectra
from .ladder import LANES, factor, least_squares_adjoint


@compiled()
def _overlap(added, total, hop, reopened, frames, before, signal):
    """Of `frame._overlap`: to frames, frames before and signal."""
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
    """Of `frame._synthesise`: from up to two frames, which are spent."""
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
    """Of one iteration of `frame._iterate`, on the frames from `first`."""
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
    weights,
    sizes,
    pull,
    ends,
    plan,
    real,
    to_start,
    frame,
    scale,
    counts,
    constant,
    cancelled,
    record,
    d_samples,
    d_output,
    d_state,
    d_sizes,
    d_pull,
    total_gradient,
    y,
):
    """Cotangents of what `frame.run` was given; names as there.

    `record` is what it wrote, `weights` a part of it; `d_samples` and
    `d_output` are the cotangents of its results. `d_state`, that of the
    `OverlapState` after it, becomes that of the one before it. Writes those of
    the sizes and, if there was a pull, of target and share; of each estimate
    the cotangent of its phasors and the solution of the adjoint system, both
    [batch, passes * estimates, freq].
    """
    batch, freq = sizes.shape[0], sizes.shape[2]
    window, _, hop, n_fft = frame
    position, stride, new, oldest, n_iter = plan
    target, share = pull
    steps, _, all_turns, all_slopes = record
    answers, dtype = new - oldest, sizes.dtype
    passes = weights.shape[1] // answers
    reopened = d_state[0].shape[1]
    opened, stop = reopened + new, reopened + stride
    first, out = reopened + oldest, reopened * hop
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
    g_phasors = np.empty((opened, freq), d_output.dtype)
    g_sizes = np.empty((opened, freq), dtype)
    g_frames = np.empty((opened, window.size), dtype)
    spectra = np.zeros((2, freq), d_output.dtype)
    signals = np.zeros(n_fft, d_output.dtype)
    parts = np.empty((2, window.size), dtype)
    added = np.empty((new, window.size), dtype)
    total = np.empty((opened - 1) * hop + window.size, dtype)
    g_signal = np.empty(d_state[2].shape[1], dtype)
    work = signals, spectra, added, total, parts
    for i in range(batch):
        d_phasors, d_frames, d_signal = (
            d_state[0][i],
            d_state[1][i],
            d_state[2][i],
        )
        block = -1  # of ladders that are eliminated
        for p in range(passes - 1, -1, -1):
            begin, place = p * stride, p * stride * hop
            valid = min(max(ends[i] - position - begin, 0), stride)
            if valid == 0:
                for n in range(d_signal.size - 1, -1, -1):
                    now = n - stride * hop
                    d_signal[n] = d_signal[now] if now >= 0 else 0
                for n in range(min(stride * hop, d_signal.size - out)):
                    d_signal[out + n] += d_samples[i, place + n]
                continue
            known = sizes[i, begin : begin + opened]
            given = known, counts, frame, scale, forth, back
            # What was handed over, and what came out.
            for j in range(stride):
                kept = d_phasors[reopened - stride + j]
                for k in range(freq):
                    kept[k] += d_output[i, begin + j, k]
            g_phasors[:] = 0
            g_sizes[:] = 0
            g_frames[:] = 0
            g_signal[:] = 0
            for j in range(reopened):
                for k in range(freq):
                    z = d_phasors[j, k] * to_start[k]
                    g_phasors[stride + j, k] = z
                for k in real:
                    g_phasors[stride + j, k] = 0
                g_frames[stride + j] = d_frames[j]
            d_frames[:] = 0
            total[:] = 0
            total[stride * hop : stride * hop + d_signal.size] = d_signal
            for n in range(stride * hop):
                total[out + n] += d_samples[i, place + n]
            added[:] = 0
            _overlap(
                added[:stride],
                total,
                hop,
                reopened,
                g_frames[:stop],
                d_frames,
                g_signal,
            )
            # Those past the end were left out.
            g_frames[reopened + valid : stop] = 0
            gradients = g_phasors, g_sizes, g_frames, d_frames, g_signal
            for it in range(n_iter - 1, -1, -1):
                pair = opened - 2 - it % (opened - 1)
                turns, slopes = all_turns[i, p, it], all_slopes[i, p, it]
                _iteration(pair, turns, slopes, given, gradients, work)
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
                if row - lane != block:
                    block = row - lane
                    factor(
                        weights[i, block : row + 1, 0],
                        weights[i, block : row + 1, 1],
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
                    z = weights[i, row, 0, k] * row_y[k]
                    carry[k] = z * steps[i, row, 3, k].conjugate()
                if share.size > 0:
                    for k in range(freq):
                        z, part = carry[k], share[i, p, j, k]
                        way = target[i, p, j, k] - steps[i, row, 0, k]
                        d_pull[0][i, p, j, k] = part * z
                        d_pull[1][i, p, j, k] = (
                            way.real * z.real + way.imag * z.imag
                        )
                        carry[k] = (1 - part) * z
            # To the pass before.
            for j in range(reopened):
                for k in range(freq):
                    z = to_start[k].conjugate()
                    d_phasors[j, k] = g_phasors[j, k] * z if j < first else 0
                if j < first:
                    d_frames[j] += g_frames[j]
            d_phasors[first - 1] += carry
            for j in range(opened):
                for k in range(freq):
                    d_sizes[i, begin + j, k] += g_sizes[j, k]
            d_signal[:] = g_signal

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
from .frame import clear, copy, held_bins, synthesise, to_spectra
from .ladder import LANES, factor, least_squares_adjoint


@compiled(inner=True)
def _overlap(added, total, stop, hop, frames, before, signal):
    """Of `frame.overlap`: to frames, frames before and signal."""
    reopened, length = before.shape
    for n in range(signal.size):
        signal[n] += total[n]
    for j in range(reopened, stop):
        own, place = added[j - reopened], j * hop
        for n in range(length):
            own[n] += total[place + n]
            frames[j, n] += own[n]
    for i in range(reopened):
        later = (reopened - i) * hop
        for n in range(length - later):
            frames[i, later + n] += added[0, n]
            before[i, later + n] -= added[0, n]


@compiled(inner=True)
def _synthesis(
    frames,
    phasors,
    turns,
    sizes,
    counts,
    first,
    stop,
    frame,
    forth,
    work,
    given,
):
    """Of `frame.synthesise`, two frames at a time; the cotangents are spent.

    The phasors of frame `first` stand in row `turns` of `phasors`.
    """
    window, offset, _, n_fft = frame
    signals, spectrum, spectra = work
    d_phasors, d_sizes = given
    for i in range(first, stop, 2):
        j = i + 1 if i + 1 < stop else i
        clear(signals)
        for n in range(window.size):
            other = frames[j, n] if j > i else 0 * frames[i, n]
            signals[offset + n] = complex(
                window[n] * frames[i, n], window[n] * other
            )
        to_spectra(signals, spectrum, spectra[0], spectra[1])
        for m in range(j - i + 1):
            count = type(forth[0])(counts[i + m])
            for k in range(sizes.shape[1]):
                x = count * forth[k] * spectra[m, k]
                z = phasors[turns + i - first + m, k]
                d_phasors[i + m, k] += sizes[i + m, k] * x
                d_sizes[i + m, k] += z.real * x.real + z.imag * x.imag
            clear(frames[i + m])


@compiled(inner=True)
def _iteration(first, turns, slopes, given, gradients, work):
    """Of one iteration of `frame.iterate`, on the frames from `first`."""
    sizes, counts, frame, scale, forth, back, ones = given
    d_phasors, d_sizes, d_frames, d_before, d_signal = gradients
    signals, spectrum, spectra, added, total, parts = work
    window, _, hop, _ = frame
    freq = sizes.shape[1]
    _synthesis(
        d_frames,
        turns,
        0,
        sizes,
        counts,
        first,
        first + 2,
        frame,
        forth,
        (signals, spectrum, spectra),
        (d_phasors, d_sizes),
    )
    for j in range(2):
        for k in range(freq):
            slope, u, z = slopes[j, k], turns[j, k], d_phasors[first + j, k]
            radial = u.real * z.real + u.imag * z.imag
            spectra[j, k] = slope * (z - radial * u)
            if slope > 0:
                d_phasors[first + j, k] = 0
    # `back` takes the place of sizes: of the transform, without counts.
    synthesise(spectra, back, ones, 0, 2, frame, (spectrum, signals), parts)
    clear(total)
    for j in range(added.shape[0]):
        clear(added[j])
    for j in range(2):
        place = (first + j) * hop
        for n in range(window.size):
            total[place + n] += scale[place + n] * parts[j, n]
    stop = sizes.shape[0]
    _overlap(added, total, stop, hop, d_frames, d_before, d_signal)


@compiled()
def run(
    within,
    weights,
    sizes,
    pull,
    ends,
    keep,
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
    freq = sizes.shape[2]
    window, _, hop, n_fft = frame
    position, stride, new, oldest, pairs = plan
    target, share = pull
    steps, _, all_turns, all_slopes = record
    answers = new - oldest
    passes = weights.shape[1] // answers
    reopened = d_state[0].shape[1]
    opened = reopened + new
    first, out = reopened + oldest, reopened * hop
    number, kind = scale.dtype, d_output.dtype
    # w / N, and its reciprocal.
    forth = np.empty(freq, number)
    back = np.empty((2, freq), number)
    for k in range(freq):
        forth[k] = (1 if 2 * k % n_fft == 0 else 2) / n_fft
        back[0, k] = back[1, k] = 1 / forth[k]
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    pivots = np.empty(LANES)
    carry = np.empty(freq, np.complex128)
    row_y = np.empty(freq, np.complex128)
    phasors = np.empty((opened, freq), kind)
    g_phasors = np.empty((opened, freq), kind)
    g_sizes = np.empty((opened, freq), number)
    g_frames = np.empty((opened, window.size), number)
    g_signal = np.empty(d_state[2].shape[1], number)
    spectra = np.zeros((2, freq), kind)
    spectrum = np.zeros(n_fft, kind)
    signals = np.zeros(n_fft, kind)
    parts = np.empty((2, window.size), number)
    added = np.empty((new, window.size), number)
    total = np.empty((opened - 1) * hop + window.size, number)
    work = signals, spectrum, spectra, added, total, parts
    ones = np.ones(2)
    for i in range(within[0], within[1]):
        d_phasors, d_before, d_signal = (
            d_state[0][i],
            d_state[1][i],
            d_state[2][i],
        )
        block = -1  # of ladders that are eliminated
        for p in range(passes - 1, -1, -1):
            begin, place = p * stride, p * stride * hop
            valid = ends[i] - position - begin
            if valid <= 0:
                for n in range(d_signal.size - 1, -1, -1):
                    now = n - stride * hop
                    d_signal[n] = d_signal[now] if now >= 0 else 0
                for n in range(stride * hop):
                    if out + n < d_signal.size:
                        d_signal[out + n] += d_samples[i, place + n]
                continue
            known = sizes[i, begin : begin + opened]
            given = known, counts, frame, scale, forth, back, ones
            some = min(keep.shape[1], 1)
            stays = keep[i * some, begin * some : (begin + opened) * some]
            # What was handed over, and what came out.
            for j in range(stride):
                for k in range(freq):
                    z = d_output[i, begin + j, k]
                    d_phasors[reopened - stride + j, k] += z
            for j in range(opened):
                clear(g_phasors[j])
                clear(g_sizes[j])
                clear(g_frames[j])
            clear(g_signal)
            for j in range(reopened):
                for k in range(freq):
                    z = d_phasors[j, k] * to_start[k]
                    g_phasors[stride + j, k] = z
                for k in real:
                    g_phasors[stride + j, k] = 0
                copy(d_before[j], g_frames[stride + j])
                clear(d_before[j])
            clear(total)
            for n in range(d_signal.size):
                total[stride * hop + n] = d_signal[n]
            for n in range(stride * hop):
                total[out + n] += d_samples[i, place + n]
            for j in range(new):
                clear(added[j])
            _overlap(
                added,
                total,
                reopened + stride,
                hop,
                g_frames,
                d_before,
                g_signal,
            )
            # Those past the end were left out.
            for j in range(valid, stride):
                clear(g_frames[reopened + j])
            gradients = g_phasors, g_sizes, g_frames, d_before, g_signal
            for it in range(pairs.size - 1, -1, -1):
                pair = pairs[it]
                turns, slopes = all_turns[i, p, it], all_slopes[i, p, it]
                _iteration(pair, turns, slopes, given, gradients, work)
            # The frames as they were before the iterations.
            for j in range(answers):
                for k in range(freq):
                    z = steps[i, p * answers + j, 1, k]
                    phasors[first + j, k] = z * to_start[k]
            _synthesis(
                g_frames,
                phasors,
                first,
                known,
                counts,
                first,
                opened,
                frame,
                forth,
                (signals, spectrum, spectra),
                (g_phasors, g_sizes),
            )
            clear(carry)
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
                        pivots,
                    )
                held = held_bins(known[first + j], constant)
                for k in range(freq):
                    z = g_phasors[first + j, k] * to_start[k].conjugate()
                    free = k >= held or (some > 0 and stays[first + j, k])
                    carry[k] = carry[k] + z if free else 0
                    total_gradient[i, row, k] = carry[k]
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
                for k in range(freq):
                    y[i, row, k] = row_y[k]
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
                    z = g_phasors[j, k] * to_start[k].conjugate()
                    d_phasors[j, k] = z if j < first else 0
                    if j == first - 1:
                        d_phasors[j, k] += carry[k]
                if j < first:
                    for n in range(window.size):
                        d_before[j, n] += g_frames[j, n]
            for j in range(opened):
                for k in range(freq):
                    d_sizes[i, begin + j, k] += g_sizes[j, k]
            copy(g_signal, d_signal)

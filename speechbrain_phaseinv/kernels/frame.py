"""Passes from estimates to samples, compiled.

The definitions are `integration.definition` and `integration.refinement`.

The Fourier transforms are those of rocket-fft, which lends them to compiled
code. Frames are real, so that one complex transform does for two. Loops are
written out: an assignment between slices takes Numba ten times as long to
compile, and is no faster.
"""

import numpy as np
from rocket_fft import c2c

from . import compiled, kept
from .ladder import LANES, factor, least_squares, phase_weights

# Of what a transform goes along.
AXES = np.zeros(1, np.int64)


@compiled(inner=True)
def copy(source, target):
    """target[:] = source, one axis."""
    for k in range(target.size):
        target[k] = source[k]


@compiled(inner=True)
def clear(target):
    """target[:] = 0, one axis."""
    for k in range(target.size):
        target[k] = 0


@compiled(inner=True)
def held_bins(sizes, constant):
    """How many bins of a frame are those of an offset; see `offset`."""
    lobe, above, tolerance = constant
    number, level = type(sizes[0]), sizes[0]
    most = number(tolerance) * level
    # In nearly all frames, the second bin says no.
    for k in range(lobe.size):
        if not abs(sizes[k] - number(lobe[k]) * level) <= most:
            return 0
    for k in range(lobe.size, sizes.size):
        if not level > number(above) * sizes[k]:
            return 0
    return lobe.size


@compiled(inner=True)
def transform(signals, forward, spectrum):
    """The discrete Fourier transform of [n_fft], or its inverse."""
    scale = 1.0 if forward else 1.0 / signals.size
    c2c(signals, spectrum, AXES, forward, scale, 1)


@compiled(inner=True)
def to_spectra(signals, both, first, second):
    """Spectra, [freq], of real part and imaginary part of [n_fft]."""
    transform(signals, True, both)
    number, n_fft = type(both[0].real), both.size
    half = number(0.5)
    for k in range(first.size):  # apart, since it runs backwards
        second[k] = both[n_fft - k if k > 0 else 0]
    for k in range(first.size):
        z, mirror = both[k], second[k]
        first[k] = complex(
            half * (z.real + mirror.real), half * (z.imag - mirror.imag)
        )
        second[k] = complex(
            half * (z.imag + mirror.imag), half * (mirror.real - z.real)
        )


@compiled(inner=True)
def synthesise(phasors, sizes, counts, first, stop, frame, work, frames):
    """The windowed frames `first` to `stop` of phasors and sizes."""
    window, offset, _, n_fft = frame
    spectrum, signals = work
    freq, number = sizes.shape[1], type(sizes[0, 0])
    for i in range(first, stop, 2):
        # Two real frames as real and imaginary part of one.
        j = i + 1 if i + 1 < stop else i
        one = number(counts[i])
        two = number(counts[j] if j > i else 0)
        for k in range(freq):
            a, b = one * sizes[i, k], two * sizes[j, k]
            z, w = phasors[i, k], phasors[j, k]
            x, y, u, v = a * z.real, a * z.imag, b * w.real, b * w.imag
            spectrum[k] = complex(x - v, y + u)
            # DC and Nyquist are real and their own mirrors.
            if 2 * k % n_fft == 0:
                spectrum[k] = complex(x, u)
            else:
                spectrum[n_fft - k] = complex(x + v, u - y)
        transform(spectrum, False, signals)
        for n in range(window.size):
            z = signals[offset + n]
            frames[i, n] = window[n] * z.real
            if j > i:
                frames[j, n] = window[n] * z.imag


@compiled(inner=True)
def overlap(frames, before, signal, stop, hop, added, total):
    """Overlap-add of the open frames up to `stop` onto the signal.

    `added` gets what each new hop adds; `before`, [reopened, win_length], are
    the frames as they have been added.
    """
    reopened, length = before.shape
    for j in range(reopened, stop):
        copy(frames[j], added[j - reopened])
    for i in range(reopened):
        later = (reopened - i) * hop
        for n in range(length - later):
            change = frames[i, later + n] - before[i, later + n]
            added[0, n] += change
    for n in range(total.size):
        total[n] = signal[n] if n < signal.size else 0
    for j in range(reopened, stop):
        place = j * hop
        for n in range(length):
            total[place + n] += added[j - reopened, n]


@compiled(inner=True)
def keep_direction(spectrum, sizes, held, keep, unit, floors, phasors, slope):
    """Unit phasors of what is neither inaudible nor all but cancelled.

    `unit` is the reciprocal of the largest size, in which squares fit. The
    first `held` bins stay, and those to `keep`. Writes what turns the
    spectrum's changes into those of the phasors to `slope`.
    """
    number = type(sizes[0])
    cancelled, inaudible = number(floors[0]), number(floors[1])
    one, infinite = number(1), number(np.inf)
    for k in range(held):
        slope[k] = 0
    # Without a branch, several bins go at a time.
    for k in range(held, sizes.size):
        z, phasor = spectrum[k], phasors[k]
        x, y, wanted = unit * z.real, unit * z.imag, unit * sizes[k]
        size = np.sqrt(x * x + y * y)
        known = (
            (wanted > inaudible)
            & (size > cancelled * wanted)
            & (size < infinite)
            & (not keep[k])
        )
        share = one / (size if known else one)
        phasors[k] = complex(
            x * share if known else phasor.real,
            y * share if known else phasor.imag,
        )
        turn = unit * share
        slope[k] = turn if known & (turn < infinite) else number(0)


@compiled(inner=True)
def iterate(
    phasors, sizes, keep, counts, own, frame, scale, plan, work, record
):
    """Iterations on the open frames: `phasors` and `frames`, in place.

    `record`, if it is not empty, gets the phasors and slopes of each.
    """
    window, offset, hop, n_fft = frame
    pairs, floors, constant = plan
    tiny = floors[2]
    spectra, spectrum, signals, frames, added, total, slopes, none = work
    turns, kept_slopes = record
    count, freq = sizes.shape
    number = type(sizes[0, 0])
    largest = number(0)
    for j in range(count):
        for k in range(freq):
            largest = sizes[j, k] if sizes[j, k] > largest else largest
    # Its reciprocal is finite.
    unit = number(1) / (largest if largest > tiny else number(tiny))
    for i in range(pairs.size):
        first = pairs[i]
        overlap(frames, own[1], own[2], count, hop, added, total)
        place = first * hop
        for n in range(window.size):
            w, one, two = window[n], place + n, place + hop + n
            signals[offset + n] = complex(
                w * (scale[one] * total[one]), w * (scale[two] * total[two])
            )
        for n in range(offset):
            signals[n] = 0
        for n in range(offset + window.size, n_fft):
            signals[n] = 0
        to_spectra(signals, spectrum, spectra[0], spectra[1])
        for j in range(2):
            keep_direction(
                spectra[j],
                sizes[first + j],
                held_bins(sizes[first + j], constant),
                keep[first + j] if keep.shape[0] > 0 else none,
                unit,
                floors,
                phasors[first + j],
                slopes[j],
            )
            if turns.shape[0] > 0:
                copy(phasors[first + j], turns[i, j])
                copy(slopes[j], kept_slopes[i, j])
        pair = spectrum, signals
        synthesise(
            phasors, sizes, counts, first, first + 2, frame, pair, frames
        )


@kept
def workspace(freq, n_fft, length, hop, opened, new, number):
    """Room for `run`: for windows of `length`, and so many open frames.

    The first ratio of a ladder is zero, and stays so.
    """
    empty, kind = np.empty, np.result_type(number, np.complex64)
    ladders = np.zeros((LANES, freq)), empty((LANES, freq)), empty(LANES)
    spare = empty(freq), empty((2, freq), np.complex128)
    iteration = (
        empty((2, freq), kind),
        empty(n_fft, kind),
        empty(n_fft, kind),
        empty((opened, length), number),
        empty((new, length), number),
        empty((opened - 1) * hop + length, number),
        empty((2, freq), number),
        np.zeros(freq, np.bool_),
    )
    return (
        empty((LANES, freq), number),
        empty((LANES, freq), number),
        ladders,
        spare,
        empty((5, freq), np.complex128),
        empty((opened, freq), kind),
        iteration,
    )


def run(within, key, *arguments):
    """All passes of some signals, in the `workspace` of these arguments.

    All else is as for `_run`.
    """
    _run(within, workspace(*key), *arguments)


@compiled()
def _run(
    within,
    work,
    time,
    frequency,
    time_confidence,
    confidence,
    sizes,
    logs,
    weighting,
    pull,
    ends,
    keep,
    plan,
    advance,
    real,
    to_start,
    frame,
    scale,
    counts,
    constant,
    floors,
    state,
    record,
    samples,
    output,
):
    """All passes of some signals.

    Arguments
    ---------
    within : tuple of int
        The first signal of the batch, and the one after the last.
    work : tuple
        What `workspace` returns.
    time, frequency, time_confidence, confidence : array
        Estimates, [batch, passes, estimates, freq].
    sizes, logs : array, [batch, reopened + time, freq]
        Magnitudes and their logarithms.
    weighting : tuple of float
        Power, and the lowest logarithm of a weight.
    pull : tuple of array, [batch, passes, estimates, freq]
        Target and share, or empty.
    ends : array of int, [batch]
        Frames of each signal in all.
    keep : array of bool, [batch, reopened + time, freq]
        Bins that keep what least squares give, or [1, 0, freq].
    plan : tuple
        Frames committed so far, frames that a pass emits, new frames of a
        pass, offset of its first estimate, and the `sweep` of iterations.
    advance, real, to_start : array
        `expected_advance`, `real_bins` and `start_phasor` of the transform.
    frame : tuple
        The window, its offset, the hop and n_fft.
    scale, counts : array
        `overlap_scale` and `counts` of the refinement.
    constant, floors : tuple
        Of `offset` (main lobe, ABOVE, TOLERANCE); CANCELLED, INAUDIBLE and
        the smallest normal number.
    state : tuple of array
        An `OverlapState`, updated in place.
    record : tuple of array
        Written to unless empty, for `adjoint.run`: of each estimate the
        phasors before it and the rows of `least_squares`, and its weights; of
        each iteration the phasors and the slopes.
    samples : array, [batch, passes * stride * hop]
        Written to.
    output : array, [batch, passes * stride, freq]
        Written to: the phasors of the committed frames.
    """
    _, passes, answers, freq = time.shape
    window, _, hop, n_fft = frame
    position, stride, new, oldest, pairs = plan
    reopened, rows = state[0].shape[1], passes * answers
    opened, first, out = reopened + new, reopened + oldest, reopened * hop
    target, share = pull
    anchors, couplings, ladders, spare, found, phasors, iteration = work
    ratio, inverse, pivots = ladders
    last = found[4]
    _, spectrum, signals, frames, added, total, _, _ = iteration
    iterations = pairs, floors, constant
    steps, weights, turns, kept_slopes = record
    recorded = len(steps) > 0
    for i in range(within[0], within[1]):
        own = state[0][i], state[1][i], state[2][i]
        reopening, before, signal = own
        for p in range(passes):
            begin, place = p * stride, p * stride * hop
            valid = ends[i] - position - begin
            if valid <= 0:  # past the end: what is pending comes out
                for n in range(stride * hop):
                    later = out + n
                    there = later < signal.size
                    samples[i, place + n] = signal[later] if there else 0
                for n in range(signal.size):
                    later = n + stride * hop
                    signal[n] = signal[later] if later < signal.size else 0
                for j in range(begin, begin + stride):
                    for k in range(freq):
                        output[i, j, k] = 1
                continue
            known = sizes[i, begin : begin + opened]
            some = min(keep.shape[1], 1)
            stays = keep[i * some, begin * some : (begin + opened) * some]
            copy(reopening[first - 1], last)
            for j in range(answers):
                row = p * answers + j
                lane = row % LANES
                if lane == 0:
                    until = rows - row if rows - row < LANES else LANES
                    for n in range(until):
                        q, r = (row + n) // answers, (row + n) % answers
                        here = q * stride + first + r
                        phase_weights(
                            logs[i, here],
                            logs[i, here - 1],
                            time_confidence[i, q, r],
                            confidence[i, q, r],
                            weighting,
                            anchors[n],
                            couplings[n],
                        )
                        if recorded:
                            copy(anchors[n], weights[i, row + n, 0])
                            copy(couplings[n], weights[i, row + n, 1])
                    factor(
                        anchors[:until],
                        couplings[:until],
                        ratio,
                        inverse,
                        pivots,
                    )
                if recorded:
                    copy(last, steps[i, row, 0])
                if share.size > 0:
                    for k in range(freq):
                        part = share[i, p, j, k]
                        last[k] += part * (target[i, p, j, k] - last[k])
                least_squares(
                    last,
                    time[i, p, j],
                    frequency[i, p, j],
                    advance,
                    anchors[lane],
                    ratio[lane],
                    inverse[lane],
                    real,
                    spare,
                    found,
                )
                # The phase of an offset goes on as it was.
                sign = 1.0 if last[0].real >= 0 else -1.0
                held = held_bins(known[first + j], constant)
                solved, turned = found[0], phasors[first + j]
                for k in range(freq):
                    free = k >= held or (some > 0 and stays[first + j, k])
                    last[k] = solved[k] if free else sign
                    turned[k] = last[k] * to_start[k]
                if recorded:
                    for n in range(4):
                        copy(found[n], steps[i, row, 1 + n])
            for j in range(first):
                copy(before[j], frames[j])
                source, turned = reopening[j], phasors[j]
                for k in range(freq):
                    turned[k] = source[k] * to_start[k]
            pair = spectrum, signals
            synthesise(
                phasors, known, counts, first, opened, frame, pair, frames
            )
            at = i * recorded, p * recorded
            kept = turns[at[0], at[1]], kept_slopes[at[0], at[1]]
            iterate(
                phasors,
                known,
                stays,
                counts,
                own,
                frame,
                scale,
                iterations,
                iteration,
                kept,
            )
            for j in range(valid, stride):
                clear(frames[reopened + j])
            overlap(
                frames, before, signal, reopened + stride, hop, added, total
            )
            for n in range(stride * hop):
                samples[i, place + n] = total[out + n]
            for n in range(signal.size):
                signal[n] = total[stride * hop + n]
            for j in range(reopened):
                copy(frames[stride + j], before[j])
                source, turned = phasors[stride + j], reopening[j]
                for k in range(freq):
                    turned[k] = source[k] * to_start[k].conjugate()
                for k in real:
                    turned[k] = 1.0 if turned[k].real >= 0 else -1.0
            # The last of the frames that are kept are those committed now.
            for j in range(stride):
                copy(reopening[reopened - stride + j], output[i, begin + j])

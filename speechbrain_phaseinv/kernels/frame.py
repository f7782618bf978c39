"""Passes from estimates to samples, compiled.

The definitions are `integration.passes` and `integration.refinement`.

The Fourier transforms are pocketfft's, which rocket-fft, once installed,
lends to compiled code. Frames are real: one complex transform does for two.
The iterations have the arrays' precision.
"""

import numpy as np

from . import compiled
from .ladder import LANES, factor, least_squares, phase_weights


@compiled()
def _held(sizes, constant):
    """How many bins of a frame are those of an offset; see `offset`."""
    lobe, above, tolerance = constant
    number, level = sizes.dtype.type, sizes[0]
    most = number(tolerance) * level
    # In nearly all frames, the second bin says no.
    for k in range(lobe.size):
        if not abs(sizes[k] - number(lobe[k]) * level) <= most:
            return 0
    for k in range(lobe.size, sizes.size):
        if not level > number(above) * sizes[k]:
            return 0
    return lobe.size


@compiled()
def _to_spectra(signals, spectra):
    """The way back."""
    both = np.fft.fft(signals)
    first, second = spectra
    half = type(both[0].real)(0.5)
    for k in range(first.size):
        z, mirror = both[k], both[-k]
        first[k] = complex(
            half * (z.real + mirror.real), half * (z.imag - mirror.imag)
        )
        second[k] = complex(
            half * (z.imag + mirror.imag), half * (mirror.real - z.real)
        )


@compiled()
def _synthesise(phasors, sizes, counts, frame, frames):
    """The windowed frames of these phasors and sizes, as they count."""
    window, offset, _, n_fft = frame
    freq, number = sizes.shape[1], sizes.dtype.type
    spectrum = np.empty(n_fft, phasors.dtype)
    mirror = np.empty(freq, phasors.dtype)
    for i in range(0, len(frames), 2):
        # Two real frames as real and imaginary part of one.
        both = i + 1 < len(frames)
        j = i + both
        one, two = number(counts[i]), number(counts[j] if both else 0)
        for k in range(freq):
            a, b = one * sizes[i, k], two * sizes[j, k]
            z, w = phasors[i, k], phasors[j, k]
            x, y, u, v = a * z.real, a * z.imag, b * w.real, b * w.imag
            spectrum[k] = complex(x - v, y + u)
            mirror[k] = complex(x + v, u - y)
        for k in range(1, n_fft - freq + 1):
            spectrum[n_fft - k] = mirror[k]
        # DC and, where n_fft is even, Nyquist are real and their own mirrors.
        for k in (0, n_fft - freq + 1):
            if 2 * k % n_fft == 0:
                real = (spectrum[k].real + mirror[k].real) / 2
                imag = (spectrum[k].imag + mirror[k].imag) / 2
                spectrum[k] = complex(real, imag)
        signals = np.fft.ifft(spectrum)
        for n in range(window.size):
            frames[i, n] = window[n] * signals[offset + n].real
        if both:
            for n in range(window.size):
                frames[j, n] = window[n] * signals[offset + n].imag


@compiled()
def _overlap(frames, state, hop, added, total):
    """Overlap-add of the open frames; `added`, what each new hop adds."""
    _, before, signal = state
    reopened = len(before)
    added[:] = frames[reopened:]
    changes = added[0]
    for i in range(reopened):
        later = (reopened - i) * hop
        now, then = frames[i, later:], before[i, later:]
        for n in range(now.size):
            changes[n] += now[n] - then[n]
    total[: signal.size] = signal
    total[signal.size :] = 0
    for i in range(len(added)):
        place, frame = total[(reopened + i) * hop :], added[i]
        for n in range(frame.size):
            place[n] += frame[n]


@compiled()
def _keep_direction(spectrum, sizes, unit, floors, phasors, slope):
    """Unit phasors of what is neither inaudible nor all but cancelled.

    `unit` is the reciprocal of the largest size, in which squares fit. Writes
    what turns the spectrum's changes into those of the phasors to `slope`.
    """
    cancelled, inaudible = floors
    number = sizes.dtype.type
    one = number(1)
    # Without a branch, several bins go at a time.
    for k in range(sizes.size):
        z, phasor = spectrum[k], phasors[k]
        x, y, wanted = unit * z.real, unit * z.imag, unit * sizes[k]
        size = np.sqrt(x * x + y * y)
        known = (
            (wanted > number(inaudible))
            & (size > number(cancelled) * wanted)
            & (size < number(np.inf))
        )
        share = one / (size if known else one)
        phasors[k] = complex(
            x * share if known else phasor.real,
            y * share if known else phasor.imag,
        )
        slope[k] = unit * share if known else number(0)


@compiled()
def _iterate(phasors, given, n_iter, floors, work, record):
    """Iterations on the open frames: `phasors` and `frames`, in place.

    `record`, if it is not empty, gets the phasors and slopes of each.
    """
    sizes, counts, state, frame, scale, constant = given
    window, offset, hop, n_fft = frame
    spectra, signals, frames, added, total, slopes = work
    turns, kept_slopes = record
    unit = sizes.dtype.type(1) / sizes.max()
    last = len(sizes) - 1
    for i in range(n_iter):
        first = last - 1 - i % last
        _overlap(frames, state, hop, added, total)
        place = first * hop
        one, two = total[place:], total[place + hop :]
        share, other = scale[place:], scale[place + hop :]
        for n in range(window.size):
            w = window[n]
            signals[offset + n] = complex(
                w * (share[n] * one[n]), w * (other[n] * two[n])
            )
        _to_spectra(signals, spectra)
        for j in range(2):
            held = _held(sizes[first + j], constant)
            slopes[j, :held] = 0
            _keep_direction(
                spectra[j, held:],
                sizes[first + j, held:],
                unit,
                floors,
                phasors[first + j, held:],
                slopes[j, held:],
            )
        if len(turns) > 0:
            turns[i] = phasors[first : first + 2]
            kept_slopes[i] = slopes
        _synthesise(
            phasors[first : first + 2],
            sizes[first : first + 2],
            counts[first : first + 2],
            frame,
            frames[first : first + 2],
        )


@compiled()
def run(
    time,
    frequency,
    time_confidence,
    confidence,
    sizes,
    logs,
    weighting,
    pull,
    ends,
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
    """All passes of all signals.

    Arguments
    ---------
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
    plan : tuple of int
        Frames committed so far, frames that a pass emits, new frames of a
        pass, offset of its first estimate, iterations.
    advance, real, to_start : array
        `expected_advance`, `real_bins` and `start_phasor` of the transform.
    frame : tuple
        The window, its offset, the hop and n_fft.
    scale, counts : array
        `overlap_scale` and `counts` of the refinement.
    constant, floors : tuple
        Of `offset` (main lobe, ABOVE, TOLERANCE); CANCELLED and INAUDIBLE.
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
    batch, passes, answers, freq = time.shape
    window, offset, hop, n_fft = frame
    position, stride, new, oldest, n_iter = plan
    reopened, rows = state[0].shape[1], passes * answers
    opened, first, out = reopened + new, reopened + oldest, reopened * hop
    target, share = pull
    anchors = np.empty((LANES, freq), sizes.dtype)
    couplings = np.empty((LANES, freq), sizes.dtype)
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    found = np.empty((4, freq), np.complex128)
    last = np.empty(freq, np.complex128)
    phasors = np.empty((opened, freq), output.dtype)
    spectra = np.zeros((2, freq), output.dtype)
    signals = np.zeros(n_fft, output.dtype)
    frames = np.empty((opened, window.size), scale.dtype)
    added = np.empty((new, window.size), scale.dtype)
    total = np.empty((opened - 1) * hop + window.size, scale.dtype)
    slopes = np.empty((2, freq), sizes.dtype)
    work = spectra, signals, frames, added, total, slopes
    steps, weights, turns, kept_slopes = record
    recorded = len(steps) > 0
    for i in range(batch):
        own = state[0][i], state[1][i], state[2][i]
        signal = own[2]
        for p in range(passes):
            begin, place = p * stride, p * stride * hop
            valid = min(max(ends[i] - position - begin, 0), stride)
            if valid == 0:  # past the end: what is pending comes out
                for n in range(stride * hop):
                    samples[i, place + n] = 0
                for n in range(min(stride * hop, signal.size - out)):
                    samples[i, place + n] = signal[out + n]
                for n in range(signal.size):
                    later = n + stride * hop
                    signal[n] = signal[later] if later < signal.size else 0
                output[i, begin : begin + stride] = 1
                continue
            known = sizes[i, begin : begin + opened]
            last[:] = own[0][first - 1]
            for j in range(answers):
                row = p * answers + j
                if recorded:
                    steps[i, row, 0] = last
                lane = row % LANES
                if lane == 0:
                    until = min(LANES, rows - row)
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
                            weights[i, row + n, 0] = anchors[n]
                            weights[i, row + n, 1] = couplings[n]
                    factor(anchors[:until], couplings[:until], ratio, inverse)
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
                    found,
                )
                # The phase of an offset goes on as it was.
                sign = 1.0 if last[0].real >= 0 else -1.0
                last[:] = found[0]
                last[: _held(known[first + j], constant)] = sign
                if recorded:
                    steps[i, row, 1:] = found
                for k in range(freq):
                    phasors[first + j, k] = last[k] * to_start[k]
            for j in range(first):
                frames[j] = own[1][j]
                for k in range(freq):
                    phasors[j, k] = own[0][j, k] * to_start[k]
            _synthesise(
                phasors[first:],
                known[first:],
                counts[first:],
                frame,
                frames[first:],
            )
            given = known, counts, own, frame, scale, constant
            at = i * recorded, p * recorded
            kept = turns[at[0], at[1]], kept_slopes[at[0], at[1]]
            _iterate(phasors, given, n_iter, floors, work, kept)
            frames[reopened + valid : reopened + stride] = 0
            stop = reopened + stride
            _overlap(frames[:stop], own, hop, added[:stride], total)
            samples[i, place : place + stride * hop] = total[
                out : out + stride * hop
            ]
            signal[:] = total[stride * hop : stride * hop + signal.size]
            # The last of the frames that are kept are those committed now.
            for j in range(reopened):
                kept_phasors = own[0][j]
                for k in range(freq):
                    z = phasors[stride + j, k] * to_start[k].conjugate()
                    kept_phasors[k] = z
                for k in real:
                    sign = 1.0 if kept_phasors[k].real >= 0 else -1.0
                    kept_phasors[k] = sign
                own[1][j] = frames[stride + j]
            output[i, begin : begin + stride] = own[0][reopened - stride :]

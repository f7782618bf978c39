"""The compiled form of `recursion` and `refinement`.

The Fourier transforms are pocketfft's, which rocket-fft, once installed,
lends to compiled code. Frames are real: one complex transform does for two.
The iterations have the arrays' precision.
"""

import numpy as np

from .ladder import LANES, compiled, factor, least_squares


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
def _overlap(frames, heard, hop, added, total):
    """What frames add to what was heard, and all that is heard then."""
    _, before, signal = heard
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
    sizes, counts, heard, frame, scale, constant = given
    window, offset, hop, n_fft = frame
    spectra, signals, frames, added, total, slopes = work
    turns, kept_slopes = record
    unit = sizes.dtype.type(1) / sizes.max()
    last = len(sizes) - 1
    for i in range(n_iter):
        first = last - 1 - i % last
        _overlap(frames, heard, hop, added, total)
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
    advance,
    real,
    time,
    frequency,
    anchor,
    coupling,
    sizes,
    target,
    share,
    before,
    heard,
    to_start,
    frame,
    scale,
    counts,
    n_iter,
    floors,
    constant,
    hops,
    record,
    output,
    output_added,
):
    """The recursion over passes, [batch, passes, answers, freq].

    `target` and `share`, if they are not empty, are those to which frames
    are drawn. `before` holds the magnitudes of the frames before, `heard` all
    else of `Heard`, updated in place. `frame` is the window, where it begins,
    the hop and n_fft; `scale` and `counts` are those of `refinement`, `floors`
    its CANCELLED and INAUDIBLE, `constant` the `main_lobe` of an offset,
    ABOVE and TOLERANCE; `hops` says how many frames a pass emits, and
    how many are new. Writes the phasors of the emitted frames and what they
    add, [batch, passes * emitted, ...]; and, if the arrays are not empty, what
    the adjoint asks for to `record`: of each answer the phasors before it and
    what `least_squares` writes, of each iteration the phasors and the slopes.
    """
    batch, passes, answers, freq = sizes.shape
    window, offset, hop, n_fft = frame
    emitted, new = hops
    reopened, rows = before.shape[1], passes * answers
    opened, stop = reopened + new, reopened + emitted
    first = opened - answers  # that has an answer
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    found = np.empty((4, freq), np.complex128)
    last = np.empty(freq, np.complex128)
    phasors = np.empty((opened, freq), output.dtype)
    known = np.empty((opened, freq), sizes.dtype)
    spectra = np.zeros((2, freq), output.dtype)
    signals = np.zeros(n_fft, output.dtype)
    frames = np.empty((opened, window.size), scale.dtype)
    added = np.empty((new, window.size), scale.dtype)
    total = np.empty((opened - 1) * hop + window.size, scale.dtype)
    slopes = np.empty((2, freq), sizes.dtype)
    work = spectra, signals, frames, added, total, slopes
    steps, turns, kept_slopes = record
    recorded = len(steps) > 0
    for i in range(batch):
        anchors = anchor[i].reshape(rows, freq)
        couplings = coupling[i].reshape(rows, freq)
        state = heard[0][i], heard[1][i], heard[2][i]
        for j in range(reopened):
            known[j] = before[i, j]
        for p in range(passes):
            for j in range(new):
                known[reopened + j] = sizes[i, p, answers - new + j]
            last[:] = state[0][first - 1]
            for j in range(answers):
                row = p * answers + j
                if recorded:
                    steps[i, row, 0] = last
                lane = row % LANES
                if lane == 0:
                    until = min(row + LANES, rows)
                    factor(
                        anchors[row:until], couplings[row:until], ratio, inverse
                    )
                if share.size > 0:
                    for k in range(freq):
                        pull = share[i, p, j, k]
                        last[k] += pull * (target[i, p, j, k] - last[k])
                least_squares(
                    last,
                    time[i, p, j],
                    frequency[i, p, j],
                    advance,
                    anchors[row],
                    ratio[lane],
                    inverse[lane],
                    real,
                    found,
                )
                # That of an offset goes on as it was.
                sign = 1.0 if last[0].real >= 0 else -1.0
                last[:] = found[0]
                last[: _held(known[first + j], constant)] = sign
                if recorded:
                    steps[i, row, 1:] = found
                for k in range(freq):
                    phasors[first + j, k] = last[k] * to_start[k]
            for j in range(first):
                frames[j] = state[1][j]
                for k in range(freq):
                    phasors[j, k] = state[0][j, k] * to_start[k]
            _synthesise(
                phasors[first:],
                known[first:],
                counts[first:],
                frame,
                frames[first:],
            )
            given = known, counts, state, frame, scale, constant
            at = i * recorded, p * recorded
            own = turns[at[0], at[1]], kept_slopes[at[0], at[1]]
            _iterate(phasors, given, n_iter, floors, work, own)
            _overlap(frames[:stop], state, hop, added[:emitted], total)
            state[2][:] = total[emitted * hop : emitted * hop + state[2].size]
            for j in range(emitted):
                output_added[i, p * emitted + j] = added[j]
            # Those that are kept: the last of them are the ones emitted.
            for j in range(reopened):
                kept = state[0][j]
                for k in range(freq):
                    kept[k] = phasors[emitted + j, k] * to_start[k].conjugate()
                for k in real:
                    kept[k] = 1.0 if kept[k].real >= 0 else -1.0
                state[1][j] = frames[emitted + j]
                known[j] = known[emitted + j]
            for j in range(emitted):
                output[i, p * emitted + j] = state[0][reopened - emitted + j]

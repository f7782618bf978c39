"""The compiled form of `recursion` and `refinement`.

The Fourier transforms are pocketfft's, which rocket-fft, once installed,
lends to compiled code. At most two frames are open, and both are real: one
complex transform does for both. The iterations have the arrays' precision.
"""

import math

import numpy as np

from ._kernels import LANES, compiled, factor, least_squares


@compiled()
def _to_signals(spectra, n_fft):
    """Two real frames, as real and imaginary part, [n_fft]."""
    both = np.empty(n_fft, spectra.dtype)
    first, second = spectra
    both[0] = complex(first[0].real, second[0].real)
    for k in range(1, first.size):
        a, b = first[k], second[k]
        # Where n_fft is even the last bin is its own mirror, and real.
        both[k] = complex(a.real - b.imag, a.imag + b.real)
        if 2 * k == n_fft:
            both[k] = complex(a.real, b.real)
        else:
            both[n_fft - k] = complex(a.real + b.imag, b.real - a.imag)
    return np.fft.ifft(both)


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
def _add(signals, window, offset, hop, total):
    """Overlap-add of two windowed frames, [win_length + hop]."""
    second = total[hop:]
    for n in range(window.size):
        signal = signals[offset + n]
        total[n] += window[n] * signal.real
        second[n] += window[n] * signal.imag


@compiled()
def _spectra(phasors, sizes, counts, spectra):
    """What has these phasors, and these sizes times `counts`, [open, freq]."""
    spectra[len(sizes) :] = 0
    for j in range(len(sizes)):
        count = sizes.dtype.type(counts[j])
        for k in range(sizes.shape[1]):
            spectra[j, k] = count * sizes[j, k] * phasors[j, k]


@compiled()
def _keep_direction(spectrum, sizes, least, cancelled, phasors):
    """Unit phasors of what is neither inaudible nor all but cancelled."""
    # Without a branch, several bins go at a time.
    for k in range(sizes.size):
        z, phasor = spectrum[k], phasors[k]
        x, y = np.float64(z.real), np.float64(z.imag)  # whose squares fit
        size = math.sqrt(x * x + y * y)
        known = (
            (sizes[k] > least) & (size > cancelled * sizes[k]) & (size < np.inf)
        )
        scale = 1 / (size if known else 1.0)
        phasors[k] = complex(
            x * scale if known else phasor.real,
            y * scale if known else phasor.imag,
        )


@compiled()
def _iterate(
    phasors, sizes, counts, heard, frame, scale, n_iter, floors, spectra
):
    """Iterations on one or two frames, [open, freq]: `phasors`, in place."""
    window, offset, hop, n_fft = frame
    cancelled, inaudible = floors
    least = inaudible * sizes.max()
    total = np.empty(window.size + hop, heard.dtype)
    signals = np.zeros(n_fft, spectra.dtype)
    for _ in range(n_iter):
        _spectra(phasors, sizes, counts, spectra)
        total[: heard.size] = heard
        total[heard.size :] = 0
        _add(_to_signals(spectra, n_fft), window, offset, hop, total)
        for n in range(total.size):
            total[n] *= scale[n]
        for n in range(window.size):
            w = window[n]
            signals[offset + n] = complex(w * total[n], w * total[hop + n])
        _to_spectra(signals, spectra)
        for j in range(len(sizes)):
            _keep_direction(spectra[j], sizes[j], least, cancelled, phasors[j])


@compiled()
def run(
    advance,
    real,
    time,
    frequency,
    anchor,
    coupling,
    sizes,
    start,
    target,
    share,
    heard,
    to_start,
    frame,
    scale,
    counts,
    n_iter,
    floors,
    output,
):
    """The recursion over passes, [batch, passes, open, freq].

    `target` and `share`, if they are not empty, are those to which frames
    are drawn. `heard` is the overlap of the frames before, updated in place.
    `frame` is the window, where it begins, the hop and n_fft; `scale` and
    `counts` are those of `refinement`, filled up with zeros to
    win_length + hop and to 2; `floors` its CANCELLED and INAUDIBLE. Writes the
    phasors of the committed frames, [batch, passes * committed, freq].
    """
    batch, passes, open_frames, freq = sizes.shape
    window, offset, hop, n_fft = frame
    commit, rows = output.shape[1] // passes, passes * open_frames
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    found = np.empty((4, freq), np.complex128)
    last = np.empty(freq, np.complex128)
    phasors = np.empty((open_frames, freq), output.dtype)
    spectra = np.zeros((2, freq), output.dtype)
    total = np.zeros(window.size + hop, heard.dtype)
    once = np.ones(2)
    for i in range(batch):
        anchors = anchor[i].reshape(rows, freq)
        couplings = coupling[i].reshape(rows, freq)
        last[:] = start[i]
        for p in range(passes):
            for j in range(open_frames):
                row = p * open_frames + j
                lane = row % LANES
                if lane == 0:
                    stop = min(row + LANES, rows)
                    factor(
                        anchors[row:stop], couplings[row:stop], ratio, inverse
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
                last[:] = found[0]
                for k in range(freq):
                    phasors[j, k] = last[k] * to_start[k]
            now = sizes[i, p]
            _iterate(
                phasors,
                now,
                counts,
                heard[i],
                frame,
                scale,
                n_iter,
                floors,
                spectra,
            )
            for j in range(commit):
                done = output[i, p * commit + j]
                for k in range(freq):
                    done[k] = phasors[j, k] * to_start[k].conjugate()
                for k in real:
                    done[k] = 1.0 if done[k].real >= 0 else -1.0
                last[:] = done
            # What the committed frames leave for those to come.
            _spectra(phasors[:commit], now[:commit], once, spectra)
            total[:] = 0
            total[: heard.shape[1]] = heard[i]
            _add(_to_signals(spectra, n_fft), window, offset, hop, total)
            heard[i] = total[commit * hop : commit * hop + heard.shape[1]]

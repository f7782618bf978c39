"""The compiled form of `recursion` and `refinement`.

The Fourier transforms are pocketfft's, which rocket-fft, once installed,
lends to compiled code. At most two frames are open, and both are real: one
complex transform does for both.
"""

import math

import numpy as np

from ._kernels import LANES, compiled, factor, least_squares


@compiled()
def _to_signals(spectra, n_fft):
    """Two real frames, as real and imaginary part, [n_fft]."""
    both = np.empty(n_fft, np.complex128)
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
    for k in range(first.size):
        z, mirror = both[k], both[-k].conjugate()
        first[k] = 0.5 * (z + mirror)
        second[k] = -0.5j * (z - mirror)


@compiled()
def _add(signals, window, offset, hop, total):
    """Overlap-add of two windowed frames, [win_length + hop]."""
    second = total[hop:]
    for n in range(window.size):
        signal = signals[offset + n]
        total[n] += window[n] * signal.real
        second[n] += window[n] * signal.imag


@compiled()
def _spectra(phasors, sizes, spectra):
    """What has these phasors and sizes, [open, freq], and zeros behind it."""
    spectra[:] = 0
    for j in range(len(sizes)):
        for k in range(sizes.shape[1]):
            spectra[j, k] = sizes[j, k] * phasors[j, k]


@compiled()
def _keep_direction(spectrum, sizes, least, cancelled, phasors):
    """Unit phasors of what is neither inaudible nor all but cancelled."""
    # Without a branch, several bins go at a time.
    for k in range(sizes.size):
        z, phasor = spectrum[k], phasors[k]
        size = math.sqrt(z.real * z.real + z.imag * z.imag)
        known = (
            (sizes[k] > least) & (size > cancelled * sizes[k]) & (size < np.inf)
        )
        scale = 1 / (size if known else 1.0)
        phasors[k] = complex(
            z.real * scale if known else phasor.real,
            z.imag * scale if known else phasor.imag,
        )


@compiled()
def _iterate(phasors, sizes, heard, frame, scale, n_iter, floors, spectra):
    """Iterations on one or two frames, [open, freq]: `phasors`, in place."""
    window, offset, hop, n_fft = frame
    cancelled, inaudible = floors
    least = inaudible * sizes.max()
    total = np.empty(window.size + hop)
    signals = np.zeros(n_fft, np.complex128)
    for _ in range(n_iter):
        _spectra(phasors, sizes, spectra)
        total[:] = 0
        total[: heard.size] = heard
        _add(_to_signals(spectra, n_fft), window, offset, hop, total)
        for n in range(total.size):
            total[n] *= scale[n]
        for n in range(window.size):
            both = complex(total[n], total[hop + n])
            signals[offset + n] = window[n] * both
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
    n_iter,
    floors,
    output,
):
    """The recursion over passes, [batch, passes, open, freq].

    `target` and `share`, if they are not empty, are those to which frames
    are drawn. `heard` is the overlap of the frames before, updated in place.
    `frame` is the window, where it begins, the hop and n_fft; `scale` that of
    `refinement`, filled up with zeros to win_length + hop; `floors` are its
    CANCELLED and INAUDIBLE. Writes the phasors of the committed frames,
    [batch, passes * committed, freq].
    """
    batch, passes, open_frames, freq = sizes.shape
    window, offset, hop, n_fft = frame
    commit, rows = output.shape[1] // passes, passes * open_frames
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    found = np.empty((4, freq), np.complex128)
    last = np.empty(freq, np.complex128)
    phasors = np.empty((open_frames, freq), np.complex128)
    spectra = np.empty((2, freq), np.complex128)
    total = np.zeros(window.size + hop)
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
                phasors, now, heard[i], frame, scale, n_iter, floors, spectra
            )
            for j in range(commit):
                done = output[i, p * commit + j]
                for k in range(freq):
                    done[k] = phasors[j, k] * to_start[k].conjugate()
                for k in real:
                    done[k] = 1.0 if done[k].real >= 0 else -1.0
                last[:] = done
            # What the committed frames leave for those to come.
            _spectra(phasors[:commit], now[:commit], spectra)
            total[:] = 0
            total[: heard.shape[1]] = heard[i]
            _add(_to_signals(spectra, n_fft), window, offset, hop, total)
            heard[i] = total[commit * hop : commit * hop + heard.shape[1]]

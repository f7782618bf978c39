"""The compiled recursions of `tridiagonal` and `integration`.

Importing Numba takes a noticeable part of a second, so this module is
imported by the first call that needs it; the machine code is cached on disk.

All arithmetic is in double precision, whatever the arrays hold: a recursion
is bound by the latency of its operations, which is the same for both.
"""

import math
import os
from pathlib import Path

import numpy as np
from numba import config, njit


def compiled(**options):
    """`njit` that keeps its machine code in the user's folder for caches.

    Numba would put it beside the source, where pip does not know of it: an
    uninstalled package would leave a folder of its name behind, which Python
    takes for the package. ``NUMBA_CACHE_DIR`` still has its way.
    """

    def decorate(function):
        before = config.CACHE_DIR
        config.CACHE_DIR = before or str(_cache_folder())
        try:
            return njit(cache=True, nogil=True, error_model="numpy", **options)(
                function
            )
        finally:
            config.CACHE_DIR = before

    return decorate


def _cache_folder():
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if os.environ.get(name):
            return Path(os.environ[name], "speechbrain_phaseinv")
    return Path(os.path.expanduser("~"), ".cache", "speechbrain_phaseinv")


# A product and the sum that it goes into may become one operation, "contract",
# which shortens a chain of them.

# Elimination divides, and each division waits for the last. The ladders of
# different frames do not wait for each other: so many go side by side.
LANES = 8


@compiled(fastmath={"contract"})
def factor(anchor, coupling, ratio, inverse):
    """Eliminate up to LANES ladders, [lanes, freq]; see `tridiagonal`.

    Writes the ratio r[k] = g[k] / (e[k-1] + g[k]) and the inverse pivot
    d[k] = 1 / (e[k] + g[k+1]), which is zero where there is none.
    """
    lanes, freq = anchor.shape
    e = np.empty(LANES)
    for j in range(lanes):
        e[j] = anchor[j, 0]
    for k in range(1, freq):
        for j in range(lanes):
            g = coupling[j, k]
            pivot = e[j] + g
            d = 1 / pivot if pivot > 0 else 0.0
            r = g * d
            e[j] = anchor[j, k] + r * e[j]
            inverse[j, k - 1] = d
            ratio[j, k] = r
    for j in range(lanes):
        inverse[j, freq - 1] = 1 / e[j] if e[j] > 0 else 0.0


@compiled(fastmath={"contract"})
def _substitute(ratio, inverse, source, target, free, solution):
    """Carry the right-hand side source * target through a factored ladder.

    Real and imaginary parts by hand: the compiler would multiply the real
    ratio as a complex number, and the chain of products is what takes time.
    """
    freq = target.size
    re, im = 0.0, 0.0
    for k in range(freq):
        w, t = np.float64(source[k]), target[k]
        r, d = ratio[k], inverse[k]
        re = w * t.real + r * re
        im = w * t.imag + r * im
        if d > 0:
            solution[k] = complex(re * d, im * d)
        else:
            solution[k] = complex(free * t.real, free * t.imag)
    # s[k] = (b[k] + g[k+1] s[k+1]) d[k], and g[k+1] d[k] is r[k+1].
    s = solution[freq - 1]
    re, im = s.real, s.imag
    for k in range(freq - 2, -1, -1):
        s, r = solution[k], ratio[k + 1]
        re = s.real + r * re
        im = s.imag + r * im
        solution[k] = complex(re, im)


@compiled()
def solve_rows(anchor, coupling, source, target, free):
    """Solve independent ladders, [rows, freq], for source * target."""
    rows, freq = anchor.shape
    solution = np.empty_like(target)
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    row = np.empty(freq, dtype=np.complex128)
    for start in range(0, rows, LANES):
        stop = min(start + LANES, rows)
        factor(anchor[start:stop], coupling[start:stop], ratio, inverse)
        for i in range(start, stop):
            j = i - start
            _substitute(ratio[j], inverse[j], source[i], target[i], free, row)
            solution[i] = row
    return solution


@compiled()
def fraction(z, square):
    """p and q with p / q = tanh(z) for square = z^2, tan(z) for -z^2.

    Lambert's continued fraction z / (1 + z^2 / (3 + z^2 / (5 + ...))) down to
    13, multiplied out. Plain arithmetic goes through a processor's vector
    unit, the functions of `math` do not. Exact to double precision up to
    pi / 4, to single precision, for tanh, up to 4.5.
    """
    number = type(z)
    p = number(17325) + (number(378) + square) * square
    p = z * (number(135135) + p * square)
    q = number(62370) + (number(3150) + number(28) * square) * square
    return p, number(135135) + q * square


@compiled()
def phase_weights(log_mag, before, time, frequency, power, lowest, output):
    """`integration.phase_weights`, [batch, time, freq], to [2, ...].

    The confidences are added; in the precision of the arrays.
    """
    batch, frames, freq = log_mag.shape
    number = type(log_mag[0, 0, 0])
    power, own = number(power), number(power + 2)
    for i in range(batch):
        for t in range(frames):
            here, past = log_mag[i, t], before[i, t]
            anchor, coupling = output[0, i, t], output[1, i, t]
            peak = number(-np.inf)
            for k in range(freq):
                below = here[max(k - 1, 0)]
                anchor[k] = own * here[k] + power * past[k] + time[i, t, k]
                coupling[k] = own * here[k] + power * below + frequency[i, t, k]
                peak = max(peak, anchor[k], coupling[k])
            for k in range(freq):
                anchor[k] = math.exp(max(anchor[k] - peak, number(lowest)))
                coupling[k] = math.exp(max(coupling[k] - peak, number(lowest)))


@compiled()
def _turn(angles, rotors):
    """rotors = exp(j angles)."""
    for k in range(angles.size):
        turns = angles[k] / (2 * math.pi)
        z = (turns - np.floor(turns + 0.5)) * (math.pi / 2)
        # The tangent of a quarter of the angle, and twice the double angle.
        p, q = fraction(z, -z * z)
        size = p * p + q * q
        cosine, sine = (q * q - p * p) / size, 2 * p * q / size
        rotors[k] = complex(cosine * cosine - sine * sine, 2 * cosine * sine)


@compiled()
def least_squares(
    previous, time, frequency, advance, anchor, ratio, inverse, real, output
):
    """The phasors of one frame, from those of the frame before it; all [freq].

    `ratio` and `inverse` are those of the factored ladder, `output` is as in
    `integrate`.
    """
    phasor, solution, rotor, tilt = output
    freq = time.size
    angle = np.empty(freq)
    target = np.empty(freq, dtype=np.complex128)
    row = np.empty(freq, dtype=np.complex128)
    for k in range(freq):
        angle[k] = angle[k - 1] + frequency[k] if k > 0 else 0.0
    _turn(angle, tilt)
    for k in range(freq):
        angle[k] = time[k] + advance[k] - angle[k]
    _turn(angle, rotor)
    for k in range(freq):
        target[k] = np.complex128(previous[k]) * rotor[k]
    _substitute(ratio, inverse, anchor, target, 1.0, row)
    for k in range(freq):
        # Without a branch, several bins go at a time.
        s, own, z = row[k], target[k], tilt[k]
        size = math.sqrt(s.real * s.real + s.imag * s.imag)
        cancelled = size == 0  # all predictions: keep our own
        x = own.real if cancelled else s.real
        y = own.imag if cancelled else s.imag
        share = 1 / (1.0 if cancelled else size)
        solution[k] = complex(x, y)
        x, y = x * share, y * share
        phasor[k] = complex(x * z.real - y * z.imag, x * z.imag + y * z.real)
    for k in real:
        phasor[k] = 1.0 if phasor[k].real >= 0 else -1.0


@compiled()
def integrate(advance, real, time, frequency, anchor, coupling, start, output):
    """The recursion over frames of `integration`, [batch, time, freq].

    `advance` is that of the bins' centres, `real` holds the bins whose
    phasors are 1 or -1. Writes four arrays: the unit phasors and, for the
    adjoint, the solutions before they were normalised, exp(j (tpd - theta))
    and exp(j theta).
    """
    batch, frames, freq = anchor.shape
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    for i in range(batch):
        previous = start[i]
        for t in range(frames):
            j = t % LANES
            if j == 0:
                stop = min(t + LANES, frames)
                factor(anchor[i, t:stop], coupling[i, t:stop], ratio, inverse)
            least_squares(
                previous,
                time[i, t],
                frequency[i, t],
                advance,
                anchor[i, t],
                ratio[j],
                inverse[j],
                real,
                output[:, i, t],
            )
            previous = output[0, i, t]


@compiled()
def least_squares_adjoint(
    total, solution, tilt, ratio, inverse, floor, real, y
):
    """Solve the adjoint system of one frame; see `integration`. All [freq]."""
    freq = total.size
    target = np.empty(freq, dtype=np.complex128)
    for k in range(freq):
        s = np.complex128(solution[k])
        size = math.sqrt(s.real * s.real + s.imag * s.imag)
        if size < floor:
            target[k] = 0
            continue
        z = np.complex128(total[k]) * np.complex128(tilt[k]).conjugate()
        # Only a turn of s moves s / |s|: take the radial part out.
        radial = (z.real * s.real + z.imag * s.imag) / size**2
        target[k] = (z - radial * s) / size
    for k in real:
        target[k] = 0
    _substitute(ratio, inverse, np.ones(freq), target, 0.0, y)


@compiled()
def integrate_adjoint(
    anchor, coupling, rotor, tilt, solution, gradient, floor, real, y
):
    """Solve the adjoint systems, last frame first; see `integration`."""
    batch, time, freq = anchor.shape
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    total = np.empty(freq, dtype=np.complex128)
    row = np.empty(freq, dtype=np.complex128)
    for i in range(batch):
        carry = np.zeros(freq, dtype=np.complex128)
        for t in range(time - 1, -1, -1):
            j = t % LANES
            if j == LANES - 1 or t == time - 1:
                first, stop = t - j, t + 1
                factor(
                    anchor[i, first:stop],
                    coupling[i, first:stop],
                    ratio,
                    inverse,
                )
            for k in range(freq):
                total[k] = gradient[i, t, k] + carry[k]
            least_squares_adjoint(
                total,
                solution[i, t],
                tilt[i, t],
                ratio[j],
                inverse[j],
                floor,
                real,
                row,
            )
            for k in range(freq):
                y[i, t, k] = row[k]
                carry[k] = anchor[i, t, k] * row[k] * rotor[i, t, k].conjugate()

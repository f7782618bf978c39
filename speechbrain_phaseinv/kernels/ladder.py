"""The ladder and the least squares of a frame, compiled.

The definitions are `integration.ladder` and `integration.least_squares`. The
kernel eliminates one bin after the other,

    e[0] = l[0]                        b[0] = l[0] q[0]
    r[k] = g[k] / (e[k-1] + g[k])
    e[k] = l[k] + r[k] e[k-1]          b[k] = l[k] q[k] + r[k] b[k-1]
    s[F-1] = b[F-1] / e[F-1]
    s[k] = (b[k] + g[k+1] s[k+1]) / (e[k] + g[k+1])

without a subtraction. It works in double precision, whatever the arrays hold:
a recursion is bound by the latency of its operations, which is the same.
"""

import math

import numpy as np

from . import compiled

# A product and the sum that it goes into may become one operation, "contract",
# which shortens a chain of them.

# Elimination divides, and each division waits for the last. The ladders of
# different frames do not wait for each other: so many go side by side.
LANES = 8


@compiled(fastmath={"contract"})
def factor(anchor, coupling, ratio, inverse, pivots):
    """Eliminate up to LANES ladders, [lanes, freq]; see the module's docstring.

    Writes the ratio r[k] = g[k] / (e[k-1] + g[k]) and the inverse pivot
    d[k] = 1 / (e[k] + g[k+1]), which is zero where there is none. `pivots`,
    [LANES], is room for the e[k].
    """
    lanes, freq = anchor.shape
    for j in range(lanes):
        pivots[j] = anchor[j, 0]
    for k in range(1, freq):
        for j in range(lanes):
            g = coupling[j, k]
            total = pivots[j] + g
            d = 1 / total if total > 0 else 0.0
            r = g * d
            pivots[j] = anchor[j, k] + r * pivots[j]
            inverse[j, k - 1] = d
            ratio[j, k] = r
    for j in range(lanes):
        e = pivots[j]
        inverse[j, freq - 1] = 1 / e if e > 0 else 0.0


@compiled(fastmath={"contract"})
def substitute(ratio, inverse, source, target, solution):
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
        solution[k] = complex(re * d, im * d)
    # s[k] = (b[k] + g[k+1] s[k+1]) d[k], and g[k+1] d[k] is r[k+1].
    for k in range(freq - 2, -1, -1):
        s, r = solution[k], ratio[k + 1]
        re = s.real + r * solution[k + 1].real
        im = s.imag + r * solution[k + 1].imag
        solution[k] = complex(re, im)


@compiled()
def solve_rows(anchor, coupling, target):
    """Solve independent ladders, [rows, freq]."""
    rows, freq = anchor.shape
    solution = np.empty_like(target)
    ratio = np.zeros((LANES, freq))
    inverse = np.empty((LANES, freq))
    row = np.empty(freq, dtype=np.complex128)
    pivots = np.empty(LANES)
    for start in range(0, rows, LANES):
        stop = min(start + LANES, rows)
        factor(anchor[start:stop], coupling[start:stop], ratio, inverse, pivots)
        for i in range(start, stop):
            j = i - start
            substitute(ratio[j], inverse[j], anchor[i], target[i], row)
            solution[i] = row
    return solution


@compiled(inner=True)
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


@compiled(inner=True)
def exponential(x):
    """exp(x) for -709 < x < 709, as the 512th power of exp(x / 512).

    The error, relative, is 1e-7 in single and at most 1e-11 in double
    precision; as `fraction`, it goes through a processor's vector unit.
    """
    z = np.float64(x) / 1024
    p, q = fraction(z, z * z)
    power = (q + p) / (q - p)
    for _ in range(9):
        power *= power
    return power


@compiled(inner=True, fastmath={"contract"})
def logarithm(x):
    """log(x) of a positive normal number, exact to 4e-16.

    With x = 2^e z and z in [2/3, 4/3), log z = 2 artanh s for
    s = (z - 1) / (z + 1), at most 1/5 in size. As `fraction`, it goes through
    a processor's vector unit.
    """
    bits = np.float64(x).view(np.int64)
    exponent = (bits - 0x3FE5555555555555) >> 52  # 2/3, as bits
    z = np.int64(bits - (exponent << 52)).view(np.float64)
    s = (z - 1) / (z + 1)
    square = s * s
    series = 0.0
    for n in (23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3):
        series = 2 / n + square * series
    return exponent * math.log(2) + (2 * s + s * square * series)


@compiled(inner=True)
def phase_weights(here, past, time, frequency, scale, anchor, coupling):
    """`integration.least_squares.phase_weights` of a frame; all [freq].

    `time` and `frequency` are the confidences; `scale` holds the power and
    the lowest logarithm.
    """
    number = type(here[0])
    power, lowest = number(scale[0]), number(scale[1])
    own, peak = number(scale[0] + 2), number(-np.inf)
    for k in range(here.size):
        below = here[k - 1 if k > 0 else 0]
        anchor[k] = own * here[k] + power * past[k] + time[k]
        coupling[k] = own * here[k] + power * below + frequency[k]
        peak = anchor[k] if anchor[k] > peak else peak
        peak = coupling[k] if coupling[k] > peak else peak
    for row in (anchor, coupling):
        for k in range(here.size):
            log = row[k] - peak
            row[k] = exponential(log if log > lowest else lowest)


@compiled(inner=True)
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


@compiled(inner=True)
def least_squares(
    previous,
    time,
    frequency,
    advance,
    anchor,
    ratio,
    inverse,
    real,
    spare,
    output,
):
    """The phasors of one frame, from those of the frame before it; all [freq].

    `ratio` and `inverse` are those of the factored ladder. Writes four rows
    to `output`: the unit phasors and, for the gradient, the solutions before
    they were normalised, exp(j (tpd - theta)) and exp(j theta). `spare` is
    room for angles, [freq], and for two rows of complex numbers.
    """
    # One by one: unpacked, they would not count as contiguous.
    phasor, solution, rotor, tilt = output[0], output[1], output[2], output[3]
    freq = time.size
    angle, target, row = spare[0], spare[1][0], spare[1][1]
    for k in range(freq):
        angle[k] = angle[k - 1] + frequency[k] if k > 0 else 0.0
    _turn(angle, tilt)
    for k in range(freq):
        angle[k] = time[k] + advance[k] - angle[k]
    _turn(angle, rotor)
    for k in range(freq):
        target[k] = np.complex128(previous[k]) * rotor[k]
    substitute(ratio, inverse, anchor, target, row)
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


@compiled(inner=True)
def least_squares_adjoint(
    total, solution, tilt, ratio, inverse, floor, real, y
):
    """Solve the adjoint system of one frame; all [freq]."""
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
    substitute(ratio, inverse, np.ones(freq), target, y)

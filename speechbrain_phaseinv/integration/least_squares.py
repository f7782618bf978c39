"""From phase derivatives to phases: weighted least squares, frame by frame.

Given the phasors of the previous frame, its own derivatives and the
magnitudes, a frame's phase minimises, over complex z[k] (Masuyama et al. 2023;
arXiv 2505.24498, where the system is found to be tridiagonal),

    sum_k L[k] |z[k] - a[k] p[k] exp(j tpd[k])|^2
      + sum_{k>=1} G[k] |z[k] - (a[k] / a[k-1]) exp(j fpd[k]) z[k-1]|^2

with p the previous phasor, tpd the phase advance over time, fpd that over
frequency. Put theta[k] = fpd[1] + ... + fpd[k] and
z[k] = a[k] exp(j theta[k]) s[k]: what is left is to smooth

    q[k] = p[k] exp(j (tpd[k] - theta[k]))

on a path graph with the real weights l = L a^2 and g = G a^2, the problem of
`tridiagonal`. The new phasor is s / |s| turned back by theta.

The signal is real, and so is its STFT at DC and at Nyquist: there the phasor
becomes 1 or -1, whichever is nearer. Recordings with rumble or an offset have
much of their energy there, and the inverse transform would drop what lies in
the imaginary part.
"""

import math
from functools import lru_cache

import numpy as np
import torch

from ..estimation.derivatives import expected_advance
from . import ladder as tridiagonal

# Log-magnitudes stop here, at 1e-30. Far below any recording at any scale,
# and far enough above the smallest float32 that its reciprocal is one too.
LOG_FLOOR = -69.0

# Of the logarithms of weights: the smallest is still a normal number.
LOWEST = {
    dtype: math.log(torch.finfo(dtype).tiny) + 7
    for dtype in (torch.float32, torch.float64)
}

# Where the predictions of a bin cancel each other to less than this, its phase
# turns at the slightest change. No gradient is taken through it: training
# would follow that bin alone.
CANCELLED = 1e-3


def log_magnitude(magnitude):
    """Natural logarithm, finite at zero, with a gradient that is finite too.

    Arguments
    ---------
    magnitude : torch.Tensor, any shape
        Non-negative magnitudes, in single or double precision.

    Returns
    -------
    log_magnitude : torch.Tensor
        At least `LOG_FLOOR`.

    Example
    -------
    >>> log_magnitude(torch.tensor([0.0, 1.0]))
    tensor([-69.,   0.])
    """
    return magnitude.clamp_min(math.exp(LOG_FLOOR)).log()


def phase_weights(log_mag, log_mag_before, derivatives, power=1.0):
    """Weights of the least-squares step, from magnitudes and confidences.

    As Masuyama et al., L = (a[t] a[t-1])^p and G = (a[k] a[k-1])^p, which
    makes l = L a^2 and g = G a^2; a confidence scales each. Only ratios
    within a frame count, so the largest weight of a frame is made 1, in the
    logarithmic domain where nothing overflows; the smallest is kept above
    zero, so that every bin has an anchor.

    Arguments
    ---------
    log_mag : torch.Tensor, [batch, time, freq]
        Natural logarithm of the magnitudes.
    log_mag_before : torch.Tensor, [batch, time, freq]
        That of the frames before.
    derivatives : PhaseDerivatives
        Its confidences are added, where it has any.
    power : float
        The exponent p.

    Returns
    -------
    anchor, coupling : torch.Tensor, [batch, time, freq]
        The weights l and g of `tridiagonal.solve_ladder`.
    """
    lowest = LOWEST[log_mag.dtype]
    given = [x for x in derivatives[2:4] if x is not None]
    given = [log_mag, log_mag_before, *given]
    plain = all(x.dim() == 3 and x.shape == log_mag.shape for x in given)
    if plain and tridiagonal.compiled_serves(*given):
        from ..kernels import ladder as _kernels

        weights = log_mag.new_empty(2, *log_mag.shape)
        zeros = None if len(given) == 4 else torch.zeros_like(log_mag)
        trust = [zeros if x is None else x for x in derivatives[2:4]]
        inputs = to_arrays(log_mag, log_mag_before, *trust)
        _kernels.phase_weights(*inputs, power, lowest, weights.numpy())
        return weights.unbind(0)
    below = torch.cat([log_mag[..., :1], log_mag[..., :-1]], dim=-1)
    own = (power + 2) * log_mag
    time = torch.add(own, log_mag_before, alpha=power)
    frequency = torch.add(own, below, alpha=power)
    if derivatives.time_confidence is not None:
        time = time + derivatives.time_confidence
    if derivatives.frequency_confidence is not None:
        frequency = frequency + derivatives.frequency_confidence
    weights = torch.stack([time, frequency])
    peak = weights.detach().amax((0, -1), keepdim=True)
    return (weights - peak).clamp_min(lowest).exp().unbind(0)


def integrate(
    derivatives, anchor, coupling, config, phasor=None, backend="auto"
):
    """Integrate phase derivatives over any number of frames.

    Differentiable once, with respect to derivatives, weights and `phasor`.

    Arguments
    ---------
    derivatives : PhaseDerivatives
        Derivatives of the frames, [batch, time, freq].
    anchor, coupling : torch.Tensor, [batch, time, freq]
        Weights, as from `phase_weights`.
    config : StftConfig
        The transform.
    phasor : torch.Tensor, [batch, freq], complex, optional
        Unit phasors of the frame before, centre-referred, such as
        ``previous_result[:, -1]``. Default: ones, the start of a stream.
    backend : str
        As in `tridiagonal.solve_ladder`.

    Returns
    -------
    phasors : torch.Tensor, [batch, time, freq], complex
        ``exp(1j * phase)``, centre-referred. A range of frames integrated
        in several calls gives the same numbers as in one.

    Example
    -------
    >>> from speechbrain_phaseinv.estimation.derivatives import (
    ...     phase_derivatives,
    ... )
    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> stft = analysis(torch.randn(1, 4000, dtype=torch.double), config)
    >>> ones = torch.ones(stft.shape, dtype=torch.double)
    >>> found = integrate(phase_derivatives(stft, config), ones, ones, config)
    >>> true = stft / stft.abs() * config.centre_phasor(stft.dtype)
    >>> (found - true).abs().max() < 1e-9
    tensor(True)
    """
    time, frequency = derivatives.time, derivatives.frequency
    if time.numel() == 0:
        return time.to(time.dtype.to_complex())
    if phasor is None:
        phasor = torch.ones_like(time[:, 0], dtype=time.dtype.to_complex())
    shape = (*time.shape[:2], config.num_bins)
    if not (
        time.shape == frequency.shape == anchor.shape == coupling.shape == shape
        and phasor.shape == (shape[0], shape[2])
    ):
        raise ValueError(
            f"expected derivatives and weights [batch, time, {shape[2]}] and "
            f"phasors [batch, {shape[2]}], got {list(time.shape)}, "
            f"{list(frequency.shape)}, {list(anchor.shape)}, "
            f"{list(coupling.shape)} and {list(phasor.shape)}."
        )
    inputs = time, frequency, anchor, coupling, phasor, config
    backend = tridiagonal.resolve(backend, time)
    if torch.is_grad_enabled():
        return _Integrate.apply(*inputs, backend)
    return _run(*inputs, backend)[0]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def real_bins(config):
    """Made once: a stream asks for it at every frame."""
    return torch.tensor(config.real_bins)


class _Integrate(torch.autograd.Function):
    """The recursion over frames, and its adjoint, last frame first.

    With u = s / |s| and z = u tilt, a cotangent Z of z[t] becomes
    S = (Z' - u Re(conj(u) Z')) / |s| with Z' = conj(tilt) Z, then y from
    A y = S, then l y, the cotangent of q; and q[t] = z[t-1] rotor[t] hands
    conj(rotor[t]) l y on to the frame before. Once all y are known the
    rest is `tridiagonal`'s adjoint, for all frames at once; and where a
    cotangent Q meets q, the angle of q gets Im(Q conj(q)). A phasor that was
    made real has no slope.
    """

    @staticmethod
    def forward(ctx, time, frequency, anchor, coupling, start, config, backend):
        inputs = time, frequency, anchor, coupling, start
        phasor, *others = _run(*inputs, config, backend)
        ctx.save_for_backward(anchor, coupling, start, phasor, *others)
        ctx.backend = backend
        ctx.real = real_bins(config)
        return phasor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        anchor, coupling, start, phasor, s, rotor, tilt = ctx.saved_tensors
        run = _adjoint_numba if ctx.backend == "numba" else _adjoint_torch
        y = run(anchor, coupling, rotor, tilt, s, gradient, ctx.real)
        target = torch.cat([start.unsqueeze(1), phasor[:, :-1]], dim=1) * rotor
        handed = (anchor * y).to(rotor.dtype) * rotor.conj()
        total = gradient.clone()
        total[:, :-1] += handed[:, 1:]
        given = input_gradients(anchor, target, s, phasor, y, total, ctx.real)
        return *given, handed[:, 0], None, None


def input_gradients(anchor, target, s, phasor, y, total, real):
    """Cotangents of derivatives and weights from those of the phasors.

    Arguments
    ---------
    anchor : torch.Tensor, [..., freq]
        The weights l.
    target, s, phasor, y, total : torch.Tensor, [..., freq], complex
        q, s, z and y of `_Integrate`, and Z with all that was handed on.
    real : torch.Tensor, int
        The bins whose phasors were made real.

    Returns
    -------
    time, frequency, anchor, coupling : torch.Tensor, [..., freq]
    """
    # y is of double precision: it is as large as the weights are small.
    weighted = (anchor * y).to(target.dtype)
    limit = torch.finfo(anchor.dtype).max / 10
    d_anchor = (y.conj() * (target - s)).real
    d_anchor = d_anchor.clamp(-limit, limit).to(anchor.dtype)
    d_coupling = torch.zeros_like(anchor)
    d_steps = -(y.diff().conj() * s.diff()).real
    d_coupling[..., 1:] = d_steps.clamp(-limit, limit)
    d_time = (weighted * target.conj()).imag
    d_tilt = (total * phasor.conj()).imag
    d_tilt[..., real] = 0
    # theta[k] holds all fpd up to k.
    d_theta = (d_tilt - d_time)[..., 1:].flip(-1)
    d_theta = d_theta.cumsum(-1, dtype=torch.float64).flip(-1)
    d_frequency = torch.zeros_like(d_time)
    d_frequency[..., 1:] = d_theta
    return d_time, d_frequency, d_anchor, d_coupling


def _run(time, frequency, anchor, coupling, start, config, backend):
    """Phasors; s, and what turns to the target and back, for the adjoint."""
    advance = expected_advance(config, torch.float64, time.device)
    run = _run_numba if backend == "numba" else _run_torch
    inputs = time, frequency, anchor, coupling, start
    return run(advance, real_bins(config), *inputs)


def _run_numba(*inputs):
    from ..kernels import ladder as _kernels

    *_, anchor, _, start = inputs
    output = torch.empty(4, *anchor.shape, dtype=start.dtype)
    _kernels.integrate(*to_arrays(*inputs), output.numpy())
    return output.to(start.device)


def _adjoint_numba(anchor, coupling, rotor, tilt, solution, gradient, real):
    from ..kernels import ladder as _kernels

    y = torch.empty(rotor.shape, dtype=torch.complex128)
    inputs = to_arrays(anchor, coupling, rotor, tilt, solution, gradient)
    _kernels.integrate_adjoint(*inputs, CANCELLED, real.numpy(), y.numpy())
    return y.to(rotor.device)


def to_arrays(*tensors):
    """C-contiguous arrays, so that the kernels are compiled only once."""
    return [np.ascontiguousarray(x.numpy(force=True)) for x in tensors]


def _run_torch(advance, real, time, frequency, anchor, coupling, start):
    # In doubles: a sum of hundreds of angles loses too much in floats.
    theta = frequency[..., 1:].cumsum(-1, dtype=torch.float64)
    theta = torch.nn.functional.pad(theta, (1, 0))
    angle = torch.stack([time + advance - theta, theta])
    rotors = torch.complex(angle.cos(), angle.sin())
    rotor, tilt = rotors.to(start.dtype)
    inverse, ratio = tridiagonal.factor(anchor, coupling)
    phasors, solutions = [], []
    for t in range(rotor.shape[1]):
        target = start * rotor[:, t]
        s = tridiagonal.substitute(
            inverse[:, t], ratio[:, t], anchor[:, t], target
        )
        s = torch.where(s == 0, target, s)
        start = s / s.abs() * tilt[:, t]
        sign = torch.where(start[:, real].real >= 0, 1.0, -1.0)
        start[:, real] = sign.to(start.dtype)
        phasors.append(start)
        solutions.append(s)
    stacked = torch.stack(phasors, dim=1), torch.stack(solutions, dim=1)
    return *stacked, rotor, tilt


def _adjoint_torch(anchor, coupling, rotor, tilt, solution, gradient, real):
    inverse, ratio = tridiagonal.factor(anchor, coupling)
    ones = torch.ones_like(anchor[:, 0], dtype=torch.float64)
    ys, carry = [], 0
    for t in reversed(range(rotor.shape[1])):
        size = solution[:, t].abs().double()
        u = solution[:, t] / size
        z = (gradient[:, t] + carry) * tilt[:, t].conj()
        # Only a turn of s moves s / |s|: take the radial part out.
        z = (z - u * (u.conj() * z).real) / size
        z = torch.where(size < CANCELLED, 0, z)
        z[:, real] = 0
        y = tridiagonal.substitute(inverse[:, t], ratio[:, t], ones, z, 0.0)
        carry = anchor[:, t] * y * rotor[:, t].conj()
        ys.append(y)
    return torch.stack(ys[::-1], dim=1)

"""From phase derivatives to one frame's phase: weighted least squares.

Given the phasors of the previous frame, its own derivatives and the
magnitudes, a frame's phase minimises, over complex z[k] (Masuyama et al. 2023;
arXiv 2505.24498, where the system is found to be tridiagonal),

    sum_k L[k] |z[k] - a[k] p[k] exp(j tpd[k])|^2               (data term)
      + sum_{k>=1} G[k] |z[k] - (a[k] / a[k-1]) exp(j fpd[k]) z[k-1]|^2
                                                          (smoothness term)

with p the previous phasor, tpd the phase advance over time, fpd that over
frequency. Put theta[k] = fpd[1] + ... + fpd[k] and
z[k] = a[k] exp(j theta[k]) s[k]: what is left is to smooth

    q[k] = p[k] exp(j (tpd[k] - theta[k]))

on a path graph with the real weights l = L a^2 and g = G a^2, the problem of
`ladder`. The new phasor is s / |s| turned back by theta.

The signal is real, and so is its STFT at DC and at Nyquist: there the phasor
becomes 1 or -1, whichever is nearer. Recordings with rumble or an offset have
much of their energy there, and the inverse transform would drop what lies in
the imaginary part.
"""

import math

import torch

from ..estimation.derivatives import expected_advance
from ..windows import constant
from .ladder import eliminate
from .phasors import from_angle, modulus, multiply, nearest_real

# Of the logarithms of weights: the smallest is still a normal number.
LOWEST = {
    dtype: math.log(torch.finfo(dtype).tiny) + 7
    for dtype in (torch.float32, torch.float64)
}

# Where the predictions of a bin cancel each other to less than this, its phase
# turns at the slightest change. No gradient is taken through it: training
# would follow that bin alone.
CANCELLED = 1e-3


def phase_weights(log_mag, before, time_confidence, confidence, power=1.0):
    """Weights of the data term and of the smoothness term.

    As Masuyama et al., L = (a[t] a[t-1])^p and G = (a[k] a[k-1])^p, which
    makes l = L a^2 and g = G a^2; a confidence scales each. Only ratios
    within a frame count, so the largest weight of a frame is made 1, in the
    logarithmic domain where nothing overflows; the smallest is kept above
    zero, so that every bin has an anchor.

    Arguments
    ---------
    log_mag, before : torch.Tensor, [..., freq]
        Natural logarithm of the magnitudes, and that of the frames before.
    time_confidence, confidence : torch.Tensor, [..., freq]
        Logarithms of factors on the data term and on the smoothness term.
    power : float
        The exponent p.

    Returns
    -------
    anchor, coupling : torch.Tensor, [..., freq]
        The weights l and g of `ladder.solve_ladder`.
    """
    weights = torch.stack(
        log_weights(log_mag, before, time_confidence, confidence, power)
    )
    peak = weights.detach().amax((0, -1), keepdim=True)
    return (weights - peak).clamp_min(LOWEST[log_mag.dtype]).exp().unbind(0)


def log_weights(log_mag, before, time_confidence, confidence, power=1.0):
    """Logarithms of the two weights, up to a constant of the frame."""
    below = torch.cat([log_mag[..., :1], log_mag[..., :-1]], dim=-1)
    own = (power + 2) * log_mag
    return (
        own + power * before + time_confidence,
        own + power * below + confidence,
    )


def rotors(time, frequency, config):
    """What turns a frame's predecessor to its target, and the target back.

    Arguments
    ---------
    time, frequency : torch.Tensor, [..., freq]
        Phase derivatives.
    config : StftConfig
        The transform.

    Returns
    -------
    rotor, tilt : torch.Tensor, [..., freq, 2]
        exp(j (tpd - theta)) and exp(j theta).
    """
    # In doubles: a sum of hundreds of angles loses too much in floats.
    theta = frequency[..., 1:].double().cumsum(-1)
    theta = torch.nn.functional.pad(theta, (1, 0))
    advance = expected_advance(config, torch.float64, time.device)
    both = torch.stack([time.double() + advance - theta, theta])
    turns = (both / (2 * math.pi)).detach().round()
    angle = (both - 2 * math.pi * turns).to(time.dtype)
    return from_angle(angle).unbind(0)


def next_phasors(previous, rotor, tilt, anchor, coupling, config):
    """The phasors of one frame from those of the frame before it.

    Arguments
    ---------
    previous, rotor, tilt : torch.Tensor, [..., freq, 2]
        The frame before, and what `rotors` returns.
    anchor, coupling : torch.Tensor, [..., freq]
        What `phase_weights` returns.
    config : StftConfig
        The transform.

    Returns
    -------
    phasors : torch.Tensor, [..., freq, 2]
        Of modulus 1.
    """
    target = multiply(previous, rotor)
    s = eliminate(anchor, coupling, target)
    size = modulus(s)
    s = torch.where(size < CANCELLED, s.detach(), s)
    # All predictions cancel: the bin keeps its own.
    s = torch.where(size == 0, target, s)
    z = multiply(s / modulus(s), tilt)
    return torch.where(real_mask(config, z.device), nearest_real(z), z)


@constant
def _real_mask(config, device):
    """See `real_mask`."""
    mask = torch.zeros(config.num_bins, 1, dtype=torch.bool)
    mask[list(config.real_bins)] = True
    return mask.to(device)


def real_mask(config, device="cpu"):
    """Where the STFT of a real signal is real, [freq, 1], bool."""
    return _real_mask(config, str(device))


def integrate(derivatives, anchor, coupling, config, phasor=None):
    """Integrate phase derivatives over any number of frames.

    Differentiable.

    Arguments
    ---------
    derivatives : PhaseDerivatives
        Derivatives of the frames, [batch, time, freq].
    anchor, coupling : torch.Tensor, [batch, time, freq]
        Weights, as from `phase_weights`.
    config : StftConfig
        The transform.
    phasor : torch.Tensor, [batch, freq], complex, optional
        Unit phasors of the frame before, centre-referred. Default: ones.

    Returns
    -------
    phasors : torch.Tensor, [batch, time, freq], complex
        ``exp(1j * phase)``, centre-referred.

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
    turns = zip(*(x.unbind(1) for x in rotors(time, frequency, config)))
    weights = zip(anchor.unbind(1), coupling.unbind(1))
    frames, last = [], torch.view_as_real(phasor.resolve_conj())
    for turn, weight in zip(turns, weights):
        last = next_phasors(last, *turn, *weight, config)
        frames.append(last)
    return torch.view_as_complex(torch.stack(frames, dim=1))

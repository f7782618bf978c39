"""From an estimator's answers to phases: pass by pass, through the frames.

Each pass integrates the derivatives of its open frames, refines them together
and commits the first or all of them; the next one goes on from those. Compiled
for use, with the gradient of the same in PyTorch.
"""

from typing import NamedTuple

import numpy as np
import torch

from . import tridiagonal
from .derivatives import PhaseDerivatives, expected_advance
from .integration import (
    CANCELLED,
    integrate,
    phase_weights,
    real_bins,
    to_arrays,
)
from .refinement import INAUDIBLE, counts, overlap_scale, refine


class Passes(NamedTuple):
    """What is known of frames, by passes; [batch, passes, open, freq] each.

    Attributes
    ----------
    time, frequency : torch.Tensor
        Phase derivatives, see `PhaseDerivatives`.
    anchor, coupling : torch.Tensor
        Weights, as from `phase_weights`.
    magnitude : torch.Tensor
    """

    time: torch.Tensor
    frequency: torch.Tensor
    anchor: torch.Tensor
    coupling: torch.Tensor
    magnitude: torch.Tensor


def by_passes(frames, ahead, stride):
    """Arrange values of frames by passes: [batch, passes, open, freq].

    Arguments
    ---------
    frames : torch.Tensor, [batch, time, freq]
        Of the frames that are committed.
    ahead : torch.Tensor, [batch, time, freq], or None
        Of the frame after each, where that is open too.
    stride : int
        Frames a pass, where none is ahead.

    Example
    -------
    >>> by_passes(torch.zeros(1, 6, 257), None, stride=2).shape
    torch.Size([1, 3, 2, 257])
    """
    if ahead is not None:
        return torch.stack([frames, ahead], dim=2)
    return frames.unflatten(1, (-1, stride))


def arrange(derivatives, magnitude, log_mag, power=1.0, stride=1):
    """The passes that lead through the frames of an estimator's answer.

    Arguments
    ---------
    derivatives : PhaseDerivatives
        Derivatives of the frames, [batch, time, freq]. The frames `ahead`, if
        it says something of them, are open too.
    magnitude, log_mag : torch.Tensor, [batch, 1 + time or more, freq]
        Magnitudes, and their logarithms, of the frame before, of the frames,
        and of the one after if there are derivatives `ahead`.
    power : float
        As for `phase_weights`.
    stride : int
        Frames a pass, open together; 2 for a paired network.

    Returns
    -------
    passes : Passes
    """
    time = derivatives.time.shape[1]

    def known(found, first):
        here = log_mag[:, first : first + time]
        before = log_mag[:, first - 1 : first - 1 + time]
        weights = phase_weights(here, before, found, power)
        size = magnitude[:, first : first + time]
        return found.time, found.frequency, *weights, size

    frames = known(derivatives, 1)
    ahead = [None] * len(frames)
    if derivatives.ahead is not None:
        ahead = known(derivatives.ahead, 2)
    return Passes(*(by_passes(*x, stride) for x in zip(frames, ahead)))


def run(
    passes,
    config,
    n_iter,
    stride=1,
    phasor=None,
    overlap=None,
    backend="auto",
    drawn=None,
):
    """Integrate the derivatives of each pass, and refine it before the next.

    Differentiable once.

    Arguments
    ---------
    passes : Passes
        From `arrange`.
    config : StftConfig
        The transform.
    n_iter : int
        Iterations a pass.
    stride : int
        How many of a pass's open frames are committed.
    phasor : torch.Tensor, [batch, freq], complex, optional
        Unit phasors of the frame before, as for `integrate`.
    overlap : torch.Tensor, [batch, win_length - hop_length], optional
        Overlap-add of the frames before, as the last call returned it; none
        at the start of a stream.
    backend : str
        As in `tridiagonal.solve_ladder`.
    drawn : tuple of torch.Tensor, [batch, passes, open, freq], optional
        Complex targets, and a share in [0, 1]: before its least squares, a
        frame's predecessor is drawn by so much towards the target.

    Returns
    -------
    phasors : torch.Tensor, [batch, passes * stride, freq], complex
        ``exp(1j * phase)``, centre-referred.
    overlap : torch.Tensor, [batch, win_length - hop_length]
        For the next call; with no iterations, and nothing drawn, what it was.
    """
    magnitude = passes.magnitude
    if phasor is None:
        phasor = magnitude.new_ones(
            magnitude.shape[0],
            magnitude.shape[3],
            dtype=magnitude.dtype.to_complex(),
        )
    if overlap is None:
        overlap = magnitude.new_zeros(len(magnitude), config.synthesis_latency)
    if n_iter == 0 and drawn is None:  # whose gradient is compiled, too
        given = [x[:, :, :stride].flatten(1, 2) for x in passes[:4]]
        derivatives, weights = PhaseDerivatives(*given[:2]), given[2:]
        found = integrate(derivatives, *weights, config, phasor, backend)
        return found, overlap
    if drawn is None:
        drawn = phasor.new_empty(0, 0, 0, 0), magnitude.new_empty(0, 0, 0, 0)
    given = *passes, phasor, overlap, *drawn
    backend = tridiagonal.resolve(backend, phasor)
    return _Recursion.apply(*given, config, n_iter, stride, backend)


class _Recursion(torch.autograd.Function):
    """What is compiled, with the gradient of what is not."""

    @staticmethod
    def forward(ctx, *inputs):
        *tensors, config, n_iter, stride, backend = inputs
        ctx.save_for_backward(*tensors)
        ctx.settings = config, n_iter, stride, backend
        return (_run_numba if backend == "numba" else _run_torch)(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        wanted = ctx.needs_input_grad[: len(ctx.saved_tensors)]
        tensors = [
            x.detach().requires_grad_(needed)
            for x, needed in zip(ctx.saved_tensors, wanted)
        ]
        with torch.enable_grad():
            outputs = _run_torch(*tensors, *ctx.settings)
        leaves = [x for x in tensors if x.requires_grad]
        found = iter(torch.autograd.grad(outputs, leaves, gradients))
        found = [next(found) if needed else None for needed in wanted]
        return *found, *[None] * len(ctx.settings)


def _run_numba(*inputs):
    from . import _recursion

    *tensors, config, n_iter, stride, _ = inputs
    *passes, phasor, overlap, target, share = tensors
    batch, count, open_frames, freq = passes[0].shape
    dtype, hop = overlap.dtype, config.hop_length
    window = config.window_tensor(dtype).numpy()
    frame = window, config.window_offset, hop, config.n_fft
    scale = overlap_scale(config, open_frames, stride, dtype)
    missing = config.win_length + hop - len(scale)
    scale = torch.nn.functional.pad(scale, (0, missing))
    shares = *counts(open_frames, stride), 0.0
    heard = overlap.detach().cpu().clone()
    done = torch.empty(batch, count * stride, freq, dtype=phasor.dtype)
    _recursion.run(
        expected_advance(config, torch.float64).numpy(),
        real_bins(config).numpy(),
        *to_arrays(*passes, phasor, target, share),
        heard.numpy(),
        config.start_phasor(torch.complex128).numpy(),
        frame,
        scale.numpy(),
        np.array(shares[:2]),
        n_iter,
        (CANCELLED, INAUDIBLE),
        done.numpy(),
    )
    return done.to(phasor.device), heard.to(overlap.device)


def _run_torch(*inputs):
    *tensors, config, n_iter, stride, backend = inputs
    *passes, phasor, overlap, target, share = tensors
    done = [phasor.new_zeros(len(phasor), 0, config.num_bins)]
    for p in range(passes[0].shape[1]):
        *given, magnitude = (x[:, p] for x in passes)
        found = []
        for j in range(magnitude.shape[1]):
            if share.numel():
                drawn = target[:, p, j] - phasor
                phasor = phasor + share[:, p, j] * drawn
            time, frequency, *weights = (x[:, j : j + 1] for x in given)
            derivatives = PhaseDerivatives(time, frequency)
            found.append(
                integrate(derivatives, *weights, config, phasor, backend)
            )
            phasor = found[-1][:, 0]
        found, overlap = refine(
            torch.cat(found, dim=1), magnitude, config, overlap, n_iter, stride
        )
        phasor = found[:, -1]
        done.append(found)
    return torch.cat(done, dim=1), overlap

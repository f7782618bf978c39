"""From an estimator's answers to phases: pass by pass, through the frames.

Each pass integrates the derivatives of its open frames, refines them together
and commits the first or all of them; the next one goes on from those. Compiled
for use, with the gradient of the same in PyTorch.
"""

from functools import lru_cache

import numpy as np
import torch

from ..estimation.derivatives import PhaseDerivatives, expected_advance
from . import ladder as tridiagonal
from .least_squares import (
    CANCELLED,
    input_gradients,
    integrate,
    real_bins,
    to_arrays,
)
from .offset import ABOVE, TOLERANCE, is_offset, main_lobe
from .passes import Passes
from .refinement import (
    INAUDIBLE,
    REOPENED,
    Heard,
    counts,
    overlap_scale,
    refine,
    silence,
)


def run(
    passes,
    config,
    n_iter,
    stride=1,
    delay=0,
    heard=None,
    backend="auto",
    drawn=None,
):
    """Integrate the derivatives of each pass, and refine it before the next.

    Differentiable once.

    Arguments
    ---------
    passes : Passes
        From `passes.arrange`.
    config : StftConfig
        The transform.
    n_iter : int
        Iterations a pass.
    stride : int
        Hops that a pass emits.
    delay : int
        0, or 1: the newest frame of a pass only looks ahead.
    heard : Heard, optional
        What the last call returned; None at the start of a stream.
    backend : str
        As in `tridiagonal.solve_ladder`.
    drawn : tuple of torch.Tensor, [batch, passes, answers, freq], optional
        Complex targets, and a share in [0, 1]: before its least squares, a
        frame's predecessor is drawn by so much towards the target.

    Returns
    -------
    phasors : torch.Tensor, [batch, passes * stride, freq], complex
        ``exp(1j * phase)``, centre-referred, of the frames as they are
        emitted.
    frames : torch.Tensor, [batch, passes * stride, win_length]
        What their hops add to the signal, for `stft.overlap_add_step`.
    heard : Heard
        For the next call.
    """
    magnitude = passes.magnitude
    if heard is None:
        heard = silence(magnitude[:, :1, 0].sum(1), config)
    backend = tridiagonal.resolve(backend, magnitude)
    if n_iter == 0 and delay:
        # What only looks ahead has no say.
        passes = Passes(*(x[:, :, :-delay] for x in passes))
        drawn = drawn and tuple(x[:, :, :-delay] for x in drawn)
        delay = 0
    if drawn is None:
        nothing = magnitude.new_empty(0, 0, 0, 0)
        drawn = nothing.to(magnitude.dtype.to_complex()), nothing
    settings = config, n_iter, stride, delay, backend
    found = _Recursion.apply(*passes, *heard, *drawn, *settings)
    return *found[:2], Heard(*found[2:])


class _Recursion(torch.autograd.Function):
    """What is compiled, and its gradient; or else that of `_run_torch`."""

    @staticmethod
    def forward(ctx, *inputs):
        *tensors, config, n_iter, stride, delay, backend = inputs
        ctx.settings = config, n_iter, stride, delay, backend
        if backend == "numba":
            wanted = any(ctx.needs_input_grad)
            found, record = _run_numba(*inputs, recorded=wanted)
            ctx.save_for_backward(*tensors, *record)
            return found
        ctx.save_for_backward(*tensors)
        return _run_torch(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        run = _adjoint_numba if ctx.settings[-1] == "numba" else _adjoint_torch
        saved = ctx.saved_tensors
        found = run(saved, ctx.settings, ctx.needs_input_grad, gradients)
        return *found, *[None] * len(ctx.settings)


def _run_numba(*inputs, recorded=False):
    """As `_run_torch`, and the record that the adjoint asks for."""
    from ..kernels import frame as _recursion

    *tensors, config, n_iter, stride, delay, _ = inputs
    passes, target, share = tensors[:5], *tensors[-2:]
    magnitude, *heard = tensors[5:-2]
    batch, count, answers, freq = passes[0].shape
    dtype, new = magnitude.dtype, stride + delay
    own = torch.contiguous_format
    heard = [x.detach().cpu().clone(memory_format=own) for x in heard]
    kind = heard[0].dtype
    done = torch.empty(batch, count * stride, freq, dtype=kind)
    added = torch.empty(batch, count * stride, config.win_length, dtype=dtype)
    record = (
        torch.empty(0, 0, 5, freq, dtype=torch.complex128),
        torch.empty(1, 1, 0, 2, freq, dtype=kind),
        torch.empty(1, 1, 0, 2, freq, dtype=dtype),
    )
    if recorded:
        iterations = batch, count, n_iter, 2, freq
        record = (
            record[0].new_empty(batch, count * answers, 5, freq),
            record[1].new_empty(iterations),
            record[2].new_empty(iterations),
        )
    advance, real, lobe, *transform = _constants(config, new, stride, dtype)
    _recursion.run(
        advance,
        real,
        *to_arrays(*passes, target, share, magnitude),
        tuple(x.numpy() for x in heard),
        *transform,
        n_iter,
        (CANCELLED, INAUDIBLE),
        (lobe, ABOVE, TOLERANCE),
        (stride, new),
        tuple(x.numpy() for x in record),
        done.numpy(),
        added.numpy(),
    )
    emitted = passes[4][:, :, answers - new : answers - delay].flatten(1, 2)
    magnitude = torch.cat([magnitude, emitted], dim=1)[:, -REOPENED:]
    device = magnitude.device
    done, added, *heard = (x.to(device) for x in (done, added, *heard))
    return (done, added, magnitude, *heard), record


@lru_cache(maxsize=64)
def _constants(config, new, emitted, dtype):
    """What the kernels have to know of the transform, as arrays.

    Made once: a stream asks for it at every frame.
    """
    bins = (
        expected_advance(config, torch.float64),
        real_bins(config),
        main_lobe(config),
    )
    frame = (
        config.window_tensor(dtype).numpy(),
        config.window_offset,
        config.hop_length,
        config.n_fft,
    )
    scale = overlap_scale(config, new, emitted, dtype).numpy()
    to_start = config.start_phasor(torch.complex128).numpy()
    bins = [x.numpy() for x in bins]
    return *bins, to_start, frame, scale, np.array(counts(new, emitted))


def _adjoint_numba(saved, settings, wanted, gradients):
    """Gradients of the inputs, those that are not wanted too."""
    from ..kernels import adjoint as _recursion_adjoint

    *tensors, steps, turns, slopes = saved
    config, _, stride, delay, _ = settings
    time, _, anchor, coupling, size, before, *_, target, share = tensors
    new, device = stride + delay, size.device
    d_output, d_added, *d_heard = gradients
    own = torch.contiguous_format
    d_heard = [x.cpu().clone(memory_format=own) for x in d_heard]
    d_drawn = [torch.zeros_like(x, device="cpu") for x in (target, share)]
    d_size = torch.zeros(size.shape, dtype=size.dtype)
    total, y = steps.new_empty(2, *steps[:, :, 0].shape)
    _, real, lobe, *transform = _constants(config, new, stride, size.dtype)
    _recursion_adjoint.run(
        *to_arrays(anchor, coupling, size, target, share, before),
        *transform,
        CANCELLED,
        (lobe, ABOVE, TOLERANCE),
        real,
        (stride, new),
        tuple(x.numpy() for x in (steps, turns, slopes)),
        *to_arrays(d_output, d_added),
        tuple(x.numpy() for x in d_heard),
        d_size.numpy(),
        tuple(x.numpy() for x in d_drawn),
        total.numpy(),
        y.numpy(),
    )
    previous, phasor, s, rotor, _ = steps.unbind(2)
    if share.numel():
        drawn = target.cpu().flatten(1, 2) - previous
        previous = previous + share.cpu().flatten(1, 2) * drawn
    own = input_gradients(
        anchor.cpu().flatten(1, 2),
        previous * rotor,
        s,
        phasor,
        y,
        total,
        real_bins(config),
    )
    own = [x.to(size.dtype).view(time.shape) for x in own]
    return [x.to(device) for x in (*own, d_size, *d_heard, *d_drawn)]


def _adjoint_torch(saved, settings, wanted, gradients):
    """Gradients of the inputs that are wanted."""
    tensors = [
        x.detach().requires_grad_(needed) for x, needed in zip(saved, wanted)
    ]
    with torch.enable_grad():
        outputs = _run_torch(*tensors, *settings)
    pairs = [x for x in zip(outputs, gradients) if x[0].requires_grad]
    leaves = [x for x in tensors if x.requires_grad]
    outputs, gradients = zip(*pairs)
    found = torch.autograd.grad(outputs, leaves, gradients, allow_unused=True)
    found = iter(found)
    return [
        next(found) if needed else None for _, needed in zip(tensors, wanted)
    ]


def _run_torch(*inputs):
    *tensors, config, n_iter, stride, delay, backend = inputs
    passes, target, share = tensors[:5], *tensors[-2:]
    heard = Heard(*tensors[5:-2])
    magnitude, phasors = heard.magnitude, heard.phasors
    new, answers = stride + delay, passes[0].shape[2]
    done = [phasors[:, :0]]
    frames = [magnitude.new_empty(len(magnitude), 0, config.win_length)]
    for p in range(passes[0].shape[1]):
        *given, magnitude = (x[:, p] for x in passes)
        fresh = magnitude[:, answers - new :]
        sizes = torch.cat([heard.magnitude, fresh], dim=1)
        first = REOPENED + new - answers
        found = []
        phasor = heard.phasors[:, first - 1]
        for j in range(answers):
            if share.numel():
                drawn = target[:, p, j] - phasor
                phasor = phasor + share[:, p, j] * drawn
            time, frequency, *weights = (x[:, j : j + 1] for x in given)
            derivatives = PhaseDerivatives(time, frequency)
            made = integrate(derivatives, *weights, config, phasor, backend)
            # That of an offset goes on as it was.
            sign = torch.where(phasor[:, None, :1].real >= 0, 1.0, -1.0)
            held = is_offset(sizes[:, first + j, None], config)
            found.append(torch.where(held, sign.to(made.dtype), made))
            phasor = found[-1][:, 0]
        found, added, heard = refine(
            torch.cat(found, dim=1),
            fresh,
            config,
            heard,
            n_iter,
            stride,
        )
        done.append(found)
        frames.append(added)
    return torch.cat(done, dim=1), torch.cat(frames, dim=1), *heard

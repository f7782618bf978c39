"""Passes from estimates to samples by the kernels, and their gradient.

The first derivative has a kernel of its own, much faster than
autograd through the definition; further ones are the definition's.
"""

from functools import lru_cache, partial

import numpy as np
import torch

from ..backends import over_signals, to_arrays
from ..estimation.derivatives import expected_advance
from ..estimation.schedule import Estimates
from ..windows import constant
from .definition import all_weights, define
from .least_squares import CANCELLED, LOWEST
from .offset import ABOVE, TOLERANCE, main_lobe
from .refinement import (
    INAUDIBLE,
    REOPENED,
    OverlapState,
    counts,
    overlap_scale,
    sweep,
)

# Past any end: a stream that is under way.
ENDLESS = 2**62


def run(settings, inputs):
    """What `passes.run` returns, by the kernel.

    Arguments
    ---------
    settings : tuple
        Schedule, config, power, n_iter, position, ends and keep.
    inputs : tuple of torch.Tensor
        The four estimates, sizes, logs, the overlap state and, if there is
        one, the pull.

    Returns
    -------
    samples, phasors, state
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        samples, phasors, *state = _Compiled.apply(settings, *inputs)
    else:
        with torch.no_grad():
            samples, phasors, *state = _compute(settings, inputs)[0]
    return samples, phasors, OverlapState(*state)


class _Compiled(torch.autograd.Function):
    """The kernel and its gradient; further derivatives by the definition."""

    @staticmethod
    def forward(ctx, settings, *inputs):
        outputs, record = _compute(settings, inputs, recorded=True)
        ctx.settings, ctx.count = settings, len(inputs)
        ctx.save_for_backward(*inputs, *record)
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        inputs = ctx.saved_tensors[: ctx.count]
        if torch.is_grad_enabled():  # create_graph=True
            found = _gradients_of_definition(ctx, inputs, gradients)
        else:
            record = ctx.saved_tensors[ctx.count :]
            found = _adjoint(ctx.settings, inputs, record, gradients)
        return None, *found


def _gradients_of_definition(ctx, inputs, gradients):
    """Gradients that can be differentiated again."""
    wanted = [x for x, n in zip(inputs, ctx.needs_input_grad[1:]) if n]
    parts = inputs[:4], inputs[4], inputs[5], inputs[6:9], inputs[9:]
    samples, phasors, state = define(
        Estimates(*parts[0]),
        *parts[1:3],
        OverlapState(*parts[3]),
        *parts[4:],
        *ctx.settings,
    )
    outputs = samples, phasors, *state
    pairs = [x for x in zip(outputs, gradients) if x[0].requires_grad]
    outputs, gradients = zip(*pairs)
    found = torch.autograd.grad(
        outputs, wanted, gradients, create_graph=True, allow_unused=True
    )
    found = iter(found)
    return [next(found) if n else None for n in ctx.needs_input_grad[1:]]


@constant
def _constants(config, new, emitted, dtype):
    """What the kernels have to know of the transform, as arrays."""
    advance = expected_advance(config, torch.float64).numpy()
    to_start = config.start_phasor(dtype.to_complex()).numpy()
    scale = overlap_scale(config, new, emitted, dtype).numpy()
    lobe = main_lobe(config).numpy()
    window = config.window_tensor(dtype).numpy()
    real = np.array(config.real_bins)
    frame = window, config.window_offset, config.hop_length, config.n_fft
    offset = lobe, ABOVE, TOLERANCE
    count = np.array(counts(new, emitted))
    return advance, real, to_start, frame, scale, count, offset


@constant
def workspace_key(config, schedule, dtype):
    """What `kernels.frame.workspace` is made for."""
    new, length = schedule.offsets[-1] + 1, config.win_length
    number = torch.empty(0, dtype=dtype).numpy().dtype
    frame = config.n_fft, length, config.hop_length
    return config.num_bins, *frame, REOPENED + new, new, number


def _plan(schedule, config, n_iter, position):
    """Where a pass stands, and what it does."""
    new = schedule.offsets[-1] + 1
    pairs = np.array(sweep(config, REOPENED + new, n_iter), np.int64)
    return position, schedule.stride, new, schedule.offsets[0], pairs


def constants(settings, batch, dtype, pull=()):
    """What `kernels.frame.run` is told besides estimates, frames and state."""
    schedule, config, power, n_iter, position, ends, keep = settings
    stride, new = schedule.stride, schedule.offsets[-1] + 1
    return (
        (power, LOWEST[dtype]),
        _pull_arrays(pull, dtype),
        _ends_array(ends, batch),
        _keep_array(keep, config.num_bins),
        _plan(schedule, config, n_iter, position),
        *_constants(config, new, stride, dtype),
        (CANCELLED, INAUDIBLE, torch.finfo(dtype).tiny),
    )


def _compute(settings, inputs, recorded=False):
    """What `_define` returns, by the kernel, and the record for `_adjoint`."""
    from ..kernels import frame

    schedule, config, _, n_iter, _, ends, _ = settings
    time, sizes = inputs[0], inputs[4]
    batch, passes, count, freq = time.shape
    stride = schedule.stride
    real, kind = sizes.dtype, sizes.dtype.to_complex()
    phasors, *others = (x.copy() for x in to_arrays(*inputs[6:9]))
    state = as_complex(phasors), *others
    empty = partial(torch.empty, device="cpu")
    output = empty(batch, passes * stride, freq, dtype=kind)
    samples = empty(batch, passes * stride * config.hop_length, dtype=real)
    # For the gradient: steps and weights of the least squares; directions and
    # slopes of the iterations.
    record, written = (), no_record(freq, real)
    if recorded:
        steps = batch, passes, n_iter, 2, freq
        rows = batch, passes * count
        # A pass past its signal's end has no steps, and hands nothing on.
        some = empty if ends is None else partial(torch.zeros, device="cpu")
        record = (
            some(*rows, 5, freq, dtype=torch.complex128),
            some(*rows, 2, freq, dtype=real),
            empty(steps, dtype=kind),
            empty(steps, dtype=real),
        )
        written = tuple(x.numpy() for x in record)
    over_signals(
        frame.run,
        batch,
        workspace_key(config, schedule, real),
        *to_arrays(*inputs[:6]),
        *constants(settings, batch, real, inputs[9:]),
        state,
        written,
        samples.numpy(),
        output.numpy(),
    )
    after = map(torch.from_numpy, (phasors, *others))
    outputs = samples, torch.view_as_real(output), *after
    if not sizes.is_cpu:
        outputs = tuple(x.to(sizes.device) for x in outputs)
    return outputs, record


def _adjoint(settings, inputs, record, gradients):
    """Gradients of all inputs, by the kernel."""
    from ..kernels import adjoint

    schedule, config, power, n_iter, position, ends, keep = settings
    time, sizes, real = inputs[0], inputs[4], inputs[4].dtype
    steps, weights = record[:2]
    stride, new = schedule.stride, schedule.offsets[-1] + 1
    d_samples, d_output, *d_state = (
        x.to("cpu", copy=True).contiguous() for x in gradients
    )
    d_output, d_state[0] = map(torch.view_as_complex, (d_output, d_state[0]))
    pull = _pull_arrays(inputs[9:], real)
    d_pull = tuple(np.zeros_like(x) for x in pull)
    d_sizes = torch.zeros(sizes.shape, dtype=real, device="cpu")
    total, y = steps.new_zeros(2, *steps[:, :, 0].shape)
    over_signals(
        adjoint.run,
        len(sizes),
        *to_arrays(weights, sizes),
        pull,
        _ends_array(ends, len(sizes)),
        _keep_array(keep, sizes.shape[2]),
        _plan(schedule, config, n_iter, position),
        *_constants(config, new, stride, real)[1:],
        CANCELLED,
        tuple(x.numpy() for x in record),
        d_samples.numpy(),
        d_output.numpy(),
        tuple(x.numpy() for x in d_state),
        d_sizes.numpy(),
        d_pull,
        total.numpy(),
        y.numpy(),
    )
    previous, phasor, s, rotor, _ = steps.unbind(2)
    if pull[1].size:
        target, share = (torch.from_numpy(x).flatten(1, 2) for x in pull)
        previous = previous + share * (target - previous)
    d_time, d_frequency, d_anchor, d_coupling = (
        x.to(real).view(time.shape)
        for x in least_squares_gradients(
            weights[:, :, 0], previous * rotor, s, phasor, y, total, config
        )
    )
    # What the weights hand on to log-magnitudes and confidences.
    with torch.enable_grad():
        own = [x.detach().cpu().requires_grad_() for x in inputs[2:6]]
        made = all_weights(
            Estimates(own[0], own[0], *own[:2]), own[3], schedule, power
        )
    d_own = torch.autograd.grad(
        made, (*own[:2], own[3]), (d_anchor, d_coupling)
    )
    d_phasors = torch.view_as_real(d_state[0])
    d_pull = [torch.from_numpy(x) for x in d_pull] if pull[1].size else []
    if d_pull:
        d_pull[0] = torch.view_as_real(d_pull[0])
    found = (
        *(d_time, d_frequency, *d_own[:2], d_sizes, d_own[2]),
        *(d_phasors, *d_state[1:], *d_pull),
    )
    return [x.to(sizes.device) for x in found]


def least_squares_gradients(anchor, target, s, phasor, y, total, config):
    """Cotangents of derivatives and weights from those of the phasors.

    With u = s / |s| and z = u tilt, a cotangent Z of z becomes
    S = (Z' - u Re(conj(u) Z')) / |s| with Z' = conj(tilt) Z, then y from
    A y = S, then l y, the cotangent of q. The matrix is symmetric, so the
    adjoint is the same solve; and from the weights' own part in A,

        dL/dl[k] = Re conj(y[k]) (q[k] - s[k]),
        dL/dg[k] = -Re conj(y[k] - y[k-1]) (s[k] - s[k-1]).

    Where a cotangent Q meets q, the angle of q gets Im(Q conj(q)). A phasor
    that was made real has no slope.

    Arguments
    ---------
    anchor : torch.Tensor, [..., freq]
        The weights l.
    target, s, phasor, y, total : torch.Tensor, [..., freq], complex
        q, s, z, y and Z, with all that later frames handed on to it.
    config : StftConfig
        The transform.

    Returns
    -------
    time, frequency, anchor, coupling : torch.Tensor, [..., freq]
    """
    # y is of double precision: it is as large as the weights are small.
    weighted = (anchor * y).to(target.dtype)
    limit = torch.finfo(anchor.dtype).max / 10
    d_anchor = (y.conj() * (target - s)).real.clamp(-limit, limit)
    d_coupling = torch.zeros_like(d_anchor)
    d_steps = -(y.diff().conj() * s.diff()).real
    d_coupling[..., 1:] = d_steps.clamp(-limit, limit)
    d_time = (weighted * target.conj()).imag
    d_tilt = (total * phasor.conj()).imag
    d_tilt[..., list(config.real_bins)] = 0
    # theta[k] holds all fpd up to k.
    d_theta = (d_tilt - d_time)[..., 1:].flip(-1)
    d_theta = d_theta.cumsum(-1, dtype=torch.float64).flip(-1)
    d_frequency = torch.zeros_like(d_time)
    d_frequency[..., 1:] = d_theta
    return d_time, d_frequency, d_anchor, d_coupling


def _pull_arrays(pull, dtype):
    """Target and share, empty where there is no pull."""
    if not pull:
        return _no_pull(dtype)
    target = torch.view_as_complex(pull[0].detach().contiguous())
    return tuple(to_arrays(target, pull[1]))


@constant
def _no_pull(dtype):
    """Of `_pull_arrays`."""
    nothing = torch.empty(0, 0, 0, 0, dtype=dtype)
    return nothing.to(dtype.to_complex()).numpy(), nothing.numpy()


def _keep_array(keep, freq):
    """Bins that keep what least squares give, empty where there are none."""
    return _nothing_kept(freq) if keep is None else to_arrays(keep)[0]


@constant
def _nothing_kept(freq):
    """Of `_keep_array`."""
    return np.zeros((1, 0, freq), bool)


@constant
def no_record(freq, dtype):
    """What the kernel writes no record to."""
    kind = dtype.to_complex()
    return (
        torch.empty(0, 0, 5, freq, dtype=torch.complex128).numpy(),
        torch.empty(0, 0, 2, freq, dtype=dtype).numpy(),
        torch.empty(1, 1, 0, 2, freq, dtype=kind).numpy(),
        torch.empty(1, 1, 0, 2, freq, dtype=dtype).numpy(),
    )


def as_complex(parts):
    """An array of real and imaginary parts, [..., 2], seen as complex."""
    return parts.view(np.result_type(parts.dtype, np.complex64))[..., 0]


@lru_cache(maxsize=8)
def _never(batch):
    """Signals that do not end."""
    return np.full(batch, ENDLESS)


def _ends_array(ends, batch):
    """Frames of each signal in all."""
    if ends is None:
        return _never(batch)
    return ends.to("cpu", torch.int64).numpy()

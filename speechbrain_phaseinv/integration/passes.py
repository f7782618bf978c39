"""From estimates to samples: one network pass after the other.

Each pass solves the least squares of the frames that it has estimates of,
refines its open frames together, and commits those that it emits; the next
one goes on from there. `definition` says it in PyTorch, and `compiled` does it
on the CPU.
"""

from dataclasses import replace

from ..backends import resolve
from ..estimation.schedule import Estimates
from . import compiled
from .definition import define


def run(
    estimates,
    sizes,
    logs,
    schedule,
    config,
    state,
    power=1.0,
    n_iter=0,
    position=0,
    ends=None,
    pull=None,
    keep=None,
    backend="auto",
):
    """Invert all passes that there are estimates of.

    Differentiable.

    Arguments
    ---------
    estimates : Estimates
        [batch, passes, estimates, freq].
    sizes, logs : torch.Tensor, [batch, REOPENED + time, freq]
        Magnitudes, and their logarithms, of the committed frames that are
        reopened and of all frames that the passes see.
    schedule : Schedule
        Which frames a pass emits, and which the estimates are about.
    config : StftConfig
        The transform.
    state : OverlapState
        What the last call returned.
    power : float
        Exponent of the weights, see `phase_weights`.
    n_iter : int
        Iterations of `refinement` a pass.
    position : int
        Frames that have been committed in the stream so far.
    ends : torch.Tensor, [batch], int, optional
        Frames of each signal in all: those past it add nothing.
    pull : tuple of torch.Tensor, optional
        A target, unit phasors [batch, passes, estimates, freq, 2], and a
        share in [0, 1], [batch, passes, estimates, freq]: before its least
        squares, a frame's predecessor is drawn by that much to the target.
    keep : torch.Tensor, [batch, REOPENED + time, freq], bool, optional
        Bins that stay as the least squares have them, in refinement and
        where there is an offset.
    backend : str
        "auto", "numba" or "torch".

    Returns
    -------
    samples : torch.Tensor, [batch, passes * stride * hop_length]
        Not yet divided by the sum of the squared windows.
    phasors : torch.Tensor, [batch, passes * stride, freq, 2]
        ``exp(1j * phase)``, centre-referred, of the frames as they are
        committed.
    state : OverlapState
        For the next call.
    """
    last = len(schedule.offsets)
    schedule = heard(schedule, n_iter)
    if len(schedule.offsets) < last:
        last = len(schedule.offsets)
        estimates = Estimates(*(x[:, :, :last] for x in estimates))
        pull = pull and (pull[0][:, :, :last], pull[1][:, :, :last])
    backend = resolve(backend, sizes, *state)
    settings = schedule, config, power, n_iter, position, ends, keep
    pulls = pull or ()
    if backend == "torch":
        return define(estimates, sizes, logs, state, pulls, *settings)
    return compiled.run(settings, (*estimates, sizes, logs, *state, *pulls))


def heard(schedule, n_iter):
    """The schedule of the estimates that have a say.

    Without iterations, a frame that only looks ahead has none.
    """
    if n_iter or not schedule.ahead:
        return schedule
    return replace(schedule, offsets=schedule.offsets[: -schedule.ahead])

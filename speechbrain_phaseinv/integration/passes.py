"""An estimator's answers, arranged by the passes that use them.

A pass of the network answers for one frame or two, and, where it says so, for
the frame ahead and once more for the frame before. `recursion` goes from pass
to pass.
"""

from typing import NamedTuple

import torch

from .least_squares import phase_weights


class Passes(NamedTuple):
    """What is known of frames, by passes; [batch, passes, answers, freq] each.

    A pass has answers for the newest frames, in order of time.

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


def by_passes(frames, ahead=None, again=None, stride=1):
    """Arrange values of frames by passes: [batch, passes, answers, freq].

    Arguments
    ---------
    frames : torch.Tensor, [batch, time, freq]
        Of the frames, `stride` a pass.
    ahead : torch.Tensor, [batch, time, freq], optional
        Of the frame after each, where a pass answers for that too.
    again : torch.Tensor, [batch, passes, freq], optional
        Of the frame before each pass, likewise.
    stride : int
        Frames a pass.

    Example
    -------
    >>> by_passes(torch.zeros(1, 6, 257), stride=2).shape
    torch.Size([1, 3, 2, 257])
    """
    # Of two ways to say the same, the faster one.
    if stride == 1:
        passes = frames.unsqueeze(2)
    else:
        passes = frames.unflatten(1, (-1, stride))
    if ahead is not None:
        passes = torch.cat([passes, ahead.unsqueeze(2)], dim=2)
    if again is not None:
        passes = torch.cat([again.unsqueeze(2), passes], dim=2)
    return passes


def arrange(derivatives, magnitude, log_mag, power=1.0, stride=1):
    """The passes that lead through the frames of an estimator's answer.

    Arguments
    ---------
    derivatives : PhaseDerivatives
        Derivatives of the frames, [batch, time, freq], and, if it says
        something of them, of the frames `ahead` and `again`.
    magnitude, log_mag : torch.Tensor, [batch, before + time or more, freq]
        Magnitudes, and their logarithms, of the frame before (two, if there
        are derivatives `again`), of the frames, and of the one after if there
        are derivatives `ahead`.
    power : float
        As for `phase_weights`.
    stride : int
        Frames a pass; 2 for a paired network.

    Returns
    -------
    passes : Passes
    """

    def known(found, here, before):
        levels = log_mag[:, here], log_mag[:, before]
        weights = phase_weights(*levels, found, power)
        return found.time, found.frequency, *weights, magnitude[:, here]

    return Passes(*for_answers(known, derivatives, stride))


def for_answers(function, derivatives, stride):
    """Values of the frames that an estimator answers for, by passes.

    Arguments
    ---------
    function : callable
        Given derivatives of frames, and where, in arrays of frames as those
        of `arrange`, these frames are and those before them, it returns some
        values, [batch, time, freq].
    derivatives : PhaseDerivatives
        Of the frames, and those ahead and again, if any.
    stride : int
        Frames a pass.

    Returns
    -------
    values : list of torch.Tensor, [batch, passes, answers, freq]
    """
    first = 1 if derivatives.again is None else 2
    asked = (
        (derivatives, first, 1),
        (derivatives.ahead, first + 1, 1),
        (derivatives.again, first - 1, stride),
    )
    found = []
    for answer, begin, step in asked:
        if answer is None:
            found.append(None)
            continue
        stop = begin + step * answer.time.shape[1]
        here = slice(begin, stop, step)
        before = slice(begin - 1, stop - 1, step)
        found.append(function(answer, here, before))
    count = len(found[0])
    found = ([None] * count if x is None else x for x in found)
    return [by_passes(*x, stride) for x in zip(*found)]

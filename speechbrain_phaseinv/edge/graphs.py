"""One frame in real arithmetic and with explicit state, as ONNX wants it.

`NetworkStep` leads from log-magnitudes to phase derivatives, `SolverStep` from
those to the phase. `export` writes them down.
"""

import math

import torch

from ..estimation.derivatives import PhaseDerivatives, expected_advance
from ..integration.least_squares import phase_weights


class NetworkStep(torch.nn.Module):
    """One pass of an estimator, with a state of fixed size.

    Arguments
    ---------
    estimator : torch.nn.Module
        Such as `PhaseDerivativeNet`. The state of its steady flow.
    """

    def __init__(self, estimator):
        super().__init__()
        self.estimator = estimator

    def forward(self, log_magnitude, state):
        """Derivatives of the next frames.

        Arguments
        ---------
        log_magnitude : torch.Tensor, [1, stride, freq]
            The next frames.
        state : torch.Tensor, [1, past + 1 + lookahead - stride, freq]
            The log-magnitudes before. At the start of a stream the first
            frame stands for the `past` ones before it.

        Returns
        -------
        time, frequency : torch.Tensor, [1, answers, freq]
            Of the next `stride` frames and, if the estimator answers for them
            too, of the one before, or of the one after.
        time_confidence, frequency_confidence : torch.Tensor
            The same shape.
        state : torch.Tensor
            For the next call.
        """
        derivatives, state = self.estimator(log_magnitude, state)
        answers = derivatives.again, derivatives, derivatives.ahead
        parts = []
        for found in answers:
            if found is not None:
                zeros = torch.zeros_like(found.time)
                parts.append([zeros if x is None else x for x in found[:4]])
        found = [torch.cat(x, dim=1) for x in zip(*parts)]
        return (*found, state)


class SolverStep(torch.nn.Module):
    """The phase of one frame from that of the frame before.

    As `integrate` with `phase_weights`, in real arithmetic and without a
    loop. The recursion of `tridiagonal` eliminates one bin after the other;
    here every second bin goes at once, and so on until one is left. That is
    the star-mesh transformation of the same resistor ladder: it does not
    subtract either, and takes log2(freq) steps. With 257 bins in onnxruntime
    on one thread this took 0.14 ms, two Scan loops 1.9 ms, and the recursion
    unrolled, 3590 nodes that take minutes to export, 2.9 ms.

    Arguments
    ---------
    config : StftConfig
        The transform.
    power : float
        As in `phase_weights`.
    """

    def __init__(self, config, power):
        super().__init__()
        self.power = power
        self.register_buffer("advance", expected_advance(config).clone())
        real = torch.zeros(1, config.num_bins, dtype=torch.bool)
        real[:, config.real_bins] = True
        self.register_buffer("real", real)

    def forward(
        self,
        log_magnitude,
        log_magnitude_before,
        time,
        frequency,
        time_confidence,
        frequency_confidence,
        cosine,
        sine,
    ):
        """Phasors of a frame; every tensor is [1, freq].

        Arguments
        ---------
        log_magnitude, log_magnitude_before : torch.Tensor
            Of the frame and the one before.
        time, frequency, time_confidence, frequency_confidence : torch.Tensor
            See `PhaseDerivatives`.
        cosine, sine : torch.Tensor
            Phase of the frame before, centre-referred; 1 and 0 at the start.

        Returns
        -------
        cosine, sine : torch.Tensor
            Phase of the frame.
        """
        derivatives = PhaseDerivatives(
            time, frequency, time_confidence, frequency_confidence
        )
        anchor, coupling = phase_weights(
            log_magnitude, log_magnitude_before, derivatives, self.power
        )
        # In doubles: see `integrate`.
        turns = frequency[:, 1:].double().cumsum(-1) / (2 * math.pi)
        theta = (2 * math.pi * (turns - turns.floor())).float()
        theta = torch.nn.functional.pad(theta, (1, 0))
        angle = time + self.advance - theta
        c, s = angle.cos(), angle.sin()
        target = torch.cat([cosine * c - sine * s, cosine * s + sine * c])
        above = torch.nn.functional.pad(coupling[:, 1:], (0, 1))
        x, y = solve_by_halves(anchor, anchor * target, above).chunk(2)
        c, s = theta.cos(), theta.sin()
        c, s = x * c - y * s, x * s + y * c
        size = (c * c + s * s).sqrt()
        sign = torch.where(c >= 0, 1.0, -1.0)
        c = torch.where(self.real, sign, c / size)
        return c, torch.where(self.real, 0.0, s / size)


def solve_by_halves(anchor, source, above):
    """Solve the ladder of `tridiagonal` by eliminating every second bin.

    Arguments
    ---------
    anchor : torch.Tensor, [1, freq]
        Weights l, positive.
    source : torch.Tensor, [rows, freq]
        Right-hand sides, l q.
    above : torch.Tensor, [1, freq]
        Weights g between a bin and the next; the last is zero.

    Returns
    -------
    solution : torch.Tensor, [rows, freq]

    Example
    -------
    >>> anchor = torch.tensor([[1.0, 0.1, 1.0]])
    >>> above = torch.tensor([[1.0, 1.0, 0.0]])
    >>> source = anchor * torch.tensor([[0.0, 30.0, 3.0]])
    >>> solve_by_halves(anchor, source, above)
    tensor([[2.0455, 4.0909, 3.5455]])
    """
    size = anchor.shape[-1]
    # Lone bins, coupled to nothing, make the number a power of two.
    lone = (1 << (size - 1).bit_length()) - size
    pad = torch.nn.functional.pad
    ladder = [pad(anchor, (0, lone), value=1.0), pad(source, (0, lone))]
    ladder = torch.cat([*ladder, pad(above, (0, lone))])
    return _halve(ladder.unsqueeze(-1))[1:, :size, 0]


def _halve(ladder):
    """Solve [anchor, sources..., above], [rows, freq, 1], freq a power of two.

    The anchor is a right-hand side too, that of a target of ones; so is its
    solution, and nobody needs it.
    """
    rows, size, _ = ladder.shape
    if size == 1:
        return ladder[:-1] / ladder[:1]
    pairs = ladder.reshape(rows, size // 2, 2)
    kept, gone = pairs.split(1, dim=2)
    x, left = kept.split([rows - 1, 1])
    gone, right = gone.split([rows - 1, 1])
    # A bin that goes leaves to its neighbours what they drew from it, and
    # its two couplings in series.
    total = gone[:1] + left + right
    left, right, own = left / total, right / total, gone / total
    up = torch.nn.functional.pad(gone * right, (0, 0, 1, -1))
    x = x + gone * left + up
    found = _halve(torch.cat([x, left * right * total]))
    follow = torch.nn.functional.pad(found, (0, 0, -1, 1))
    back = own + left * found + right * follow
    return torch.cat([found, back], dim=2).reshape(rows - 1, size, 1)

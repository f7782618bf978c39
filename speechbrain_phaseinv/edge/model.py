"""A pass of an inverter as a module of tensors alone, for an exporter."""

import copy
import math

import torch

from ..estimation.features import log_magnitude
from ..integration.refinement import REOPENED, OverlapState
from ..inversion import BEFORE, InverterState
from ..stft import normalise


class PassModel(torch.nn.Module):
    """A pass: `stride` frames and a state in, `stride` hops and a state out.

    The state at the start of a stream is zeros. Where the schedule looks
    ahead, a pass emits the frames before those that come in, and the hop of
    the first pass precedes the stream.

    Arguments
    ---------
    inverter : SpectrogramInverter
        What to run.
    """

    def __init__(self, inverter):
        super().__init__()
        schedule = inverter.schedule
        if schedule.stride > 1 and schedule.lookahead:
            raise ValueError(
                "cannot export passes of several frames with look-ahead "
                f"frames after them, got {schedule}."
            )
        self.inverter = copy.copy(inverter)
        self.inverter.backend = "torch"

    def start(self):
        """The state at the start, by name: zeros."""
        inverter, config = self.inverter, self.inverter.config
        # After a pass, nothing but the look-ahead waits in the estimator.
        schedule = inverter.estimator.schedule
        frames = schedule.stride + schedule.lookahead
        silence = torch.zeros(1, frames, config.num_bins)
        _, estimator = inverter.estimator(silence)
        kept = REOPENED + inverter.schedule.lookahead
        hop, length = config.hop_length, config.win_length
        shapes = {
            "level": (1, 2),
            "estimator": tuple(estimator.shape),
            "sizes": (1, kept, config.num_bins),
            "logs": (1, kept, config.num_bins),
            "phasors": (1, REOPENED, config.num_bins, 2),
            "frames": (1, REOPENED, length),
            "signal": (1, (REOPENED - 1) * hop + length),
        }
        calls = {"calls": torch.zeros(1, dtype=torch.int64)}
        return calls | {k: torch.zeros(*x) for k, x in shapes.items()}

    def forward(self, magnitude, count, calls, level, estimator, *state):
        """Run a pass.

        Arguments
        ---------
        magnitude : torch.Tensor, [1, stride, freq]
            The next frames.
        count : torch.Tensor, [1], int64
            How many of the frames of this pass belong to the signal: `stride`,
            or fewer in its last pass.
        calls, level, estimator, *state : torch.Tensor
            The state, as in `start`.

        Returns
        -------
        samples : torch.Tensor, [1, stride * hop_length]
        tail : torch.Tensor, [1, win_length - hop_length]
            What follows if the signal ends with this pass.
        calls, level, estimator, *state : torch.Tensor
            For the next pass.
        """
        inverter, config = self.inverter, self.inverter.config
        logs, level = log_magnitude(magnitude, level)
        # The first frame is taken to repeat those before it, far softer.
        sizes, known, *overlap = state
        first = calls == 0
        sizes = torch.where(first, magnitude[:, :1] * BEFORE, sizes)
        known = torch.where(first, logs[:, :1] + math.log(BEFORE), known)
        estimator = torch.where(first, logs[:, :1], estimator)
        position = calls * inverter.stride - inverter.schedule.lookahead
        overlap = self._clear(overlap, first)
        estimates, estimator = inverter.estimator(logs, estimator)
        ends = position + count
        signal, _, state = inverter._commit(
            estimates,
            InverterState(
                estimator,
                level,
                torch.cat([sizes, magnitude], dim=1),
                torch.cat([known, logs], dim=1),
                *overlap,
                position,
                inverter.signature,
            ),
            ends,
        )
        size = signal.shape[1]
        waits = state.signal[:, REOPENED * config.hop_length :]
        signal = torch.cat([signal, waits], dim=1)
        signal = normalise(signal, config, position, ends)
        overlap = state.phasors, state.frames, state.signal
        return (
            *(signal[:, :size], signal[:, size:], calls + 1, state.level),
            *(state.estimator, state.sizes, state.logs),
            *self._clear(overlap, position < 0),
        )

    def _clear(self, overlap, at_start):
        """The overlap state; at the start, phase zero and no sound."""
        phasors, frames, signal = overlap
        one = torch.tensor([1.0, 0.0])
        return OverlapState(
            torch.where(at_start, one, phasors),
            torch.where(at_start, 0.0, frames),
            torch.where(at_start, 0.0, signal),
        )

"""What an inverter remembers of a stream, as one flat tuple."""

from typing import Any, NamedTuple

import torch

from .integration.refinement import REOPENED


class InverterState(NamedTuple):
    """What the inverter remembers of a stream between two calls.

    Attributes
    ----------
    estimator : torch.Tensor
        The state of the estimator; None before its first frame.
    level : torch.Tensor, [batch, 2]
        Of the stream so far, see `log_magnitude`.
    sizes, logs : torch.Tensor, [batch, REOPENED + waiting, freq]
        Magnitudes and their logarithms: of the committed frames that may be
        reopened, then of the frames that wait for their look-ahead.
    phasors, frames, signal : torch.Tensor
        The fields of an `OverlapState`.
    position : int
        Frames that have been committed.
    owner : str
        The inverter's `signature`: another one refuses the state.
    """

    estimator: Any
    level: torch.Tensor
    sizes: torch.Tensor
    logs: torch.Tensor
    phasors: torch.Tensor
    frames: torch.Tensor
    signal: torch.Tensor
    position: int
    owner: str

    def tensors(self):
        """All but the position and the owner."""
        return [x for x in self if isinstance(x, torch.Tensor)]

    def map(self, function):
        """The same with a function applied to every tensor."""
        return InverterState(
            *(function(x) if isinstance(x, torch.Tensor) else x for x in self)
        )

    def detach(self):
        """The same without gradient history."""
        return self.map(torch.Tensor.detach)

    @property
    def waiting(self):
        """Number of frames that wait for their look-ahead."""
        return self.sizes.shape[1] - REOPENED

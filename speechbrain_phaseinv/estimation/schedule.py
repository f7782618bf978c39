"""Everything about look-ahead: frames seen, estimated and emitted; latency.

An inversion advances by *passes*. A pass emits `stride` frames, one hop of
samples each, once the `lookahead` frames after them have come. It has
estimates of the frames that it emits and, if the estimator gives them, of the
newest look-ahead frame, or once more of a frame that was emitted before::

    frame         first-1   first  ..  first+stride-1 | look-ahead
                  emitted   emitted by this pass      | by a later one
    offset          -1        0    ..     stride-1    |   stride
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Tuple

import torch


@dataclass(frozen=True)
class Schedule:
    """Which frames a pass emits, waits for and has estimates of.

    Arguments
    ---------
    stride : int
        Frames that a pass emits.
    lookahead : int
        Frames after them that have to come first: 0 or 1.
    offsets : tuple of int
        The frames that a pass has estimates of, one after the other, counted
        from the first frame that it emits.

    Raises
    ------
    ValueError
        If the offsets are not consecutive, leave out a frame that is emitted,
        or name one that has not come.

    Example
    -------
    >>> schedule = Schedule(stride=1, lookahead=1, offsets=(0, 1))
    >>> schedule.delay, schedule.num_passes(10)
    (1, 9)
    >>> schedule.without_lookahead()
    Schedule(stride=1, lookahead=0, offsets=(-1, 0))
    """

    stride: int = 1
    lookahead: int = 0
    offsets: Tuple[int, ...] = (0,)

    def __post_init__(self):
        first, last = self.offsets[0], self.offsets[-1]
        newest = self.stride - 1 + self.lookahead
        if (
            self.stride < 1
            or self.lookahead not in (0, 1)
            or self.offsets != tuple(range(first, last + 1))
            or not (-2 <= first <= 0 and self.stride - 1 <= last <= newest)
        ):
            raise ValueError(
                "expected a stride of at least 1, a look-ahead of 0 or 1, and "
                "consecutive offsets from -2..0 to the last frame emitted or "
                f"the newest one, got {self.stride}, {self.lookahead} and "
                f"{self.offsets}."
            )

    @property
    def delay(self):
        """Frames that the first frame of a pass waits for."""
        return self.stride - 1 + self.lookahead

    @property
    def ahead(self):
        """Look-ahead frames that a pass has estimates of."""
        return self.offsets[-1] + 1 - self.stride

    @property
    def estimates_lookahead(self):
        """Whether the newest frame has an estimate, so that it may go out."""
        return self.lookahead > 0 and self.ahead == self.lookahead

    def num_passes(self, waiting):
        """Passes for which all frames have come, of so many waiting frames."""
        return max((waiting - 1 - self.delay) // self.stride + 1, 0)

    def frames(self, passes, position=0):
        """The frames that estimates are about, [passes, estimates], int.

        Counted as `position` is, the first frame that the first pass emits.
        """
        starts = position + self.stride * torch.arange(passes, device="cpu")
        return starts.unsqueeze(1) + torch.tensor(self.offsets, device="cpu")

    def latency(self, config):
        """Algorithmic latency, in samples.

        From a sample's arrival to its departure: the window has to be full,
        and the frames have to come that overlap it or that a pass waits for.
        """
        return config.synthesis_latency + self.delay * config.hop_length

    def without_lookahead(self):
        """The same estimates, with the look-ahead frame emitted at once."""
        offsets = tuple(x - self.lookahead for x in self.offsets)
        return replace(self, lookahead=0, offsets=offsets)


class Estimates(NamedTuple):
    """What an estimator says of frames, [batch, passes, estimates, freq] each.

    Attributes
    ----------
    time : torch.Tensor
        Baseband phase difference, in radians per hop.
    frequency : torch.Tensor
        Frequency phase difference, in radians per bin. Bin 0 is ignored.
    time_confidence, frequency_confidence : torch.Tensor
        Natural logarithms of factors on the weights of the two.
    """

    time: torch.Tensor
    frequency: torch.Tensor
    time_confidence: torch.Tensor
    frequency_confidence: torch.Tensor

    @classmethod
    def single(cls, time, frequency, time_confidence=None, confidence=None):
        """One estimate a pass, from [batch, time, freq]; confidences are 0."""
        parts = time, frequency, time_confidence, confidence
        zeros = torch.zeros_like(time)
        return cls(*(zeros if x is None else x for x in parts)).unsqueeze()

    def unsqueeze(self):
        """[batch, time, freq] to [batch, time, 1, freq]."""
        return Estimates(*(x.unsqueeze(2) for x in self))

"""A frame of a stream by the kernels alone, on arrays that are kept.

`SpectrogramInverter.step` says what becomes of a frame. Between its kernels lie
two hundred calls of Python and PyTorch, which take longer than they do. Once a
stream is under way, all of them can be done beforehand. What remains are the
same kernels on the same numbers, and so the same bits.
"""

import numpy as np
import torch

from .backends import (
    compiled_serves,
    is_traced,
    over_signals,
    resolve,
    to_arrays,
)
from .checks import accepted
from .estimation.features import limits
from .estimation.network import PhaseDerivativeNet
from .integration import compiled, passes
from .integration.refinement import REOPENED
from .state import InverterState
from .stft import steady_after, sum_of_squares


class PreparedStep:
    """`SpectrogramInverter.step` for one frame at a time.

    Arguments
    ---------
    inverter : SpectrogramInverter
        How to invert.
    state : InverterState
        Where to begin; `possible` says whether one can.

    Example
    -------
    >>> from speechbrain_phaseinv import SpectrogramInverter, StftConfig
    >>> inverter = SpectrogramInverter(StftConfig(16000, 512, hop_length=128))
    >>> magnitude = torch.rand(1, 21, 257)
    >>> _, state = inverter.step(magnitude[:, :20])
    >>> prepared = PreparedStep(inverter, state)
    >>> samples = prepared.push(magnitude[:, 20:])
    >>> torch.equal(samples, inverter.step(magnitude[:, 20:], state)[0])
    True
    """

    def __init__(self, inverter, state):
        schedule, config = inverter.schedule, inverter.config
        batch, rows, freq = state.sizes.shape
        self.inverter, self.settings = inverter, _settings(inverter)
        self.schedule, self.dtype = schedule, state.sizes.dtype
        self.shapes = [(batch, n, freq) for n in range(schedule.stride + 1)]
        self.waiting, self.position = state.waiting, state.position
        # A pass takes place once these are full: it begins with the first.
        room = REOPENED + schedule.delay + 1
        self.sizes, self.logs = (
            np.concatenate([x[:, :1]] * (room - rows) + [x], axis=1)
            for x in to_arrays(state.sizes, state.logs)
        )
        self.level, phasors, *others = (
            x.numpy(force=True).copy()
            for x in (state.level, state.phasors, state.frames, state.signal)
        )
        self.overlap = phasors, *others
        self.limits = (
            accepted(self.dtype),
            self.level,
            *limits(self.dtype, freq),
        )
        envelope = sum_of_squares(config, state.position, 1, dtype=self.dtype)
        self.envelope = np.tile(envelope[0, 0].numpy(), schedule.stride)
        self.kernel = _kernel_of(inverter)
        self.estimator = state.estimator
        if self.kernel is not None:
            self.context = state.estimator.shape[1] - state.waiting
            self.begin = room - inverter.estimator.window
            count = len(schedule.offsets)
            shape = 4, batch, 1, count, freq
            self.estimates = np.empty(shape, phasors.dtype)
        self.room = compiled.room(config, schedule, self.dtype)
        settings = schedule, config, inverter.power, inverter.refinements
        output = compiled.as_complex(np.empty_like(phasors))
        self.given = (
            *compiled.fixed((*settings, 0, None, None), batch, self.dtype),
            (compiled.as_complex(phasors), *others),
            compiled.no_record(freq, self.dtype),
        )
        self.output = output[:, : schedule.stride].copy()

    @staticmethod
    def possible(inverter, state):
        """Whether a stream may go on from this state by this way."""
        if (
            state is None
            or state.owner != inverter.signature
            or state.position < steady_after(inverter.config)
            or not compiled_serves(state.sizes)
            or resolve(inverter.backend, state.sizes) == "torch"
        ):
            return False
        schedule = inverter.schedule
        if passes.heard(schedule, inverter.refinements) != schedule:
            return False
        if _kernel_of(inverter) is None:
            return True
        # The network's frames are the newest of those at hand.
        count = state.estimator.shape[1]
        newest = state.logs[:, -count:]
        return newest.shape[1] == count and state.estimator.equal(newest)

    def push(self, magnitude):
        """The samples of the next frames.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            No more frames than a pass emits.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples] or None
            Those of a pass, or no samples. None, and nothing has happened,
            where the frames need a closer look.
        """
        if (
            type(magnitude) is not torch.Tensor
            or magnitude.dtype != self.dtype
            or magnitude.shape not in self.shapes
            or magnitude.requires_grad
            or not magnitude.is_cpu
            or is_traced()
            or self.settings != _settings(self.inverter)
            or (self.kernel and not self.kernel.is_current())
        ):
            return None
        frames = np.ascontiguousarray(magnitude.numpy())
        waveform = None
        for t in range(frames.shape[1]):
            if not self._advance(frames, t):
                return None
            if self.waiting > self.schedule.delay:
                waveform = self._pass()
        if waveform is None:
            return magnitude.new_empty(len(magnitude), 0)
        return waveform

    def _advance(self, frames, t):
        """A frame comes in, unless the chunk needs a closer look."""
        from .kernels import features

        done = features.advance(frames, t, *self.limits, self.sizes, self.logs)
        if not done:
            return False
        self.waiting += 1
        if self.kernel is None:
            new = torch.from_numpy(self.logs[:, -1:].copy())
            with torch.inference_mode():
                estimates, self.estimator = self.inverter.estimator(
                    new, self.estimator
                )
            self.estimates = to_arrays(*estimates)
        return True

    def _pass(self):
        """The samples of the pass that is due."""
        from .kernels import frame

        if self.kernel is not None:
            self.kernel.run(self.logs, self.begin, self.estimates)
        self.waiting -= self.schedule.stride
        self.position += self.schedule.stride
        samples = np.empty(
            (len(self.sizes), len(self.envelope)), self.logs.dtype
        )
        over_signals(
            frame.run,
            len(samples),
            self.room,
            *self.estimates,
            self.sizes,
            self.logs,
            *self.given,
            samples,
            self.output,
        )
        samples /= self.envelope
        return torch.from_numpy(samples)

    def state(self):
        """The state after all that was pushed: tensors of its own."""
        rows = REOPENED + self.waiting
        sizes, logs = (
            torch.from_numpy(x[:, -rows:].copy())
            for x in (self.sizes, self.logs)
        )
        estimator = self.estimator
        if self.kernel is not None:
            count = self.context + self.waiting
            estimator = logs[:, rows - count :].clone()
        return InverterState(
            estimator,
            torch.from_numpy(self.level.copy()),
            sizes,
            logs,
            *(torch.from_numpy(x.copy()) for x in self.overlap),
            self.position,
            self.inverter.signature,
        )


def _settings(inverter):
    """What a stream may find changed at any frame."""
    return (
        inverter.schedule,
        inverter.config,
        inverter.power,
        inverter.refinements,
        inverter.backend,
        inverter._modules["estimator"],
    )


def _kernel_of(inverter):
    """The network's kernel, where that does all that the estimator does."""
    estimator = inverter.estimator
    if type(estimator) is not PhaseDerivativeNet:
        return None
    kernel = estimator.kernel()
    return kernel if kernel is not None and kernel.is_current() else None

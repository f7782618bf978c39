"""A frame of a stream by the kernels alone, on arrays that are kept.

`SpectrogramInverter.step` says what becomes of a frame. Between its kernels lie
many calls of Python and PyTorch, which take longer than they do. Once a stream
is under way, all of them can be done beforehand. What remains are the same
kernels on the same numbers, and so the same bits.
"""

import numpy as np
import torch

from .backends import is_traced, over_signals, resolve, to_arrays
from .checks import accepted
from .estimation.features import limits
from .estimation.network import PhaseDerivativeNet
from .integration import compiled, passes
from .integration.refinement import REOPENED
from .inversion import SpectrogramInverter
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
    >>> from speechbrain_phaseinv import StftConfig
    >>> inverter = SpectrogramInverter(StftConfig(16000, 512, hop_length=128))
    >>> magnitude = torch.rand(1, 21, 257)
    >>> _, state = inverter.step(magnitude[:, :20])
    >>> prepared = PreparedStep(inverter, state)
    >>> samples = prepared.push(magnitude[:, 20:])
    >>> torch.equal(samples, inverter.step(magnitude[:, 20:], state)[0])
    True
    """

    def __init__(self, inverter, state):
        self.inverter, self.settings = inverter, _settings(inverter)
        self._keep(state)
        self._prepare(state)

    def _keep(self, state):
        """The state as arrays, all of which change from frame to frame."""
        self.waiting, self.position = state.waiting, state.position
        # A pass takes place once these are full: it begins with the first.
        rows = REOPENED + self.inverter.schedule.delay + 1
        missing = rows - state.sizes.shape[1]
        self.sizes, self.logs = (
            np.concatenate([x[:, :1]] * missing + [x], axis=1)
            for x in to_arrays(state.sizes, state.logs)
        )
        self.level, *self.overlap = (
            x.numpy(force=True).copy()
            for x in (state.level, state.phasors, state.frames, state.signal)
        )
        # Frames of the network's state, besides those that wait.
        self.context = state.estimator.shape[1] - state.waiting

    def _prepare(self, state):
        """All that the kernels are told besides, at every frame the same."""
        inverter, schedule = self.inverter, self.inverter.schedule
        config, self.dtype = inverter.config, state.sizes.dtype
        batch, rows, freq = self.sizes.shape
        self.shapes = [(batch, n, freq) for n in range(schedule.stride + 1)]
        self.accepted = accepted(self.dtype)
        self.limits = limits(self.dtype, freq)
        self.kernel = _kernel_of(inverter)
        self.begin = rows - inverter.estimator.window
        shape = 4, batch, 1, len(schedule.offsets), freq
        self.estimates = np.empty(shape, self.logs.dtype)
        self.key = compiled.workspace_key(config, schedule, self.dtype)
        settings = schedule, config, inverter.power, inverter.refinements
        phasors, *others = self.overlap
        phasors = compiled.as_complex(phasors)  # the same memory
        self.constants = (
            *compiled.constants((*settings, 0, None, None), batch, self.dtype),
            (phasors, *others),
            compiled.no_record(freq, self.dtype),
        )
        self.output = phasors[:, : schedule.stride].copy()
        envelope = sum_of_squares(config, state.position, 1, dtype=self.dtype)
        self.envelope = np.tile(envelope[0, 0].numpy(), schedule.stride)

    @staticmethod
    def possible(inverter, state):
        """Whether a stream may go on from this state by this way."""
        if (
            state is None
            or type(inverter) is not SpectrogramInverter
            or _kernel_of(inverter) is None
            or state.owner != inverter.signature
            or state.position < steady_after(inverter.config)
            or resolve(inverter.backend, *state.tensors()) == "torch"
            or len({x.dtype for x in state.tensors()}) > 1
        ):
            return False
        schedule = inverter.schedule
        if passes.heard(schedule, inverter.refinements) != schedule:
            return False
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
            where the frames need a closer look, or the inverter's own step.
        """
        from .kernels import features

        if (
            type(magnitude) is not torch.Tensor
            or magnitude.dtype != self.dtype
            or magnitude.shape not in self.shapes
            or magnitude.requires_grad
            or not magnitude.is_cpu
            or is_traced()
            or self.settings != _settings(self.inverter)
            or not self.kernel.is_current()
        ):
            return None
        frames = np.ascontiguousarray(magnitude.numpy())
        if frames.size and not features.accepts(frames, *self.accepted):
            return None
        samples = np.empty((len(frames), 0), frames.dtype)
        for t in range(frames.shape[1]):
            features.advance(
                frames, t, self.level, *self.limits, self.sizes, self.logs
            )
            self.waiting += 1
            if self.waiting > self.inverter.schedule.delay:
                samples = self._pass()
        with torch.inference_mode(False):
            return torch.from_numpy(samples)

    def _pass(self):
        """The samples of the pass that is due."""
        from .kernels import frame

        self.kernel.run(self.logs, self.begin, self.estimates)
        stride = self.inverter.schedule.stride
        self.waiting -= stride
        self.position += stride
        shape = len(self.sizes), len(self.envelope)
        samples = np.empty(shape, self.logs.dtype)
        over_signals(
            frame.run,
            len(samples),
            self.key,
            *self.estimates,
            self.sizes,
            self.logs,
            *self.constants,
            samples,
            self.output,
        )
        samples /= self.envelope
        return samples

    def state(self):
        """The state after all that was pushed: tensors of its own."""
        rows = REOPENED + self.waiting
        sizes, logs = (
            torch.from_numpy(x[:, -rows:].copy())
            for x in (self.sizes, self.logs)
        )
        return InverterState(
            logs[:, rows - self.context - self.waiting :].clone(),
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
        inverter._modules.get("estimator"),
    )


def _kernel_of(inverter):
    """The network's kernel, where that does all that the estimator does."""
    estimator = inverter.estimator
    if type(estimator) is not PhaseDerivativeNet:
        return None
    kernel = estimator.kernel()
    return kernel if kernel is not None and kernel.is_current() else None

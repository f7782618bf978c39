"""A frame of a stream by the kernels alone, on arrays that are kept.

`SpectrogramInverter.step` says what becomes of a frame. Between its kernels lie
two hundred calls of Python and PyTorch, which take longer than they do. Once a
stream is under way, all of them can be done beforehand. What remains are the
same kernels on the same numbers, and so the same bits.
"""

import numpy as np
import torch

from .backends import compiled_serves, over_signals, resolve, to_arrays
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
        self.inverter, self.state_before = inverter, state
        self.settings = _settings(inverter)
        schedule, config = inverter.schedule, inverter.config
        batch, rows, freq = state.sizes.shape
        self.dtype = state.sizes.dtype
        self.shape = batch, freq
        self.waiting, self.position = state.waiting, state.position
        # A pass takes place once these are full: it begins with the first.
        room = REOPENED + schedule.delay + 1
        self.sizes, self.logs = (
            np.concatenate(
                [np.zeros_like(x[:, :1])] * (room - rows) + [x], axis=1
            )
            for x in to_arrays(state.sizes, state.logs)
        )
        self.newest = self.logs[:, -1]
        self.level = state.level.numpy(force=True).copy()
        self.limits = limits(self.dtype, freq)
        phasors, *others = (
            x.numpy(force=True).copy()
            for x in (state.phasors, state.frames, state.signal)
        )
        self.overlap = phasors, *others
        envelope = sum_of_squares(config, state.position, 1, dtype=self.dtype)
        self.envelope = np.tile(envelope[0, 0].numpy(), schedule.stride)
        estimator = inverter.estimator
        self.parameters = _parameters(estimator)
        self.network = estimator if self.parameters else None
        self.estimator = state.estimator
        count = len(schedule.offsets)
        self.estimates = np.empty((4, batch, 1, count, freq), phasors.dtype)
        kind = np.result_type(phasors.dtype, np.complex64)
        self.given = (
            *compiled.fixed(self.settings, batch, self.dtype),
            (compiled.as_complex(phasors), *others),
            compiled.no_record(freq, self.dtype),
        )
        self.output = np.empty((batch, schedule.stride, freq), kind)

    @staticmethod
    def possible(inverter, state, magnitude):
        """Whether the next frames of a stream may come by this way."""
        steady = steady_after(inverter.config)
        if (
            state is None
            or state.owner != inverter.signature
            or state.position < steady
            or len(state.sizes) != len(magnitude)
            or state.sizes.dtype != magnitude.dtype
            or not compiled_serves(magnitude, state.sizes)
            or resolve(inverter.backend, state.sizes) == "torch"
        ):
            return False
        schedule = inverter.schedule
        if passes.heard(schedule, inverter.refinements) != schedule:
            return False
        if not _parameters(inverter.estimator):
            return True
        # The network's frames are the newest of those at hand.
        count = state.estimator.shape[1]
        newest = state.logs[:, -count:]
        return newest.shape[1] == count and state.estimator.equal(newest)

    def serves(self, magnitude):
        """Whether these frames, the next ones, may come by this way."""
        batch, count, freq = magnitude.shape
        self.parameters = _parameters(self.inverter.estimator)
        return (
            count <= self.inverter.stride
            and (batch, freq) == self.shape
            and magnitude.dtype == self.dtype
            and compiled_serves(magnitude)
            and self.settings == _settings(self.inverter)
            and bool(self.parameters) == (self.network is not None)
        )

    def push(self, magnitude):
        """The samples of the next frames.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            As `checks.check_magnitude` returns them, no more than a pass
            emits.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]
            Those of a pass, or none.
        """
        done = [self._push(magnitude[:, t]) for t in range(magnitude.shape[1])]
        done = [x for x in done if x is not None]
        return done[0] if done else magnitude.new_zeros(len(magnitude), 0)

    def _push(self, frame):
        """The samples of one frame, [batch, freq], if there are some now."""
        from .kernels import features
        from .kernels import frame as kernel

        features.advance(
            *to_arrays(frame), self.level, *self.limits, self.sizes, self.logs
        )
        np.log(self.newest, out=self.newest)
        self.waiting += 1
        estimates = self._estimate()
        schedule = self.inverter.schedule
        if self.waiting <= schedule.delay:
            return None
        self.waiting -= schedule.stride
        self.position += schedule.stride
        batch = self.shape[0]
        samples = torch.empty(batch, len(self.envelope), dtype=self.dtype)
        array = samples.numpy()
        over_signals(
            kernel.run,
            batch,
            *estimates,
            self.sizes,
            self.logs,
            *self.given,
            array,
            self.output,
        )
        np.divide(array, self.envelope, out=array)
        return samples

    def _estimate(self):
        """What the estimator says of the pass that is due, as four arrays."""
        if self.network is None:
            new = torch.from_numpy(self.newest[:, None].copy())
            with torch.inference_mode():
                estimates, self.estimator = self.inverter.estimator(
                    new, self.estimator
                )
            return to_arrays(*estimates)
        if self.waiting > self.inverter.schedule.delay:
            begin = self.logs.shape[1] - self.network.window
            self.network.run_kernel(
                self.logs, begin, self.estimates, self.parameters
            )
        return self.estimates

    def state(self):
        """The state after all that was pushed: tensors of its own."""
        rows = REOPENED + self.waiting
        sizes, logs = (
            torch.from_numpy(x[:, -rows:].copy())
            for x in (self.sizes, self.logs)
        )
        estimator = self.estimator
        if self.network is not None:
            before = self.state_before
            count = before.estimator.shape[1] + self.waiting - before.waiting
            estimator = logs[:, logs.shape[1] - count :].clone()
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
    """What `kernels.frame.run` follows; no signal ends, wherever it is."""
    return (
        inverter.schedule,
        inverter.config,
        inverter.power,
        inverter.refinements,
        0,
        None,
        None,
    )


def _parameters(estimator):
    """Those of the network where its kernel does all, else none."""
    if (
        type(estimator) is not PhaseDerivativeNet
        or estimator._forward_hooks
        or estimator._forward_pre_hooks
    ):
        return []
    parameters = estimator.in_order()
    return parameters if compiled_serves(*parameters) else []

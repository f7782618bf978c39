"""Magnitudes in, complex spectrogram and waveform out: the whole chain."""

import math
from functools import cached_property
from numbers import Real

import torch

from .backends import eager
from .checks import check_batch, check_lengths, check_magnitude
from .estimation.features import log_magnitude, start_level
from .integration import passes
from .integration.refinement import (
    REOPENED,
    OverlapState,
    refine,
    start_overlap,
)
from .pretrained import choose_estimator
from .state import InverterState
from .stft import (
    StftConfig,
    finish,
    normalise,
    uncentred_analysis,
)

# Whole spectrograms are inverted as a stream of blocks, of so many frames in
# all signals of a batch together: an hour, or a large batch, then needs little
# more memory than its spectrograms, and the samples are the same. Between
# blocks one thread works alone, so that small ones cost the others time.
BLOCK_FRAMES = 1024
LEAST_FRAMES = 192

# Chosen on validation speech, with the gradient theorem.
DEFAULT_POWER = 1.5

# Before a stream there was the same sound, of phase zero and far too soft
# (120 dB) to decide anything but a constant phase.
BEFORE = 1e-6


class SpectrogramInverter(torch.nn.Module):
    """Give a magnitude spectrogram its phase, online and deterministically.

    The input is a magnitude, not a power and not a mel spectrogram, of an
    STFT with centred frames, at any level. There is one code path: frames and
    a state go in, samples and a state come out. `step` is that path, and all
    else is built on it.

    Arguments
    ---------
    config : StftConfig
        The transform.
    lookahead : int
        0 or 1: the frames that a hop of samples waits for.
    estimator : str or torch.nn.Module
        What predicts the phase's derivatives: "network", the packaged
        weights for this transform; "gradient", the gradient theorem, for any
        transform; "auto", the first where there are weights, and else the
        second, with a warning; or an estimator of your own. Its look-ahead
        then counts, unless it estimates its look-ahead frame: such an
        estimator does without look-ahead, too. `method` names the choice.
    paired : bool
        With "network" and one frame of look-ahead: predict two frames at a
        time, at half the cost.
    power : float, optional
        Exponent of the least-squares weights, see `phase_weights`. Default:
        the estimator's attribute `power`, or 1.5.
    backend : str
        "auto", "numba" or "torch": see `backends.resolve`.
    refinements : int, optional
        Iterations of `refinement` a pass. Default: the estimator's attribute
        `refinements`, or none. With "auto", the gradient theorem has eight,
        and so have packaged weights on windows wider than in their training.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> inverter = SpectrogramInverter(config, lookahead=1)
    >>> magnitude = analysis(torch.randn(2, 16000), config).abs()
    >>> inverter(magnitude).shape
    torch.Size([2, 16000])
    """

    def __init__(
        self,
        config,
        lookahead=1,
        estimator="auto",
        paired=False,
        power=None,
        backend="auto",
        refinements=None,
    ):
        super().__init__()
        if not isinstance(config, StftConfig):
            raise TypeError(f"expected a StftConfig, got {config!r}.")
        method = type(estimator).__name__
        if isinstance(estimator, str):
            method, estimator = choose_estimator(
                estimator, config, lookahead, paired
            )
        self.config = config
        self.method = method
        self.estimator = estimator
        if power is None:
            power = getattr(estimator, "power", DEFAULT_POWER)
        if not isinstance(power, Real) or not 0 <= power < float("inf"):
            raise ValueError(f"power must be a number >= 0, got {power!r}.")
        self.power = power
        self.backend = backend
        if refinements is None:
            refinements = getattr(estimator, "refinements", 0)
        if refinements < 0:
            raise ValueError(f"refinements must be >= 0, got {refinements}.")
        self.refinements = refinements
        # An estimator of the look-ahead frame may emit that at once.
        self.schedule = estimator.schedule
        if self.schedule.estimates_lookahead and lookahead == 0:
            self.schedule = self.schedule.without_lookahead()

    def extra_repr(self):
        """For ``print``: the method, and what it works on."""
        return f"method={self.method!r}, {self.config}"

    @cached_property
    def signature(self):
        """What a state of this inverter belongs to."""
        architecture = getattr(self.estimator, "hyperparameters", "")
        return (
            f"{type(self.estimator).__name__}({architecture}) of "
            f"{self.config}, {self.schedule}, power {self.power}, "
            f"{self.refinements} refinements"
        )

    @property
    def lookahead(self):
        """Frames that a hop waits for before it comes out."""
        return self.schedule.delay

    @property
    def stride(self):
        """Hops that come out at a time."""
        return self.schedule.stride

    @property
    def latency(self):
        """Algorithmic latency, in samples: see `Schedule.latency`."""
        return self.schedule.latency(self.config)

    @eager
    def forward(self, magnitude, lengths=None, length=None):
        """Invert whole spectrograms.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            Non-negative and finite.
        lengths : torch.Tensor, [batch], int, optional
            Valid frames of each, where shorter ones are padded. A padded
            spectrogram gives the same samples as alone, up to the centre of
            its last frame, then zeros.
        length : int, optional
            Samples to return. Default: ``config.num_samples(time)``.

        Returns
        -------
        waveform : torch.Tensor, [batch, length]
        """
        magnitude = check_magnitude(magnitude, self.config)
        if lengths is not None:
            lengths = check_lengths(lengths, magnitude)
        waveform, _ = self._whole(magnitude, lengths)
        count = magnitude.shape[1]
        return finish(waveform, self.config, count, length, lengths)

    @eager
    def invert(self, magnitude, lengths=None):
        """Complex spectrograms of whole magnitude spectrograms.

        With refinements, the phases are those of the waveform, analysed.

        Arguments
        ---------
        magnitude, lengths
            As in `forward`.

        Returns
        -------
        stft : torch.Tensor, [batch, time, freq], complex
            In the convention of `torch.stft`; zero in padding.
        """
        magnitude = check_magnitude(magnitude, self.config)
        if lengths is not None:
            lengths = check_lengths(lengths, magnitude)
        if magnitude.numel() == 0:
            return magnitude.to(magnitude.dtype.to_complex())
        refined = self.refinements > 0
        waveform, phasors = self._whole(magnitude, lengths, not refined)
        if refined:
            phasors = self._analyse(waveform, magnitude.shape[1])
        else:
            phasors = torch.view_as_complex(phasors.contiguous())
            phasors = phasors * self.config.start_phasor(
                phasors.dtype, phasors.device
            )
        stft = magnitude * phasors
        if lengths is not None:
            steps = torch.arange(magnitude.shape[1], device=magnitude.device)
            padding = steps >= lengths.unsqueeze(-1)
            stft = stft.masked_fill(padding.unsqueeze(-1), 0)
        return stft

    def _whole(self, magnitude, lengths=None, with_phasors=False):
        """Samples of whole spectrograms, block by block, and their phasors.

        The samples begin with the first frame's window; with lengths, they
        are an utterance's own up to the end of its last frame's.
        """
        batch, count, _ = magnitude.shape
        if magnitude.numel() == 0:
            return magnitude.new_zeros(batch, 0), None
        ends = lengths
        if ends is None:
            ends = torch.full((batch,), count, device=magnitude.device)
        # The end of a stream repeats its last frame; so does padding.
        last = (ends - 1).clamp_min(0)[:, None, None]
        last = magnitude.take_along_dim(last, dim=1)
        steps = torch.arange(count, device=magnitude.device).unsqueeze(-1)
        size = max(BLOCK_FRAMES // batch, LEAST_FRAMES)
        blocks = zip(magnitude.split(size, dim=1), steps.split(size))
        state, position, pieces, phasors = None, 0, [], []
        for block, here in blocks:
            if lengths is not None:
                block = torch.where(here < ends[:, None, None], block, last)
            estimates, state = self.estimate(block, state)
            signal, phasor, state = self._commit(estimates, state, lengths)
            pieces.append(normalise(signal, self.config, position, ends))
            phasors += [phasor] * with_phasors
            position = state.position
        signal, phasor = self._end(state, ends)
        pieces.append(normalise(signal, self.config, position, ends))
        waveform = torch.cat(pieces, dim=1)
        if not with_phasors:
            return waveform, None
        return waveform, torch.cat([*phasors, phasor], dim=1)[:, :count]

    @eager
    def step(self, magnitude, state=None):
        """Invert the next frames of a stream.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            Any number of frames, zero included.
        state : InverterState, optional
            What the previous call returned; None at the stream's start.

        Returns
        -------
        waveform : torch.Tensor, [batch, frames * hop_length]
            One hop for each frame whose look-ahead has come. The first
            ``config.trim`` samples of a stream precede its first frame's
            centre.
        state : InverterState
            For the next call, or `flush`.

        Raises
        ------
        TypeError, ValueError
            If the magnitudes cannot be inverted, or the state belongs to
            another inverter or another batch.
        """
        magnitude = check_magnitude(magnitude, self.config)
        if magnitude.shape[1] == 0:
            return magnitude.new_zeros(len(magnitude), 0), state
        return self.synthesise(*self.estimate(magnitude, state))

    def estimate(self, magnitude, state=None, *others):
        """The first half of `step`: what the estimator says.

        Arguments
        ---------
        magnitude, state
            As for `step`, at least one frame.
        *others : torch.Tensor, [batch, time, freq]
            Whatever else the estimator wants to know of the frames.

        Returns
        -------
        estimates : Estimates
            For every pass whose frames have come; `schedule` tells which
            frames they are about, from ``state.position`` on.
        state : InverterState
            The frames have come, and none has been committed.
        """
        if state is not None:
            self._check_state(state, magnitude)
        level = start_level(magnitude) if state is None else state.level
        logs, level = log_magnitude(magnitude, level)
        if state is None:
            overlap = start_overlap(
                self.config, len(magnitude), magnitude.dtype, magnitude.device
            )
            before = magnitude[:, :1].expand(-1, REOPENED, -1) * BEFORE
            quiet = logs[:, :1].expand(-1, REOPENED, -1) + math.log(BEFORE)
            state = InverterState(
                None, level, before, quiet, *overlap, 0, self.signature
            )
        new = logs
        shift = self.estimator.schedule.delay - self.schedule.delay
        if state.estimator is None and shift:
            # Where the look-ahead frame goes out at once, the estimator
            # begins that much earlier.
            new = torch.cat([logs[:, :1].expand(-1, shift, -1), logs], dim=1)
        estimates, estimator = self.estimator(new, state.estimator, *others)
        sizes = torch.cat([state.sizes, magnitude], dim=1)
        logs = torch.cat([state.logs, logs], dim=1)
        return estimates, state._replace(
            estimator=estimator, level=level, sizes=sizes, logs=logs
        )

    def synthesise(self, estimates, state):
        """The second half of `step`: samples from estimates.

        Arguments
        ---------
        estimates, state
            What `estimate` returned.

        Returns
        -------
        waveform, state
            As from `step`.
        """
        position = state.position
        signal, _, state = self._commit(estimates, state)
        return normalise(signal, self.config, position), state

    @eager
    def flush(self, state):
        """End a stream, as if its last frame went on.

        Arguments
        ---------
        state : InverterState
            What the last `step` returned.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]
            All that remains, to the end of the last frame's window.
        """
        first, end = state.position, state.position + state.waiting
        ends = torch.tensor([end], device=state.signal.device)
        signal, _ = self._end(state, ends.expand(len(state.signal)))
        return normalise(signal, self.config, first, ends)

    def pending(self, state):
        """Samples that still wait for frames, as they stand.

        Arguments
        ---------
        state : InverterState
            What `step` returned.

        Returns
        -------
        waveform : torch.Tensor, [batch, win_length - hop_length]
        """
        out = REOPENED * self.config.hop_length
        ends = torch.tensor([state.position], device=state.signal.device)
        signal = state.signal[:, out:]
        return normalise(signal, self.config, state.position, ends)

    def start(self, stft):
        """The state of a stream whose frames have these phases.

        Training begins from it: as after `step`, but for the phases.

        Arguments
        ---------
        stft : torch.Tensor, [batch, time, freq], complex
            In the convention of `stft.analysis`.

        Returns
        -------
        state : InverterState
            Its first ``state.position`` frames are committed; the others
            wait for their look-ahead.
        """
        size = stft.abs()
        _, state = self.estimate(size)
        count = self.schedule.num_passes(stft.shape[1]) * self.stride
        tiny = torch.finfo(size.dtype).tiny
        phasors = torch.where(size > tiny, stft / size.clamp_min(tiny), 1)
        phasors = phasors * self.config.centre_phasor(stft.dtype, stft.device)
        overlap = OverlapState(state.phasors, state.frames, state.signal)
        _, _, overlap = refine(
            torch.view_as_real(phasors[:, :count].contiguous()),
            state.sizes[:, : REOPENED + count],
            self.config,
            overlap,
            n_iter=0,
            emitted=count,
        )
        return self._replace(state, count, overlap)

    def _commit(self, estimates, state, ends=None, pull=None, keep=None):
        """Overlap-add and phasors of all passes, and the state after them."""
        overlap = OverlapState(state.phasors, state.frames, state.signal)
        signal, phasors, overlap = passes.run(
            estimates,
            state.sizes,
            state.logs,
            self.schedule,
            self.config,
            overlap,
            self.power,
            self.refinements,
            state.position,
            ends,
            pull,
            keep,
            self.backend,
        )
        count = estimates.time.shape[1] * self.stride
        return signal, phasors, self._replace(state, count, overlap)

    def _replace(self, state, count, overlap):
        """The state once so many of its frames are committed."""
        return InverterState(
            state.estimator,
            state.level,
            state.sizes[:, count:],
            state.logs[:, count:],
            *overlap,
            state.position + count,
            state.owner,
        )

    def _end(self, state, ends):
        """Overlap-add and phasors of what waits, and what is pending then."""
        out = REOPENED * self.config.hop_length
        phasors = state.phasors[:, :0]
        signal = state.signal[:, :0]
        again = self.continuation(state)
        if again.shape[1]:
            estimates, state = self.estimate(again, state)
            signal, phasors, state = self._commit(estimates, state, ends)
        return torch.cat([signal, state.signal[:, out:]], dim=1), phasors

    def continuation(self, state):
        """The last frame, which goes on until those that wait are emitted.

        Arguments
        ---------
        state : InverterState
            What the last `step` returned.

        Returns
        -------
        magnitude : torch.Tensor, [batch, time, freq]
            As many frames as that takes.
        """
        missing = 0
        if state.waiting:
            missing = -state.waiting % self.stride + self.schedule.lookahead
        return state.sizes[:, -1:].expand(-1, missing, -1)

    def _analyse(self, signal, count):
        """Unit phasors of the signal's frames; one where there is nothing."""
        config = self.config
        start = config.window_offset
        around = start, config.n_fft - config.win_length - start
        signal = torch.nn.functional.pad(signal, around)
        rebuilt = uncentred_analysis(signal, config)[:, :count]
        size = rebuilt.abs()
        known = size > torch.finfo(size.dtype).tiny
        return torch.where(known, rebuilt / torch.where(known, size, 1), 1)

    def _check_state(self, state, magnitude):
        """Refuse a state that belongs elsewhere."""
        if not isinstance(state, InverterState):
            raise TypeError(
                "expected the InverterState that step() returned, got "
                f"{type(state).__name__}."
            )
        if state.owner != self.signature:
            raise ValueError(
                f"the state belongs to another inverter: {state.owner}. This "
                f"one is {self.signature}."
            )
        check_batch(magnitude, len(state.sizes))

"""Magnitudes in, complex spectrogram and waveform out: the whole chain."""

from numbers import Real
from typing import Any, NamedTuple

import torch

from .checks import check_lengths, check_magnitude
from .estimation.gradient_theorem import GradientTheorem
from .integration import recursion
from .integration.least_squares import log_magnitude
from .integration.passes import arrange
from .integration.refinement import REOPENED, Heard, silence
from .pretrained import (
    available_pretrained,
    find_pretrained,
    load_pretrained,
)
from .stft import (
    StftConfig,
    overlap_add,
    overlap_add_step,
    synthesis_flush,
    uncentred_analysis,
)

# A whole spectrogram is inverted as a stream of such blocks: an hour then needs
# no more memory than its spectrogram, and the samples are the same.
BLOCK_FRAMES = 1024


# Chosen on validation speech, with the gradient theorem.
DEFAULT_POWER = 1.5


class InverterState(NamedTuple):
    """What the inverter remembers of a stream between two calls.

    Attributes
    ----------
    estimator : Any
        The state of the estimator of phase derivatives.
    waiting : torch.Tensor, [batch, waiting, freq]
        Magnitudes of the frames that wait for their look-ahead.
    heard : Heard
        What the refinement knows of the frames before.
    """

    estimator: Any
    waiting: torch.Tensor
    heard: Heard


class Inverted(NamedTuple):
    """Frames that are inverted.

    Attributes
    ----------
    stft : torch.Tensor, [batch, ready, freq], complex
        Their spectra, in the convention of `torch.stft`.
    added : torch.Tensor, [batch, ready, win_length]
        What they add to the signal, for `stft.overlap_add_step`: the windowed
        frames and, with refinements, what they change of those before.
    """

    stft: torch.Tensor
    added: torch.Tensor


class SpectrogramInverter(torch.nn.Module):
    """Give a magnitude spectrogram its phase, online and deterministically.

    The input is a magnitude, not a power and not a mel spectrogram, of an
    STFT with centred frames, at any level. `step` is the one code path:
    frames and a state in, frames and a state out. Everything else calls it.

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
        second; or an estimator of your own, whose look-ahead then counts,
        unless it is provisional: such a network does without, too. `method`
        says what it is.
    paired : bool
        With "network" and one frame of look-ahead: predict two frames at a
        time, at half the cost.
    power : float, optional
        Exponent of the least-squares weights, see `phase_weights`. Default:
        what the estimator was made for (its attribute `power`), or 1.5.
    backend : str
        See `tridiagonal.solve_ladder`.
    refinements : int, optional
        Iterations of `refinement` a pass. Default: as many as the
        estimator was made for (its attribute `refinements`), or none.

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
            method, estimator = _build(estimator, config, lookahead, paired)
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
        # The newest frame of a provisional network is heard at once, and
        # answered for once more, or else it only looks ahead.
        provisional = getattr(estimator, "provisional", False)
        self.delay = int(provisional and lookahead > 0)
        self.reanswered = int(provisional and lookahead == 0)

    def extra_repr(self):
        """For ``print``: the method, and what it works on."""
        return f"method={self.method!r}, {self.config}"

    @property
    def lookahead(self):
        """Frames that a hop waits for before it comes out."""
        return self.estimator.lookahead - self.reanswered

    @property
    def stride(self):
        """Hops that come out at a time."""
        return getattr(self.estimator, "stride", 1)

    @property
    def latency(self):
        """Algorithmic latency, in samples.

        From a sample's arrival to its departure: the window has to be full,
        the frames that overlap it have to come, and the look-ahead.
        """
        config = self.config
        return config.synthesis_latency + self.lookahead * config.hop_length

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
            Samples to return. Default: ``hop_length * (time - 1)``.

        Returns
        -------
        waveform : torch.Tensor, [batch, length]
        """
        magnitude = check_magnitude(magnitude, self.config)
        if lengths is not None:
            lengths = check_lengths(lengths, magnitude)
        pieces = [x.added for x in self._pieces(magnitude, lengths)]
        added = torch.cat(pieces, dim=1)
        return overlap_add(added, self.config, length, lengths)

    def invert(self, magnitude, lengths=None):
        """As `forward`, but the complex spectrogram.

        With refinements, its phases are those of the waveform, analysed.

        Returns
        -------
        stft : torch.Tensor, [batch, time, freq], complex
            In the convention of `torch.stft`; zero in padding.
        """
        magnitude = check_magnitude(magnitude, self.config)
        valid = None
        if lengths is not None:
            lengths = check_lengths(lengths, magnitude)
            steps = torch.arange(magnitude.shape[1], device=magnitude.device)
            valid = steps < lengths.unsqueeze(-1)
        pieces = self._pieces(magnitude, lengths)
        if self.refinements:
            added = torch.cat([x.added for x in pieces], dim=1)
            stft = magnitude * _direction(added, self.config, valid)
        else:
            stft = torch.cat([x.stft for x in pieces], dim=1)
        if valid is not None:
            stft = stft.masked_fill(~valid.unsqueeze(-1), 0)
        return stft

    def _pieces(self, magnitude, lengths=None):
        """Whole spectrograms, `Inverted` piece by piece."""
        if lengths is not None and magnitude.numel():
            # The end of a stream repeats its last frame; so does padding.
            steps = torch.arange(magnitude.shape[1], device=magnitude.device)
            last = (lengths - 1).clamp_min(0).unsqueeze(-1)
            index = torch.minimum(steps.expand(len(lengths), -1), last)
            index = index.unsqueeze(-1).expand_as(magnitude)
            magnitude = magnitude.gather(1, index)
        state = None
        for block in magnitude.split(BLOCK_FRAMES, dim=1):
            piece, state = self.step(block, state)
            yield piece
        if state is not None:
            yield self.flush(state)

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
        inverted : Inverted
            The frames whose look-ahead has come.
        state : InverterState
            For the next call, or `flush`.
        """
        magnitude = check_magnitude(magnitude, self.config)
        if magnitude.shape[1] == 0:
            return self._nothing(magnitude), state
        known, state = self.estimate(magnitude, state)
        passes = arrange(*known, self.power, self.stride)
        ready = passes.time.shape[1] * self.stride
        phasors, added, heard = recursion.run(
            passes,
            self.config,
            self.refinements,
            self.stride,
            self.delay,
            state.heard,
            self.backend,
        )
        to_start = self.config.start_phasor(phasors.dtype, phasors.device)
        stft = state.waiting[:, :ready] * phasors * to_start
        state = state._replace(waiting=state.waiting[:, ready:], heard=heard)
        return Inverted(stft, added), state

    def estimate(self, magnitude, state=None):
        """What the estimator says of the next frames.

        Arguments
        ---------
        magnitude, state
            As for `step`.

        Returns
        -------
        known : tuple
            Derivatives, magnitudes and their logarithms, for
            `passes.arrange`.
        state : InverterState
            That after the estimate, the frames still waiting.
        """
        if state is None:
            heard = silence(magnitude[:, 0], self.config)
            state = InverterState(None, magnitude[:, :0], heard)
        # The frames before, those that have waited, those that come.
        before = state.heard.magnitude, state.waiting
        frames = torch.cat([*before, magnitude], dim=1)
        log_mag = log_magnitude(frames)
        new = log_mag[:, -magnitude.shape[1] :]
        if self.reanswered and state.estimator is None:
            new = torch.cat([new[:, :1], new], dim=1)  # there before, too
        derivatives, estimator = self.estimator(new, state.estimator)
        anew = self.reanswered + (derivatives.again is not None)
        seen = slice(REOPENED - 1 - anew, None)
        known = derivatives, frames[:, seen], log_mag[:, seen]
        waiting = frames[:, REOPENED:]
        return known, state._replace(estimator=estimator, waiting=waiting)

    def flush(self, state):
        """Invert the frames that still wait, as if the last one went on."""
        waiting = state.waiting.shape[1]
        if waiting == 0:
            return self._nothing(state.waiting)
        ahead = state.waiting[:, -1:].expand(-1, self.lookahead, -1)
        inverted, _ = self.step(ahead, state)
        return Inverted(*(x[:, :waiting] for x in inverted))

    def _nothing(self, magnitude):
        """No frame."""
        stft = magnitude[:, :0].to(magnitude.dtype.to_complex())
        shape = len(magnitude), 0, self.config.win_length
        return Inverted(stft, magnitude.new_zeros(shape))


def _direction(added, config, valid):
    """Unit phasors of the signal's frames; one where there is nothing."""
    nothing = None if valid is None else valid[:, :0]
    _, state = overlap_add_step(added[:, :0], config, valid=nothing)
    # The samples before the first frame's centre are wanted, too.
    state = state._replace(skip=0)
    head, state = overlap_add_step(added, config, state, valid)
    signal = torch.cat([head, synthesis_flush(config, state)], dim=1)
    start = config.window_offset
    around = start, config.n_fft - config.win_length - start
    signal = torch.nn.functional.pad(signal, around)
    rebuilt = uncentred_analysis(signal, config)
    size = rebuilt.abs()
    known = size > torch.finfo(size.dtype).tiny
    return torch.where(known, rebuilt / torch.where(known, size, 1), 1)


def _build(choice, config, lookahead, paired):
    """The estimator of a name, and what it is called."""
    if choice not in ("auto", "network", "gradient"):
        raise ValueError(
            "expected the estimator 'auto', 'network' or 'gradient', or a "
            f"torch.nn.Module, got {choice!r}."
        )
    if paired and choice == "gradient":
        raise ValueError("only a network can be paired, got 'gradient'.")
    if choice != "gradient":
        name = find_pretrained(config, lookahead, paired)
        if name is not None:
            return f"network ({name})", load_pretrained(name, config)
        if paired or choice == "network":
            raise ValueError(
                f"there are no packaged weights for {config}, lookahead "
                f"{lookahead}, paired {paired}. There are: "
                f"{', '.join(available_pretrained()) or 'none'}. "
                "estimator='gradient' works for any transform."
            )
    return "gradient theorem", GradientTheorem(config, lookahead)

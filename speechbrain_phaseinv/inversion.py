"""Magnitudes in, complex spectrogram and waveform out: the whole chain."""

from typing import Any, NamedTuple, Optional

import torch

from . import recursion
from .gradient_theorem import GradientTheorem
from .integration import integrate, log_magnitude, phase_weights
from .pretrained import (
    available_pretrained,
    find_pretrained,
    load_pretrained,
)
from .stft import StftConfig, synthesis

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
    magnitude : torch.Tensor, [batch, 1 + waiting, freq]
        Magnitudes of the last frame inverted, then of those that wait for
        their look-ahead.
    phasor : torch.Tensor, [batch, freq], complex
        The unit phasors of the last frame inverted, centre-referred.
    overlap : torch.Tensor, [batch, win_length - hop_length], optional
        With refinements: overlap-add of the frames inverted so far.
    """

    estimator: Any
    magnitude: torch.Tensor
    phasor: torch.Tensor
    overlap: Optional[torch.Tensor] = None


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
        0 or 1: the frames that a frame waits for.
    estimator : str or torch.nn.Module
        What predicts the phase's derivatives: "network", the packaged
        weights for this transform; "gradient", the gradient theorem, for any
        transform; "auto", the first where there are weights, and else the
        second; or an estimator of your own, whose look-ahead then counts.
        `method` says what it is.
    paired : bool
        With "network" and one frame of look-ahead: predict two frames at a
        time, at half the cost.
    power : float, optional
        Exponent of the least-squares weights, see `phase_weights`. Default:
        what the estimator was made for (its attribute `power`), or 1.5.
    backend : str
        See `tridiagonal.solve_ladder`.
    refinements : int, optional
        Iterations of `refinement` on each frame. Default: as many as the
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
        self.power = power
        self.backend = backend
        if refinements is None:
            refinements = getattr(estimator, "refinements", 0)
        if refinements < 0:
            raise ValueError(f"refinements must be >= 0, got {refinements}.")
        self.refinements = refinements

    def extra_repr(self):
        """For ``print``: the method, and what it works on."""
        return f"method={self.method!r}, {self.config}"

    @property
    def lookahead(self):
        """Frames that a frame waits for before it is inverted."""
        return self.estimator.lookahead

    @property
    def stride(self):
        """Frames that come out at a time."""
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
            spectrogram gives the same samples as alone, then zeros.
        length : int, optional
            Samples to return. Default: ``hop_length * (time - 1)``.

        Returns
        -------
        waveform : torch.Tensor, [batch, length]
        """
        stft = self.invert(magnitude, lengths)
        if lengths is not None:
            lengths = self._check_lengths(lengths, magnitude)
        return synthesis(stft, self.config, length, lengths)

    def invert(self, magnitude, lengths=None):
        """As `forward`, but the complex spectrogram.

        Returns
        -------
        stft : torch.Tensor, [batch, time, freq], complex
            In the convention of `torch.stft`; zero in padding.
        """
        magnitude = self._check(magnitude)
        if magnitude.shape[1] == 0:
            return magnitude.to(magnitude.dtype.to_complex())
        if lengths is None:
            pieces, state = [], None
            for block in magnitude.split(BLOCK_FRAMES, dim=1):
                stft, state = self.step(block, state)
                pieces.append(stft)
            return torch.cat([*pieces, self.flush(state)], dim=1)
        # The end of a stream repeats its last frame; so does padding.
        lengths = self._check_lengths(lengths, magnitude)
        steps = torch.arange(magnitude.shape[1], device=magnitude.device)
        last = (lengths - 1).clamp_min(0).unsqueeze(-1)
        index = torch.minimum(steps.expand(len(lengths), -1), last)
        index = index.unsqueeze(-1).expand_as(magnitude)
        stft = self.invert(magnitude.gather(1, index))
        padding = (steps >= lengths.unsqueeze(-1)).unsqueeze(-1)
        return stft.masked_fill(padding, 0)

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
        stft : torch.Tensor, [batch, ready, freq], complex
            The frames whose look-ahead has come.
        state : InverterState
            For the next call, or `flush`.
        """
        magnitude = self._check(magnitude)
        if magnitude.shape[1] == 0:
            return magnitude.to(magnitude.dtype.to_complex()), state
        if state is None:
            # Before the stream there was the same sound, of phase zero and
            # far too soft (120 dB) to decide anything but a constant phase.
            before = 1e-6 * magnitude[:, :1]
            phasor = torch.ones_like(
                before[:, 0], dtype=magnitude.dtype.to_complex()
            )
            state = InverterState(None, before, phasor)
        # The frame before, those that have waited, those that come.
        frames = torch.cat([state.magnitude, magnitude], dim=1)
        log_mag = log_magnitude(frames)
        derivatives, estimator = self.estimator(
            log_mag[:, -magnitude.shape[1] :], state.estimator
        )
        ready = derivatives.time.shape[1]
        phasor, overlap = state.phasor, state.overlap
        if self.refinements == 0:
            here, before = log_mag[:, 1 : 1 + ready], log_mag[:, :ready]
            weights = phase_weights(here, before, derivatives, self.power)
            phasors = integrate(
                derivatives, *weights, self.config, phasor, self.backend
            )
        else:
            phasors, overlap = recursion.run(
                recursion.arrange(
                    derivatives, frames, log_mag, self.power, self.stride
                ),
                self.config,
                self.refinements,
                self.stride,
                phasor,
                overlap,
                self.backend,
            )
        state = InverterState(
            estimator,
            frames[:, ready:],
            phasors[:, -1] if ready else phasor,
            overlap,
        )
        start = self.config.start_phasor(phasors.dtype, phasors.device)
        return frames[:, 1 : 1 + ready] * phasors * start, state

    def flush(self, state):
        """Invert the frames that still wait, as if the last one went on."""
        waiting = state.magnitude.shape[1] - 1
        if waiting == 0:
            return state.magnitude[:, 1:].to(state.phasor.dtype)
        ahead = state.magnitude[:, -1:].expand(-1, self.lookahead, -1)
        stft, _ = self.step(ahead, state)
        return stft[:, :waiting]

    def _check(self, magnitude):
        """A valid magnitude [batch, time, freq], or an error that helps."""
        if not isinstance(magnitude, torch.Tensor):
            raise TypeError(
                f"expected a torch.Tensor, got {type(magnitude).__name__}."
            )
        if magnitude.is_complex():
            raise TypeError(
                "expected magnitudes, got a complex spectrogram: pass its "
                ".abs()."
            )
        if magnitude.dtype not in (torch.float32, torch.float64):
            double = torch.get_default_dtype() == torch.float64
            magnitude = magnitude.to(torch.float64 if double else torch.float32)
        bins = self.config.num_bins
        if magnitude.dim() != 3 or magnitude.shape[-1] != bins:
            raise ValueError(_explain_shape(magnitude, self.config))
        if magnitude.numel():
            low, high = torch.aminmax(magnitude)
            low, high = low.item(), high.item()
            if not (low >= 0 and high < float("inf")):
                hint = ""
                if low < 0:
                    hint = (
                        " A log-magnitude needs .exp() first, a spectrogram "
                        "in dB 10 ** (x / 20)."
                    )
                raise ValueError(
                    "magnitudes must be finite and not negative, got values "
                    f"from {low:g} to {high:g}.{hint}"
                )
        return magnitude

    def _check_lengths(self, lengths, magnitude):
        """Valid frames as a tensor of integers, [batch]."""
        lengths = torch.as_tensor(lengths, device=magnitude.device)
        batch, time = magnitude.shape[:2]
        if lengths.shape != (batch,) or lengths.is_floating_point():
            raise ValueError(
                f"expected {batch} integer lengths in frames, got "
                f"{lengths.dtype} of shape {list(lengths.shape)}."
            )
        if ((lengths < 0) | (lengths > time)).any():
            raise ValueError(
                f"lengths must lie in [0, {time}], got {lengths.tolist()}."
            )
        return lengths


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


def _explain_shape(magnitude, config):
    """What is wrong with a spectrogram's shape, and what to do."""
    shape = list(magnitude.shape)
    message = (
        f"expected magnitudes [batch, time, {config.num_bins}] for n_fft = "
        f"{config.n_fft}, got shape {shape}."
    )
    if magnitude.dim() == 3 and magnitude.shape[1] == config.num_bins:
        message += " Time and frequency look swapped: use .transpose(1, 2)."
    elif magnitude.dim() and magnitude.shape[-1] in (40, 64, 80, 100, 128):
        message += (
            f" {shape[-1]} bins look like a mel spectrogram: turn it into "
            "linear magnitudes first."
        )
    elif magnitude.dim() == 2:
        message += " Add the batch axis: use .unsqueeze(0)."
    return message

"""Frames in, samples out: spectrogram inversion online."""

import operator
from typing import NamedTuple, Optional

import torch

from .integration.refinement import Heard
from .inversion import InverterState
from .stft import SynthesisState, overlap_add_step, synthesis_flush


class StreamState(NamedTuple):
    """All that a stream remembers.

    Attributes
    ----------
    inverter : InverterState, optional
        Of `SpectrogramInverter.step`. None before the first frame.
    synthesis : SynthesisState, optional
        Of `stft.overlap_add_step`. None before the first frame.
    frames : int
        Frames that have gone in.
    samples : int
        Samples that have come out.

    Its tensors are made in inference mode: to train through them, take their
    ``clone()``.
    """

    inverter: Optional[InverterState] = None
    synthesis: Optional[SynthesisState] = None
    frames: int = 0
    samples: int = 0


class InversionStream:
    """Invert a magnitude spectrogram while it is being made.

    Feed any number of frames, get every sample that is final. All samples of
    a stream together are those that the inverter gives for the whole
    spectrogram, bit for bit, however the frames are chunked. Memory is
    constant. (Where the overlap is less than half and there is no look-ahead,
    ``hop_length - win_length // 2`` samples follow that the whole has not: they
    were out before the last frame was known to be that.)

    Whatever the stream remembers is in `state`, an immutable value: keep it,
    to go back to this point later; hand it to another stream with the same
    inverter, to continue there; save it with ``torch.save``.

    Arguments
    ---------
    inverter : SpectrogramInverter
        How to invert. Several streams may share it.

    Example
    -------
    >>> from speechbrain_phaseinv.inversion import SpectrogramInverter
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> stream = InversionStream(SpectrogramInverter(config, lookahead=1))
    >>> stream.latency_samples
    512
    >>> [stream.push(torch.rand(1, 1, 257)).shape[1] for _ in range(6)]
    [0, 0, 0, 128, 128, 128]
    >>> stream.flush().shape[1]  # to the centre of the last frame
    256
    """

    def __init__(self, inverter):
        self.inverter = inverter
        self.state = StreamState()

    @property
    def latency_frames(self):
        """Frames that a frame waits for: the look-ahead."""
        return self.inverter.lookahead

    @property
    def latency_samples(self):
        """Algorithmic latency: win_length - hop_length, and the look-ahead.

        The distance between a device's input and output, if it takes a hop
        and gives a hop at a time.
        """
        return self.inverter.latency

    @property
    def state_bytes(self):
        """Size of what the stream remembers now, in bytes."""
        sizes = []
        _map_tensors(
            lambda x: sizes.append(x.numel() * x.element_size()), self.state
        )
        return sum(sizes)

    def num_samples_ready(self, frames=1):
        """Samples that the next `push` of so many frames will return."""
        stride, ahead = self.inverter.stride, self.inverter.lookahead
        inverter, synthesis, *_ = self.state
        if inverter:
            frames += inverter.waiting.shape[1]
        passes = max((frames - 1 - ahead) // stride + 1, 0)
        config = self.inverter.config
        skip = synthesis.skip if synthesis else config.trim
        return max(passes * stride * config.hop_length - skip, 0)

    def push(self, magnitude):
        """Take the next frames, give the samples that they complete.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            Any number of frames, zero included.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]
            Possibly of no samples. Never changed later.

        Raises
        ------
        ValueError
            If the magnitudes are negative or not finite, or their shape does
            not fit. The stream is then as it was before.
        """
        # Inference mode takes a tenth off a frame's time. What leaves is an
        # ordinary tensor, with which anything may be done.
        with torch.inference_mode():
            waveform = self._push(magnitude)
        return waveform.clone()

    def _push(self, magnitude):
        before = self.state
        if before.inverter is not None:
            batch = before.inverter.waiting.shape[0]
            known = isinstance(magnitude, torch.Tensor) and magnitude.dim() == 3
            if known and magnitude.shape[0] != batch:
                raise ValueError(
                    f"expected a batch of {batch}, as in the frames before, "
                    f"got {magnitude.shape[0]}. Use a stream for each, or "
                    "reset() this one."
                )
        inverted, inverter = self.inverter.step(magnitude, before.inverter)
        waveform, synthesis = overlap_add_step(
            inverted.added, self.inverter.config, before.synthesis
        )
        if inverter is None:  # no frame yet
            return waveform
        self.state = StreamState(
            _map_tensors(_own, inverter),
            _map_tensors(_own, synthesis),
            before.frames + magnitude.shape[1],
            before.samples + waveform.shape[1],
        )
        return waveform

    @torch.no_grad()
    def flush(self, length=None):
        """End the stream: give what remains, and start anew.

        Arguments
        ---------
        length : int, optional
            Samples of the whole stream, those that have come out included.
            Default: up to the centre of the last frame.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]
        """
        config = self.inverter.config
        if length is not None:
            length = operator.index(length)
        inverter, synthesis, frames, samples = self.state
        self.reset()
        if inverter is None:
            return torch.zeros(1, length or 0)
        if length is None:
            length = config.num_samples(frames)
        head, synthesis = overlap_add_step(
            self.inverter.flush(inverter).added, config, synthesis
        )
        waveform = torch.cat([head, synthesis_flush(config, synthesis)], 1)
        missing = length - samples - waveform.shape[1]
        missing = max(missing, -waveform.shape[1])
        return torch.nn.functional.pad(waveform, (0, missing))

    def reset(self):
        """Forget everything, as a new stream."""
        self.state = StreamState()

    def to(self, device):
        """Move the state to a device; the inverter is moved on its own."""
        self.state = _map_tensors(lambda x: x.to(device), self.state)
        return self


def _map_tensors(function, state):
    """Apply a function to every tensor of nested (named) tuples."""
    if isinstance(state, torch.Tensor):
        return function(state)
    if not isinstance(state, tuple):
        return state
    values = [_map_tensors(function, value) for value in state]
    return (*values,) if type(state) is tuple else type(state)(*values)


def _own(tensor):
    """The tensor, but not the chunk that it may be a part of."""
    if tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone()


# So that torch.load(..., weights_only=True), its default, reads a state.
torch.serialization.add_safe_globals(
    [StreamState, InverterState, Heard, SynthesisState]
)

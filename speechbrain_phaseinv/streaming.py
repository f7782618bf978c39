"""Frames in, samples out: spectrogram inversion online."""

import operator
from typing import NamedTuple, Optional

import torch

from .backends import eager
from .checks import check_magnitude
from .inversion import InverterState
from .prepared import PreparedStep


class StreamState(NamedTuple):
    """All that a stream remembers.

    Attributes
    ----------
    inverter : InverterState, optional
        Of `SpectrogramInverter.step`. None before the first frame.
    frames : int
        Frames that have gone in.
    samples : int
        Samples that have come out.

    Its tensors may be of inference mode: to train through them, take their
    ``clone()``.
    """

    inverter: Optional[InverterState] = None
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

    All that the stream remembers is in `state`, an immutable value: keep it,
    to go back to this point later; hand it to another stream of the same
    kind of inverter, to continue there; save it with ``torch.save``. A state
    names the inverter that it belongs to, and another one refuses it.

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
        self.reset()

    @property
    def state(self):
        """All that the stream remembers, as a `StreamState`."""
        inverter = self._before
        if self._prepared is not None:
            inverter = self._prepared.state()
        return StreamState(inverter, self._frames, self._samples)

    @state.setter
    def state(self, state):
        # What the inverter remembers; once the next frames are prepared for,
        # what it remembered then.
        self._before, self._frames, self._samples = state
        self._prepared = None

    def __getstate__(self):
        """A copy has arrays of its own: it prepares for itself."""
        own = {"_before": self.state.inverter, "_prepared": None}
        return {**self.__dict__, **own}

    @property
    def batch(self):
        """Signals that go in side by side; None before the first frame."""
        return len(self._before.sizes) if self._before is not None else None

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
        inverter = self.state.inverter
        return sum(x.nbytes for x in inverter.tensors()) if inverter else 0

    def num_samples_ready(self, frames=1):
        """Samples that the next `push` of that many frames will return."""
        now = self._prepared or self._before
        committed = now.position if now is not None else 0
        frames += now.waiting if now is not None else 0
        schedule, config = self.inverter.schedule, self.inverter.config
        hops = committed + schedule.num_passes(frames) * schedule.stride
        return max(hops * config.hop_length - config.trim, 0) - self._samples

    @eager
    def push(self, magnitude):
        """Take the next frames, return the samples that they complete.

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
        TypeError, ValueError
            If the magnitudes are negative or not finite, or their shape does
            not fit. The stream is then as it was before. (Interrupted from
            the keyboard, it begins anew.)
        """
        try:
            waveform = self._push(magnitude)
        except KeyboardInterrupt:  # arrays may be half written
            self.reset()
            raise
        self._frames += magnitude.shape[1]
        self._samples += waveform.shape[1]
        return waveform

    def _push(self, magnitude):
        """The samples of the next frames, by the short way if there is one."""
        prepared = self._prepared
        waveform = None if prepared is None else prepared.push(magnitude)
        if waveform is None:
            magnitude = check_magnitude(magnitude, self.inverter.config)
            # In the form that the check gives them, they may fit.
            waveform = None if prepared is None else prepared.push(magnitude)
        return self._step(magnitude) if waveform is None else waveform

    # Inference mode takes a tenth off a frame's time.
    @torch.inference_mode()
    def _step(self, magnitude):
        """The samples of the next frames by the inverter's own step.

        Frames that come alone find the next step prepared.
        """
        before, count = self.state.inverter, magnitude.shape[1]
        waveform, after = self.inverter.step(magnitude, before)
        waveform = self._from_first_centre(waveform, before)
        if after is not None and count > 1:
            after = after.map(_own)
        prepared = None
        if count <= self.inverter.stride and PreparedStep.possible(
            self.inverter, after
        ):
            prepared = PreparedStep(self.inverter, after)
        self._before, self._prepared = after, prepared
        return waveform

    @torch.no_grad()
    def flush(self, length=None):
        """End the stream: return what remains, and start anew.

        Arguments
        ---------
        length : int, optional
            Samples of the whole stream, those that have come out included.
            Default: up to the centre of the last frame.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]
        """
        if length is not None:
            length = operator.index(length)
        inverter, frames, samples = self.state
        if inverter is None:
            return torch.zeros(1, length or 0)
        if length is None:
            length = self.inverter.config.num_samples(frames)
        waveform = self.inverter.flush(inverter)
        waveform = self._from_first_centre(waveform, inverter)
        self.reset()
        missing = length - samples - waveform.shape[1]
        missing = max(missing, -waveform.shape[1])
        return torch.nn.functional.pad(waveform, (0, missing))

    @torch.inference_mode(False)
    def _from_first_centre(self, waveform, before):
        """The same samples, less those before the first frame's centre.

        An ordinary tensor, with which anything may be done.
        """
        config = self.inverter.config
        committed = before.position if before is not None else 0
        skip = max(config.trim - committed * config.hop_length, 0)
        return waveform[:, skip:].clone()

    def reset(self):
        """Forget everything, as a new stream."""
        self.state = StreamState()

    def to(self, device):
        """Move the state to a device; the inverter is moved on its own."""
        if self.state.inverter is not None:
            moved = self.state.inverter.map(lambda x: x.to(device))
            self.state = self.state._replace(inverter=moved)
        return self


def _own(tensor):
    """The tensor, but not the chunk that it may be a part of."""
    if tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone()


# So that torch.load(..., weights_only=True), its default, reads a state.
torch.serialization.add_safe_globals([StreamState, InverterState])

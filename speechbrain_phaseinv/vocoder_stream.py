"""A vocoder online: frames of spectrograms in, samples out."""

from typing import NamedTuple, Optional

import torch

from .streaming import InversionStream, StreamState


class VocoderState(NamedTuple):
    """All that a stream remembers.

    Attributes
    ----------
    front_end : torch.Tensor, optional
        Of the front end, where that has a state.
    last : torch.Tensor, [batch, 1, freq], optional
        Magnitudes of the newest frame. None before the first one.
    inversion : StreamState
        Of the inversion.
    """

    front_end: Optional[torch.Tensor] = None
    last: Optional[torch.Tensor] = None
    inversion: StreamState = StreamState()


class VocoderStream:
    """Vocode a spectrogram while it is being made.

    `PhaseInversionVocoder.stream` makes one. All samples of a stream together
    are those of the offline call, bit for bit, however the frames are chunked;
    `InversionStream` has the one exception. A chunk says less than a whole
    spectrogram, so that only impossible values are refused, and none is warned
    about. What the stream remembers is in `state`, an immutable value.

    Arguments
    ---------
    prepare : callable
        Spectrogram [batch, bands, time] to frames [batch, time, bands].
    front_end : callable
        Frames and a state to magnitudes, [batch, time, freq], and a state.
    inverter : SpectrogramInverter
        How magnitudes are inverted.
    first_centre : int
        Sample on which the first frame is centred.

    Example
    -------
    >>> from speechbrain_phaseinv.inference import PhaseInversionVocoder
    >>> vocoder = PhaseInversionVocoder.from_hparams("mel", mel="vocos-24000")
    >>> stream = vocoder.stream()
    >>> mel = 2 * torch.randn(1, 100, 10) - 6
    >>> parts = [stream.push(frame) for frame in mel.split(1, dim=2)]
    >>> [part.shape[2] for part in parts]
    [0, 0, 0, 256, 256, 256, 256, 256, 256, 256]
    >>> waveform = torch.cat([*parts, stream.flush()], dim=2)
    >>> torch.equal(waveform, vocoder(mel))
    True
    """

    def __init__(self, prepare, front_end, inverter, first_centre=0):
        self._prepare = prepare
        self._front_end = front_end
        self._stream = InversionStream(inverter)
        hop = inverter.config.hop_length
        self._first = first_centre
        # Samples before the first centre belong to the signal: the first
        # frame goes on before, and the last one after.
        self._more = -(-first_centre // hop)
        self._skip = self._more * hop - first_centre
        self.state = VocoderState()

    @property
    def latency_samples(self):
        """Algorithmic latency, as of `InversionStream`."""
        return self._stream.latency_samples

    @torch.no_grad()
    def push(self, spectrogram):
        """Take the next frames, return the samples that they complete.

        Arguments
        ---------
        spectrogram : torch.Tensor, [batch, bands, time]
            As the vocoder takes it; any number of frames, zero included.

        Returns
        -------
        waveforms : torch.Tensor, [batch, 1, samples]
            Possibly of no samples.

        Raises
        ------
        TypeError, ValueError
            If the frames cannot be the vocoder's. The stream is then as it
            was before.
        """
        frames = self._prepare(spectrogram)
        state = self.state
        if state.last is not None and len(state.last) != len(frames):
            raise ValueError(
                f"expected a batch of {len(state.last)}, as in the frames "
                f"before, got {len(frames)}. Use a stream for each, or "
                "reset() this one."
            )
        if frames.shape[1] == 0:
            return frames.new_zeros(len(frames), 1, 0)
        magnitude, front_end = self._front_end(frames, state.front_end)
        last = magnitude[:, -1:].clone()
        if state.last is None:
            before = magnitude[:, :1].expand(-1, self._more, -1)
            magnitude = torch.cat([before, magnitude], dim=1)
        self._stream.state = state.inversion
        waveform = self._stream.push(magnitude)
        self.state = VocoderState(front_end, last, self._stream.state)
        return self._own(waveform, state.inversion.samples)

    @torch.no_grad()
    def flush(self):
        """End the stream: return what remains, and start anew.

        Returns
        -------
        waveforms : torch.Tensor, [batch, 1, samples]
        """
        _, last, inversion = self.state
        if last is None:
            return torch.zeros(1, 1, 0)
        hop = self._stream.inverter.config.hop_length
        end = hop * (inversion.frames - 1) + self._first  # of all samples
        self._stream.state = inversion
        waveform = self._stream.push(last.expand(-1, self._more, -1))
        waveform = torch.cat([waveform, self._stream.flush(end)], dim=1)
        self.reset()
        waveform = waveform[:, : max(end - inversion.samples, 0)]
        return self._own(waveform, inversion.samples)

    def reset(self):
        """Forget everything, as a new stream."""
        self.state = VocoderState()

    def _own(self, waveform, position):
        """Those samples from a position on that belong to the signal."""
        return waveform[:, max(self._skip - position, 0) :].unsqueeze(1)


# So that torch.load(..., weights_only=True), its default, reads a state.
torch.serialization.add_safe_globals([VocoderState])

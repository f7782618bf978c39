"""A vocoder online: frames of spectrograms in, samples out."""

from typing import NamedTuple, Optional

import torch

from ..checks import check_batch
from ..streaming import InversionStream, StreamState


class VocoderState(NamedTuple):
    """All that a stream remembers.

    Attributes
    ----------
    front_end : torch.Tensor, optional
        Of the front end, where that has a state.
    inversion : StreamState
        Of the inversion.
    """

    front_end: Optional[torch.Tensor] = None
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

    def __init__(self, prepare, front_end, inverter):
        self._prepare = prepare
        self._front_end = front_end
        self._stream = InversionStream(inverter)
        self._before = None

    @property
    def state(self):
        """All that the stream remembers, as a `VocoderState`."""
        return VocoderState(self._before, self._stream.state)

    @state.setter
    def state(self, state):
        self._before, self._stream.state = state

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
        check_batch(frames, self._stream.batch)
        if frames.shape[1] == 0:
            return frames.new_zeros(len(frames), 1, 0)
        magnitude, after = self._front_end(frames, self._before)
        waveform = self._stream.push(magnitude)
        self._before = after
        return waveform.unsqueeze(1)

    @torch.no_grad()
    def flush(self):
        """End the stream: return what remains, and start anew.

        Returns
        -------
        waveforms : torch.Tensor, [batch, 1, samples]
        """
        self._before = None
        return self._stream.flush().unsqueeze(1)

    def reset(self):
        """Forget everything, as a new stream."""
        self.state = VocoderState()


# So that torch.load(..., weights_only=True), its default, reads a state.
torch.serialization.add_safe_globals([VocoderState])

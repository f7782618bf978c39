"""Streaming enhancement: noisy samples in, enhanced samples out."""

import operator

import torch

from .checks import check_magnitude, check_real
from .noisy_phase import direction, flush_towards, observe, step_towards
from .stft import (
    analysis_flush,
    analysis_step,
    normalise,
    windowed_frames,
)


class EnhancementStream:
    """Enhances a stream hop by hop; made by `Resynthesizer.stream`.

    The samples are those of the offline call on a recording that zeros
    surround (``pad_mode="constant"``, SpeechBrain's), bit for bit, however
    the samples are chunked, if `enhance` gives the same for a frame whether
    it comes alone or not.

    Arguments
    ---------
    inverter : SpectrogramInverter
        Of the transform.
    enhance : callable
        Takes noisy magnitudes, [batch, time, freq], of the next frames, zero
        frames never, and gives enhanced ones of the same shape. It keeps a
        state of its own if it needs one.
    phase : str
        "learnt", "model", "noisy" or "both": see `Resynthesizer`.
    trust : float
        Weight of the noisy phase with "both".
    gain : float
        Factor from the magnitudes of `enhance` to those of `analysis`.

    Example
    -------
    >>> from speechbrain_phaseinv import SpectrogramInverter, StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> stream = EnhancementStream(SpectrogramInverter(config), torch.relu)
    >>> stream.latency_samples  # 32 ms
    512
    >>> [stream.push(torch.randn(1, 128)).shape[1] for _ in range(6)]
    [0, 0, 0, 0, 128, 128]
    """

    def __init__(self, inverter, enhance, phase="both", trust=5.0, gain=1.0):
        self.inverter = inverter
        self.enhance = enhance
        self.phase = phase
        self.trust = trust
        self.gain = gain
        self.reset()

    def reset(self):
        """Forget everything, as a new stream."""
        self.pending = None  # samples, of `analysis_step`
        # Of `step_towards` or, with "model", of the inverter; with "noisy" the
        # overlap-add.
        self.state = None
        self.taken = self.given = self.hops = 0

    @property
    def latency_samples(self):
        """Algorithmic latency, from a sample's arrival to its departure.

        The frame that a sample is in has to be full, and the frames have to
        come that overlap it or that the inverter waits for.
        """
        config = self.inverter.config
        after = config.n_fft - config.window_offset - config.win_length
        if self.phase == "noisy":
            return config.synthesis_latency + after
        return self.inverter.latency + after

    @torch.no_grad()
    def push(self, noisy):
        """Take the next samples, return those that they complete.

        Arguments
        ---------
        noisy : torch.Tensor, [batch, samples]
            Any number of samples, zero included.

        Returns
        -------
        enhanced : torch.Tensor, [batch, samples]
            Possibly of no samples.

        Raises
        ------
        TypeError, ValueError
            If `noisy` is no batch of finite recordings, or `enhance` gives no
            magnitudes. The stream is then as it was before.
        """
        noisy = check_real(noisy, "noisy recordings")
        if noisy.dim() != 2 or not torch.isfinite(noisy).all():
            raise ValueError(
                "expected finite noisy samples [batch, samples], got shape "
                f"{list(noisy.shape)}."
            )
        if self.pending is not None and len(noisy) != len(self.pending):
            raise ValueError(
                f"expected a batch of {len(self.pending)}, as before, got "
                f"{len(noisy)}: use a stream for each, or reset() this one."
            )
        stft, pending = analysis_step(noisy, self.inverter.config, self.pending)
        waveform = self._advance(stft)
        self.pending = pending
        self.taken += noisy.shape[1]
        return waveform

    @torch.no_grad()
    def flush(self, length=None):
        """End the stream: return what remains, and start anew.

        Arguments
        ---------
        length : int, optional
            Samples of the whole stream, those that have come out included.
            Default: as many as have gone in.

        Returns
        -------
        enhanced : torch.Tensor, [batch, samples]
        """
        length = self.taken if length is None else operator.index(length)
        if self.pending is None:
            return torch.zeros(1, length)
        stft = analysis_flush(self.inverter.config, self.pending)
        pieces = [self._advance(stft)]
        if self.state is not None:
            pieces.append(self._rest())
        waveform = torch.cat(pieces, dim=1)
        missing = max(length - self.given, -waveform.shape[1])
        self.reset()
        return torch.nn.functional.pad(waveform, (0, missing))

    def _advance(self, stft):
        """Samples that the next noisy frames complete."""
        if stft.shape[1] == 0:
            return stft.real.new_zeros(len(stft), 0)
        config = self.inverter.config
        noisy = stft.abs() / self.gain
        magnitude = check_magnitude(self.enhance(noisy), config)
        if magnitude.shape != noisy.shape:
            raise ValueError(
                f"expected enhanced magnitudes {list(noisy.shape)}, got "
                f"{list(magnitude.shape)}."
            )
        magnitude = self.gain * magnitude
        if self.phase == "model":
            waveform, self.state = self.inverter.step(magnitude, self.state)
            return self._emit(waveform)
        if self.phase == "noisy":
            signal = self._overlap_add(magnitude * direction(stft))
        else:
            known = observe(self.inverter, stft, magnitude, self.trust)
            signal, self.state = step_towards(
                self.inverter, magnitude, *known, self.state
            )
        return self._emit(normalise(signal, config, self.hops))

    def _overlap_add(self, stft):
        """Hops that no later frame reaches, oldest frame first."""
        hop = self.inverter.config.hop_length
        frames = windowed_frames(stft, self.inverter.config)
        if self.state is None:
            self.state = torch.zeros_like(frames[:, 0, hop:])
        hops = []
        for frame in frames.unbind(1):
            signal = torch.nn.functional.pad(self.state, (0, hop)) + frame
            hops.append(signal[:, :hop])
            self.state = signal[:, hop:]
        return torch.cat(hops, dim=1)

    def _rest(self):
        """Samples to the end of the last frame's window."""
        if self.phase == "model":
            return self._emit(self.inverter.flush(self.state))
        if self.phase == "noisy":
            count, signal = self.hops, self.state
        else:
            inner = self.state.inverter
            count = inner.position + inner.waiting
            signal = flush_towards(self.inverter, self.state)
        ends = torch.tensor([count], device=signal.device)
        config = self.inverter.config
        return self._emit(normalise(signal, config, self.hops, ends))

    def _emit(self, waveform):
        """The next samples, from sample 0 on."""
        config = self.inverter.config
        skip = max(config.trim - self.hops * config.hop_length, 0)
        self.hops += waveform.shape[1] // config.hop_length
        waveform = waveform[:, skip:].clone()
        self.given += waveform.shape[1]
        return waveform

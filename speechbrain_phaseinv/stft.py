"""The STFT and its inverse, whole or as streams.

Both ends follow a `StftConfig`. What a stream remembers goes in and comes out
of each step, and whole signals are streams of one step.
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from .config import StftConfig, steady_envelope

__all__ = [
    "StftConfig",
    "SynthesisState",
    "analysis",
    "analysis_flush",
    "analysis_step",
    "overlap_add",
    "overlap_add_step",
    "synthesis",
    "synthesis_flush",
    "synthesis_step",
    "uncentred_analysis",
    "windowed_frames",
]

# Overlap-add divides by the sum of the squared windows. Past the last frame's
# centre that sum runs out to zero, and dividing by it would turn the slightest
# inconsistency of the spectrogram into a click. Below this fraction of its
# maximum the division stops, and the samples fade out instead.
ENVELOPE_FLOOR = 1e-2


def analysis(waveform, config, pad_mode="reflect"):
    """Short-time Fourier transform.

    Arguments
    ---------
    waveform : torch.Tensor, [batch, samples]
        Real signal.
    config : StftConfig
        The transform.
    pad_mode : str
        What precedes and follows the signal: "reflect" (torchaudio) or
        "constant" (zeros, SpeechBrain). A signal too short to be reflected,
        at most ``n_fft // 2`` samples, is padded with zeros.

    Returns
    -------
    stft : torch.Tensor, [batch, time, freq], complex
        Equal to ``torch.stft(..., center=True)`` with the last axes swapped.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> analysis(torch.randn(2, 16000), config).shape
    torch.Size([2, 126, 257])
    """
    if waveform.dim() != 2 or not waveform.is_floating_point():
        raise ValueError(
            "expected a real waveform [batch, samples], got "
            f"{waveform.dtype} of shape {list(waveform.shape)}."
        )
    half = config.n_fft // 2
    if pad_mode == "reflect" and waveform.shape[-1] <= half:
        pad_mode = "constant"
    if waveform.shape[0] == 0:  # which cannot be reflected
        pad_mode = "constant"
    padded = torch.nn.functional.pad(
        waveform.unsqueeze(1), (half, half), mode=pad_mode
    ).squeeze(1)
    return uncentred_analysis(padded, config)


def analysis_step(waveform, config, state=None):
    """The frames of a stream that are complete once these samples are in.

    Arguments
    ---------
    waveform : torch.Tensor, [batch, samples]
        The next samples, any number, zero included.
    config : StftConfig
        The transform.
    state : torch.Tensor, [batch, pending], optional
        What the previous call returned; None at the stream's start, which
        zeros precede.

    Returns
    -------
    stft : torch.Tensor, [batch, time, freq], complex
        Frame ``t`` once ``t * hop_length + (n_fft + 1) // 2`` samples are in.
        With `analysis_flush` at the end, the same frames as
        ``analysis(..., pad_mode="constant")``.
    state : torch.Tensor, [batch, pending]
        For the next call.
    """
    if state is None:
        state = waveform.new_zeros(waveform.shape[0], config.n_fft // 2)
    samples = torch.cat([state, waveform], dim=-1)
    hop = config.hop_length
    stft = uncentred_analysis(samples, config)
    frames = stft.shape[1]
    if frames == 0:
        return stft, samples
    # A copy: a view would keep all samples alive.
    return stft, samples[:, frames * hop :].clone()


def analysis_flush(config, state):
    """The frames that are centred on a sample, but not complete yet."""
    zeros = state.new_zeros(state.shape[0], config.n_fft // 2)
    stft, _ = analysis_step(zeros, config, state)
    return stft


class SynthesisState(NamedTuple):
    """Overlap-add between two calls of `synthesis_step`.

    Attributes
    ----------
    signal : torch.Tensor, [batch, win_length - hop_length]
        Windowed samples that still wait for frames to overlap them.
    envelope : torch.Tensor, [1 or batch, win_length - hop_length]
        Their sum of squared windows.
    skip : int
        Samples still to be dropped: those before the first frame's centre.
    """

    signal: torch.Tensor
    envelope: torch.Tensor
    skip: int


def windowed_frames(stft, config):
    """What each frame adds to the signal: its inverse transform, windowed.

    Arguments
    ---------
    stft : torch.Tensor, [batch, time, freq], complex
        Spectrogram in the convention of `analysis`.
    config : StftConfig
        The transform.

    Returns
    -------
    frames : torch.Tensor, [batch, time, win_length]
        For `overlap_add_step`.

    Raises
    ------
    ValueError
        If the spectrogram's type or shape does not fit.
    """
    if (
        not stft.is_complex()
        or stft.dim() != 3
        or stft.shape[-1] != config.num_bins
    ):
        raise ValueError(
            "expected a complex spectrogram [batch, time, "
            f"{config.num_bins}], got {stft.dtype} of shape "
            f"{list(stft.shape)}; torch.stft has time last: use "
            ".transpose(1, 2)."
        )
    window = config.window_tensor(stft.dtype.to_real(), stft.device)
    if stft.numel():
        frames = torch.fft.irfft(stft, n=config.n_fft, dim=-1)
    else:  # which irfft refuses
        frames = stft.real.new_zeros(*stft.shape[:2], config.n_fft)
    if config.win_length < config.n_fft:
        start = config.window_offset
        frames = frames[..., start : start + config.win_length]
    return frames * window


def synthesis_step(stft, config, state=None, valid=None):
    """Turn frames into the samples that are final once those frames are in.

    Arguments
    ---------
    stft : torch.Tensor, [batch, time, freq], complex
        Any number of frames, zero included.
    config, state, valid
        As for `overlap_add_step`.

    Returns
    -------
    waveform, state
        As from `overlap_add_step`.

    Raises
    ------
    ValueError
        If the spectrogram's type or shape does not fit.
    """
    frames = windowed_frames(stft, config)
    return overlap_add_step(frames, config, state, valid)


def overlap_add_step(frames, config, state=None, valid=None):
    """Add up windowed frames, and divide by the sum of squared windows.

    Arguments
    ---------
    frames : torch.Tensor, [batch, time, win_length]
        Any number of frames, zero included, as from `windowed_frames`. They
        may be overwritten.
    config : StftConfig
        The transform.
    state : SynthesisState, optional
        What the previous call returned; None at the start of a stream.
    valid : torch.Tensor, [batch, time], bool, optional
        False where a frame is padding and is to be left out.

    Returns
    -------
    waveform : torch.Tensor, [batch, samples]
        The next samples of the signal, `hop_length` a frame once the stream
        is under way.
    state : SynthesisState
        To be passed to the next call, or to `synthesis_flush`.
    """
    window = config.window_tensor(frames.dtype, frames.device)
    if valid is not None:
        frames = frames * valid.unsqueeze(-1)
    if state is None:
        tail = config.synthesis_latency
        rows = 1 if valid is None else frames.shape[0]
        state = SynthesisState(
            frames.new_zeros(frames.shape[0], tail),
            frames.new_zeros(rows, tail),
            config.trim,
        )
    signal, signal_tail = _overlap_add(frames, config.hop_length, state.signal)
    envelope, envelope_tail = _envelope(
        config, window, state.envelope, frames.shape[1], valid
    )
    waveform = signal / envelope
    skipped = min(state.skip, waveform.shape[-1])
    state = SynthesisState(signal_tail, envelope_tail, state.skip - skipped)
    return waveform[..., skipped:] if skipped else waveform, state


def synthesis_flush(config, state):
    """The samples that remain after the last frame, [batch, samples]."""
    envelope = state.envelope.clamp_min(_envelope_floor(config))
    return (state.signal / envelope)[..., state.skip :]


def synthesis(stft, config, length=None, lengths=None):
    """Inverse short-time Fourier transform of any length.

    Arguments
    ---------
    stft : torch.Tensor, [batch, time, freq], complex
        Spectrogram in the convention of `analysis`.
    config : StftConfig
        The transform.
    length : int, optional
        Samples to return. Default: ``hop_length * (time - 1)``, the distance
        from the first frame's centre to the last one's. Samples that no
        frame sees are zeros.
    lengths : torch.Tensor, [batch], int, optional
        Valid frames of each signal. Frames beyond are left out, so that a
        padded signal comes out as it would alone, followed by zeros.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> x = torch.randn(1, 1000)
    >>> y = synthesis(analysis(x, config), config, length=1000)
    >>> torch.allclose(x, y, atol=1e-5)
    True
    """
    return overlap_add(windowed_frames(stft, config), config, length, lengths)


def overlap_add(frames, config, length=None, lengths=None):
    """As `synthesis`, of windowed frames, [batch, time, win_length]."""
    num_frames = frames.shape[1]
    if length is None:
        length = config.num_samples(num_frames)
    if length < 0:
        raise ValueError(f"length must not be negative, got {length}.")
    steps = torch.arange(num_frames, device=frames.device)
    valid = None if lengths is None else steps < lengths.unsqueeze(-1)
    head, state = overlap_add_step(frames, config, valid=valid)
    waveform = torch.cat([head, synthesis_flush(config, state)], dim=-1)
    if lengths is not None:
        # Alone, an utterance ends with its own last frame's centre.
        steps = torch.arange(waveform.shape[-1], device=frames.device)
        ends = config.hop_length * (lengths - 1).clamp_min(0)
        shorter = (lengths < num_frames).unsqueeze(-1)
        waveform = waveform.masked_fill(shorter & (steps >= ends[:, None]), 0)
    missing = length - waveform.shape[-1]
    return torch.nn.functional.pad(waveform, (0, missing))


def uncentred_analysis(padded, config):
    """Transform whatever frames fit, [batch, samples]."""
    frames = (padded.shape[1] - config.n_fft) // config.hop_length + 1
    if frames < 1 or padded.shape[0] == 0:  # which the transform refuses
        shape = (padded.shape[0], max(frames, 0), config.num_bins)
        return padded.new_zeros(shape, dtype=padded.dtype.to_complex())
    window = config.window_tensor(padded.dtype, padded.device)
    start = config.window_offset
    rest = config.n_fft - config.win_length - start
    if start or rest:
        window = torch.nn.functional.pad(window, (start, rest))
    frames = padded.unfold(-1, config.n_fft, config.hop_length)
    return torch.fft.rfft(frames * window)


def _overlap_add(frames, hop, tail):
    """Add overlapping frames [batch, time, width] onto what is pending.

    The frames may be overwritten.

    Cut each frame into blocks of one hop: block r of frame t falls on output
    block t + r. For a given output block the loop adds the oldest frame first,
    which is the order in which a stream receives them; so the sums, and their
    rounding, are the same however the frames are chunked.
    """
    batch, time, width = frames.shape
    if time == 1:  # the same sums, all at once
        total = frames[:, 0]
        total[:, : width - hop] += tail
        return total[:, :hop], total[:, hop:]
    blocks = -(-width // hop)
    padded = torch.nn.functional.pad(frames, (0, blocks * hop - width))
    padded = padded.reshape(batch, time, blocks, hop)
    total = torch.nn.functional.pad(
        tail, (0, (time + blocks - 1) * hop - tail.shape[-1])
    )
    total = total.reshape(batch, time + blocks - 1, hop)
    for r in reversed(range(blocks)):
        total[:, r : r + time] += padded[:, :, r]
    total = total.reshape(batch, (time + blocks - 1) * hop)
    done = time * hop
    return total[:, :done], total[:, done : done + width - hop]


def _envelope(config, window, before, time, valid):
    """Overlap-add of the squared windows, and what is pending of it.

    What is ready, to be divided by, stops at the floor. In a stream under way
    it is the same from hop to hop. Then its tail is the very tensor that is
    kept for that, and nothing has to be added.
    """
    hop, tail = _steady_hop(config, window.dtype, str(window.device))
    if before is tail and valid is None:
        return hop if time == 1 else hop.repeat(time), tail
    squares = window.square().expand(1, time, -1)
    if valid is not None:
        squares = squares * valid.unsqueeze(-1)
    envelope, pending = _overlap_add(squares, config.hop_length, before)
    if valid is None and torch.equal(pending, tail):
        pending = tail
    return envelope.clamp_min(_envelope_floor(config)), pending


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _steady_hop(config, dtype, device):
    """One hop of what `_envelope` gives for ever, and the tail after it."""
    window = config.window_tensor(dtype, device)
    hop = config.hop_length
    frames = -(-config.win_length // hop)
    squares = window.square().expand(1, frames, -1)
    start = squares.new_zeros(1, config.synthesis_latency)
    envelope, tail = _overlap_add(squares, hop, start)
    ready = envelope[0, -hop:].clamp_min(_envelope_floor(config))
    return ready, tail.clone()  # a view would not count as a stream's own


@lru_cache(maxsize=64)
def _envelope_floor(config):
    """Where the division stops."""
    return ENVELOPE_FLOOR * float(steady_envelope(config).max())

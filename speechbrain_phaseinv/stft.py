"""The STFT and its inverse, whole or as streams.

Both ends follow a `StftConfig`. What a stream remembers goes in and comes out
of each step, and whole signals are streams of one step.
"""

import torch

from .checks import check_lengths
from .config import StftConfig, steady_envelope
from .windows import constant

__all__ = [
    "StftConfig",
    "analysis",
    "analysis_flush",
    "analysis_step",
    "finish",
    "sum_of_squares",
    "synthesis",
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
        no longer than the padding, is padded with zeros.

    Returns
    -------
    stft : torch.Tensor, [batch, time, freq], complex
        Equal to that of ``torch.stft`` with the last axes swapped.

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
    around = config.pad_length
    if pad_mode == "reflect" and waveform.shape[-1] <= around:
        pad_mode = "constant"
    if waveform.shape[0] == 0:  # which cannot be reflected
        pad_mode = "constant"
    padded = torch.nn.functional.pad(
        waveform.unsqueeze(1), (around, around), mode=pad_mode
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
        Frame ``t`` once ``t * hop_length + n_fft`` samples are in, less the
        padding.
        With `analysis_flush` at the end, the same frames as
        ``analysis(..., pad_mode="constant")``.
    state : torch.Tensor, [batch, pending]
        For the next call.
    """
    if state is None:
        state = waveform.new_zeros(waveform.shape[0], config.pad_length)
    samples = torch.cat([state, waveform], dim=-1)
    hop = config.hop_length
    stft = uncentred_analysis(samples, config)
    frames = stft.shape[1]
    if frames == 0:
        return stft, samples
    # A copy: a view would keep all samples alive.
    return stft, samples[:, frames * hop :].clone()


def analysis_flush(config, state):
    """The frames that need the padding at the end."""
    zeros = state.new_zeros(state.shape[0], config.pad_length)
    stft, _ = analysis_step(zeros, config, state)
    return stft


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


def synthesis(stft, config, length=None, lengths=None):
    """Inverse short-time Fourier transform of any length.

    Arguments
    ---------
    stft : torch.Tensor, [batch, time, freq], complex
        Spectrogram in the convention of `analysis`.
    config : StftConfig
        The transform.
    length : int, optional
        Samples to return. Default: ``config.num_samples(time)``; of centred
        frames, ``hop_length * (time - 1)``, the distance from the first
        frame's centre to the last one's. Samples that no frame sees are
        zeros.
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
    frames = windowed_frames(stft, config)
    count = frames.shape[1]
    ends = None
    if lengths is not None:
        ends = check_lengths(lengths, frames)
        steps = torch.arange(count, device=frames.device)
        frames = frames * (steps < ends.unsqueeze(-1)).unsqueeze(-1)
    signal = _overlap_add(frames, config.hop_length)
    limits = ends
    if ends is None:
        limits = torch.tensor([count], device=signal.device)
    waveform = normalise(signal, config, 0, limits)
    return finish(waveform, config, count, length, ends)


def finish(waveform, config, num_frames, length=None, ends=None):
    """Cut samples that begin with the first frame's window to a length.

    Arguments
    ---------
    waveform : torch.Tensor, [batch, samples]
        To the end of the last frame's window.
    config : StftConfig
        The transform.
    num_frames : int
        How many frames the longest signal has.
    length : int, optional
        As in `synthesis`.
    ends : torch.Tensor, [batch], int, optional
        Frames of each signal.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]
    """
    if length is None:
        length = config.num_samples(num_frames)
    if length < 0:
        raise ValueError(f"length must not be negative, got {length}.")
    waveform = waveform[:, config.trim :]
    if ends is not None:
        # Alone, a signal ends with its own last frame.
        steps = torch.arange(waveform.shape[1], device=waveform.device)
        stops = config.num_samples(ends).unsqueeze(-1)
        shorter = (ends < num_frames).unsqueeze(-1)
        waveform = waveform.masked_fill(shorter & (steps >= stops), 0)
    missing = length - waveform.shape[1]
    if missing > 0:
        return torch.nn.functional.pad(waveform, (0, missing))
    return waveform[:, :length].contiguous()


def normalise(signal, config, first, ends=None):
    """Divide an overlap-add by the sum of the squared windows.

    Arguments
    ---------
    signal : torch.Tensor, [batch, samples]
        Overlap-add of hops from the `first` on.
    config : StftConfig
        The transform.
    first : int
        The hop, counted from the stream's start.
    ends : torch.Tensor, [batch], int, optional
        Frames of each signal in all. Default: none ends.

    Returns
    -------
    waveform : torch.Tensor, [batch, samples]
    """
    batch, length = signal.shape
    hop = config.hop_length
    hops = -(-length // hop)
    envelope = sum_of_squares(config, first, hops, ends, signal.dtype)
    envelope = envelope.to(signal.device)
    if length == hops * hop:  # as mostly: no copy of a steady envelope
        return (signal.reshape(batch, hops, hop) / envelope).flatten(1)
    return signal / envelope.flatten(1)[:, :length]


def sum_of_squares(config, first, count, ends=None, dtype=torch.float32):
    """What the overlap-add of some hops is divided by.

    Hop h holds the first samples of frame h's window. The sum of the squared
    windows runs in with the first frames of a stream and out with the last.

    Arguments
    ---------
    config : StftConfig
        The transform.
    first, count : int
        The hops.
    ends : torch.Tensor, [batch], int, optional
        Frames of each signal in all. Default: none ends.
    dtype : torch.dtype
        Of the result; the sums are in double precision.

    Returns
    -------
    envelope : torch.Tensor, [batch or 1, count, hop_length]
        Not below `ENVELOPE_FLOOR` of its largest value.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=8, hop_length=4)
    >>> sum_of_squares(config, 0, 3)[0, :, 0]
    tensor([0.0100, 1.0000, 1.0000])
    """
    if ends is None:
        table = _table(config, dtype)
        if first >= len(table) - 1:
            return table[-1:].expand(count, -1).unsqueeze(0)
        rows = torch.arange(first, first + count, device=table.device)
        rows = rows.clamp_max(len(table) - 1)
        return table[rows].unsqueeze(0)
    table = _blocks(config).to(ends.device)
    hops = first + torch.arange(count, device=ends.device)
    total = 0
    for r in reversed(range(len(table))):
        frame = hops - r
        there = (frame >= 0) & (frame < ends.unsqueeze(-1))
        total = total + there.unsqueeze(-1) * table[r]
    return total.clamp_min(_envelope_floor(config)).to(dtype)


def _blocks(config):
    """The squared window in blocks of one hop, [blocks, hop], double."""
    squares = config.window_tensor(torch.float64).square()
    fill = -config.win_length % config.hop_length
    squares = torch.nn.functional.pad(squares, (0, fill))
    return squares.reshape(-1, config.hop_length)


@constant
def steady_after(config):
    """Hops from which on all samples come out, by the same sum of squares."""
    return max(len(_blocks(config)), -(-config.trim // config.hop_length))


@constant
def _table(config, dtype):
    """The sum of squares at the start of a stream, until it is steady."""
    count = len(_blocks(config))
    never = torch.tensor([count + 1])
    return sum_of_squares(config, 0, count, never, dtype)[0]


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


def _overlap_add(frames, hop):
    """Add overlapping frames, [batch, time, width], oldest first.

    Cut each frame into blocks of one hop: block r of frame t falls on output
    block t + r.
    """
    batch, time, width = frames.shape
    blocks = -(-width // hop)
    padded = torch.nn.functional.pad(frames, (0, blocks * hop - width))
    padded = padded.reshape(batch, time, blocks, hop)
    total = 0
    for r in reversed(range(blocks)):
        around = (0, 0, r, blocks - 1 - r)
        total = total + torch.nn.functional.pad(padded[:, :, r], around)
    length = max(time - 1, 0) * hop + width if time else 0
    return total.flatten(1)[:, :length]


@constant
def _envelope_floor(config):
    """Where the division stops."""
    return ENVELOPE_FLOOR * float(steady_envelope(config).max())

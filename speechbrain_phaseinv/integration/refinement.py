"""Consistency with the samples already out, one hop after the other.

Least squares use what the magnitudes say of the phase's derivatives. The
overlap says more: frames share most of their samples, so that one whose
neighbours are known has little freedom left. Griffin and Lim (1984) go back
and forth between the wanted magnitudes and the nearest signal; Zhu, Beauregard
and Wyse (IEEE TASLP 15, 2007; RTISI-LA) do so in real time, frame by frame.

What is final, though, are the samples that are out, not the frames they came
from. A pass whose first hop is h works on these frames:

    h - 3 to h - 1  *reopened*: heard already, but some of what they add to the
                    signal is still to come
    h, ...          those that the pass *emits*, one hop each
    newest          with a `delay` of one hop, a frame that only looks ahead:
                    it counts for half, and is estimated anew when its turn
                    comes

An iteration overlaps them, as `stft.synthesis` does, takes the samples before
hop h as they are, transforms what came out, and keeps the phases of two frames
that follow each other: first of the newest two, then of the pair one frame
before, and so on to the oldest, and again. So each pair has what the last one
found, and a frame goes on learning from those that come after it, while the
latency is as without. RTISI-LA starts from no phase at all and needs many
iterations; after the least squares, one such sweep is enough.
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from ..config import steady_envelope
from ..stft import windowed_frames
from .least_squares import CANCELLED
from .offset import is_offset

# Frames that are heard already and worked on again. The first of them, of which
# a quarter is to come, is where least squares may begin.
REOPENED = 3

# The last open frame has none after it to overlap with. Where the sum of the
# squared windows is below this part of its maximum, samples fade out rather
# than be blown up.
OPEN_END_FLOOR = 0.1

# What is estimated anew when its turn comes counts for half in the signal.
AHEAD_COUNT = 0.5

# Magnitudes, relative to the largest of the open frames, whose phase is left
# to the least squares: in what comes back of them, roundings have a share.
INAUDIBLE = 1e-4


class Heard(NamedTuple):
    """What a pass has to know of the frames before it.

    Attributes
    ----------
    magnitude : torch.Tensor, [batch, REOPENED, freq]
        Of the last frames that were emitted.
    phasors : torch.Tensor, [batch, REOPENED, freq], complex
        Their phases as they are now, centre-referred.
    frames : torch.Tensor, [batch, REOPENED, win_length]
        The same frames, windowed, as they have been added to the signal.
    signal : torch.Tensor, [batch, REOPENED * hop + win_length - hop_length]
        Overlap-add from the beginning of those frames: what is out, then what
        still waits for frames.
    """

    magnitude: torch.Tensor
    phasors: torch.Tensor
    frames: torch.Tensor
    signal: torch.Tensor


def silence(magnitude, config):
    """`Heard` at the start of a stream, [batch, freq] being its first frame.

    Before it there was the same sound, of phase zero and far too soft (120 dB)
    to decide anything but a constant phase.
    """
    before = 1e-6 * magnitude.unsqueeze(1).repeat(1, REOPENED, 1)
    length = config.win_length
    out = (REOPENED - 1) * config.hop_length
    return Heard(
        before,
        torch.ones_like(before, dtype=before.dtype.to_complex()),
        before.new_zeros(len(before), REOPENED, length),
        before.new_zeros(len(before), out + length),
    )


def refine(phasors, magnitude, config, heard, n_iter, emitted=1):
    """One pass of iterations over the open frames.

    Arguments
    ---------
    phasors : torch.Tensor, [batch, answered, freq], complex
        Phases of the newest frames so far, centre-referred. Where they are
        more than the new ones, they replace those of reopened frames.
    magnitude : torch.Tensor, [batch, new, freq]
        Magnitudes of the frames that have not been heard.
    config : StftConfig
        The transform.
    heard : Heard
        What came before.
    n_iter : int
        Number of iterations, on two frames each.
    emitted : int
        How many of the new frames are heard from now on; the others, one at
        most, look ahead.

    Returns
    -------
    phasors : torch.Tensor, [batch, emitted, freq], complex
    frames : torch.Tensor, [batch, emitted, win_length]
        What each hop adds to the signal: a windowed frame, and in the first
        of them the changes of those before.
    heard : Heard
        For the next pass.

    Example
    -------
    A frame whose predecessors are known, and its phase to a radian or so:

    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> stft = analysis(torch.randn(1, 4000), config)
    >>> phasors = stft / stft.abs() * config.centre_phasor()
    >>> size, heard = stft.abs(), silence(stft[:, 0].abs(), config)
    >>> *_, heard = refine(phasors[:, :9], size[:, :9], config, heard, 0, 9)
    >>> true, size = phasors[:, 9:10], size[:, 9:10]
    >>> near = true * torch.exp(1j * torch.randn(257))
    >>> found, *_ = refine(near, size, config, heard, n_iter=20)
    >>> error = [(size * (x - true)).norm() for x in (near, found)]
    >>> error[1] < error[0] / 2
    tensor(True)
    """
    dtype, device = magnitude.dtype, magnitude.device
    hop, length = config.hop_length, config.win_length
    window = config.window_tensor(dtype, device)
    to_start = config.start_phasor(phasors.dtype, device)
    to_centre = config.centre_phasor(phasors.dtype, device)
    new, stop = magnitude.shape[1], REOPENED + emitted
    scale = overlap_scale(config, new, emitted, dtype, str(device))
    count = magnitude.new_tensor(counts(new, emitted)).unsqueeze(-1)
    sizes = torch.cat([heard.magnitude, magnitude], dim=1)
    counted, last = count * sizes, sizes.shape[1] - 1

    def added(phasors, first):
        """The frames of these phasors, from the `first` on."""
        size = counted[:, first : first + phasors.shape[1]]
        return windowed_frames(size * phasors * to_start, config)

    def overlap(frames):
        """What frames add to what was heard, and all that is heard then."""
        frames = torch.stack(frames, dim=1)
        changes = _later(frames[:, :REOPENED] - heard.frames, hop)
        frames = frames[:, REOPENED:]
        frames = torch.cat(
            [frames[:, :1] + changes.unsqueeze(1), frames[:, 1:]], dim=1
        )
        rest = frames.shape[1] * hop
        total = torch.nn.functional.pad(heard.signal, (0, rest))
        for i, frame in enumerate(frames.unbind(1), start=REOPENED):
            rest -= hop
            total = total + torch.nn.functional.pad(frame, (i * hop, rest))
        return frames, total

    kept = last + 1 - phasors.shape[1]
    frames = torch.cat([heard.frames[:, :kept], added(phasors, kept)], dim=1)
    phasors = torch.cat([heard.phasors[:, :kept], phasors], dim=1)
    frames, phasors = list(frames.unbind(1)), list(phasors.unbind(1))
    start = config.window_offset
    around = start, config.n_fft - start - length
    audible = sizes > INAUDIBLE * sizes.amax((1, 2), keepdim=True)
    audible = audible & ~is_offset(sizes, config)
    tiny = torch.finfo(dtype).tiny
    for i in range(n_iter):
        first = last - 1 - i % last
        pair, place = slice(first, first + 2), first * hop
        total = (scale * overlap(frames)[1])[:, place : place + hop + length]
        parts = total.unfold(-1, length, hop) * window
        rebuilt = torch.fft.rfft(torch.nn.functional.pad(parts, around))
        rebuilt = rebuilt * to_centre
        size = rebuilt.abs()
        # No gradient where a bin cancels, as in `integration`, and no change.
        known = size > (CANCELLED * sizes[:, pair]).clamp_min(tiny)
        known = known & audible[:, pair] & (size < float("inf"))
        size = torch.where(known, size, 1)
        before = torch.stack(phasors[pair], dim=1)
        found = torch.where(known, rebuilt / size, before)
        phasors[pair] = found.unbind(1)
        frames[pair] = added(found, first).unbind(1)
    emission, total = overlap(frames[:stop])
    phasors = torch.stack(phasors[:stop], dim=1)
    heard = Heard(
        sizes[:, emitted:stop],
        phasors[:, emitted:],
        torch.stack(frames[emitted:stop], dim=1),
        total[:, emitted * hop :],
    )
    return phasors[:, REOPENED:], emission, heard


def _later(frames, hop):
    """The sum of frames from a hop after the last one's beginning on.

    Followed by zeros, [batch, length].
    """
    total, later = 0, frames.shape[1] * hop
    for frame in frames.unbind(1):
        rest = frame[:, later:]
        fill = frame.shape[1] - rest.shape[1]
        total = total + torch.nn.functional.pad(rest, (0, fill))
        later -= hop
    return total


def counts(new, emitted):
    """What each open frame counts for: those that are heard are whole."""
    return [1.0] * (REOPENED + emitted) + [AHEAD_COUNT] * (new - emitted)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def overlap_scale(config, new, emitted, dtype=torch.float64, device="cpu"):
    """What overlapped samples are multiplied by under the open frames.

    The reciprocal of the sum of the squared windows, as they count, those of
    the frames before included and none after,
    [win_length + (open - 1) * hop].
    """
    length, hop = config.win_length, config.hop_length
    squares = config.window_tensor(torch.float64).square()
    shares = counts(new, emitted)
    total = length + (len(shares) - 1) * hop
    total = torch.zeros(total, dtype=torch.float64)
    before = -(-length // hop) - 1
    for i, share in enumerate([1.0] * before + shares, start=-before):
        first = max(i * hop, 0)
        total[first : i * hop + length] += share * squares[first - i * hop :]
    floor = OPEN_END_FLOOR * float(steady_envelope(config).max())
    return total.clamp_min(floor).reciprocal().to(device, dtype)

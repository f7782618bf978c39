"""Consistency with the samples already out, one hop after the other.

Least squares use what the magnitudes say of the phase's derivatives. The
overlap says more: frames share most of their samples, so that one whose
neighbours are known has little freedom left. Griffin and Lim (1984) go back
and forth between the wanted magnitudes and the nearest signal; Zhu, Beauregard
and Wyse (IEEE TASLP 15, 2007; RTISI-LA) do so in real time, frame by frame.

What is final, though, are the samples that are out, not the frames they came
from. A pass works on its *open frames*:

    first-3 to first-1   *reopened*: committed already, but some of what they
                         add to the signal is still to come
    first, ...           those that the pass emits, one hop each
    newest               a look-ahead frame, if the pass has an estimate of
                         it: it counts for half, and is estimated again when
                         its turn comes

An iteration overlaps them, as `stft.synthesis` does, takes the samples before
the first hop as they are, transforms the result, and keeps the phases of two
frames that follow each other: first of the newest two, then of the pair one
frame before, and so on to the oldest of which something is still to come, and
again. So each pair has what the last one gave, and a frame goes on learning
from those that come after it, while the latency is as without. RTISI-LA starts
from no phase at all and needs many
iterations; after the least squares, one such sweep is enough.
"""

from typing import NamedTuple

import torch

from ..config import steady_envelope
from ..stft import windowed_frames
from ..windows import constant
from .least_squares import CANCELLED
from .offset import is_offset
from .phasors import modulus, multiply

# Committed frames that a pass works on again. The first of them, of which a
# quarter is to come, is where least squares may begin.
REOPENED = 3

# The last open frame has none after it to overlap with. Where the sum of the
# squared windows is below this part of its maximum, samples fade out rather
# than be blown up.
OPEN_END_FLOOR = 0.1

# A look-ahead frame, which will be estimated again, counts for half.
AHEAD_COUNT = 0.5

# Magnitudes, relative to the largest of the open frames, whose phase is left
# to the least squares: rounding errors have a share in what comes back.
INAUDIBLE = 1e-4


class OverlapState(NamedTuple):
    """What a pass has to know of the frames before it.

    Attributes
    ----------
    phasors : torch.Tensor, [batch, REOPENED, freq, 2]
        Phases of the last committed frames as they are now, centre-referred.
    frames : torch.Tensor, [batch, REOPENED, win_length]
        The same frames, windowed, as they have been added to the signal.
    signal : torch.Tensor, [batch, REOPENED * hop + win_length - hop_length]
        Overlap-add from the beginning of those frames: samples that are out,
        then those that still wait for frames.
    """

    phasors: torch.Tensor
    frames: torch.Tensor
    signal: torch.Tensor


def start_overlap(config, batch, dtype=torch.float32, device="cpu"):
    """The `OverlapState` at the start of a stream: phase zero, no sound."""
    hop, length = config.hop_length, config.win_length
    phasors = torch.zeros(
        batch, REOPENED, config.num_bins, 2, dtype=dtype, device=device
    )
    phasors[..., 0] = 1
    return OverlapState(
        phasors,
        phasors.new_zeros(batch, REOPENED, length),
        phasors.new_zeros(batch, (REOPENED - 1) * hop + length),
    )


def refine(
    phasors, sizes, config, state, n_iter, emitted, valid=None, keep=None
):
    """One pass of iterations over the open frames.

    Arguments
    ---------
    phasors : torch.Tensor, [batch, estimates, freq, 2]
        Estimated phases of the newest frames, centre-referred. Where they are
        more than the new ones, they replace those of reopened frames.
    sizes : torch.Tensor, [batch, REOPENED + new, freq]
        Magnitudes of the open frames.
    config : StftConfig
        The transform.
    state : OverlapState
        What came before.
    n_iter : int
        Number of iterations, on two frames each.
    emitted : int
        New frames that are committed now; the others look ahead.
    valid : torch.Tensor, [batch, emitted], optional
        Zero where a frame lies past its signal's end and adds nothing.
    keep : torch.Tensor, [batch, REOPENED + new, freq], bool, optional
        Bins whose phase stays what it is.

    Returns
    -------
    phasors : torch.Tensor, [batch, emitted, freq, 2]
        Of the frames that are committed.
    samples : torch.Tensor, [batch, emitted * hop_length]
        Overlap-add of all that they wait for, not yet divided by the sum of
        the squared windows.
    state : OverlapState
        For the next pass.

    Example
    -------
    >>> from speechbrain_phaseinv.config import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> state = start_overlap(config, batch=1)
    >>> sizes = torch.rand(1, REOPENED + 1, 257)
    >>> phasors, samples, state = refine(
    ...     state.phasors[:, :1], sizes, config, state, n_iter=2, emitted=1
    ... )
    >>> samples.shape
    torch.Size([1, 128])
    """
    dtype, device = sizes.dtype, sizes.device
    hop, length = config.hop_length, config.win_length
    window = config.window_tensor(dtype, device)
    to_centre = config.centre_phasor(torch.complex128, "cpu")
    to_centre = torch.view_as_real(to_centre).to(device, dtype)
    to_start = to_centre * to_centre.new_tensor([1, -1])
    new, stop = sizes.shape[1] - REOPENED, REOPENED + emitted
    scale = overlap_scale(config, new, emitted, dtype, str(device))
    count = sizes.new_tensor(counts(new, emitted)).unsqueeze(-1)
    counted, last = (count * sizes).unsqueeze(-1), sizes.shape[1] - 1

    def added(phasors, first):
        """The windowed frames of these phasors, from the `first` on."""
        size = counted[:, first : first + phasors.shape[1]]
        spectra = size * multiply(phasors, to_start)
        return windowed_frames(torch.view_as_complex(spectra), config)

    def overlap(frames, valid=None):
        """Overlap-add of the open frames onto the signal."""
        frames = torch.stack(frames, dim=1)
        changes = _later(frames[:, :REOPENED] - state.frames, hop)
        frames = list(frames[:, REOPENED:].unbind(1))
        if valid is not None:
            changes = changes * valid[:, :1]
            frames = [x * valid[:, i, None] for i, x in enumerate(frames)]
        frames[0] = frames[0] + changes
        rest = len(frames) * hop
        total = torch.nn.functional.pad(state.signal, (0, rest))
        for i, frame in enumerate(frames, start=REOPENED):
            rest -= hop
            total = total + torch.nn.functional.pad(frame, (i * hop, rest))
        return total

    kept = last + 1 - phasors.shape[1]
    frames = [
        *state.frames[:, :kept].unbind(1),
        *added(phasors, kept).unbind(1),
    ]
    phasors = [*state.phasors[:, :kept].unbind(1), *phasors.unbind(1)]
    start = config.window_offset
    around = start, config.n_fft - start - length
    audible = sizes > INAUDIBLE * sizes.amax((1, 2), keepdim=True)
    audible = audible & ~is_offset(sizes, config)
    if keep is not None:
        audible = audible & ~keep
    tiny = torch.finfo(dtype).tiny
    for first in sweep(config, last + 1, n_iter):
        pair, place = slice(first, first + 2), first * hop
        total = (scale * overlap(frames))[:, place : place + hop + length]
        parts = torch.stack([total[:, :length], total[:, hop:]], dim=1) * window
        rebuilt = torch.fft.rfft(torch.nn.functional.pad(parts, around))
        rebuilt = multiply(torch.view_as_real(rebuilt), to_centre)
        size = modulus(rebuilt)
        # No gradient where a bin cancels, as in the least squares.
        wanted = sizes[:, pair].unsqueeze(-1)
        known = size > (CANCELLED * wanted).clamp_min(tiny)
        known = known & audible[:, pair].unsqueeze(-1) & (size < float("inf"))
        size = torch.where(known, size, 1)
        before = torch.stack(phasors[pair], dim=1)
        turned = torch.where(known, rebuilt / size, before)
        phasors[pair] = turned.unbind(1)
        frames[pair] = added(turned, first).unbind(1)
    total = overlap(frames[:stop], valid)
    state = OverlapState(
        torch.stack(phasors[emitted:stop], dim=1),
        torch.stack(frames[emitted:stop], dim=1),
        total[:, emitted * hop :],
    )
    out = REOPENED * hop
    return (
        torch.stack(phasors[REOPENED:stop], dim=1),
        total[:, out : out + emitted * hop],
        state,
    )


def _later(frames, hop):
    """What reopened frames add from the first new hop on, [batch, length]."""
    total, later = 0, frames.shape[1] * hop
    for frame in frames.unbind(1):
        rest = frame[:, later:]
        fill = frame.shape[1] - rest.shape[1]
        total = total + torch.nn.functional.pad(rest, (0, fill))
        later -= hop
    return total


def sweep(config, count, n_iter):
    """The pairs that iterations work on, by the first frame of each.

    Of `count` open frames, the newest two come first. Where windows overlap by
    half, all samples of the oldest two are out: that pair is left alone.

    Example
    -------
    >>> from speechbrain_phaseinv.config import StftConfig
    >>> sweep(StftConfig(16000, n_fft=512, hop_length=128), 5, 6)
    (3, 2, 1, 0, 3, 2)
    >>> sweep(StftConfig(16000, n_fft=512, hop_length=256), 5, 6)
    (3, 2, 1, 3, 2, 1)
    """
    out = REOPENED * config.hop_length - config.win_length
    done = max(out // config.hop_length + 1, 0)  # frames, from the oldest on
    pairs = range(count - 2, max(done - 1, 0) - 1, -1)
    return tuple(pairs[i % len(pairs)] for i in range(n_iter))


def counts(new, emitted):
    """What each open frame counts for in the overlap."""
    return [1.0] * (REOPENED + emitted) + [AHEAD_COUNT] * (new - emitted)


@constant
def overlap_scale(config, new, emitted, dtype=torch.float64, device="cpu"):
    """What overlapped samples are multiplied by under the open frames.

    The reciprocal of the sum of the squared windows, as they count, the
    frames before included and none after, [win_length + (open - 1) * hop].
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

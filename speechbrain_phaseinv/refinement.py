"""Consistency with the frames already out, one frame after the other.

Least squares use what the magnitudes say of the phase's derivatives. The
overlap says more: frames share most of their samples, so that one whose
predecessors are known has little freedom left. Griffin and Lim (1984) go back
and forth between the wanted magnitudes and the nearest signal; Zhu, Beauregard
and Wyse (IEEE TASLP 15, 2007; RTISI-LA) do so in real time. Frames before are
*committed*, and stay as they are. Those under way are *open*: the current one
and, where the estimator has an answer for it, the one in the look-ahead, which
counts for what it asks of the current one, and is estimated anew when its turn
comes.

An iteration adds the open frames to the overlap of the committed ones, as
`stft.synthesis` does, transforms what came out, and keeps its phases. RTISI-LA
starts from no phase at all and needs many; two or three are enough after
the least squares.
"""

from functools import lru_cache

import torch

from .config import steady_envelope
from .integration import CANCELLED

# The last open frame has none after it to overlap with. Where the sum of the
# squared windows is below this part of its maximum, samples fade out rather
# than be blown up.
OPEN_END_FLOOR = 0.1

# What is estimated anew when its turn comes counts for half in the signal.
AHEAD_COUNT = 0.5

# Magnitudes, relative to the largest of the open frames, whose phase is left
# to the least squares: in what comes back of them, roundings have a share.
INAUDIBLE = 1e-4


def refine(phasors, magnitude, config, overlap, n_iter, commit=1):
    """One pass of iterations over the open frames.

    Arguments
    ---------
    phasors : torch.Tensor, [batch, open, freq], complex
        Their phases so far, centre-referred.
    magnitude : torch.Tensor, [batch, open, freq]
        Their magnitudes.
    config : StftConfig
        The transform.
    overlap : torch.Tensor, [batch, win_length - hop_length]
        Overlap-add of the committed frames, where the first open one begins.
    n_iter : int
        Number of iterations.
    commit : int
        How many of the open frames are final after it.

    Returns
    -------
    phasors : torch.Tensor, [batch, commit, freq], complex
    overlap : torch.Tensor, [batch, win_length - hop_length]
        With those frames in it, a hop for each of them later.

    Example
    -------
    A frame whose predecessors are known, and its phase to a radian or so:

    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> stft = analysis(torch.randn(1, 4000), config)
    >>> phasors = stft / stft.abs() * config.centre_phasor()
    >>> size, overlap = stft.abs(), torch.zeros(1, 384)
    >>> _, overlap = refine(phasors[:, :9], size[:, :9], config, overlap, 0, 9)
    >>> true, size = phasors[:, 9:10], size[:, 9:10]
    >>> near = true * torch.exp(1j * torch.randn(257))
    >>> found, _ = refine(near, size, config, overlap, n_iter=20)
    >>> error = [(size * (x - true)).norm() for x in (near, found)]
    >>> error[1] < error[0] / 2
    tensor(True)
    """
    dtype, device = magnitude.dtype, magnitude.device
    window = config.window_tensor(dtype, device)
    to_start = config.start_phasor(phasors.dtype, device)
    to_centre = config.centre_phasor(phasors.dtype, device)
    open_frames = magnitude.shape[1]
    scale = overlap_scale(config, open_frames, commit, dtype, str(device))
    weights = magnitude.new_tensor(counts(open_frames, commit))
    counted = weights.unsqueeze(-1) * magnitude
    length, hop = config.win_length, config.hop_length
    start = config.window_offset
    around = start, config.n_fft - start - length

    def heard(phasors):
        """Overlap-add of the first frames and of those before."""
        sizes = counted[:, : phasors.shape[1]]
        frames = torch.fft.irfft(sizes * phasors * to_start, config.n_fft)
        frames = frames[..., start : start + length] * window
        rest = frames.shape[1] * hop
        total = torch.nn.functional.pad(overlap, (0, rest))
        for i, frame in enumerate(frames.unbind(1)):
            rest -= hop
            total = total + torch.nn.functional.pad(frame, (i * hop, rest))
        return total

    tiny = torch.finfo(dtype).tiny
    audible = magnitude > INAUDIBLE * magnitude.amax((1, 2), keepdim=True)
    for _ in range(n_iter):
        frames = (scale * heard(phasors)).unfold(-1, length, hop) * window
        frames = torch.nn.functional.pad(frames, around)
        rebuilt = torch.fft.rfft(frames) * to_centre
        size = rebuilt.abs()
        # No gradient where a bin cancels, as in `integration`, and no change.
        known = size > (CANCELLED * magnitude).clamp_min(tiny)
        known = known & audible & (size < float("inf"))
        size = torch.where(known, size, 1)
        phasors = torch.where(known, rebuilt / size, phasors)
    done = phasors[:, :commit]
    return done, heard(done)[:, commit * hop :]


def counts(open_frames, commit):
    """What each open frame counts for: those to be committed are whole."""
    return [1.0] * commit + [AHEAD_COUNT] * (open_frames - commit)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def overlap_scale(
    config, open_frames, commit, dtype=torch.float64, device="cpu"
):
    """What overlapped samples are multiplied by under the open frames.

    The reciprocal of the sum of the squared windows, as they count, those of
    the frames before included and none after,
    [win_length + (open_frames - 1) * hop].
    """
    length, hop = config.win_length, config.hop_length
    squares = config.window_tensor(torch.float64).square()
    total = torch.zeros(length + (open_frames - 1) * hop, dtype=torch.float64)
    before = -(-length // hop) - 1
    shares = [1.0] * before + counts(open_frames, commit)
    for i, share in enumerate(shares, start=-before):
        first = max(i * hop, 0)
        total[first : i * hop + length] += share * squares[first - i * hop :]
    floor = OPEN_END_FLOOR * float(steady_envelope(config).max())
    return total.clamp_min(floor).reciprocal().to(device, dtype)

"""Random transforms, shapes, types, scales and chunkings: what always holds.

``PHASEINV_FUZZ=2000`` runs that many cases instead of the usual few.
"""

import os
import random

import pytest
import torch

from speechbrain_phaseinv import (
    InversionStream,
    SpectrogramInverter,
    StftConfig,
)
from speechbrain_phaseinv.checks import accepted
from speechbrain_phaseinv.estimation.features import LEAST_EXPONENT
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet

CASES = int(os.environ.get("PHASEINV_FUZZ", 60))
POINTS = [
    {"lookahead": 0},
    {"lookahead": 1},
    {"paired": True},
    {"paired": True, "again": True},
    {"provisional": True},
    {"provisional": True, "again": True},
]


def some_config(random):
    """A transform that can be inverted."""
    while True:
        n_fft = random.choice([2, 3, 8, 16, 31, 64, 100, 257, 512])
        length = random.choice([n_fft, n_fft, random.randint(1, n_fft)])
        hop = random.randint(1, length)
        window = random.choice(["hann", "hamming", "blackman", "rectangular"])
        try:
            return StftConfig(16000, n_fft, length, hop, window)
        except ValueError:
            continue


def some_inverter(random, config, dtype=torch.float32):
    """The gradient theorem's, or that of a network with random weights."""
    if random.random() < 0.3:
        return SpectrogramInverter(config, random.randint(0, 1), "gradient")
    point = random.choice(POINTS)
    network = PhaseDerivativeNet(
        config, channels=8, refinements=random.choice([0, 1, 3]), **point
    )
    for parameter in network.requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    lookahead = random.randint(0, 1) if "provisional" in point else 1
    return SpectrogramInverter(config, lookahead, network.eval().to(dtype))


def some_magnitude(random, shape, dtype):
    """Noise of any level, with holes, pauses, steps, ramps or offsets."""
    x = torch.rand(shape, dtype=dtype)
    batch, time, freq = shape
    for change in random.sample(range(6), random.randint(0, 3)):
        if change == 0:
            x[x < 0.5] = 0  # a mask
        elif change == 1:
            x[:, : random.randint(0, time)] = 0
        elif change == 2:
            x[:, random.randint(0, time) :] *= 10.0 ** random.randint(-12, 12)
        elif change == 3:
            x = x * torch.logspace(0, -30, freq, dtype=dtype)
        elif change == 4:
            x[..., 0] += 100
        else:
            x[random.randrange(batch)] = 0
    return x


def is_normal(magnitude):
    """Signals without frames or bins that are next to nothing: samples of less
    than the smallest normal number are rounded, what is softer than the check
    lets pass is silence, and so they do not scale."""
    peaks = magnitude.amax(-1)
    frames = ((peaks == 0) | (peaks >= 2.0**LEAST_EXPONENT)).all(-1)
    traces = (magnitude > 0) & (magnitude <= accepted(magnitude.dtype)[0])
    return frames & ~traces.any(-1).any(-1)


def played(inverter, magnitude, random):
    """A stream's samples, whatever the chunks."""
    stream, pieces, start = InversionStream(inverter), [], 0
    while start < magnitude.shape[1]:
        stop = start + random.choice([0, 1, 1, 2, 5, 40])
        pieces.append(stream.push(magnitude[:, start:stop]))
        start = stop
    pieces.append(stream.flush())
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("seed", range(CASES))
def test_any_case(seed):
    random_ = random.Random(seed)
    torch.manual_seed(seed)
    config = some_config(random_)
    dtype = random_.choice([torch.float32, torch.float32, torch.float64])
    inverter = some_inverter(random_, config, dtype)
    shape = random_.randint(1, 3), random_.randint(1, 30), config.num_bins
    magnitude = some_magnitude(random_, shape, dtype)
    y = inverter(magnitude)
    assert y.dtype == dtype and y.isfinite().all()

    found = played(inverter, magnitude, random_)
    # Below half an overlap, what was out before the end was known stays.
    assert torch.equal(found[:, : y.shape[1]], y)

    order = torch.randperm(shape[0])
    assert torch.equal(inverter(magnitude[order]), y[order])

    lengths = torch.randint(0, shape[1] + 1, shape[:1])
    padded = magnitude.clone()
    for i, valid in enumerate(lengths):
        padded[i, valid:] = torch.rand(shape[1] - valid, shape[2])
    batch = inverter(padded, lengths)
    for i, valid in enumerate(lengths):
        alone = inverter(magnitude[i : i + 1, :valid])[0]
        assert torch.equal(batch[i, : len(alone)], alone)
        assert not batch[i, len(alone) :].any()

    scale = 2.0 ** random_.randint(-30, 30)
    held = is_normal(magnitude) & is_normal(scale * magnitude)
    assert torch.equal(inverter(scale * magnitude)[held], scale * y[held])


@pytest.mark.parametrize("seed", range(CASES))
def test_any_level_is_finite_and_so_is_its_gradient(seed):
    random_ = random.Random(seed)
    torch.manual_seed(seed)
    config = some_config(random_)
    inverter = some_inverter(random_, config)
    shape = random_.randint(1, 2), random_.randint(1, 12), config.num_bins
    magnitude = some_magnitude(random_, shape, torch.float32)
    level = random_.choice([1e-44, 1e-38, 1e-30, 1e-20, 1.0, 1e10, 1e20])
    magnitude = (level * magnitude).clamp_max(1e32).requires_grad_()
    y = inverter(magnitude)
    assert y.isfinite().all()
    y.sum().backward()
    assert magnitude.grad.isfinite().all()

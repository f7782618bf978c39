"""The gradient theorem, on signals for which it is exact."""

import math

import pytest
import torch
from conftest import CONFIG

from speechbrain_phaseinv.estimation.derivatives import phase_derivatives
from speechbrain_phaseinv.estimation.features import log_magnitude
from speechbrain_phaseinv.estimation.gradient_theorem import GradientTheorem
from speechbrain_phaseinv.stft import StftConfig, analysis

HOP = 32


def gaussian_config():
    n = torch.arange(512, dtype=torch.float64) - 256
    window = torch.exp(-math.pi * n**2 / (0.06 * 512**2))
    return StftConfig(16000, 512, hop_length=HOP, window=window)


def chirp():
    """A linear chirp, 1 to 5 kHz in a second: both derivatives move."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    return torch.cos(2 * math.pi * (1000 * time + 2000 * time**2))[None]


@pytest.mark.parametrize("lookahead", [0, 1])
def test_it_is_right_for_a_chirp_under_a_gaussian_window(lookahead):
    config = gaussian_config()
    stft = analysis(chirp(), config)
    estimator = GradientTheorem(config, lookahead)
    found, _ = estimator(log_magnitude(stft.abs())[0])
    true = phase_derivatives(stft, config)
    frame = 250
    peak = int(stft[0, frame].abs().argmax())
    near = slice(peak - 4, peak + 5)
    time = found.time[0, frame, 0, near] - true.time[0, frame, near]
    frequency = found.frequency[0, frame, 0, near]
    frequency = frequency - true.frequency[0, frame, near]
    # Central differences are right to the second order: a few thousandths.
    assert time.abs().max() < 0.01
    scale = true.frequency[0, frame, near].abs().max()
    # Without look-ahead the estimate is damped on purpose.
    assert frequency.abs().max() < (0.05 if lookahead else 0.6) * scale


def test_it_does_not_depend_on_the_level():
    level = torch.randn(1, 20, 257, dtype=torch.float64)
    estimator = GradientTheorem(CONFIG, 1)
    one, _ = estimator(level)
    other, _ = estimator(level + 30)
    assert (one.time - other.time).abs().max() < 1e-12
    assert (one.frequency - other.frequency).abs().max() < 1e-12


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("chunks", [[1] * 12, [5, 0, 7], [0, 12]])
def test_chunks_change_nothing(lookahead, chunks):
    level = torch.randn(2, 12, 257)
    estimator = GradientTheorem(CONFIG, lookahead)
    whole, _ = estimator(level)
    state, pieces = None, []
    for frames in level.split(chunks, dim=1):
        estimates, state = estimator(frames, state)
        pieces.append(estimates)
    assert whole.time.shape == (2, 12 - lookahead, 1, 257)
    for expected, *found in zip(whole, *pieces):
        assert torch.equal(torch.cat(found, 1), expected)


def test_a_frame_depends_on_nothing_beyond_its_lookahead():
    level = torch.randn(1, 12, 257)
    for lookahead in (0, 1):
        estimator = GradientTheorem(CONFIG, lookahead)
        before, _ = estimator(level[:, :8])
        after, _ = estimator(level)
        ready = before.time.shape[1]
        assert torch.equal(before.frequency, after.frequency[:, :ready])


def test_steps_to_and_from_silence_stay_within_half_a_window():
    magnitude = torch.zeros(1, 6, 257)
    magnitude[:, 2:4] = 1
    found, _ = GradientTheorem(CONFIG)(log_magnitude(magnitude)[0])
    assert found.frequency.abs().max() <= math.pi
    assert found.time.isfinite().all()


@pytest.mark.parametrize("lookahead", [-1, 2, None])
def test_other_lookaheads_are_refused(lookahead):
    with pytest.raises(ValueError, match="0 or 1"):
        GradientTheorem(StftConfig(16000, 512), lookahead)

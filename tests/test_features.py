"""Log-magnitudes: neither level nor silence matters, in streams alike."""

import pytest
import torch
from conftest import CONFIG, magnitudes

from speechbrain_phaseinv.estimation.features import (
    DECAY,
    FLOOR,
    LOG_FLOOR,
    LOWEST_BINS,
    log_magnitude,
    start_level,
)


def masked(batch=2):
    """Speech after silence, with exact zeros, as behind a mask."""
    magnitude = magnitudes(batch, 0.5)
    magnitude[magnitude < 0.01 * magnitude.max()] = 0
    magnitude[:, :5] = 0
    return magnitude


def test_it_is_the_logarithm_but_for_level_and_floor():
    magnitude = magnitudes().double()
    magnitude = magnitude + 2 * FLOOR * magnitude.max()
    log, level = log_magnitude(magnitude)
    scale = level[:, 0]
    assert torch.equal(scale.log2(), scale.log2().round())
    torch.testing.assert_close(log, (magnitude * scale[:, None, None]).log())
    # The first sound's largest magnitude lands between one half and one.
    assert 0.5 <= magnitude[0, 0].max() * scale[0] < 1
    above = magnitude[..., magnitude.shape[-1] // LOWEST_BINS :].amax(2)
    ages = torch.arange(above.shape[1]).flip(0).double()
    peaks = (above * DECAY**ages).amax(1)
    torch.testing.assert_close(level[:, 1], peaks * scale)


def test_an_offset_does_not_raise_the_floor():
    magnitude = magnitudes()
    softest = 1e-3 * magnitude.max()
    expected, _ = log_magnitude(magnitude + softest)
    magnitude[..., 0] = 1e6 * magnitude.max()
    found, _ = log_magnitude(magnitude + softest)
    steps = [x[..., 2:].diff() for x in (found, expected)]
    torch.testing.assert_close(*steps, rtol=0, atol=1e-4)


def test_a_loud_event_is_forgotten():
    after = magnitudes()
    slam = 1e3 * after.max() * torch.ones_like(after[:, :3])
    found, _ = log_magnitude(torch.cat([slam, after], dim=1))
    expected, _ = log_magnitude(after)
    # It was 60 dB louder than the loudest, and frames are up to 30 dB softer.
    steps = [x[:, 100 - len(after[0]) :].diff(dim=1) for x in (found, expected)]
    torch.testing.assert_close(*steps, rtol=0, atol=1e-4)


@pytest.mark.parametrize("exponent", [-90, -40, -3, 1, 3, 60, 90])
def test_powers_of_two_change_no_bit(exponent):
    magnitude = masked()
    expected, _ = log_magnitude(magnitude)
    found, _ = log_magnitude(magnitude * 2.0**exponent)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("sizes", [1, 7, [0, 4, 1, 0, 50, 8]])
def test_chunks_change_no_bit(sizes):
    magnitude = masked()
    whole, level = log_magnitude(magnitude)
    state, pieces = None, []
    for frames in magnitude.split(sizes, dim=1):
        log, state = log_magnitude(frames, state)
        pieces.append(log)
    assert torch.equal(torch.cat(pieces, 1), whole)
    assert torch.equal(state, level)


def test_members_of_a_batch_have_levels_of_their_own():
    magnitude = masked()
    magnitude[0] *= 2e-5
    both, _ = log_magnitude(magnitude)
    for i in range(2):
        alone, _ = log_magnitude(magnitude[i : i + 1])
        assert torch.equal(both[i : i + 1], alone)


def test_no_frame_depends_on_a_later_one():
    magnitude = masked()
    other = magnitude.clone()
    other[:, 30:] *= 1e5
    one, two = log_magnitude(magnitude)[0], log_magnitude(other)[0]
    assert torch.equal(one[:, :30], two[:, :30])


def test_zeros_lie_at_a_floor_below_a_peak_that_falls_slowly():
    x = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [8.0, 0.0], [0.5, 0.0]]])
    log, _ = log_magnitude(x)
    assert (log[0, 0] == LOG_FLOOR).all()  # before any sound
    peaks = torch.tensor([0.5, 8.0, 8.0 * DECAY])
    torch.testing.assert_close(log[0, 1:, 1], (FLOOR * peaks).log())
    assert log.min() >= LOG_FLOOR


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_everywhere(dtype):
    levels = [0.0, 1e-45, 1e-38, 1e-31, 1e-20, 1.0, 1e30]
    for first in levels:
        x = torch.tensor([[[first] * 7, levels]], dtype=dtype)
        x.requires_grad_()
        log, _ = log_magnitude(x)
        assert log.isfinite().all()
        log.sum().backward()
        assert x.grad.isfinite().all()
        assert (x.grad[x == 0] == 0).all()


def test_a_first_sound_that_is_next_to_nothing_does_not_blow_up_the_rest():
    magnitude = magnitudes()
    magnitude[:, 0] = 1e-42
    log, level = log_magnitude(1e6 * magnitude)
    assert log.isfinite().all() and level.isfinite().all()


def test_silence_and_no_frames_leave_no_level():
    silence = torch.zeros(2, 3, CONFIG.num_bins)
    log, level = log_magnitude(silence)
    assert (log == LOG_FLOOR).all()
    assert torch.equal(level, start_level(silence))
    log, again = log_magnitude(silence[:, :0], level)
    assert log.shape == (2, 0, CONFIG.num_bins) and torch.equal(again, level)

"""Phase derivatives against signals whose phase is known in closed form."""

import math

import pytest
import torch
from conftest import CONFIG

from speechbrain_phaseinv.estimation.derivatives import (
    expected_advance,
    gaussian_gamma,
    phase_derivatives,
    wrap,
)
from speechbrain_phaseinv.stft import StftConfig, analysis


def test_wrap_is_the_principal_value():
    angle = torch.linspace(-40, 40, 10001, dtype=torch.float64)
    wrapped = wrap(angle)
    assert (wrapped >= -math.pi).all() and (wrapped < math.pi).all()
    turns = (angle - wrapped) / (2 * math.pi)
    assert (turns - turns.round()).abs().max() < 1e-12


def test_expected_advance_is_a_bin_centred_sinusoid():
    k = 37
    time = torch.arange(8000, dtype=torch.float64)
    tone = torch.cos(2 * math.pi * k / 512 * time)[None]
    phase = analysis(tone, CONFIG)[0, :, k].angle()
    advance = expected_advance(CONFIG, torch.float64)[k]
    assert wrap(phase[30] - phase[29] - advance).abs() < 1e-10


def test_time_derivative_of_a_sinusoid_is_its_offset_from_the_bin():
    frequency = 1010.0
    time = torch.arange(16000, dtype=torch.float64) / 16000
    tone = torch.cos(2 * math.pi * frequency * time)[None]
    derivatives = phase_derivatives(analysis(tone, CONFIG), CONFIG)
    for k in (31, 32, 33):
        offset = frequency - k * 16000 / 512
        expected = 2 * math.pi * offset * 128 / 16000
        # The image at the negative frequency moves it by less than this.
        assert abs(derivatives.time[0, 60, k] - expected) < 1e-4


def test_frequency_derivative_of_a_pulse_is_its_distance_from_the_centre():
    delay = 40
    pulse = torch.zeros(1, 4000, dtype=torch.float64)
    pulse[0, 10 * 128 + delay] = 1
    frequency = phase_derivatives(analysis(pulse, CONFIG), CONFIG).frequency
    expected = -2 * math.pi * delay / 512
    assert (frequency[0, 10, 1:] - expected).abs().max() < 1e-9


@pytest.mark.parametrize(
    "window, published",
    [("hann", 0.25645), ("hamming", 0.29794), ("blackman", 0.17954)],
)
def test_gamma_agrees_with_the_published_constants(window, published):
    config = StftConfig(16000, 1024, hop_length=256, window=window)
    found = gaussian_gamma(config) / 1024**2
    assert found == pytest.approx(published, rel=2e-3)


def test_gamma_of_a_gaussian_is_its_own():
    n = torch.arange(1024, dtype=torch.float64) - 512
    gamma = 0.08 * 1024**2
    config = StftConfig(
        16000, 1024, hop_length=64, window=torch.exp(-math.pi * n**2 / gamma)
    )
    assert gaussian_gamma(config) == pytest.approx(gamma, rel=1e-4)


def test_gamma_scales_with_the_window_not_with_the_transform():
    short = gaussian_gamma(StftConfig(16000, 512, 400, 100))
    long = gaussian_gamma(StftConfig(16000, 2048, 800, 100))
    assert long == pytest.approx(4 * short, rel=1e-4)

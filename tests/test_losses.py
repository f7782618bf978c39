"""The objectives: what they ignore, what they see, and their gradients."""

import math

import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.estimation.derivatives import (
    PhaseDerivatives,
    phase_derivatives,
)
from speechbrain_phaseinv.losses import derivative_loss, magnitude_loss
from speechbrain_phaseinv.stft import StftConfig, analysis

CONFIG = StftConfig(16000, 512, hop_length=128)


@pytest.fixture
def spectrogram(speech):
    return analysis(speech, CONFIG)


def test_the_true_derivatives_have_no_loss_in_any_turn(spectrogram):
    true = phase_derivatives(spectrogram, CONFIG)
    turned = PhaseDerivatives(true.time + 2 * math.pi, true.frequency - 4e1)
    time, _ = derivative_loss(turned, true, spectrogram.abs())
    assert time.abs() < 1e-12


def test_opposite_derivatives_have_the_greatest_loss(spectrogram):
    true = phase_derivatives(spectrogram, CONFIG)
    opposite = PhaseDerivatives(true.time + math.pi, true.frequency + math.pi)
    for loss in derivative_loss(opposite, true, spectrogram.abs()):
        assert abs(loss - 2) < 1e-9


def test_bins_of_no_weight_and_bin_0_of_the_fpd_do_not_count(spectrogram):
    true = phase_derivatives(spectrogram, CONFIG)
    wrong = PhaseDerivatives(true.time.clone(), true.frequency.clone())
    wrong.time[:, :, 7] += 1
    wrong.frequency[:, :, 0] += 1
    weight = spectrogram.abs()
    weight[:, :, 7] = 0
    for loss in derivative_loss(wrong, true, weight):
        assert loss.abs() < 1e-12


def test_no_weight_at_all_is_no_loss():
    zero = torch.zeros(1, 2, 3)
    derivatives = PhaseDerivatives(zero + 1, zero + 1)
    loss = derivative_loss(derivatives, PhaseDerivatives(zero, zero), zero)
    assert loss == (0, 0)


def test_a_signal_compared_with_itself_is_at_the_floor(speech):
    loss = magnitude_loss(speech, speech, CONFIG)
    assert loss.compressed == 0
    assert 20 * loss.convergence / math.log(10) < -49


def test_the_sign_of_a_signal_is_not_seen(speech):
    loss = magnitude_loss(-speech, speech, CONFIG)
    assert loss.compressed < 1e-9


def test_neither_is_the_level_of_both(speech):
    noisy = speech + 0.01 * torch.randn_like(speech)
    loud = magnitude_loss(100 * noisy, 100 * speech, CONFIG)
    quiet = magnitude_loss(0.01 * noisy, 0.01 * speech, CONFIG)
    assert torch.allclose(torch.stack(loud), torch.stack(quiet), rtol=1e-6)


def test_an_excerpt_counts_by_the_level_of_the_whole(speech):
    pause, noise = 1e-4 * speech, 1e-5 * torch.randn_like(speech)
    alone = magnitude_loss(pause + noise, pause, CONFIG)
    level = speech.square().mean(1).sqrt()
    within = magnitude_loss(pause + noise, pause, CONFIG, level)
    assert within.convergence < alone.convergence - 2


def test_margins_hide_what_happens_at_the_ends(speech):
    click = speech.clone()
    click[:, :100] += 1
    click[:, -100:] += 1
    seen = magnitude_loss(click, speech, CONFIG)
    hidden = magnitude_loss(click, speech, CONFIG, margin=512)
    assert hidden.compressed == 0 < seen.compressed
    with pytest.raises(ValueError, match="leaves nothing"):
        magnitude_loss(click, speech, CONFIG, margin=8000)


def test_gradients_are_finite_even_of_silence():
    silence = torch.zeros(1, 4000, requires_grad=True)
    target = synthetic_speech(0.25).float()
    for wanted in (target, torch.zeros(1, 4000)):
        loss = sum(magnitude_loss(silence, wanted, CONFIG))
        (gradient,) = torch.autograd.grad(loss, silence)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["convergence", "compressed"])
def test_density_weighs_bins_as_critical_bands_do(name):
    time = torch.arange(16000) / 16000
    low = torch.sin(2 * torch.pi * 300 * time)[None]
    high = torch.sin(2 * torch.pi * 6000 * time)[None]

    def loss(error, **density):
        target = low + high
        found = magnitude_loss(target + 0.1 * error, target, CONFIG, **density)
        return getattr(found, name).item()

    assert loss(low) == pytest.approx(loss(high), rel=0.5)
    density = {f"{name}_density": 1.0}
    assert loss(low, **density) > loss(low)
    assert loss(high, **density) < loss(high)

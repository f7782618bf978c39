"""The training recipe's augmentation: what it does to known signals."""

import math
from importlib import import_module

import numpy as np
import pytest
import recipe_tools  # noqa: F401
import torch

augment = import_module("common.augment")

RATE = 16000


def frequency(waveform):
    """Where the spectrum of a tone has its peak, in Hz."""
    window = torch.hann_window(len(waveform))
    peak = torch.fft.rfft(window * waveform).abs().argmax()
    return float(peak) * RATE / len(waveform)


@pytest.mark.parametrize("speed", [0.85, 1.0, 1.19])
def test_a_tone_is_raised_by_its_speed_and_shortened_by_it(speed):
    time = torch.arange(RATE) / RATE
    faster = augment.change_pitch(torch.sin(2 * math.pi * 440 * time), speed)
    assert abs(len(faster) - RATE / speed) < 1
    assert abs(frequency(faster) - 440 * speed) < 2


def test_noise_has_unit_power_and_a_slope_between_white_and_rumble():
    torch.manual_seed(0)
    slopes = []
    for _ in range(40):
        noise = augment.draw_noise(RATE)
        assert noise.square().mean() == pytest.approx(1, abs=1e-4)
        power = torch.fft.rfft(noise).abs().square()[10:].double().numpy()
        place = np.log(np.arange(10, 10 + len(power)))
        slopes.append(np.polyfit(place, np.log(power), 1)[0])
    assert -2.1 < min(slopes) < -1.5 and -0.5 < max(slopes) < 0.1


def test_a_filter_changes_smoothly_over_octaves():
    torch.manual_seed(0)
    gains = [augment.draw_filter(torch.arange(257.0)) for _ in range(200)]
    decibels = 20 * torch.stack(gains).log10()
    assert decibels[:, 128].std() == pytest.approx(augment.FILTER_DB, rel=0.3)
    # From one end of 256 bins to the other are 8 octaves and 7 pieces.
    assert decibels[:, 64:].diff().abs().max() < 0.6


def test_variations_keep_the_level_and_silence():
    torch.manual_seed(0)
    waveform = 0.1 * torch.randn(RATE)
    for _ in range(20):
        power = augment.vary(waveform).square().mean()
        # Noise adds a tenth at most; it may happen to agree with the sound.
        assert 0.0098 < power < 0.0112
    assert augment.vary(torch.zeros(RATE)).abs().max() == 0


def test_rumble_is_low_and_as_loud_as_asked():
    torch.manual_seed(0)
    waveform = 0.1 * torch.randn(2, RATE) + 1  # an offset does not count
    rumble = augment.make_rumble(waveform, RATE, 60.0, -5.0)
    level = 20 * (rumble.std(1) / waveform.std(1)).log10()
    assert torch.allclose(level, torch.tensor(-5.0), atol=0.01)
    power = torch.fft.rfft(rumble).abs().square()  # a bin a hertz
    assert power[:, 90:].sum() < 0.01 * power.sum()
    assert not torch.equal(rumble[0], rumble[1])
    silence = torch.zeros(1, RATE)
    assert augment.make_rumble(silence, RATE, 60.0, 0.0).abs().max() == 0

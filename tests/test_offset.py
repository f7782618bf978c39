"""A constant offset: where it is seen, and that it does no harm."""

import pytest
import torch
from conftest import CONFIG, synthetic_speech

from speechbrain_phaseinv.integration import compiled
from speechbrain_phaseinv.integration.offset import ABOVE, is_offset, main_lobe
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.stft import StftConfig, analysis

POINTS = {
    "gradient theorem": {"estimator": "gradient"},
    "latency 0": {"lookahead": 0},
    "latency 1": {"lookahead": 1},
    "paired": {"paired": True},
}
points = pytest.mark.parametrize("options", POINTS.values(), ids=list(POINTS))


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        StftConfig(16000, 512, 400, 100, "hamming"),
        StftConfig(16000, 512, hop_length=128, window="blackman"),
        StftConfig(16000, 63, 51, 10),
        StftConfig(16000, 8, hop_length=8, window="rectangular"),
    ],
    ids=str,
)
def test_its_bins_are_those_of_a_constant(config):
    length = 8 * config.n_fft
    size = analysis(torch.ones(1, length, dtype=torch.double), config).abs()
    frame = size[0, size.shape[1] // 2]
    lobe = main_lobe(config)
    bins = len(lobe)
    torch.testing.assert_close(frame[:bins] / frame[0], lobe)
    assert frame[bins] < 0.06 * frame[0]
    held = is_offset(frame, config)
    assert held[:bins].all() and not held[bins:].any()
    # Neither what is about as loud, nor rumble, nor silence is an offset.
    loud, rumble = frame.clone(), frame.clone()
    loud[bins] = frame[0] / ABOVE * 1.01
    rumble[bins - 1] *= 1.5
    # In a single bin, rumble looks like one.
    for other in (loud, rumble, 0 * frame) if bins > 1 else (loud, 0 * frame):
        assert not is_offset(other, config).any()


@points
@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_comes_back_as_one(options, sign):
    """Of either sign: magnitudes do not tell."""
    x = torch.full((1, 4096), sign * 0.3)
    inverter = SpectrogramInverter(CONFIG, **options)
    made = inverter(analysis(x, CONFIG).abs(), length=4096)
    torch.testing.assert_close(made, x.abs(), rtol=0, atol=1e-4)


@points
def test_pauses_beside_it_stay_as_soft_as_they_are(options, monkeypatch):
    """One that is 60 dB below speech, and 86 below an offset."""
    torch.manual_seed(0)
    speech = torch.cat([synthetic_speech(seed=i) for i in range(2)]).float()
    level = speech.std()
    pause = 1e-3 * level * torch.randn(2, 4096)
    x = torch.cat([speech, pause, speech], dim=1) + 20 * level
    size = analysis(x, CONFIG).abs()
    first = speech.shape[1] // CONFIG.hop_length + 6
    pause = slice(first, first + 20)
    inverter = SpectrogramInverter(CONFIG, **options)
    errors = []
    for above in (ABOVE, float("inf")):
        monkeypatch.setattr(compiled, "ABOVE", above)
        compiled._constants.cache_clear()
        made = analysis(inverter(size, length=x.shape[1]), CONFIG).abs()
        wanted, made = size[:, pause, 4:], made[:, pause, 4:]
        errors.append((made - wanted).norm() / wanted.norm())
    compiled._constants.cache_clear()
    assert errors[0] < 0.3
    assert errors[1] > 1.5 * errors[0]

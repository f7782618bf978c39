"""The previous best network, and the table that compares it with ours."""

import math
from importlib import import_module
from pathlib import Path

import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv import SpectrogramInverter, StftConfig, analysis
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet

ROOT = Path(__file__).parent.parent
CONFIG = StftConfig(16000, n_fft=64, hop_length=16)


@pytest.fixture
def scripts(monkeypatch):
    """Import a script of the recipe or a benchmark by name."""
    for folder in ("recipes/spectrogram_inversion", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    return import_module


@pytest.fixture
def network(scripts):
    torch.manual_seed(0)
    return scripts("masuyama").MasuyamaNet(CONFIG).requires_grad_(False)


def test_it_has_the_size_of_its_description(network):
    # Four frames to 64 channels; five gated convolutions of kernel 5, each a
    # value and a gate; one channel out. Twice.
    one = 4 * 64 + 64 + 5 * 2 * (5 * 64 * 64 + 64) + 64 + 1
    assert sum(p.numel() for p in network.parameters()) == 2 * one


def test_it_sees_four_frames_and_none_to_come(network):
    random = torch.Generator().manual_seed(0)
    frames = torch.randn(1, 12, CONFIG.num_bins, generator=random)
    found, _ = network(frames)
    for changed in range(12):
        other = frames.clone()
        other[:, changed] += torch.randn(CONFIG.num_bins, generator=random)
        moved, _ = network(other)
        same = [(a == b).all((-1, -2))[0] for a, b in zip(found[:2], moved[:2])]
        expected = [not changed <= t <= changed + 3 for t in range(12)]
        if changed == 0:  # taken to have been there before the start
            expected = [t > 3 for t in range(12)]
        assert all(x.tolist() == expected for x in same)


def test_the_level_does_not_matter_and_a_stream_is_the_whole(network):
    frames = torch.randn(2, 40, CONFIG.num_bins)
    whole, _ = network(frames)
    louder, _ = network(frames + 3.0)
    pieces, state = [], None
    for piece in frames.split([1, 7, 32], dim=1):
        found, state = network(piece, state)
        pieces.append(found.time)
    for other in (louder.time, torch.cat(pieces, dim=1)):
        torch.testing.assert_close(other, whole.time, atol=1e-4, rtol=1e-4)
    assert (whole.frequency_confidence == math.log(network.coupling)).all()


def test_the_inverter_takes_it(network):
    waveform = synthetic_speech(0.3)[:, :1000].float()
    inverter = SpectrogramInverter(CONFIG, estimator=network)
    assert inverter.power == network.power and inverter.lookahead == 0
    for signal in (waveform, 0 * waveform):
        magnitude = analysis(signal, CONFIG).abs()
        made = inverter(magnitude, length=1000)
        assert made.shape == (1, 1000) and made.isfinite().all()


def test_it_learns_derivatives_that_magnitudes_determine(scripts):
    """A pure tone's, from its magnitudes, in a few steps."""
    from speechbrain_phaseinv.estimation.derivatives import (
        PhaseDerivatives,
        phase_derivatives,
    )
    from speechbrain_phaseinv.estimation.features import log_magnitude
    from speechbrain_phaseinv.losses import derivative_loss

    torch.manual_seed(0)
    network = scripts("masuyama").MasuyamaNet(CONFIG, channels=8)
    tone = torch.sin(0.7 * torch.arange(1000.0)).unsqueeze(0)
    stft = analysis(tone, CONFIG)[:, 4:-4]
    magnitude, true = stft.abs(), phase_derivatives(stft, CONFIG)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(40):
        estimates, _ = network(log_magnitude(magnitude)[0])
        found = PhaseDerivatives(*(x.squeeze(2) for x in estimates[:2]))
        loss = sum(derivative_loss(found, true, magnitude))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_configuration_builds_it(scripts):
    claims = scripts("claims")
    config = StftConfig(16000, n_fft=512, hop_length=128)
    sizes = claims.count(config)
    assert sizes["masuyama-0"]["parameters"] == 411650
    assert sizes["network-1"]["parameters"] == sum(
        p.numel()
        for p in PhaseDerivativeNet(config, 1, provisional=True).parameters()
    )
    # Convolutions: weights times bins, without biases.
    weights = 4 * 64 + 5 * 2 * 5 * 64 * 64 + 64
    assert sizes["masuyama-0"]["macs"] == pytest.approx(2 * weights * 257)

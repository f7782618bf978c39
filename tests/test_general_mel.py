"""The network for any mel spectrogram, and the geometry that it knows."""

from dataclasses import replace

import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.config import StftConfig
from speechbrain_phaseinv.mel import (
    GeneralMelNet,
    MelConfig,
    MelInversion,
    available_mels,
    geometry,
    log_mel,
    mel_filterbank,
    mel_front_end,
    mel_preset,
    natural_log,
)
from speechbrain_phaseinv.mel.front_end import resembles_training
from speechbrain_phaseinv.mel.layers import MelNet
from speechbrain_phaseinv.stft import analysis

presets = pytest.mark.parametrize("name", available_mels())
NAME = "vocos-24000"


def mels(name):
    """Log-mels of speech, [1, time, n_mels]."""
    config = mel_preset(name)
    waveform = synthetic_speech(0.4, config.stft.sample_rate).float()
    return log_mel(analysis(waveform, config.stft).abs(), config)


def make_network(name, scale=0.1):
    """A network whose weights are random, but not harmless."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GeneralMelNet(mel_preset(name))
        for parameter in network.requires_grad_(False).parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return network.eval()


@presets
def test_the_kernel_computes_what_the_definition_says(name):
    network, values = make_network(name), mels(name)
    found, state = network(values)
    before = natural_log(values[:, :1], network.config).expand(-1, 2, -1)
    bands = natural_log(values, network.config)
    frames = torch.cat([before, bands], dim=1)
    expected = MelNet.magnitudes(network, frames)
    torch.testing.assert_close(found.log(), expected.log(), rtol=0, atol=1e-4)
    assert torch.equal(state, bands[:, -2:])


@pytest.mark.parametrize("chunk", [1, 3, 17])
def test_a_stream_gives_the_bits_of_the_whole(chunk):
    network, values = make_network(NAME), mels(NAME).repeat(2, 1, 1)
    whole, _ = network(values)
    pieces, state = [], None
    for block in values[:1].split(chunk, dim=1):
        piece, state = network(block, state)
        pieces.append(piece)
        nothing, state = network(block[:, :0], state)
        assert nothing.shape == (1, 0, 513)
    assert torch.equal(torch.cat(pieces, dim=1), whole[:1])


def test_the_network_is_causal():
    network, values = make_network(NAME), mels(NAME)
    changed = values.clone()
    changed[:, 20:] += 1
    before, after = network(values)[0], network(changed)[0]
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20], after[:, 20])


@pytest.mark.parametrize("name", [NAME, "torchaudio-16000"])
def test_the_level_goes_through(name):
    network, config = make_network(name), mel_preset(name)
    plain = replace(config, logarithm="ln", floor=1e-20)
    network.describe(plain)
    values = natural_log(mels(name), config).clamp_min(-30)
    found, louder = network(values)[0], network(values + 2 * config.power)[0]
    heard = found > 1e-9  # digital silence stays silent
    assert heard[..., ~network.beneath].all()
    torch.testing.assert_close(
        louder[heard].log(), found[heard].log() + 2, rtol=0, atol=1e-3
    )


def test_before_any_training_it_is_the_inversion_inside_the_bands():
    config, values = mel_preset(NAME), mels(NAME)
    plain, _ = MelInversion(config, 4)(values)
    found, _ = GeneralMelNet(config).eval().requires_grad_(False)(values)
    heard = plain > 0.05 * plain.amax(2, keepdim=True)
    torch.testing.assert_close(found[heard], plain[heard], rtol=1e-3, atol=0)


def test_training_and_use_compute_the_same():
    network, values = make_network(NAME), mels(NAME)
    used = network(values)[0]
    trained = network.requires_grad_(True)(values)[0]
    torch.testing.assert_close(trained, used, rtol=1e-3, atol=1e-9)
    trained.log().mean().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)


def test_new_weights_are_used_at_once():
    network, values = make_network(NAME), mels(NAME)
    before = network(values)[0]
    other = make_network(NAME, scale=0.2)
    network.load_state_dict(other.state_dict())
    assert torch.equal(network(values)[0], other(values)[0])
    assert not torch.equal(network(values)[0], before)


def test_another_convention_takes_the_same_weights():
    network = make_network(NAME)
    network.describe(mel_preset("whisper-80"))
    values = mels("whisper-80")
    assert torch.equal(
        network(values)[0], make_network("whisper-80")(values)[0]
    )


def test_what_an_empty_band_says_does_not_matter():
    name = "whisper-128"
    config = mel_preset(name)
    bare = replace(config, n_mels=128, f_max=4000.0)  # more bands than bins
    (empty,) = (mel_filterbank(bare).sum(0) == 0).nonzero(as_tuple=True)
    assert len(empty)
    network = make_network(name)
    network.describe(bare)
    values = torch.rand(1, 5, 128)
    changed = values.clone()
    changed[..., empty] += 1
    torch.testing.assert_close(network(values)[0], network(changed)[0])


@pytest.mark.parametrize("value", [-11.5, -60.0, 0.0, 4.0])
def test_a_constant_comes_back_finite(value):
    values = torch.full((1, 3, 100), value)
    assert torch.isfinite(make_network(NAME)(values)[0]).all()


def test_built_on_meta_and_materialised_it_gives_the_same():
    expected = make_network(NAME)
    with torch.device("meta"):
        late = GeneralMelNet(mel_preset(NAME))
    late.to_empty(device="cpu").load_state_dict(expected.state_dict())
    values = mels(NAME)
    with torch.no_grad():
        assert torch.equal(late.eval()(values)[0], expected(values)[0])


def test_the_network_is_small():
    network = GeneralMelNet(mel_preset(NAME))
    assert sum(p.numel() for p in network.parameters()) <= 30_000


@presets
def test_geometry_is_a_few_moderate_numbers(name):
    config = mel_preset(name)
    bands = geometry.band_geometry(config)
    bins = geometry.bin_geometry(config)
    count = len(geometry.kept_bands(config))
    assert bands.shape == (count, geometry.BAND_NUMBERS)
    assert bins.shape == (config.stft.num_bins, geometry.BIN_NUMBERS)
    assert bands.abs().max() < 4 and bins.abs().max() < 4


def test_geometry_knows_no_units_of_bands():
    config = mel_preset(NAME)
    other = replace(config, norm="slaney", logarithm="log10", gain=3.0)
    assert torch.equal(
        geometry.bin_geometry(config), geometry.bin_geometry(other)
    )
    assert torch.equal(
        geometry.band_geometry(config), geometry.band_geometry(other)
    )


@presets
def test_every_preset_is_served_by_a_network(name):
    assert resembles_training(mel_preset(name))
    assert isinstance(mel_front_end(mel_preset(name)), MelNet)


@pytest.mark.parametrize(
    "change",
    [
        {"n_mels": 40},
        {"f_min": 500.0},
        {"f_max": 4000.0},
        {"power": 0.5},
        {"stft": StftConfig(24000, 1024, hop_length=64)},
        {"stft": StftConfig(24000, 2048, 512)},
        {"stft": StftConfig(24000, 256)},
    ],
)
def test_what_lies_outside_the_training_gets_the_updates_alone(change):
    config = replace(mel_preset(NAME), **change)
    assert not resembles_training(config)
    assert type(mel_front_end(config)) is MelInversion


def test_which_network_may_be_said():
    config = MelConfig(StftConfig(22050, 1024, hop_length=256))
    for network, kind in (
        ("auto", "MelInversionNet"),
        ("general", "GeneralMelNet"),
        ("none", "MelInversion"),
    ):
        assert type(mel_front_end(config, network)).__name__ == kind
    with pytest.raises(ValueError, match="auto, general, none, got 'best'"):
        mel_front_end(config, "best")

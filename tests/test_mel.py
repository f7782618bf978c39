"""Mel spectrograms and back: torchaudio's numbers, and better ones."""

import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.config import StftConfig
from speechbrain_phaseinv.mel import (
    MelConfig,
    MelInversion,
    hz_to_mel,
    log_mel,
    mel_filterbank,
    mel_to_hz,
    through_mel,
)
from speechbrain_phaseinv.mel.network import MelInversionNet
from speechbrain_phaseinv.stft import analysis

STFT = StftConfig(22050, n_fft=1024, hop_length=256)
MEL = MelConfig(STFT)


@pytest.fixture(scope="module")
def magnitude():
    waveform = synthetic_speech(0.5, STFT.sample_rate).float()
    return analysis(waveform, STFT).abs()


def make_network(scale=0.1, **options):
    """A network whose weights are random, but not harmless."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MelInversionNet(MEL, **options)
        for parameter in network.requires_grad_(False).parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize(
    "rate, n_fft, n_mels, f_min, f_max",
    [
        (22050, 1024, 80, 0.0, 8000.0),
        (16000, 1024, 80, 0.0, 8000.0),
        (16000, 512, 40, 50.0, 7600.0),
        (44100, 2048, 128, 20.0, 22050.0),
    ],
)
def test_the_filterbank_is_torchaudios(rate, n_fft, n_mels, f_min, f_max):
    functional = pytest.importorskip("torchaudio.functional")
    config = MelConfig(StftConfig(rate, n_fft), n_mels, f_min, f_max)
    theirs = functional.melscale_fbanks(
        n_fft // 2 + 1, f_min, f_max, n_mels, rate, "slaney", "slaney"
    )
    torch.testing.assert_close(
        mel_filterbank(config), theirs, rtol=0, atol=1e-5 * theirs.max().item()
    )


def test_log_mels_are_those_of_speechbrains_fastspeech2():
    lobe = pytest.importorskip("speechbrain.lobes.models.FastSpeech2")
    waveform = synthetic_speech(0.5, 22050)[0].float()
    theirs, _ = lobe.mel_spectrogram(
        sample_rate=22050,
        hop_length=256,
        win_length=1024,
        n_fft=1024,
        n_mels=80,
        f_min=0.0,
        f_max=8000.0,
        power=1,
        normalized=False,
        min_max_energy_norm=False,
        norm="slaney",
        mel_scale="slaney",
        compression=True,
        audio=waveform,
    )
    ours = log_mel(analysis(waveform[None], STFT).abs(), MEL)[0].T
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_the_scale_goes_there_and_back():
    hertz = torch.linspace(0, 20000, 101, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hertz)), hertz)


def test_a_flat_spectrum_has_the_same_level_in_every_wide_band():
    level = mel_filterbank(MelConfig(StftConfig(22050, 16384))).sum(0)
    assert (level.max() - level.min()) / level.mean() < 0.01


def kullback_leibler(bands, magnitude):
    """Divergence of the magnitudes' bands from the wanted bands."""
    wanted = bands.exp()
    sums = magnitude @ mel_filterbank(MEL)
    return (wanted * (wanted / sums).log() - wanted + sums).sum().item()


def test_every_update_brings_the_bands_nearer(magnitude):
    bands = log_mel(magnitude, MEL)
    distances = [
        kullback_leibler(bands, MelInversion(MEL, n)(bands)[0])
        for n in (0, 1, 2, 5, 10, 20)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.01 * distances[0]


def test_non_negative_magnitudes_are_nearer_than_least_squares(magnitude):
    transforms = pytest.importorskip("torchaudio.transforms")
    least_squares = transforms.InverseMelScale(
        513, 80, 22050, 0.0, 8000.0, norm="slaney", mel_scale="slaney"
    )
    bands = log_mel(magnitude, MEL)
    theirs = least_squares(bands.exp().transpose(1, 2)).transpose(1, 2)
    ours, _ = MelInversion(MEL)(bands)
    ours, theirs = (
        (estimate - magnitude)[..., 1:371].norm() for estimate in (ours, theirs)
    )
    assert ours < theirs


def test_bins_outside_of_all_bands_are_zero(magnitude):
    found = through_mel(magnitude, MelInversion(MEL))
    outside = mel_filterbank(MEL).sum(1) == 0
    assert outside.sum() > 100
    assert (found[..., outside] == 0).all()
    assert (found >= 0).all()


@pytest.mark.parametrize("kind", ["plain", "network"])
@pytest.mark.parametrize("chunk", [1, 3, 17])
def test_a_stream_gives_the_bits_of_the_whole(kind, chunk, magnitude):
    inversion = MelInversion(MEL) if kind == "plain" else make_network()
    bands = log_mel(magnitude, MEL).repeat(2, 1, 1)
    whole, _ = inversion(bands)
    pieces, state = [], None
    for block in bands[:1].split(chunk, dim=1):
        piece, state = inversion(block, state)
        pieces.append(piece)
        nothing, state = inversion(block[:, :0], state)
        assert nothing.shape == (1, 0, 513)
    assert torch.equal(torch.cat(pieces, dim=1), whole[:1])


def test_the_network_is_causal(magnitude):
    network = make_network()
    bands = log_mel(magnitude, MEL)
    changed = bands.clone()
    changed[:, 20:] += 1
    before, after = network(bands)[0], network(changed)[0]
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20], after[:, 20])


def test_the_network_does_not_know_the_level(magnitude):
    network = make_network()
    bands = log_mel(magnitude, MEL)
    louder = network(bands + 5)[0]
    torch.testing.assert_close(
        louder.log(), network(bands)[0].log() + 5, rtol=0, atol=1e-3
    )


def test_training_and_use_compute_the_same(magnitude):
    network = make_network()
    bands = log_mel(magnitude, MEL)
    used = network(bands)[0]
    trained = network.requires_grad_(True)(bands)[0]
    torch.testing.assert_close(trained, used, rtol=1e-3, atol=0)
    trained.log().mean().backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)


def test_without_training_the_network_is_the_inversion(magnitude):
    bands = log_mel(magnitude, MEL)
    plain, _ = MelInversion(MEL, edges=False)(bands)
    inside = mel_filterbank(MEL).sum(1) > 0
    torch.testing.assert_close(
        MelInversionNet(MEL)(bands)[0][..., inside].detach(),
        plain[..., inside],
        rtol=1e-4,
        atol=1e-12,
    )


@pytest.mark.parametrize("value", [-11.5, -60.0, 0.0, 10.0])
def test_a_constant_comes_back_finite(value):
    bands = torch.full((1, 3, 80), value)
    for inversion in (MelInversion(MEL), make_network()):
        assert torch.isfinite(inversion(bands)[0]).all()


def test_the_network_is_small():
    network = MelInversionNet(MEL)
    assert sum(p.numel() for p in network.parameters()) <= 30_000


def test_weights_of_other_bands_are_refused():
    weights = MelInversionNet(MEL).state_dict()
    other = MelInversionNet(MelConfig(STFT, f_max=11025.0))
    with pytest.raises(ValueError, match="another mel spectrogram"):
        other.load_state_dict(weights)


@pytest.mark.parametrize("kind", ["plain", "network"])
def test_built_on_meta_and_materialised_it_gives_the_same(kind, magnitude):
    build = MelInversion if kind == "plain" else MelInversionNet
    expected = build(MEL)
    with torch.device("meta"):
        late = build(MEL)
    late.to_empty(device="cpu").load_state_dict(expected.state_dict())
    bands = log_mel(magnitude, MEL)
    assert torch.equal(late(bands)[0], expected(bands)[0])


def test_another_default_device_changes_nothing(magnitude):
    bands = log_mel(magnitude, MEL)
    expected = MelInversion(MEL)(bands)[0]
    with torch.device("meta"):
        assert torch.equal(log_mel(magnitude, MEL), bands)
        assert mel_filterbank(MEL).device.type == "cpu"
    inversion = MelInversion(MEL)
    with torch.device("meta"):
        assert torch.equal(inversion(bands)[0], expected)


@pytest.mark.parametrize("bad", [torch.ones(2, 80), torch.ones(1, 2, 64)])
def test_other_shapes_are_explained(bad):
    for inversion in (MelInversion(MEL), MelInversionNet(MEL)):
        with pytest.raises(ValueError, match=r"\[batch, time, 80\]"):
            inversion(bad)


def test_bands_that_cannot_be_are_explained():
    with pytest.raises(ValueError, match="half of the sampling rate"):
        MelConfig(StftConfig(16000, 512), f_max=11025.0)
    with pytest.raises(ValueError, match="must be positive"):
        MelConfig(STFT, floor=0)
    for n_mels in (0, 514):
        with pytest.raises(ValueError, match=r"n_mels must lie in \[1, 513\]"):
            MelConfig(STFT, n_mels=n_mels)
    with pytest.raises(ValueError, match="no bin falls into band"):
        MelInversionNet(MelConfig(StftConfig(22050, 256), n_mels=128))
    with pytest.raises(ValueError, match="slaney's bands"):
        MelInversionNet(MelConfig(STFT, power=2.0))
    with pytest.raises(ValueError, match="logarithm must be one of"):
        MelConfig(STFT, logarithm="log2")
    with pytest.raises(ValueError, match="mean must hold 80 numbers, got 2"):
        MelConfig(STFT, mean=(1.0, 2.0))


def test_hum_below_the_bands_is_not_made_up():
    config = MelConfig(StftConfig(22050, 1024), f_min=80.0, f_max=7600.0)
    magnitude = torch.zeros(1, 1, 513)
    magnitude[..., 6:10] = 1.0  # 130 to 190 Hz: the voice of a man
    bands = log_mel(magnitude, config)
    found = MelInversion(config)(bands)[0]
    plain = MelInversion(config, edges=False)(bands)[0]
    assert (log_mel(found, config) - bands).abs().max() < 0.1
    # 86 Hz has a sixth of the first band's weight at its centre.
    assert 0 < found[..., 4] < plain[..., 4] / 3

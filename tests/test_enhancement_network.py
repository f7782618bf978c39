"""The phase network for enhancement: what it promises, whatever it learnt."""

import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv import (
    Resynthesizer,
    SpectrogramInverter,
    StftConfig,
    analysis,
    synthesis,
)
from speechbrain_phaseinv.estimation.enhancement import EnhancementNet
from speechbrain_phaseinv.integration.offset import is_offset
from speechbrain_phaseinv.noisy_phase import (
    direction,
    invert_towards,
    observe,
)

CONFIG = StftConfig(16000, 512, hop_length=128)
SMALL = StftConfig(16000, 64, hop_length=16)


def network(config=CONFIG, weight=0.0, refinements=3, seed=0):
    """Untrained, with outputs that vary and some weight of the noisy phase."""
    torch.manual_seed(seed)
    net = EnhancementNet(config, refinements=refinements)
    torch.nn.init.normal_(net.last.weight, 0, 0.1)
    with torch.no_grad():
        net.last.bias[4] = weight
    return net.requires_grad_(False)


def recording(noise=0.02, seconds=1.0):
    """Clean and noisy speech."""
    clean = synthetic_speech(seconds).float()
    generator = torch.Generator().manual_seed(0)
    return clean, clean + noise * torch.randn(clean.shape, generator=generator)


def distance(made, wanted):
    """Of two waveforms, in dB below the second."""
    return 20 * torch.log10((made - wanted).norm() / wanted.norm()).item()


def test_it_is_small():
    assert sum(p.numel() for p in network().parameters()) <= 16384


@pytest.mark.parametrize("window, hop", [("hann", 128), ("sqrt_hann", 256)])
def test_all_trust_is_the_noisy_phase_refinement_included(window, hop):
    config = StftConfig(16000, 512, hop_length=hop, window=window)
    clean, noisy = recording()
    noisy = noisy + 5  # an offset
    stft = analysis(noisy, config)
    magnitude = analysis(clean, config).abs()
    magnitude[:, :, :3] = stft[..., :3].abs()
    magnitude[:, 20:30] = 0.9 * stft[:, 20:30].abs()
    magnitude[:, 40:45] = 0
    magnitude[:, :, 3::7] = 0
    assert is_offset(magnitude, config).any()
    wanted = synthesis(magnitude * direction(stft), config, 16000)
    inverter = SpectrogramInverter(config, estimator=network(config, 30.0))
    known = observe(inverter, stft, magnitude)
    made = invert_towards(inverter, magnitude, *known, 16000)
    assert distance(made, wanted) < -100


def test_a_bin_that_trusts_is_not_refined():
    _, noisy = recording()
    stft = analysis(noisy, CONFIG)
    # Magnitudes that no signal has, so that refinement changes phases.
    magnitude = stft.abs() * torch.rand(stft.shape)
    made = {}
    for weight in (-3.0, 20.0):
        for n in (0, 3):
            net = network(weight=weight, refinements=n)
            inverter = SpectrogramInverter(CONFIG, estimator=net)
            known = observe(inverter, stft, magnitude)
            made[weight, n] = invert_towards(inverter, magnitude, *known)
    assert torch.allclose(made[20.0, 0], made[20.0, 3], atol=1e-5)
    assert distance(made[-3.0, 0], made[-3.0, 3]) > -20


def test_level_does_not_matter():
    clean, noisy = recording()
    resynth = Resynthesizer(CONFIG, normalize_wavs=False, estimator=network())
    magnitude = analysis(clean, CONFIG).abs()
    wanted = resynth(magnitude, noisy)
    made = resynth(magnitude / 1024, noisy / 1024)
    assert torch.allclose(1024 * made, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "chunk, length",
    [(1, 1500), (128, 1650), (128, 7000), (300, 7001), (9, 1777)],
)
def test_a_stream_gives_the_samples_of_the_offline_call(chunk, length):
    _, noisy = recording()
    noisy = noisy[:, :length].repeat(2, 1)
    resynth = Resynthesizer(CONFIG, "learnt", False, estimator=network())
    resynth.pad_mode = "constant"

    def mask(magnitude):
        return (0.9 * magnitude - 0.3).clamp_min(0)

    expected = resynth(mask(analysis(noisy, CONFIG, "constant").abs()), noisy)
    stream = resynth.stream(mask)
    assert stream.latency_samples == 512
    pieces = [stream.push(x) for x in noisy.split(chunk, dim=1)]
    assert torch.equal(torch.cat([*pieces, stream.flush()], 1), expected)


def inverted(backend, parameters=None):
    """A short inversion in double precision, and the network."""
    net = network(SMALL).double()
    if parameters is not None:
        torch.nn.utils.vector_to_parameters(parameters, net.parameters())
    net.requires_grad_(parameters is None)
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 200, dtype=torch.double, generator=generator)
    noisy[1] = 0.1 * noisy[1] + 5  # an offset
    stft = analysis(noisy, SMALL)
    gain = torch.rand(stft.shape, dtype=torch.double, generator=generator)
    inverter = SpectrogramInverter(SMALL, estimator=net, backend=backend)
    gain[1] = 0.9
    known = observe(inverter, stft, gain * stft.abs())
    return invert_towards(inverter, gain * stft.abs(), *known, 200), net


def test_the_kernel_and_the_definition_agree_gradients_included():
    found = {}
    for backend in ("numba", "torch"):
        made, net = inverted(backend)
        made.pow(3).sum().backward()
        grads = [p.grad for p in net.parameters()]
        found[backend] = made.detach(), torch.cat([x.flatten() for x in grads])
    for one, other in zip(found["numba"], found["torch"]):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)


def test_gradients_are_those_of_finite_differences():
    made, net = inverted("auto")
    made.pow(3).sum().backward()
    start = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert torch.isfinite(gradient).all()
    way = torch.randn_like(start)
    step = 1e-7 * way
    ends = [
        inverted("auto", start + sign * step)[0].pow(3).sum()
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / 2e-7
    assert slope.item() == pytest.approx((gradient @ way).item(), rel=1e-3)


@pytest.mark.parametrize(
    "n_fft, hop, window",
    [(512, 128, "hann"), (512, 256, "hamming"), (320, 160, "sqrt_hann")],
)
def test_clean_magnitudes_gain_and_a_mask_loses_nothing(n_fft, hop, window):
    config = StftConfig(16000, n_fft, hop_length=hop, window=window)
    clean, noisy = recording(0.03)
    made = {}
    for phase in ("auto", "noisy"):
        resynth = Resynthesizer(config, phase, normalize_wavs=False)
        magnitude = analysis(clean, config).abs()
        made[phase] = resynth(magnitude, noisy)
        recorded = analysis(noisy, config).abs()
        made[phase, "mask"] = resynth((recorded - 0.3).clamp_min(0), noisy)
    error = {
        phase: distance(analysis(made[phase], config).abs(), magnitude)
        for phase in ("auto", "noisy")
    }
    assert error["auto"] < error["noisy"] - 1
    # What the mask left is hardly touched.
    assert distance(made["auto", "mask"], made["noisy", "mask"]) < -15


def test_without_a_recording_it_says_where_it_belongs():
    inverter = SpectrogramInverter(CONFIG, estimator=network())
    with pytest.raises(ValueError, match="use Resynthesizer"):
        inverter(torch.rand(1, 5, 257))


def test_where_no_weights_fit_the_noisy_phase_stands_in_and_says_so():
    odd = StftConfig(16000, 512, 400, 160)
    for lookahead, config in ((1, odd), (0, CONFIG)):
        with pytest.warns(UserWarning, match="noisy phase stands in"):
            resynth = Resynthesizer(config, lookahead=lookahead)
        assert resynth.phase == "noisy"
        with pytest.raises(ValueError, match="window sqrt_hann"):
            Resynthesizer(config, "learnt", lookahead=lookahead)
    with pytest.raises(ValueError, match="phase='both'"):
        Resynthesizer(CONFIG, estimator="gradient")
    with pytest.raises(ValueError, match="no use to 'both'"):
        Resynthesizer(CONFIG, "both", estimator=network())

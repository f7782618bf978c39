"""Facts about the Griffin-Lim refinement."""

import pytest
import torch

from speechbrain_phaseinv.griffinlim import griffin_lim
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.stft import StftConfig, analysis, synthesis


def noise(samples=4000, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, samples, generator=generator, dtype=torch.float64)


def convergence(magnitude, waveform, config):
    """Spectral convergence, the distance of magnitudes relative to them."""
    found = analysis(waveform, config).abs()
    return float((found - magnitude).norm() / magnitude.norm())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(
    "n_fft, win_length, hop_length, length",
    [(512, 512, 128, None), (512, 400, 100, None), (400, 400, 100, 3950)],
)
def test_equals_torchaudio_from_phase_zero(
    n_fft, win_length, hop_length, length, momentum
):
    transforms = pytest.importorskip("torchaudio.transforms")
    config = StftConfig(16000, n_fft, win_length, hop_length)
    samples = length or 30 * hop_length
    magnitude = analysis(noise(samples), config).abs()
    peer = transforms.GriffinLim(
        n_fft=n_fft,
        n_iter=6,
        win_length=win_length,
        hop_length=hop_length,
        power=1.0,
        momentum=momentum,
        length=length,
        rand_init=False,
        wkwargs={"dtype": torch.float64},
    )
    theirs = peer(magnitude.transpose(1, 2))
    refined = griffin_lim(
        magnitude, config, n_iter=6, momentum=momentum, length=length
    )
    ours = synthesis(refined, config, length)
    # Rounding of doubles, which every iteration can amplify a little.
    assert (ours - theirs).abs().max() < 1e-9 * theirs.abs().max()


def test_refinement_makes_the_spectrogram_more_consistent():
    config = StftConfig(16000, n_fft=512, hop_length=128)
    magnitude = analysis(noise(8000), config).abs()
    start = SpectrogramInverter(config).invert(magnitude)
    distances = [
        convergence(
            magnitude,
            synthesis(griffin_lim(magnitude, config, start, n), config),
            config,
        )
        for n in (0, 4, 16)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_the_true_phase_is_a_fixed_point():
    config = StftConfig(16000, n_fft=256, hop_length=64)
    true = analysis(noise(64 * 40), config)
    refined = griffin_lim(true.abs(), config, true, n_iter=5)
    assert (refined - true).abs().max() < 1e-9 * true.abs().max()


def test_no_iterations_return_the_start_with_the_wanted_magnitudes():
    config = StftConfig(16000, n_fft=64, hop_length=16)
    true = analysis(noise(640), config)
    found = griffin_lim(2 * true.abs(), config, true, n_iter=0)
    assert torch.allclose(found, 2 * true)


def test_the_level_does_not_matter():
    config = StftConfig(16000, n_fft=64, hop_length=16)
    magnitude = analysis(noise(640), config).abs()
    loud = griffin_lim(magnitude, config, n_iter=4)
    quiet = griffin_lim(1e-20 * magnitude, config, n_iter=4)
    assert torch.allclose(loud, 1e20 * quiet)


@pytest.mark.parametrize("n_fft", [64, 65])
@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_short_signals_keep_their_magnitudes(n_fft, frames):
    config = StftConfig(16000, n_fft=n_fft, hop_length=16)
    magnitude = torch.rand(2, frames, config.num_bins, dtype=torch.float64)
    refined = griffin_lim(magnitude, config, n_iter=3)
    assert torch.allclose(refined.abs(), magnitude)


def test_silence_stays_silent():
    config = StftConfig(16000, n_fft=64, hop_length=16)
    refined = griffin_lim(torch.zeros(1, 10, 33), config, n_iter=3)
    assert (refined == 0).all()


def test_a_padded_signal_is_refined_as_alone():
    config = StftConfig(16000, n_fft=64, hop_length=16)
    magnitude = analysis(noise(640, batch=2), config).abs()
    alone = griffin_lim(magnitude[1:, :20], config, n_iter=4)
    lengths = torch.tensor([41, 20])
    both = griffin_lim(magnitude, config, n_iter=4, lengths=lengths)
    assert torch.equal(both[1:, :20], alone)
    assert (both[1, 20:] == 0).all()
    zeros = griffin_lim(magnitude[1:, :20], config, pad_mode="constant")
    assert not torch.equal(zeros, griffin_lim(magnitude[1:, :20], config))
    both = griffin_lim(magnitude, config, lengths=lengths, pad_mode="constant")
    assert torch.equal(both[1:, :20], zeros)


def test_gradients_are_right():
    config = StftConfig(16000, n_fft=8, hop_length=2)
    magnitude = analysis(noise(20), config).abs().requires_grad_()
    start = analysis(noise(20, seed=1), config)

    def refine(magnitude):
        return griffin_lim(magnitude, config, start, n_iter=2)

    assert torch.autograd.gradcheck(refine, magnitude)


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_second_derivatives_are_right(momentum):
    config = StftConfig(16000, n_fft=8, hop_length=2)
    magnitude = analysis(noise(12), config).abs().requires_grad_()
    start = analysis(noise(12, seed=1), config)

    def refine(magnitude):
        refined = griffin_lim(magnitude, config, start, 2, momentum)
        return torch.view_as_real(refined)

    assert torch.autograd.gradgradcheck(refine, magnitude)


def test_torch_func_gives_the_same_gradient():
    config = StftConfig(16000, n_fft=8, hop_length=2)
    magnitude = analysis(noise(20), config).abs().requires_grad_()

    def loss(magnitude):
        return griffin_lim(magnitude, config, n_iter=2).real.sin().sum()

    (expected,) = torch.autograd.grad(loss(magnitude), magnitude)
    assert torch.allclose(torch.func.grad(loss)(magnitude.detach()), expected)


@pytest.mark.parametrize("zeros", ["all", "some", "frames"])
def test_gradients_are_finite_at_zero_magnitude(zeros):
    config = StftConfig(16000, n_fft=64, hop_length=16)
    magnitude = analysis(noise(640), config).abs().float()
    if zeros == "all":
        magnitude.zero_()
    elif zeros == "some":
        magnitude[:, :, ::3] = 0
    else:
        magnitude[:, 10:30] = 0
    magnitude.requires_grad_()
    start = SpectrogramInverter(config).invert(magnitude)
    refined = griffin_lim(magnitude, config, start, n_iter=3)
    synthesis(refined, config).square().sum().backward()
    assert magnitude.grad.isfinite().all()


def test_errors_say_what_was_expected():
    config = StftConfig(16000, n_fft=64, hop_length=16)
    magnitude = torch.ones(1, 5, 33)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        griffin_lim(magnitude, config, momentum=1.0)
    with pytest.raises(ValueError, match="n_iter must not be negative"):
        griffin_lim(magnitude, config, n_iter=-1)
    with pytest.raises(ValueError, match=r"\[batch, time, 33\]"):
        griffin_lim(magnitude[0], config)
    for bad in (-magnitude, magnitude * torch.nan):
        with pytest.raises(ValueError, match="finite and not negative"):
            griffin_lim(bad, config)
    for bad in ([6], [-1]):
        with pytest.raises(ValueError, match=r"must lie in \[0, 5\]"):
            griffin_lim(magnitude, config, lengths=bad)
    with pytest.raises(ValueError, match="complex start"):
        griffin_lim(magnitude, config, magnitude)
    with pytest.raises(ValueError, match="expected 1 integer lengths"):
        griffin_lim(magnitude, config, lengths=[5, 5])

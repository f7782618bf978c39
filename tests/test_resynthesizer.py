"""The resynthesis step of an enhancer, beside SpeechBrain's own."""

import functools

import numpy as np
import pytest
import torch
from conftest import synthetic_speech
from speechbrain.processing.features import ISTFT, STFT, spectral_magnitude
from speechbrain.processing.signal_processing import resynthesize

from speechbrain_phaseinv import Resynthesizer, StftConfig, analysis
from speechbrain_phaseinv.estimation import Estimates, Schedule
from speechbrain_phaseinv.estimation.derivatives import expected_advance
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.noisy_phase import (
    DOUBT,
    invert_towards,
    signal_to_noise,
)
from speechbrain_phaseinv.resynthesizer import PHASES, describe
from speechbrain_phaseinv.stft import synthesis

# The transform of SpeechBrain's enhancers: 32 ms every 16 ms, Hamming.
HALF = dict(sample_rate=16000, win_length=32, hop_length=16)
CONFIG = StftConfig(16000, 512, hop_length=256, window="hamming")


def stft(**options):
    return STFT(n_fft=512, **{**HALF, **options})


def mixture(noise=0.01, seconds=1.0):
    """Clean and noisy speech, and the clean magnitudes, as SpeechBrain's."""
    clean = synthetic_speech(seconds).float()
    generator = torch.Generator().manual_seed(0)
    noisy = clean + noise * torch.randn(clean.shape, generator=generator)
    magnitude = spectral_magnitude(stft()(clean), power=0.5)
    return clean, noisy, magnitude


def distance(made, wanted):
    """Of two waveforms, in dB below the second."""
    return 20 * torch.log10((made - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("normalize_wavs", [True, False])
@pytest.mark.parametrize("samples", [16000, 15900, 300])
def test_the_noisy_phase_is_what_speechbrain_makes(normalize_wavs, samples):
    _, noisy, magnitude = mixture()
    noisy = noisy[:, :samples]
    magnitude = magnitude[:, : 1 + samples // 256]
    theirs = resynthesize(
        magnitude, noisy, stft(), ISTFT(**HALF), normalize_wavs
    )
    ours = Resynthesizer(stft(), "noisy", normalize_wavs)(magnitude, noisy)
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=2e-5)


def test_the_models_phase_is_the_inverters():
    _, noisy, magnitude = mixture()
    wanted = SpectrogramInverter(CONFIG)(magnitude, length=16000)
    made = Resynthesizer(stft(), "model", normalize_wavs=False)
    assert torch.equal(made(magnitude, noisy), wanted)
    assert torch.equal(made(magnitude, 0 * noisy), wanted)


def test_trust_leads_from_the_model_to_the_noisy_phase():
    _, noisy, magnitude = mixture()
    ends = {
        phase: Resynthesizer(stft(), phase)(magnitude, noisy)
        for phase in ("model", "noisy")
    }
    none = Resynthesizer(stft(), "both", trust=0)(magnitude, noisy)
    assert distance(none, ends["model"]) < -60
    full = Resynthesizer(stft(), "both", trust=1e12)
    refined = full(magnitude, noisy)
    full.inverter.refinements = 0
    assert distance(full(magnitude, noisy), ends["noisy"]) < -60
    # Refinement still makes the frames consistent.
    assert distance(refined, ends["noisy"]) < -20
    assert distance(refined, ends["noisy"]) < distance(none, ends["noisy"]) - 6


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_both_phases_together_are_better_than_each(noise):
    clean, noisy, magnitude = mixture(noise)
    errors = {
        phase: distance(
            Resynthesizer(stft(), phase, normalize_wavs=False)(
                magnitude, noisy
            ),
            clean,
        )
        for phase in PHASES
    }
    assert errors["both"] < errors["noisy"] < errors["model"]


class Fixed(torch.nn.Module):
    """An estimator that knows the derivatives beforehand."""

    schedule = Schedule()
    power = 1.0

    def __init__(self, derivatives):
        super().__init__()
        self.derivatives = derivatives

    def forward(self, log_magnitude, state=None):
        return self.derivatives, None


def test_each_frame_minimises_the_sum_that_is_stated():
    # The functional of `integration`, with the noisy phase's term, as a dense
    # system in the unknowns z: no ladder, no change of variables.
    torch.manual_seed(0)
    config = StftConfig(16000, 16, hop_length=4)
    shape = (1, 3, config.num_bins)
    real = functools.partial(torch.rand, *shape, dtype=torch.double)
    magnitude, snr = 0.1 + real(), 3 * real()
    time, frequency, confidence = real() - 0.5, real() - 0.5, real()
    observed = torch.polar(torch.ones_like(time), 6 * real())
    derivatives = Estimates.single(time, frequency, confidence, confidence)
    inverter = SpectrogramInverter(config, estimator=Fixed(derivatives))
    found = invert_towards(inverter, magnitude, observed, snr)

    a, n, e = (x[0].numpy() for x in (magnitude, snr, observed))
    trust = confidence[0].exp().numpy()
    tpd = (time + expected_advance(config, torch.double))[0].numpy()
    fpd = frequency[0].numpy()
    before = 1e-6 * a[0]
    phasor, frames = np.ones(config.num_bins), []
    for t in range(3):
        rows, sides = [], []
        for k in range(config.num_bins):
            unit = np.eye(config.num_bins)[k]
            weight = np.sqrt(trust[t, k] * a[t, k] * before[k])
            rows.append(weight * unit)
            sides.append(weight * a[t, k] * phasor[k] * np.exp(1j * tpd[t, k]))
            weight = np.sqrt(n[t, k] * a[t, k] * a[t, k])
            rows.append(weight * unit)
            sides.append(weight * a[t, k] * e[t, k])
            if k:
                step = a[t, k] / a[t, k - 1] * np.exp(1j * fpd[t, k])
                below = np.eye(config.num_bins)[k - 1]
                weight = np.sqrt(trust[t, k] * a[t, k] * a[t, k - 1])
                rows.append(weight * (unit - step * below))
                sides.append(0)
        z = np.linalg.lstsq(np.array(rows), np.array(sides), rcond=None)[0]
        phasor = z / np.abs(z)
        for k in config.real_bins:
            phasor[k] = 1 if phasor[k].real >= 0 else -1
        frames.append(torch.from_numpy(a[t] * phasor))
        before = a[t]
    stft = torch.stack(frames) * config.start_phasor(torch.complex128)
    assert torch.allclose(found, synthesis(stft[None], config), atol=1e-9)


def test_what_the_enhancer_took_says_how_noisy_a_bin_is():
    # Complex Gaussian noise of power v on speech of magnitude 1: its part
    # along the speech has half the power.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 400, 257, dtype=torch.cfloat, generator=generator)
    speech = torch.ones(1, 400, 257)
    for v in (0.01, 0.04):
        noisy = (speech + v**0.5 * noise).abs()
        ratio = signal_to_noise(speech, noisy)
        power = (1 / ratio - DOUBT).mean().item()
        # One of the seven bins' freedoms goes into their gain.
        assert power == pytest.approx(6 / 7 * v / 2, rel=0.1)
        # At any level, and none where nothing is left.
        assert torch.equal(signal_to_noise(16 * speech, 16 * noisy), ratio)
        assert not signal_to_noise(0 * speech, noisy).any()
        assert not signal_to_noise(speech, 0 * noisy).any()


def test_a_smooth_gain_leaves_the_phase():
    _, noisy, _ = mixture()
    recorded = analysis(noisy, CONFIG, "constant").abs()
    ratio = signal_to_noise(0.3 * recorded, recorded)
    assert torch.allclose(ratio, torch.tensor(1 / DOUBT), rtol=1e-3)
    made = Resynthesizer(stft(), normalize_wavs=False)(0.3 * recorded, noisy)
    alone = Resynthesizer(stft(), "model", False)(0.3 * recorded, noisy)
    assert distance(made, 0.3 * noisy) < -20 < distance(alone, 0.3 * noisy)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("window", ["hann", "hamming"])
def test_a_transform_of_speechbrain_is_followed(pad_mode, window):
    window_fn = getattr(torch, f"{window}_window")
    theirs = stft(window_fn=window_fn, pad_mode=pad_mode, hop_length=8)
    config, mode, gain = describe(theirs)
    assert config == StftConfig(16000, 512, hop_length=128, window=window)
    waveform = synthetic_speech().float()
    wanted = torch.view_as_complex(theirs(waveform).contiguous())
    assert torch.allclose(analysis(waveform, config, mode), wanted, atol=1e-5)
    assert gain == 1


@pytest.mark.parametrize("phase", PHASES)
def test_a_normalised_stft_gives_the_same_level(phase):
    _, noisy, magnitude = mixture()
    wanted = Resynthesizer(stft(), phase, False)(magnitude, noisy)
    normalised = stft(normalized_stft=True)
    small = spectral_magnitude(normalised(noisy), power=0.5)
    large = spectral_magnitude(stft()(noisy), power=0.5)
    scale = (small / large).median()
    made = Resynthesizer(normalised, phase, False)(scale * magnitude, noisy)
    # Least squares amplify the rounding where the data decide little.
    assert distance(made, wanted) < -20


@pytest.mark.parametrize("phase", PHASES)
def test_a_batch_is_its_rows(phase):
    _, noisy, magnitude = mixture()
    batch = torch.cat([noisy, noisy.flip(1)])
    both = torch.cat([magnitude, magnitude.flip(1)])
    resynth = Resynthesizer(stft(), phase)
    together = resynth(both, batch)
    for i in range(2):
        alone = resynth(both[i : i + 1], batch[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)
    assert torch.allclose(together.abs().amax(1), torch.ones(2))


@pytest.mark.parametrize("phase", PHASES)
def test_silence_zeros_and_almost_nothing_pass(phase):
    resynth = Resynthesizer(stft(), phase)
    for samples in (0, 1, 100, 256, 2000):
        noisy = torch.randn(1, samples)
        for signal in (noisy, 0 * noisy):
            for level in (0, 1e-7, 1):
                magnitude = torch.full((1, 1 + samples // 256, 257), level)
                waveform = resynth(magnitude.float(), signal)
                assert waveform.shape == signal.shape
                assert torch.isfinite(waveform).all()
    assert resynth(torch.zeros(0, 2, 257), torch.zeros(0, 256)).shape[0] == 0


@pytest.mark.parametrize("phase", PHASES)
def test_a_mask_with_zeros_has_finite_gradients(phase):
    _, noisy, magnitude = mixture()
    magnitude[:, :, ::3] = 0
    magnitude[:, 20:30] = 0
    magnitude.requires_grad_()
    Resynthesizer(stft(), phase)(magnitude, noisy).square().sum().backward()
    assert torch.isfinite(magnitude.grad).all()
    assert magnitude.grad.abs().max() > 0


@pytest.mark.parametrize("phase", PHASES)
def test_half_precision_is_computed_in_single(phase):
    _, noisy, magnitude = mixture()
    resynth = Resynthesizer(stft(), phase)
    half = magnitude.bfloat16()
    wanted = resynth(half.float(), noisy)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resynth(half, noisy), wanted)


@pytest.mark.parametrize("phase", PHASES)
def test_frames_need_not_be_centred(phase):
    clean, noisy, _ = mixture()
    uncentred = stft(center=False)
    magnitude = spectral_magnitude(uncentred(noisy), power=0.5)
    made = Resynthesizer(uncentred, phase, False)(magnitude, noisy)
    assert made.shape == noisy.shape
    if phase == "noisy":
        # The outermost samples are seen through the window's ends alone.
        covered = slice(32, 480 + 256 * ((noisy.shape[1] - 512) // 256))
        assert torch.allclose(made[:, covered], noisy[:, covered], atol=1e-4)


def test_transforms_that_cannot_be_followed_are_refused():
    for options, message in (
        ({"center": False, "win_length": 25}, "win_length == n_fft"),
        ({"onesided": False}, "onesided=True"),
        ({"hop_length": 40}, "hop_length"),
    ):
        with pytest.raises(ValueError, match=message):
            Resynthesizer(stft(**options))
    with torch.device("meta"):
        without_samples = stft()
    with pytest.raises(ValueError, match="device meta, without samples"):
        Resynthesizer(without_samples)
    with pytest.raises(TypeError, match="StftConfig"):
        Resynthesizer(torch.hann_window(512))
    with pytest.raises(ValueError, match="model, noisy, both"):
        Resynthesizer(stft(), phase="random")
    for trust in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="trust"):
            Resynthesizer(stft(), trust=trust)


@pytest.mark.parametrize("phase", PHASES)
def test_what_does_not_belong_together_is_refused(phase):
    _, noisy, magnitude = mixture()
    resynth = Resynthesizer(stft(), phase)
    for wrong in (
        (magnitude[:, 1:], noisy),
        (magnitude, noisy[:, 256:]),
        (magnitude[..., 1:], noisy),
        (magnitude.transpose(1, 2), noisy),
        (magnitude.repeat(2, 1, 1), noisy),
        (magnitude[0], noisy),
        (magnitude, noisy[0]),
        (magnitude, noisy.unsqueeze(1)),
    ):
        with pytest.raises(ValueError, match="expected|have magnitudes"):
            resynth(*wrong)
    for wrong in (
        (magnitude.to(torch.cfloat), noisy),
        (magnitude, noisy.to(torch.cfloat)),
        (magnitude.numpy(), noisy),
    ):
        with pytest.raises(TypeError, match="expected"):
            resynth(*wrong)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_what_is_no_magnitude_is_refused(phase, value):
    _, noisy, magnitude = mixture()
    resynth = Resynthesizer(stft(), phase)
    magnitude[0, 5, 7] = value
    with pytest.raises(ValueError, match="finite and not negative"):
        resynth(magnitude, noisy)
    if value != -1:
        noisy[0, 9] = value
        with pytest.raises(ValueError, match="NaN or infinity"):
            resynth(magnitude.abs().nan_to_num(1, 1), noisy)

"""Integration of phase derivatives, with the true phase as the oracle."""

import pytest
import torch
from conftest import CONFIG

from speechbrain_phaseinv.estimation.derivatives import (
    PhaseDerivatives,
    phase_derivatives,
)
from speechbrain_phaseinv.estimation.features import LOG_FLOOR, log_magnitude
from speechbrain_phaseinv.integration.least_squares import (
    integrate,
    phase_weights,
)
from speechbrain_phaseinv.stft import StftConfig, analysis, synthesis

CONFIGS = [
    CONFIG,
    StftConfig(16000, 512, 400, 100, "hamming"),
    StftConfig(16000, 512, hop_length=256, window="hamming"),
    StftConfig(22050, 1024, hop_length=256, window="blackman"),
    StftConfig(16000, 400, hop_length=200),
    StftConfig(16000, 1024, 401, 100),
]
configs = pytest.mark.parametrize("config", CONFIGS, ids=str)


def plain_weights(log_mag, before, power=1.5):
    """Those of an estimator without confidences."""
    nothing = torch.zeros_like(log_mag)
    return phase_weights(log_mag, before, nothing, nothing, power)


def weights(magnitude):
    level, _ = log_magnitude(magnitude)
    around = (0, 0, 1, 0)
    before = torch.nn.functional.pad(level[:, :-1], around, value=LOG_FLOOR)
    return plain_weights(level, before)


@configs
def test_true_derivatives_give_back_the_signal(speech, config):
    # The network and the gradient theorem left out, what remains is exact.
    # Single precision, a second of signal: 100 dB down.
    x = speech.float()
    stft = analysis(x, config)
    magnitude = stft.abs()
    true = phase_derivatives(stft, config)
    phasors = integrate(true, *weights(magnitude), config)
    phasors = phasors * config.start_phasor(phasors.dtype)
    y = synthesis(magnitude * phasors, config, x.shape[1])
    difference = analysis(y, config).abs() - magnitude
    assert difference.norm() < 1e-5 * magnitude.norm()


@configs
def test_true_derivatives_give_back_the_phase(speech, config):
    # From the true first frame on, up to rounding, bin by bin.
    stft = analysis(speech, config)
    true = phase_derivatives(stft, config)
    phasors = torch.sgn(stft) * config.centre_phasor(stft.dtype)
    later = PhaseDerivatives(true.time[:, 1:], true.frequency[:, 1:])
    anchor, coupling = weights(stft.abs())
    found = integrate(
        later, anchor[:, 1:], coupling[:, 1:], config, phasors[:, 0]
    )
    assert (found - phasors[:, 1:]).abs().max() < 1e-9


def test_each_frame_is_the_least_squares_solution():
    # One frame, written out as in the paper: complex z, dense, no change of
    # variables, no ladder.
    config = StftConfig(16000, 16, hop_length=4)
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    a, a_before = uniform(9) + 0.1, uniform(9) + 0.1
    time, frequency, psi = (6 * uniform(9) - 3 for _ in range(3))
    advance = torch.arange(9, dtype=torch.float64) * (2 * torch.pi * 4 / 16)
    power = 1.5
    temporal = (a * a_before) ** power
    lateral = (a[1:] * a[:-1]) ** power
    target = torch.polar(a, psi + time + advance)
    ratio = torch.polar(a[1:] / a[:-1], frequency[1:])
    rows = torch.diag(torch.sqrt(temporal)).to(target.dtype)
    difference = torch.zeros(8, 9, dtype=target.dtype)
    for k in range(8):
        difference[k, k + 1] = 1
        difference[k, k] = -ratio[k]
    system = torch.cat([rows, torch.sqrt(lateral)[:, None] * difference])
    right = torch.cat([rows @ target, torch.zeros(8, dtype=target.dtype)])
    z = torch.linalg.lstsq(system, right[:, None]).solution[:, 0]
    z[[0, 8]] = z[[0, 8]].real.to(z.dtype)  # DC and Nyquist of a real signal

    anchor, coupling = plain_weights(
        a.log()[None, None], a_before.log()[None, None], power
    )
    found = integrate(
        PhaseDerivatives(time[None, None], frequency[None, None]),
        anchor,
        coupling,
        config,
        torch.polar(torch.ones(9, dtype=torch.float64), psi)[None],
    )
    assert (found[0, 0] - torch.sgn(z)).abs().max() < 1e-10


@configs
def test_dc_and_nyquist_are_real_as_of_a_real_signal(config):
    signal = torch.randn(1, 8000, dtype=torch.float64)
    true = analysis(signal, config) * config.centre_phasor(torch.complex128)
    generator = torch.Generator().manual_seed(0)
    derivatives = PhaseDerivatives(
        *3 * torch.randn(2, *true.shape, generator=generator)
    )
    ones = torch.ones(true.shape)
    found = integrate(derivatives, ones, ones, config)
    for k in config.real_bins:
        assert (true[..., k].imag.abs() < 1e-9).all()
        assert (found[..., k].abs() == 1).all() and not found[..., k].imag.any()


def test_a_range_of_frames_continues_bit_for_bit(speech):
    stft = analysis(torch.cat([speech, -speech.flip(1)]).float(), CONFIG)
    true = phase_derivatives(stft, CONFIG)
    # Wrong derivatives, so that the weights have something to decide.
    true = true._replace(time=true.time + 0.3 * torch.randn_like(true.time))
    series = *true, *weights(stft.abs())
    whole = integrate(true, *series[2:], CONFIG)
    phasor, pieces = None, []
    for part in zip(*(x.split([1, 2, 30, 0, 7, 86], dim=1) for x in series)):
        derivatives = PhaseDerivatives(*part[:2])
        pieces.append(integrate(derivatives, *part[2:], CONFIG, phasor))
        phasor = pieces[-1][:, -1] if pieces[-1].shape[1] else phasor
    assert torch.equal(torch.cat(pieces, 1), whole)


def test_gradients_equal_finite_differences():
    config = StftConfig(16000, 8, hop_length=2)
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        x = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return (x + 0.2).requires_grad_()

    def run(time, frequency, anchor, coupling, angle):
        phasor = torch.polar(torch.ones_like(angle), angle)
        derivatives = PhaseDerivatives(time, frequency)
        found = integrate(derivatives, anchor, coupling, config, phasor)
        return torch.view_as_real(found)

    inputs = [uniform(2, 3, 5) for _ in range(4)] + [uniform(2, 5)]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_weights_are_those_of_masuyama_et_al(speech):
    a = analysis(speech, CONFIG).abs() + 1e-3
    anchor, coupling = plain_weights(a[:, 1:].log(), a[:, :-1].log(), 0.7)
    temporal = (a[:, 1:] * a[:, :-1]) ** 0.7 * a[:, 1:] ** 2
    lateral = (a[:, 1:, 1:] * a[:, 1:, :-1]) ** 0.7 * a[:, 1:, 1:] ** 2
    ratio = coupling[..., 1:] / anchor[..., 1:]
    expected = lateral / temporal[..., 1:]
    assert (ratio / expected - 1).abs().max() < 1e-9
    assert (anchor.amax(-1) <= 1).all() and (coupling.amax(-1) <= 1).all()


def test_confidences_scale_the_weights():
    level = torch.randn(1, 3, 5, dtype=torch.float64)
    plain = plain_weights(level, level)
    trust = torch.full_like(level, 2), torch.full_like(level, -1)
    scaled = phase_weights(level, level, *trust, 1.5)
    ratio = (scaled[1] / scaled[0]) / (plain[1] / plain[0])
    assert torch.allclose(ratio, torch.full_like(ratio, -3).exp())


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e30])
def test_weights_stand_any_level(scale):
    a = (torch.rand(1, 4, 257) * scale).float()
    a[:, 1] = 0
    for level in (log_magnitude(a)[0], a.clamp_min(1e-30).log()):
        for w in plain_weights(level, level, power=2.5):
            assert w.isfinite().all() and (w > 0).all()


def test_predictions_that_cancel_make_no_nan_and_no_wild_gradient():
    # Two bins of opposite targets, coupled much more than anchored: s is all
    # but zero, its direction turns at the slightest change, and the adjoint
    # is as large as the anchors are small.
    config = StftConfig(16000, 2, hop_length=1, window="rectangular")
    for more in (0, 1e-6):
        anchor = torch.tensor([[[1e-30, 1e-30 * (1 + more)]]])
        anchor.requires_grad_()
        zeros = torch.zeros(1, 1, 2, requires_grad=True)
        ones = torch.ones(1, 1, 2)
        found = integrate(PhaseDerivatives(zeros, zeros), anchor, ones, config)
        assert torch.allclose(found.abs(), ones)
        torch.view_as_real(found).sum().backward()
        assert anchor.grad.isfinite().all() and zeros.grad.isfinite().all()


def test_shapes_that_do_not_fit_are_refused():
    x = torch.zeros(2, 3, 257)
    with pytest.raises(ValueError, match=r"\[batch, time, 257\]"):
        integrate(PhaseDerivatives(x, x[:1]), x, x, CONFIG)
    two = PhaseDerivatives(x, x)
    phasor = torch.ones(1, 257, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"\[batch, 257\]"):
        integrate(two, x, x, CONFIG, phasor)
    with pytest.raises(ValueError, match=r"\[batch, time, 513\]"):
        integrate(two, x, x, CONFIGS[3])


def test_no_frames_and_no_batch():
    for shape in ((0, 3, 257), (2, 0, 257)):
        x = torch.zeros(shape)
        found = integrate(PhaseDerivatives(x, x), x, x, CONFIG)
        assert found.shape == shape and found.is_complex()

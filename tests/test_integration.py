"""Integration of phase derivatives, with the true phase as the oracle."""

import pytest
import torch

from speechbrain_phaseinv.estimation.derivatives import (
    PhaseDerivatives,
    phase_derivatives,
)
from speechbrain_phaseinv.integration.least_squares import (
    LOG_FLOOR,
    integrate,
    log_magnitude,
    phase_weights,
)
from speechbrain_phaseinv.stft import StftConfig, analysis, synthesis

BACKENDS = ("numba", "torch")
CONFIGS = [
    StftConfig(16000, 512, hop_length=128),
    StftConfig(16000, 512, 400, 100, "hamming"),
    StftConfig(16000, 512, hop_length=256, window="hamming"),
    StftConfig(22050, 1024, hop_length=256, window="blackman"),
    StftConfig(16000, 400, hop_length=200),
    StftConfig(16000, 1024, 401, 100),
]


def weights(magnitude, derivatives):
    level = log_magnitude(magnitude)
    before = torch.nn.functional.pad(
        level[:, :-1], (0, 0, 1, 0), value=LOG_FLOOR
    )
    return phase_weights(level, before, derivatives, power=1.5)


def convergence(magnitude, config, phasors, length):
    """Spectral convergence of the resynthesised signal, in dB."""
    start = config.start_phasor(phasors.dtype)
    y = synthesis(magnitude * phasors * start, config, length)
    difference = analysis(y, config).abs() - magnitude
    return 20 * torch.log10(difference.norm() / magnitude.norm())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CONFIGS)
def test_true_derivatives_give_back_the_signal(speech, config, backend):
    # The network and the gradient theorem left out, what remains is exact.
    # Single precision, a second of signal: 100 dB down.
    x = speech.float()
    stft = analysis(x, config)
    true = phase_derivatives(stft, config)
    magnitude = stft.abs()
    phasors = integrate(
        true, *weights(magnitude, true), config, backend=backend
    )
    assert convergence(magnitude, config, phasors, x.shape[1]) < -100


@pytest.mark.parametrize("config", CONFIGS)
def test_true_derivatives_give_back_the_phase(speech, config):
    # From the true first frame on, up to rounding, bin by bin.
    stft = analysis(speech, config)
    true = phase_derivatives(stft, config)
    phasors = torch.sgn(stft) * config.centre_phasor(stft.dtype)
    later = PhaseDerivatives(true.time[:, 1:], true.frequency[:, 1:])
    anchor, coupling = weights(stft.abs(), true)
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

    derivatives = PhaseDerivatives(time[None, None], frequency[None, None])
    anchor, coupling = phase_weights(
        a.log()[None, None], a_before.log()[None, None], derivatives, power
    )
    found = integrate(
        derivatives,
        anchor,
        coupling,
        config,
        torch.polar(torch.ones(9, dtype=torch.float64), psi)[None],
    )
    assert (found[0, 0] - torch.sgn(z)).abs().max() < 1e-10


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_dc_and_nyquist_are_real_as_of_a_real_signal(config, backend):
    signal = torch.randn(1, 8000, dtype=torch.float64)
    true = analysis(signal, config) * config.centre_phasor(torch.complex128)
    generator = torch.Generator().manual_seed(0)
    derivatives = PhaseDerivatives(
        *3 * torch.randn(2, *true.shape, generator=generator)
    )
    ones = torch.ones(true.shape)
    found = integrate(derivatives, ones, ones, config, backend=backend)
    for k in config.real_bins:
        assert (true[..., k].imag.abs() < 1e-9).all()
        assert (found[..., k].abs() == 1).all() and not found[..., k].imag.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_range_of_frames_continues_bit_for_bit(speech, backend):
    config = CONFIGS[0]
    stft = analysis(torch.cat([speech, -speech.flip(1)]).float(), config)
    true = phase_derivatives(stft, config)
    # Wrong derivatives, so that the weights have something to decide.
    true = true._replace(time=true.time + 0.3 * torch.randn_like(true.time))
    anchor, coupling = weights(stft.abs(), true)
    whole = integrate(true, anchor, coupling, config, backend=backend)
    phasor, start = None, 0
    for frames in (1, 2, 30, 0, 7, 86):
        part = slice(start, start + frames)
        found = integrate(
            PhaseDerivatives(true.time[:, part], true.frequency[:, part]),
            anchor[:, part],
            coupling[:, part],
            config,
            phasor,
            backend,
        )
        assert torch.equal(found, whole[:, part])
        if frames:
            phasor = found[:, -1]
        start += frames


def test_both_backends_agree(speech):
    config = CONFIGS[0]
    stft = analysis(speech, config)
    true = phase_derivatives(stft, config)
    true = true._replace(time=true.time + 0.3 * torch.randn_like(true.time))
    pair = [
        integrate(true, *weights(stft.abs(), true), config, backend=backend)
        for backend in BACKENDS
    ]
    assert (pair[0] - pair[1]).abs().max() < 1e-9


# More frames than the compiled kernel factors at a time, and a few.
@pytest.mark.parametrize(
    "backend, frames", [("numba", 11), ("numba", 1), ("torch", 3)]
)
def test_gradients_equal_finite_differences(backend, frames):
    config = StftConfig(16000, 8, hop_length=2)
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        x = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return (x + 0.2).requires_grad_()

    def run(time, frequency, anchor, coupling, angle):
        phasor = torch.polar(torch.ones_like(angle), angle)
        derivatives = PhaseDerivatives(time, frequency)
        return torch.view_as_real(
            integrate(derivatives, anchor, coupling, config, phasor, backend)
        )

    shape = (2, frames, 5)
    inputs = [uniform(*shape) for _ in range(4)] + [uniform(2, 5)]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_stay_finite_where_predictions_cancel(backend):
    # Two bins of opposite targets, coupled much more than anchored: s is all
    # but zero, its direction turns at the slightest change, and the adjoint
    # is as large as the anchors are small.
    config = StftConfig(16000, 2, hop_length=1, window="rectangular")
    anchor = torch.full((1, 1, 2), 1e-30)
    anchor[..., 1] *= 1 + 1e-6
    anchor.requires_grad_()
    zeros = torch.zeros(1, 1, 2, requires_grad=True)
    phasors = integrate(
        PhaseDerivatives(zeros, zeros),
        anchor,
        torch.ones(1, 1, 2),
        config,
        backend=backend,
    )
    phasors.imag.sum().backward()
    assert anchor.grad.isfinite().all() and zeros.grad.isfinite().all()


def test_weights_are_those_of_masuyama_et_al(speech):
    a = analysis(speech, CONFIGS[0]).abs() + 1e-3
    derivatives = PhaseDerivatives(a, a)
    anchor, coupling = phase_weights(
        a[:, 1:].log(), a[:, :-1].log(), derivatives, power=0.7
    )
    temporal = (a[:, 1:] * a[:, :-1]) ** 0.7 * a[:, 1:] ** 2
    lateral = (a[:, 1:, 1:] * a[:, 1:, :-1]) ** 0.7 * a[:, 1:, 1:] ** 2
    ratio = coupling[..., 1:] / anchor[..., 1:]
    expected = lateral / temporal[..., 1:]
    assert (ratio / expected - 1).abs().max() < 1e-9
    assert (anchor.amax(-1) <= 1).all() and (coupling.amax(-1) <= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("confidences", [(), (True,), (False, True)])
def test_compiled_weights_are_those_of_training(dtype, confidences):
    level, before, time, frequency = 3 * torch.randn(4, 2, 5, 33, dtype=dtype)
    trust = [x if on else None for x, on in zip((time, frequency), confidences)]
    derivatives = PhaseDerivatives(level, level, *trust)
    # Not contiguous, as slices of a batch are.
    given = torch.cat([before[:, :1], level], 1)[:, 1:]
    found = phase_weights(given, before, derivatives)
    given = level.clone().requires_grad_()
    expected = phase_weights(given, before, derivatives)
    assert expected[0].requires_grad and not found[0].requires_grad
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y.detach())


def test_weights_of_shapes_that_broadcast():
    level, trust = torch.randn(4, 3, 9), torch.randn(1, 1, 9)
    derivatives = PhaseDerivatives(level, level, None, trust)
    found = phase_weights(level, level[:, :1], derivatives)
    derivatives = PhaseDerivatives(level, level, None, trust.expand(4, 3, 9))
    expected = phase_weights(level, level[:, :1].expand(4, 3, 9), derivatives)
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_that_do_not_fit_are_refused(backend):
    x = torch.zeros(2, 3, 257)
    one = PhaseDerivatives(x, x[:1])
    with pytest.raises(ValueError, match=r"\[batch, time, 257\]"):
        integrate(one, x, x, CONFIGS[0], backend=backend)
    two = PhaseDerivatives(x, x)
    phasor = torch.ones(1, 257, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"\[batch, 257\]"):
        integrate(two, x, x, CONFIGS[0], phasor, backend)
    with pytest.raises(ValueError, match=r"\[batch, time, 513\]"):
        integrate(two, x, x, CONFIGS[3], backend=backend)


def test_confidences_scale_the_weights():
    level = torch.randn(1, 3, 5, dtype=torch.float64)
    plain = phase_weights(level, level, PhaseDerivatives(level, level))
    scaled = phase_weights(
        level,
        level,
        PhaseDerivatives(
            level, level, torch.full_like(level, 2), torch.full_like(level, -1)
        ),
    )
    ratio = (scaled[1] / scaled[0]) / (plain[1] / plain[0])
    assert torch.allclose(ratio, torch.full_like(ratio, -3).exp())


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e30])
def test_weights_stand_any_level(scale):
    a = (torch.rand(1, 4, 257) * scale).float()
    a[:, 1] = 0
    level = log_magnitude(a)
    for w in phase_weights(level, level, PhaseDerivatives(a, a), power=2.5):
        assert w.isfinite().all() and (w > 0).all()


def test_log_magnitude_has_finite_gradients_everywhere():
    a = torch.tensor([0.0, 1e-38, 1e-31, 1e-20, 1.0, 1e30], requires_grad=True)
    level = log_magnitude(a)
    assert level.isfinite().all()
    level.sum().backward()
    assert a.grad.isfinite().all() and a.grad[0] == 0


def test_opposed_predictions_do_not_make_nan():
    # Two coupled bins of opposite targets cancel: s is exactly zero.
    config = StftConfig(16000, 2, hop_length=1, window="rectangular")
    zeros = torch.zeros(1, 1, 2)
    phasor = torch.tensor([[1.0 + 0j, 1.0 + 0j]])
    # advance of bin 1 over one sample is pi: target -1 beside target 1.
    for backend in BACKENDS:
        anchor = torch.full((1, 1, 2), 1e-30)
        found = integrate(
            PhaseDerivatives(zeros, zeros),
            anchor,
            torch.ones(1, 1, 2),
            config,
            phasor,
            backend,
        )
        assert found.isfinite().all()
        assert torch.allclose(found.abs(), torch.ones(1, 1, 2))


def test_no_frames_and_no_batch():
    config = CONFIGS[0]
    for shape in ((0, 3, 257), (2, 0, 257)):
        x = torch.zeros(shape)
        found = integrate(PhaseDerivatives(x, x), x, x, config)
        assert found.shape == shape and found.is_complex()

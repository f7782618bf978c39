"""Refinement: what an iteration is, and that it leads where it should."""

import pytest
import torch
from conftest import make_inverter, synthetic_speech

from speechbrain_phaseinv.derivatives import PhaseDerivatives
from speechbrain_phaseinv.integration import integrate
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.network import PhaseDerivativeNet
from speechbrain_phaseinv.recursion import Passes, arrange, run
from speechbrain_phaseinv.refinement import overlap_scale, refine
from speechbrain_phaseinv.stft import StftConfig, analysis

CONFIGS = [
    StftConfig(16000, 64, hop_length=16),
    StftConfig(16000, 64, hop_length=32, window="hamming"),
    StftConfig(16000, 64, 48, 20),
    StftConfig(16000, 63, 51, 10),
    StftConfig(16000, 64, 63, 16),
    StftConfig(16000, 8, hop_length=8, window="rectangular"),
]
configs = pytest.mark.parametrize("config", CONFIGS, ids=str)


def spectrum(config, frames, seed=0):
    """A noise's STFT, its phasors referred to the centre, [1, frames, freq]."""
    torch.manual_seed(seed)
    samples = config.hop_length * (frames + 8)
    stft = analysis(torch.randn(1, samples, dtype=torch.double), config)
    phasors = stft / stft.abs() * config.centre_phasor(stft.dtype)
    return stft.abs()[:, 4 : 4 + frames], phasors[:, 4 : 4 + frames]


def heard(config, magnitude, phasors):
    """Overlap-add that frames leave for the one after them."""
    zeros = magnitude.new_zeros(len(magnitude), config.synthesis_latency)
    count = magnitude.shape[1]
    if count == 0:
        return zeros
    return refine(phasors, magnitude, config, zeros, 0, count)[1]


def passes(config, frames=12, open_frames=2, seed=0):
    """Anything, [batch, passes, open, freq]."""
    torch.manual_seed(seed)
    shape = 2, frames, open_frames, config.num_bins
    time, frequency = torch.randn(2, *shape, dtype=torch.double)
    anchor, coupling, size = torch.rand(3, *shape, dtype=torch.double) + 0.1
    return Passes(time, frequency, anchor, coupling, size)


@configs
@pytest.mark.parametrize("open_frames", [1, 2])
def test_an_iteration_is_two_transforms_of_a_weighted_mean(config, open_frames):
    """Against plain sums over samples and bins."""
    before = -(-config.win_length // config.hop_length) - 1
    total = before + open_frames
    size, phasors = spectrum(config, total)
    given = phasors[:, before:] * torch.exp(
        1j * torch.randn(1, open_frames, config.num_bins)
    )
    past = heard(config, size[:, :before], phasors[:, :before])
    found, _ = refine(given, size[:, before:], config, past, 1, open_frames)

    window = torch.zeros(config.n_fft, dtype=torch.double)
    start = config.window_offset
    window[start : start + config.win_length] = config.window_tensor(
        torch.double
    )
    n = torch.arange(config.n_fft, dtype=torch.double)
    bins = torch.arange(config.num_bins, dtype=torch.double)
    wave = torch.exp(2j * torch.pi * torch.outer(bins, n) / config.n_fft)
    twice = torch.full((config.num_bins,), 2.0, dtype=torch.double)
    twice[0] = 1
    if config.n_fft % 2 == 0:
        twice[-1] = 1
    length = config.n_fft + (total - 1) * config.hop_length
    signal = torch.zeros(length, dtype=torch.double)
    squares = torch.zeros(length, dtype=torch.double)
    to_start = config.start_phasor(torch.complex128)
    every = torch.cat([phasors[:, :before], given], dim=1)
    for t in range(total):
        x = size[0, t] * every[0, t] * to_start * twice
        here = slice(t * config.hop_length, t * config.hop_length + len(n))
        signal[here] += window * (x @ wave.to(x)).real / config.n_fft
        squares[here] += window**2
    signal /= squares.clamp_min(0.1 * squares.max())
    for j in range(open_frames):
        first = (before + j) * config.hop_length
        frame = window * signal[first : first + config.n_fft]
        rebuilt = wave.conj() @ frame.to(wave) / to_start
        error = rebuilt / rebuilt.abs() - found[0, j]
        assert error.abs().max() < 1e-9


@configs
def test_the_scale_is_that_of_whole_windows_where_all_have_come(config):
    """In the first hop of the open frames, unless the floor is above."""
    hop = config.hop_length
    squares = config.window_tensor(torch.double).square()
    squares = torch.nn.functional.pad(squares, (0, -len(squares) % hop))
    envelope = squares.reshape(-1, hop).sum(0)
    expected = envelope.clamp_min(0.1 * envelope.max()).reciprocal()
    for open_frames in (1, 2):
        scale = overlap_scale(config, open_frames, open_frames)
        assert len(scale) == config.win_length + (open_frames - 1) * hop
        torch.testing.assert_close(scale[:hop], expected)


def test_true_phases_stay():
    config = StftConfig(16000, 512, hop_length=128)
    x = synthetic_speech(0.5)
    stft = analysis(x, config)
    size, phasors = stft.abs(), stft / stft.abs().clamp_min(1e-30)
    phasors = phasors * config.centre_phasor(stft.dtype)
    past = heard(config, size[:, 17:20], phasors[:, 17:20])
    true, size = phasors[:, 20:22], size[:, 20:22]
    found, _ = refine(true, size, config, past, n_iter=10, commit=2)
    error = (size * (found - true)).norm(dim=2) / size.norm(dim=2)
    # But for the end of the last window, which nothing overlaps.
    assert error[0, 0] < 0.01 and error[0, 1] < 0.1


@configs
@pytest.mark.parametrize("open_frames, commit", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("n_iter", [0, 1, 3])
def test_what_is_compiled_is_what_is_differentiated(
    config, open_frames, commit, n_iter
):
    given = passes(config, open_frames=open_frames)
    shape = given.magnitude.shape
    target = torch.polar(torch.ones(shape), torch.randn(shape)).to(
        torch.cdouble
    )
    for drawn in (None, (target, torch.rand(shape, dtype=torch.double))):
        found = [
            run(given, config, n_iter, commit, backend=backend, drawn=drawn)
            for backend in ("numba", "torch")
        ]
        for a, b in zip(*found):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
        phasors, overlap = found[0]
        assert phasors.shape == (2, 12 * commit, config.num_bins)
        assert overlap.shape == (2, config.synthesis_latency)
        torch.testing.assert_close(phasors.abs(), torch.ones_like(phasors.real))
        real = phasors[..., list(config.real_bins)]
        assert (real.imag == 0).all()


@configs
def test_without_iterations_it_is_integrate(config):
    """And being drawn to its own past changes nothing."""
    given = passes(config, open_frames=1)
    derivatives = PhaseDerivatives(*(x.squeeze(2) for x in given[:2]))
    weights = [x.squeeze(2) for x in given[2:4]]
    expected = integrate(derivatives, *weights, config)
    torch.testing.assert_close(run(given, config, 0)[0], expected)
    past = expected[:, :-1].unsqueeze(2)
    past = torch.cat([torch.ones_like(past[:, :1]), past], dim=1)
    drawn = past, torch.full(past.shape, 0.7, dtype=torch.double)
    found, _ = run(given, config, 0, drawn=drawn)
    torch.testing.assert_close(found, expected)


@configs
@pytest.mark.parametrize("commit", [1, 2])
def test_a_range_in_pieces_gives_the_same_bits(config, commit):
    for dtype in (torch.float32, torch.float64):
        given = Passes(*(x.to(dtype) for x in passes(config)))
        whole, end = run(given, config, 2, commit)
        pieces, state = [], (None, None)
        for part in zip(*(x.split([1, 0, 4, 7], dim=1) for x in given)):
            found, overlap = run(Passes(*part), config, 2, commit, *state)
            last = found[:, -1] if found.shape[1] else state[0]
            state = last, overlap
            pieces.append(found)
        assert torch.equal(torch.cat(pieces, dim=1), whole)
        assert torch.equal(state[1], end)
        nothing, zeros = run(Passes(*(x[:, :0] for x in given)), config, 2)
        assert nothing.shape[1] == 0 and not zeros.any()
        one = Passes(*(x[1:] for x in given))
        assert torch.equal(run(one, config, 2, commit)[0], whole[1:])


@pytest.mark.parametrize("commit", [1, 2])
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_gradient_is_the_slope(commit, backend):
    config = CONFIGS[0]
    given = passes(config, frames=3)
    shape = given.magnitude.shape
    target = torch.polar(torch.ones(shape), torch.randn(shape)).to(
        torch.cdouble
    )
    share = torch.rand(shape, dtype=torch.double)
    size, start = spectrum(config, 2)
    start, overlap = start.transpose(0, 1)[:, 0], size.new_ones(2, 48)
    inputs = [*given, start, overlap, target, share]
    torch.manual_seed(1)
    weight = torch.randn(2, 3 * commit, config.num_bins, dtype=torch.cdouble)

    def loss(inputs):
        *known, start, overlap, target, share = inputs
        phasors, rest = run(
            Passes(*known), config, 2, commit, start, overlap, backend,
            (target, share),
        )  # fmt: skip
        return (phasors * weight).real.sum() + rest.square().sum()

    leaves = [x.clone().requires_grad_(True) for x in inputs]
    gradients = torch.autograd.grad(loss(leaves), leaves)
    for i, gradient in enumerate(gradients):
        step = 1e-6 * torch.randn_like(inputs[i])
        ends = [
            loss([*inputs[:i], inputs[i] + sign * step, *inputs[i + 1 :]])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2
        expected = (gradient.conj() * step).real.sum()
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-9)


def test_it_brings_the_magnitudes_nearer():
    config = StftConfig(16000, 512, hop_length=128)
    magnitude = analysis(synthetic_speech().float(), config).abs()
    errors = []
    for n_iter in (0, 2):
        inverter = SpectrogramInverter(config, paired=True, refinements=n_iter)
        made = analysis(inverter(magnitude), config).abs()
        errors.append((made - magnitude).norm() / magnitude.norm())
    assert errors[1] < 0.95 * errors[0]


def test_how_many_iterations_is_for_the_estimator_to_say_and_the_user():
    config = CONFIGS[0]
    network = PhaseDerivativeNet(config, provisional=True, refinements=3)
    assert SpectrogramInverter(config, estimator=network).refinements == 3
    inverter = SpectrogramInverter(config, estimator=network, refinements=0)
    assert inverter.refinements == 0
    assert SpectrogramInverter(config, estimator="gradient").refinements == 0
    with pytest.raises(ValueError, match="got -1"):
        SpectrogramInverter(config, refinements=-1)


def test_without_iterations_what_is_ahead_has_no_say():
    config = StftConfig(16000, 512, hop_length=128)
    inverter = make_inverter("refined-1", config)
    plain = SpectrogramInverter(
        config, estimator=inverter.estimator, refinements=0
    )
    magnitude = analysis(synthetic_speech(0.3).float(), config).abs()
    expected = plain.invert(magnitude)
    for parameter in (inverter.estimator.last.weight,):
        parameter[4:] += 1
    assert torch.equal(plain.invert(magnitude), expected)
    assert not torch.equal(inverter.invert(magnitude), expected)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e30])
def test_hardly_anything_and_too_much_stay_finite(level, backend):
    config = CONFIGS[0]
    given = Passes(*(x.float() for x in passes(config)))
    size = level * given.magnitude
    size[:, 5:9] = 0  # a pause
    given = given._replace(magnitude=size)
    phasors, overlap = run(given, config, 3, backend=backend)
    torch.testing.assert_close(phasors.abs(), torch.ones_like(phasors.real))
    assert overlap.isfinite().all()


def test_passes_hold_what_is_known_of_each_frame():
    config = CONFIGS[0]
    log_mag = torch.randn(1, 8, config.num_bins)
    inverter = make_inverter("refined-1", config)
    derivatives, _ = inverter.estimator(log_mag[:, 1:])
    found = arrange(derivatives, log_mag.exp(), log_mag)
    assert found.magnitude.shape == (1, 6, 2, config.num_bins)
    assert torch.equal(found.magnitude[:, :-1, 1], found.magnitude[:, 1:, 0])
    assert torch.equal(found.time[:, :, 0], derivatives.time)
    assert torch.equal(found.time[:, :, 1], derivatives.ahead.time)
    alone = PhaseDerivatives(*derivatives[:4])
    found = arrange(alone, log_mag.exp(), log_mag, stride=2)
    assert torch.equal(found.time.flatten(1, 2), derivatives.time)

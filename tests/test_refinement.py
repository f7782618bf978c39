"""Refinement: what an iteration is, and that it leads where it should."""

import pytest
import torch
from conftest import make_inverter, synthetic_speech

from speechbrain_phaseinv.estimation.derivatives import PhaseDerivatives
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.integration.least_squares import CANCELLED, integrate
from speechbrain_phaseinv.integration.passes import Passes, arrange
from speechbrain_phaseinv.integration.recursion import run
from speechbrain_phaseinv.integration.refinement import (
    REOPENED,
    Heard,
    overlap_scale,
    refine,
    silence,
)
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.stft import StftConfig, analysis, windowed_frames

CONFIGS = [
    StftConfig(16000, 64, hop_length=16),
    StftConfig(16000, 64, hop_length=32, window="hamming"),
    StftConfig(16000, 64, 48, 20),
    StftConfig(16000, 63, 51, 10),
    StftConfig(16000, 64, 63, 16),
    StftConfig(16000, 8, hop_length=8, window="rectangular"),
]
configs = pytest.mark.parametrize("config", CONFIGS, ids=str)

# Answers, hops and delay of a pass: one frame after the other; one that only
# looks ahead; one answered for once more; two at a time, and once more.
POINTS = [(1, 1, 0), (2, 1, 1), (2, 1, 0), (2, 2, 0)]
POINTS += [(3, 1, 1), (3, 1, 0), (3, 2, 0)]
points = pytest.mark.parametrize("answers, stride, delay", POINTS)


def spectrum(config, frames, seed=0):
    """A noise's STFT, its phasors referred to the centre, [1, frames, freq]."""
    torch.manual_seed(seed)
    samples = config.hop_length * (frames + 8)
    stft = analysis(torch.randn(1, samples, dtype=torch.double), config)
    phasors = stft / stft.abs() * config.centre_phasor(stft.dtype)
    return stft.abs()[:, 4 : 4 + frames], phasors[:, 4 : 4 + frames]


def heard(config, magnitude, phasors):
    """What frames leave for the one after them."""
    before = silence(0 * magnitude[:, 0], config)
    return refine(phasors, magnitude, config, before, 0, magnitude.shape[1])[2]


def passes(config, frames=12, answers=2, seed=0):
    """Anything, [batch, passes, answers, freq]."""
    torch.manual_seed(seed)
    shape = 2, frames, answers, config.num_bins
    time, frequency = torch.randn(2, *shape, dtype=torch.double)
    anchor, coupling, size = torch.rand(3, *shape, dtype=torch.double) + 0.1
    return Passes(time, frequency, anchor, coupling, size)


def some_targets(shape):
    """Targets and shares, as `run` takes them."""
    target = torch.polar(torch.ones(shape), torch.randn(shape))
    return target.to(torch.cdouble), torch.rand(shape, dtype=torch.double)


def flat(found):
    phasors, frames, heard = found
    return phasors, frames, *heard


def plain_transforms(config):
    """Inverse and forward, windowed, as matrices: [freq, n], [n, freq]."""
    window = torch.zeros(config.n_fft, dtype=torch.double)
    start = config.window_offset
    window[start : start + config.win_length] = config.window_tensor(
        torch.double
    )
    n = torch.arange(config.n_fft, dtype=torch.double)
    bins = torch.arange(config.num_bins, dtype=torch.double)
    wave = torch.exp(2j * torch.pi * torch.outer(bins, n) / config.n_fft)
    twice = torch.full((config.num_bins, 1), 2.0, dtype=torch.double)
    twice[0] = 1
    if config.n_fft % 2 == 0:
        twice[-1] = 1
    to_start = config.start_phasor(torch.complex128).unsqueeze(1)
    back = twice * to_start * wave * window / config.n_fft
    return back, (to_start * wave * window).conj().T, window


@configs
@pytest.mark.parametrize("new, emitted", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("n_iter", [0, 1, 5])
def test_an_iteration_is_two_transforms_of_a_weighted_mean(
    config, new, emitted, n_iter
):
    """Against plain sums over samples and bins."""
    before = -(-config.win_length // config.hop_length) - 1 + REOPENED
    total, hop = before + new, config.hop_length
    size, phasors = spectrum(config, total)
    turns = torch.exp(1j * torch.randn(1, new, config.num_bins))
    given = phasors[:, before:] * turns
    past = heard(config, size[:, :before], phasors[:, :before])
    found, frames, rest = refine(
        given, size[:, before:], config, past, n_iter, emitted
    )

    back, forward, window = plain_transforms(config)
    first = before - REOPENED  # the first that is open
    out = before * hop  # samples before are out
    phasors = torch.cat([phasors[:, :before], given], dim=1)[0]
    count = torch.ones(total, 1, dtype=torch.double)
    count[before + emitted :] = 0.5
    length = config.n_fft + (total - 1) * hop

    def overlap(frames):
        signal = torch.zeros(length, dtype=torch.double)
        for t, frame in enumerate(frames):
            signal[t * hop : t * hop + config.n_fft] += frame
        return signal

    envelope = overlap(count * window**2)
    at = config.window_offset
    squares = window[at : at + config.win_length] ** 2
    squares = torch.nn.functional.pad(squares, (0, -len(squares) % hop))
    floor = 0.1 * squares.reshape(-1, hop).sum(0).max()
    old = overlap(((size[0] * phasors) @ back).real[:before])
    # Two at a time, from the newest to the oldest, and again.
    pairs = [(t, t + 1) for t in range(first, total - 1)][::-1]
    for i in range(n_iter):
        signal = overlap(count * ((size[0] * phasors) @ back).real)
        signal[: out + at] = old[: out + at]
        signal = signal / envelope.clamp_min(floor)
        for t in pairs[i % len(pairs)]:
            frame = signal[t * hop : t * hop + config.n_fft]
            rebuilt = frame.to(forward) @ forward
            known = rebuilt.abs() > CANCELLED * size[0, t]
            turned = rebuilt / rebuilt.abs()
            phasors[t] = torch.where(known, turned, phasors[t])
    done = before + emitted
    assert (found[0] - phasors[before:done]).abs().max() < 1e-9
    kept = phasors[done - REOPENED : done]
    assert (rest.phasors[0] - kept).abs().max() < 1e-9
    signal = overlap(((size[0] * phasors) @ back).real[:done])
    signal[: out + at] = old[: out + at]
    since = (done - REOPENED) * hop + at
    kept = signal[since : since + rest.signal.shape[1]]
    assert (rest.signal[0] - kept).abs().max() < 1e-9
    # What has been added is what has changed.
    change = torch.zeros(length, dtype=torch.double)
    for i, frame in enumerate(frames[0]):
        start = out + at + i * hop
        change[start : start + config.win_length] += frame
    assert (old + change - signal).abs().max() < 1e-9
    again = ((size[0] * phasors) @ back).real[done - REOPENED : done]
    again = again[:, at : at + config.win_length]
    assert (rest.frames[0] - again).abs().max() < 1e-9


@configs
def test_the_scale_is_that_of_whole_windows_where_all_have_come(config):
    """In the first hop of the open frames, unless the floor is above."""
    hop = config.hop_length
    squares = config.window_tensor(torch.double).square()
    squares = torch.nn.functional.pad(squares, (0, -len(squares) % hop))
    envelope = squares.reshape(-1, hop).sum(0)
    expected = envelope.clamp_min(0.1 * envelope.max()).reciprocal()
    for new in (1, 2):
        scale = overlap_scale(config, new, new)
        count = REOPENED + new
        assert len(scale) == config.win_length + (count - 1) * hop
        for i in range(count):
            part = scale[i * hop : (i + 1) * hop]
            torch.testing.assert_close(part, expected)


def test_true_phases_stay():
    config = StftConfig(16000, 512, hop_length=128)
    x = synthetic_speech(0.5)
    stft = analysis(x, config)
    size, phasors = stft.abs(), stft / stft.abs().clamp_min(1e-30)
    phasors = phasors * config.centre_phasor(stft.dtype)
    past = heard(config, size[:, 14:20], phasors[:, 14:20])
    true, size = phasors[:, 20:22], size[:, 20:22]
    found, *_ = refine(true, size, config, past, n_iter=10, emitted=2)
    error = (size * (found - true)).norm(dim=2) / size.norm(dim=2)
    # But for the end of the last window, which nothing overlaps.
    assert error[0, 0] < 0.01 and error[0, 1] < 0.1


@configs
@points
@pytest.mark.parametrize("n_iter", [0, 1, 3])
def test_what_is_compiled_is_what_is_differentiated(
    config, answers, stride, delay, n_iter
):
    given = passes(config, answers=answers)
    for drawn in (None, some_targets(given.magnitude.shape)):
        found = [
            run(
                given, config, n_iter, stride, delay,
                backend=backend, drawn=drawn,
            )
            for backend in ("numba", "torch")
        ]  # fmt: skip
        for a, b in zip(*map(flat, found)):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
        phasors, frames, _ = found[0]
        assert phasors.shape == (2, 12 * stride, config.num_bins)
        assert frames.shape == (2, 12 * stride, config.win_length)
        torch.testing.assert_close(phasors.abs(), torch.ones_like(phasors.real))
        real = phasors[..., list(config.real_bins)]
        assert (real.imag == 0).all()


@configs
def test_without_iterations_it_is_integrate(config):
    """And being drawn to its own past changes nothing."""
    given = passes(config, answers=1)
    derivatives = PhaseDerivatives(*(x.squeeze(2) for x in given[:2]))
    weights = [x.squeeze(2) for x in given[2:4]]
    expected = integrate(derivatives, *weights, config)
    found, frames, _ = run(given, config, 0)
    torch.testing.assert_close(found, expected)
    start = config.start_phasor(torch.complex128)
    stft = given.magnitude.squeeze(2) * expected * start
    torch.testing.assert_close(frames, windowed_frames(stft, config))
    past = expected[:, :-1].unsqueeze(2)
    past = torch.cat([torch.ones_like(past[:, :1]), past], dim=1)
    drawn = past, torch.full(past.shape, 0.7, dtype=torch.double)
    again, others, _ = run(given, config, 0, drawn=drawn)
    torch.testing.assert_close(again, expected)
    # But for the frames before the start, far too soft to be heard.
    torch.testing.assert_close(others, frames, rtol=0, atol=1e-5)


@configs
@points
def test_a_range_in_pieces_gives_the_same_bits(config, answers, stride, delay):
    for dtype in (torch.float32, torch.float64):
        given = Passes(*(x.to(dtype) for x in passes(config, answers=answers)))
        whole = run(given, config, 2, stride, delay)
        pieces, state = [], None
        for part in zip(*(x.split([1, 0, 4, 7], dim=1) for x in given)):
            *found, state = run(Passes(*part), config, 2, stride, delay, state)
            pieces.append(found)
        for found, expected in zip(zip(*pieces), whole):
            assert torch.equal(torch.cat(found, dim=1), expected)
        for found, expected in zip(state, whole[2]):
            assert torch.equal(found, expected)
        one = Passes(*(x[1:] for x in given))
        alone = run(one, config, 2, stride, delay)
        for found, expected in zip(flat(alone), flat(whole)):
            assert torch.equal(found, expected[1:])


def test_no_pass_gives_no_frame():
    nothing = Passes(*(x[:, :0] for x in passes(CONFIGS[0])))
    phasors, frames, rest = run(nothing, CONFIGS[0], 2, 1, 1)
    assert phasors.shape[1] == frames.shape[1] == 0 and not rest.signal.any()


@points
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_gradient_is_the_slope(answers, stride, delay, backend):
    config = CONFIGS[0]
    given = passes(config, frames=3, answers=answers)
    drawn = some_targets(given.magnitude.shape)
    size, phasors = spectrum(config, 8)
    before = heard(config, size, phasors)
    before = [x.expand(2, *x.shape[1:]).clone() for x in before]
    inputs = [*given, *before, *drawn]
    torch.manual_seed(1)

    def loss(inputs):
        known, before, drawn = inputs[:5], Heard(*inputs[5:-2]), inputs[-2:]
        found = run(
            Passes(*known), config, 2, stride, delay, before, backend, drawn
        )
        torch.manual_seed(1)
        found = [
            torch.view_as_real(x) if x.is_complex() else x for x in flat(found)
        ]
        return sum((x * torch.randn_like(x)).sum() for x in found)

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
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-8)


@configs
@points
def test_the_compiled_gradient_is_that_of_autograd(
    config, answers, stride, delay
):
    """With a pause, in which nothing has a direction, and an offset."""
    given = passes(config, answers=answers)
    given.magnitude[:, 3:6] = 0
    given.magnitude[:, 7:10, :, 0] = 100
    results = []
    for backend in ("numba", "torch"):
        leaves = [x.clone().requires_grad_(True) for x in given]
        found = run(Passes(*leaves), config, 3, stride, delay, backend=backend)
        torch.manual_seed(1)
        loss = sum((x * torch.randn_like(x)).real.sum() for x in flat(found))
        results.append(torch.autograd.grad(loss, leaves))
    for a, b in zip(*results):
        assert a.isfinite().all() and a.any()
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max())


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
    expected = plain(magnitude), inverter(magnitude)
    inverter.estimator.last.weight[4:] += 1
    assert torch.equal(plain(magnitude), expected[0])
    assert not torch.equal(inverter(magnitude), expected[1])


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e30])
def test_hardly_anything_and_too_much_stay_finite(level, backend):
    config = CONFIGS[0]
    given = Passes(*(x.float() for x in passes(config)))
    size = level * given.magnitude
    size[:, 5:9] = 0  # a pause
    given = given._replace(magnitude=size)
    found = run(given, config, 3, 1, 1, backend=backend)
    torch.testing.assert_close(found[0].abs(), torch.ones_like(found[0].real))
    assert all(x.isfinite().all() for x in flat(found))


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
    # Two frames a pass, and the one before them once more.
    again = PhaseDerivatives(*(x[:, ::2] + 1 for x in alone[:4]))
    both = alone._replace(again=again)
    found = arrange(both, log_mag.exp(), log_mag, stride=2)
    assert found.magnitude.shape == (1, 3, 3, config.num_bins)
    frames = log_mag.exp()[:, [[1, 2, 3], [3, 4, 5], [5, 6, 7]]]
    assert torch.equal(found.magnitude, frames)
    assert torch.equal(found.time[:, :, 0], again.time)
    assert torch.equal(found.time[:, :, 1:].flatten(1, 2), alone.time)
    weights = arrange(alone, log_mag.exp()[:, 1:], log_mag[:, 1:], stride=2)
    assert torch.equal(found.anchor[:, :, 1:], weights.anchor)

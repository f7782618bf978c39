"""The passes: the kernel and its gradient are those of the definition."""

import pytest
import torch
from conftest import (
    SCHEDULES,
    SMALL_CONFIGS,
    noise_phasors,
    schedules,
    small_configs,
)

from speechbrain_phaseinv.estimation import Estimates, Schedule
from speechbrain_phaseinv.estimation.derivatives import PhaseDerivatives
from speechbrain_phaseinv.integration import passes
from speechbrain_phaseinv.integration.least_squares import (
    integrate,
    phase_weights,
)
from speechbrain_phaseinv.integration.refinement import (
    REOPENED,
    OverlapState,
    refine,
    start_overlap,
)
from speechbrain_phaseinv.stft import StftConfig, windowed_frames

TINY = StftConfig(16000, 8, hop_length=2)


def overlap_after(config, size, phasors):
    """The `OverlapState` that these frames leave."""
    batch, count, dtype = *size.shape[:2], size.dtype
    before = start_overlap(config, batch, dtype)
    sizes = torch.nn.functional.pad(size, (0, 0, REOPENED, 0))
    phasors = torch.view_as_real(phasors)
    return refine(phasors, sizes, config, before, 0, count)[2]


def some_inputs(config, schedule, count=6, pulled=False, seed=0):
    """What `evaluate` takes: estimates, sizes, logs, state and pull."""
    size, phasors = noise_phasors(config, 8)
    state = overlap_after(config, size, phasors)
    state = [x.expand(2, *x.shape[1:]).clone() for x in state]
    torch.manual_seed(seed)
    shape = 2, count, len(schedule.offsets), config.num_bins
    estimates = torch.randn(4, *shape, dtype=torch.double)
    frames = REOPENED + (count - 1) * schedule.stride + 1 + schedule.delay
    logs = torch.randn(2, frames, config.num_bins, dtype=torch.double)
    inputs = [*estimates, logs.exp(), logs, *state]
    if pulled:
        angle, share = torch.rand(2, *shape, dtype=torch.double)
        target = torch.polar(torch.ones(shape).double(), 6.28 * angle)
        inputs += [torch.view_as_real(target), share]
    return inputs


def evaluate(inputs, schedule, config, n_iter, backend="auto", **options):
    """Samples, phasors and the state's tensors."""
    samples, phasors, state = passes.run(
        Estimates(*inputs[:4]),
        *inputs[4:6],
        schedule,
        config,
        OverlapState(*inputs[6:9]),
        n_iter=n_iter,
        pull=tuple(inputs[9:]) or None,
        backend=backend,
        **options,
    )
    return [samples, phasors, *state]


def projection(found):
    """A number that every element has a share in."""
    generator = torch.Generator().manual_seed(1)
    return sum(
        (x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum()
        for x in found
    )


def before_the_end(found, ends):
    """What is defined where signals end: samples, phasors, what is pending."""
    samples, phasors, _, _, signal = found
    there = torch.arange(phasors.shape[1]) + 3 < ends.unsqueeze(1)
    return samples, phasors * there[..., None, None], signal


@small_configs
@schedules
@pytest.mark.parametrize("n_iter", [0, 1, 3])
def test_the_kernel_is_the_definition(config, schedule, n_iter):
    inputs = some_inputs(config, schedule, pulled=n_iter != 1)
    one, two = (
        evaluate(inputs, schedule, config, n_iter, backend)
        for backend in ("numba", "torch")
    )
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
    samples, phasors = one[:2]
    hops = 6 * schedule.stride
    assert samples.shape == (2, hops * config.hop_length)
    assert phasors.shape == (2, hops, config.num_bins, 2)
    size = phasors.norm(dim=-1)
    torch.testing.assert_close(size, torch.ones_like(size))
    assert not phasors[:, :, list(config.real_bins), 1].any()


@small_configs
@schedules
def test_the_kernel_is_the_definition_where_signals_end(config, schedule):
    ends = torch.tensor([5, 2 + 5 * schedule.stride])
    inputs = some_inputs(config, schedule)
    options = dict(position=3, ends=ends)
    found = [
        evaluate(inputs, schedule, config, 2, backend, **options)
        for backend in ("numba", "torch")
    ]
    for a, b in zip(*(before_the_end(x, ends) for x in found)):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@small_configs
@schedules
def test_past_its_end_a_signal_only_fades_out(config, schedule):
    """With exactly what waited for frames when it ended."""
    inputs = some_inputs(config, schedule, count=8)
    done = 4 * schedule.stride
    ends = torch.tensor([done, 8 * schedule.stride])
    ended, *_ = evaluate(inputs, schedule, config, 2, ends=ends)
    first = [x[:1, :4] for x in inputs[:4]] + [x[:1] for x in inputs[4:]]
    samples, _, _, _, signal = evaluate(first, schedule, config, 2)
    pending = signal[:, REOPENED * config.hop_length :]
    alone = torch.cat([samples, pending], dim=1)
    common = min(alone.shape[1], ended.shape[1])
    assert torch.equal(ended[:1, :common], alone[:, :common])
    assert not ended[0, common:].any()


@small_configs
@schedules
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_passes_in_pieces_give_the_same_bits(config, schedule, dtype):
    inputs = [x.to(dtype) for x in some_inputs(config, schedule)]
    whole = evaluate(inputs, schedule, config, 2)
    pieces, state, start = [], inputs[6:], 0
    for count in (1, 0, 3, 2):
        part = slice(start, start + count)
        rest = slice(start * schedule.stride, None)
        found = evaluate(
            [x[:, part] for x in inputs[:4]]
            + [x[:, rest] for x in inputs[4:6]]
            + state,
            schedule,
            config,
            2,
            position=start * schedule.stride,
        )
        pieces.append(found[:2])
        state, start = found[2:], start + count
    pieces = [torch.cat(x, dim=1) for x in zip(*pieces)]
    for found, expected in zip(pieces + state, whole):
        assert torch.equal(found, expected)
    alone = evaluate([x[1:] for x in inputs], schedule, config, 2)
    for found, expected in zip(alone, whole):
        assert torch.equal(found, expected[1:])


@small_configs
def test_without_iterations_it_is_integrate_and_overlap_add(config):
    """And a pull to a frame's own past changes nothing."""
    schedule, hop = SCHEDULES[0], config.hop_length
    inputs = some_inputs(config, schedule)
    state = start_overlap(config, 2, torch.double)
    inputs[6:] = state
    time, frequency, *trust = (x.squeeze(2) for x in inputs[:4])
    logs = inputs[5]
    weights = phase_weights(logs[:, REOPENED:], logs[:, 2:-1], *trust)
    derivatives = PhaseDerivatives(time, frequency)
    expected = integrate(derivatives, *weights, config)
    samples, phasors, *_ = evaluate(inputs, schedule, config, 0)
    phasors = torch.view_as_complex(phasors)
    torch.testing.assert_close(phasors, expected)
    stft = inputs[4][:, REOPENED:] * expected
    frames = windowed_frames(stft * config.start_phasor(stft.dtype), config)
    signal = torch.zeros(2, 5 * hop + config.win_length, dtype=torch.double)
    for t in range(6):
        signal[:, t * hop : t * hop + config.win_length] += frames[:, t]
    torch.testing.assert_close(samples, signal[:, : 6 * hop])
    past = torch.cat([torch.ones_like(expected[:, :1]), expected[:, :-1]], 1)
    share = torch.full((2, 6, 1, config.num_bins), 0.7, dtype=torch.double)
    pull = [torch.view_as_real(past.unsqueeze(2)), share]
    again, *_ = evaluate(inputs + pull, schedule, config, 0)
    torch.testing.assert_close(again, samples)


def test_no_pass_gives_no_sample():
    schedule, config = SCHEDULES[2], SMALL_CONFIGS[0]
    inputs = some_inputs(config, schedule)
    inputs[:4] = [x[:, :0] for x in inputs[:4]]
    for backend in ("numba", "torch"):
        found = evaluate(inputs, schedule, config, 2, backend)
        assert found[0].shape == (2, 0) and found[1].shape[1] == 0
        for x, before in zip(found[2:], inputs[6:]):
            assert torch.equal(x, before)


@small_configs
@schedules
@pytest.mark.parametrize("more", [False, True], ids=["plain", "all"])
def test_the_compiled_gradient_is_that_of_autograd(config, schedule, more):
    """With a pause, in which nothing has a direction, and an offset.

    Once with a pull and ends, too.
    """
    inputs = some_inputs(config, schedule, pulled=more)
    inputs[4][:, 3:6] = 0
    inputs[4][:, 7:10, 0] = 100
    ends = torch.tensor([5, 2 + 5 * schedule.stride])
    options = dict(position=3, ends=ends) if more else {}
    results = []
    for backend in ("numba", "torch"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        found = evaluate(leaves, schedule, config, 3, backend, **options)
        if more:
            found = before_the_end(found, ends)
        loss = projection(found)
        results.append(torch.autograd.grad(loss, leaves))
    for a, b in zip(*results):
        # Without overlap, frames hand nothing on.
        assert a.isfinite().all() and a.any() == b.any()
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max())


@schedules
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_gradient_is_the_slope(schedule, backend):
    config = SMALL_CONFIGS[0]
    inputs = some_inputs(config, schedule, count=3, pulled=True)

    def loss(inputs):
        return projection(evaluate(inputs, schedule, config, 2, backend))

    leaves = [x.clone().requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(loss(leaves), leaves)
    for i, gradient in enumerate(gradients):
        step = 1e-6 * torch.randn_like(inputs[i])
        ends = [
            loss([*inputs[:i], inputs[i] + sign * step, *inputs[i + 1 :]])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2
        expected = (gradient * step).sum()
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-8)


@schedules
@pytest.mark.parametrize("n_iter", [0, 2])
def test_first_and_second_derivatives_are_finite_differences(schedule, n_iter):
    """First by the kernel, then by the definition."""
    inputs = some_inputs(TINY, schedule, count=2, pulled=True)
    leaves = [x.requires_grad_() for x in inputs]

    def function(*inputs):
        found = evaluate(inputs, schedule, TINY, n_iter, "numba")
        return tuple(x for x in found if x.requires_grad)

    # Fast mode compares random projections, as good as all elements here.
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(
        function, leaves, fast_mode=True, atol=1e-4
    )


def test_second_derivatives_are_those_of_the_definition():
    schedule, config = SCHEDULES[2], SMALL_CONFIGS[0]
    inputs = some_inputs(config, schedule, count=4)
    results = []
    for backend in ("numba", "torch"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        loss = projection(evaluate(leaves, schedule, config, 2, backend))
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        squares = sum(x.square().sum() for x in first)
        results.append(torch.autograd.grad(squares, leaves))
    for a, b in zip(*results):
        assert a.any()
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * b.abs().max())


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e30])
def test_hardly_anything_and_too_much_stay_finite(level, backend):
    config, schedule = SMALL_CONFIGS[0], SCHEDULES[2]
    inputs = [x.float() for x in some_inputs(config, schedule)]
    inputs[6:] = start_overlap(config, 2)
    inputs[4] = level * inputs[4] / inputs[4].max()
    inputs[4][:, 5:9] = 0  # a pause
    found = evaluate(inputs, schedule, config, 3, backend)
    size = found[1].norm(dim=-1)
    torch.testing.assert_close(size, torch.ones_like(size))
    assert all(x.isfinite().all() for x in found)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_predictions_that_cancel_make_no_nan(backend):
    """Two bins of opposite targets, coupled much more than anchored."""
    config = StftConfig(16000, 2, hop_length=1, window="rectangular")
    schedule = Schedule()
    # The advance of bin 1 over one sample is pi: target -1 beside target 1.
    zeros = torch.zeros(1, 1, 1, 2)
    weak = torch.full_like(zeros, -70.0)
    ones = torch.ones(1, REOPENED + 1, 2)
    inputs = [zeros, zeros, weak, zeros, ones, 0 * ones]
    inputs += start_overlap(config, 1)
    leaves = [x.clone().requires_grad_() for x in inputs]
    found = evaluate(leaves, schedule, config, 1, backend)
    assert torch.equal(found[1].norm(dim=-1), torch.ones(1, 1, 2))
    projection(found).backward()
    assert all(x.grad.isfinite().all() for x in leaves)


def test_unknown_backends_are_refused():
    inputs = some_inputs(TINY, SCHEDULES[0])
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        evaluate(inputs, SCHEDULES[0], TINY, 0, "cuda")

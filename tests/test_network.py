"""The network: its promises of size, causality, level and streaming."""

import copy
import io
import sys
from pathlib import Path

import pytest
import torch
from conftest import CONFIG
from torch.nn.utils import prune

from speechbrain_phaseinv.estimation.gradient_theorem import GradientTheorem
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.stft import StftConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from macs import macs_per_frame  # noqa: E402

POINTS = {
    "latency 0": {"lookahead": 0},
    "latency 1": {"lookahead": 1},
    "paired": {"lookahead": 1, "paired": True},
    "again": {"lookahead": 1, "paired": True, "again": True},
    "provisional": {"lookahead": 1, "provisional": True},
}
points = pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)


def network(point, config=CONFIG, **changes):
    """One whose weights are all at work."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = PhaseDerivativeNet(config, **point, **changes)
        torch.nn.init.normal_(net.last.weight, std=0.1)
    return net.eval().requires_grad_(False)


def log_magnitudes(time=20, batch=2, bins=CONFIG.num_bins):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, time, bins, generator=generator)


@points
def test_it_has_at_most_8192_parameters(point):
    net = PhaseDerivativeNet(CONFIG, **point)
    assert sum(p.numel() for p in net.parameters()) <= 8192


def test_a_pair_costs_at_most_51_percent_per_frame():
    single = macs_per_frame(network(POINTS["latency 1"]))
    for point in ("paired", "again"):
        paired = macs_per_frame(network(POINTS[point]))
        assert 0 < paired <= 0.51 * single


@points
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunks_give_what_the_whole_gives(point, size):
    net = network(point)
    frames = log_magnitudes()
    whole, _ = net(frames)
    state, pieces = None, []
    for chunk in frames.split(size, dim=1):
        estimates, state = net(chunk, state)
        pieces.append(estimates)
    for expected, *found in zip(whole, *pieces):
        assert torch.equal(torch.cat(found, 1), expected)


SHAPES = {
    "as packaged": {},
    "no prior": {"prior": False},
    "no confidences": {"confidences": False},
    "odd numbers": {"channels": 7, "kernel_size": 3, "history": 3},
    "dilated": {"dilations": (1, 2, 4, 8)},
    "in many blocks": {"channels": 48, "kernel_size": 7},
    "no blocks": {"dilations": ()},
}


@points
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_is_compiled_is_what_is_trained(point, shape):
    frames = log_magnitudes()
    frames[:, 5] -= 60  # so that all that is bounded meets its bounds
    net = network(point, **shape)
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    used, state = net(frames)
    trained, other = net.requires_grad_(True)(frames)
    assert torch.equal(state, other)
    for a, b in zip(used, trained):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", [torch.float32, torch.float64])
def test_what_is_compiled_keeps_precision(weights, inputs):
    frames = log_magnitudes(batch=1).to(inputs)
    net = network(POINTS["latency 1"]).to(weights)
    used, _ = net(frames)
    trained, _ = net.requires_grad_(True)(frames)
    for a, b in zip(used, trained):
        assert a.dtype == inputs
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_the_threads_of_blas_change_no_bit(weights):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    frames = log_magnitudes(time=8, batch=1, bins=1025)
    net = network(POINTS["latency 1"], channels=48).to(weights)
    expected, _ = net(frames)
    for threads in (1, 2, 3):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            found, _ = net(frames)
        for a, b in zip(found, expected):
            assert torch.equal(a, b)


def test_what_is_compiled_follows_its_parameters():
    frames = log_magnitudes()
    net = network(POINTS["latency 1"])
    other = network(POINTS["latency 1"])
    other.first.weight.mul_(2)
    net(frames)

    def follows(net, reference):
        for a, b in zip(net(frames)[0], reference(frames)[0]):
            assert torch.equal(a, b)

    net.first.weight.mul_(2)  # as an optimiser does
    follows(net, other)
    other.last.bias.add_(1)
    net.load_state_dict(other.state_dict())
    follows(net, other)
    changed = copy.deepcopy(net)
    changed.last.bias.add_(1)
    follows(net, other)
    other.last.bias.add_(1)
    follows(changed, other)
    net.load_state_dict(other.state_dict(), assign=True)
    follows(net, other)
    net.last.bias.data = torch.zeros_like(net.last.bias)
    other.last.bias.zero_()
    follows(net, other)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    other.last.bias.add_(1)
    saved.last.bias.add_(1)
    follows(saved, other)
    net = net.to(memory_format=torch.channels_last)
    net(frames)
    net.load_state_dict(other.state_dict())
    follows(net, other)


def test_pruned_layers_and_replicas_are_used_as_they_are():
    frames = log_magnitudes()
    net = network(POINTS["latency 1"])
    replica = net._replicate_for_data_parallel()
    for name, child in net.named_children():
        setattr(replica, name, child)
    replica.prior_scale = net.prior_scale
    assert torch.equal(replica(frames)[0].time, net(frames)[0].time)
    prune.l1_unstructured(net.first, "weight", amount=0.5)
    found = net(frames)[0]
    with torch.enable_grad():
        expected = net.requires_grad_(True)(frames)[0]
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


@points
def test_an_empty_chunk_changes_nothing(point):
    net = network(point)
    frames = log_magnitudes()
    before, state = net(frames[:, :9])
    nothing, state = net(frames[:, :0], state)
    after, _ = net(frames[:, 9:], state)
    whole, _ = net(frames)
    assert nothing.time.shape == nothing.frequency_confidence.shape
    assert nothing.time.shape[1] == 0
    torch.testing.assert_close(
        torch.cat([before.time, after.time], 1), whole.time
    )


@points
def test_a_stream_may_begin_with_no_frames(point):
    estimates, state = network(point)(log_magnitudes()[:, :0])
    assert estimates.time.shape[1] == 0
    again, _ = network(point)(log_magnitudes(), state)
    assert again.time.shape[1] > 0


@points
def test_a_frame_is_not_changed_by_what_comes_after_its_lookahead(point):
    net = network(point)
    frames = log_magnitudes(time=16)
    other = frames.clone()
    other[:, 10:] += 1.0
    whole, _ = net(frames)
    changed, _ = net(other)
    # The passes whose frames come before frame 10; of pairs, (8, 9) is last.
    known = net.schedule.num_passes(10)
    for a, b in zip(whole, changed):
        assert torch.equal(a[:, :known], b[:, :known])
        assert not torch.equal(a[:, known:], b[:, known:])


@points
def test_the_level_does_not_matter(point):
    net = network(point)
    frames = log_magnitudes().double()
    quiet, _ = net.double()(frames - 20)
    loud, _ = net(frames)
    for a, b in zip(quiet, loud):
        torch.testing.assert_close(a, b)


@points
def test_untrained_it_is_the_gradient_theorem(point):
    """With a frame of look-ahead for every frame that a pass sees the next of.

    Frames estimated once more among them.
    """
    frames = log_magnitudes()
    net = PhaseDerivativeNet(CONFIG, **point)
    found, _ = net(frames)
    about = net.schedule.frames(found.time.shape[1])
    before = frames[:, :1].expand(-1, 2, -1)
    for j, offset in enumerate(net.schedule.offsets):
        theorem = GradientTheorem(CONFIG, int(offset < net.lookahead))
        # Of the frames from -1 on.
        expected = theorem.estimate(torch.cat([before, frames], 1))
        for x, y in zip(found[:2], expected):
            torch.testing.assert_close(x[:, :, j], y[:, about[:, j] + 1])
    assert not found.time_confidence.any()
    trust = GradientTheorem(CONFIG, point["lookahead"]).confidence
    assert (found.frequency_confidence == trust).all()


def test_the_look_ahead_estimate_is_that_of_a_pair_s_second_frame():
    """The same weights; a pass sees the same frames for either."""
    frames, paired = log_magnitudes(), network(POINTS["paired"])
    pairs, _ = paired(frames)
    net = PhaseDerivativeNet(CONFIG, **POINTS["provisional"])
    net.load_state_dict(paired.state_dict())
    every, _ = net.requires_grad_(False)(frames)
    for both, single in zip(pairs, every):
        assert torch.equal(single[:, ::2], both)


@points
def test_the_same_weights_serve_any_number_of_bins(point):
    weights = network(point).state_dict()
    other = StftConfig(22050, 1024, hop_length=256)
    net = PhaseDerivativeNet(other, **point)
    net.load_state_dict(weights)
    estimates, _ = net(log_magnitudes(bins=other.num_bins))
    assert estimates.time.shape[-1] == 513


@points
def test_silence_and_steps_from_silence_stay_finite(point):
    frames = log_magnitudes()
    frames[:, :8] = -69.0
    for x in network(point)(frames)[0]:
        assert torch.isfinite(x).all()


def test_confidences_and_prior_are_options():
    net = network(POINTS["latency 1"], confidences=False, prior=False)
    for frames in (log_magnitudes(), log_magnitudes()[:, :0]):
        estimates, _ = net(frames)
        assert not estimates.time_confidence.any()
        assert not estimates.frequency_confidence.any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"lookahead": 2},
        {"lookahead": 0, "paired": True},
        {"lookahead": 0, "provisional": True},
        {"paired": True, "provisional": True},
        {"again": True},
        {"paired": True, "again": True, "history": 1},
        {"kernel_size": 4},
        {"history": 0},
        {"refinements": -1},
    ],
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="got|paired"):
        PhaseDerivativeNet(CONFIG, **arguments)

"""The network: its promises of size, causality, level and streaming."""

import copy
import io
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune

from speechbrain_phaseinv.estimation.gradient_theorem import GradientTheorem
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.stft import StftConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from macs import macs_per_frame  # noqa: E402

CONFIG = StftConfig(16000, 512, hop_length=128)
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


def fields(derivatives):
    """All that it holds, the frames ahead and once more included."""
    ahead, again = derivatives.ahead or (), derivatives.again or ()
    return [*derivatives[:4], *ahead[:4], *again[:4]]


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
        derivatives, state = net(chunk, state)
        pieces.append(derivatives)
    for expected, *found in zip(fields(whole), *map(fields, pieces)):
        assert torch.equal(torch.cat(found, 1), expected)


SHAPES = {
    "as packaged": {},
    "no prior": {"prior": False},
    "no confidences": {"confidences": False},
    "odd numbers": {"channels": 7, "kernel_size": 3, "history": 3},
    "dilated": {"dilations": (1, 2, 4, 8)},
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
    for a, b in zip(fields(used), fields(trained)):
        if b is None:
            assert a is None
        else:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", [torch.float32, torch.float64])
def test_what_is_compiled_keeps_precision(weights, inputs):
    frames = log_magnitudes(batch=1).to(inputs)
    net = network(POINTS["latency 1"]).to(weights)
    used, _ = net(frames)
    trained, _ = net.requires_grad_(True)(frames)
    for a, b in zip(fields(used), fields(trained)):
        assert a.dtype == inputs
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_what_is_compiled_follows_its_parameters():
    frames = log_magnitudes()
    net = network(POINTS["latency 1"])
    other = network(POINTS["latency 1"])
    other.first.weight.mul_(2)
    net(frames)

    def follows(net, reference):
        for a, b in zip(net(frames)[0][:4], reference(frames)[0][:4]):
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
    for a, b in zip(found[:4], expected[:4]):
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
    derivatives, state = network(point)(log_magnitudes()[:, :0])
    assert derivatives.time.shape[1] == 0
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
    # Of a pair, (8, 9) is complete.
    for a, b in zip(fields(whole), fields(changed)):
        # Those once more are one a pass.
        known = min(10 - net.lookahead, 10 * a.shape[1] // 16)
        assert torch.equal(a[:, :known], b[:, :known])
        assert not torch.equal(a[:, known:], b[:, known:])


@points
def test_the_level_does_not_matter(point):
    net = network(point)
    frames = log_magnitudes().double()
    quiet, _ = net.double()(frames - 20)
    loud, _ = net(frames)
    for a, b in zip(fields(quiet), fields(loud)):
        torch.testing.assert_close(a, b)


@points
def test_untrained_it_is_the_gradient_theorem(point):
    frames = log_magnitudes()
    net = PhaseDerivativeNet(CONFIG, **point)
    found, _ = net(frames)
    for ahead, own in ((1, slice(0, None, 2)), (0, slice(1, None, 2))):
        if not net.paired:
            ahead, own = net.lookahead, slice(None)
        expected, _ = GradientTheorem(CONFIG, ahead)(frames)
        ready = min(found.time.shape[1], expected.time.shape[1])
        for a, b in zip(found[:4], expected):
            if a is not None and b is not None:
                torch.testing.assert_close(
                    a[:, :ready][:, own], b[:, :ready][:, own]
                )


def test_ahead_is_what_a_paired_network_says_of_the_second_frame():
    """The same weights; a pass sees the same frames for either."""
    frames, paired = log_magnitudes(), network(POINTS["paired"])
    pairs, _ = paired(frames)
    net = PhaseDerivativeNet(CONFIG, **POINTS["provisional"])
    net.load_state_dict(paired.state_dict())
    every, _ = net.requires_grad_(False)(frames)
    for both, here, ahead in zip(pairs[:4], every[:4], every.ahead[:4]):
        assert torch.equal(here[:, ::2], both[:, ::2])
        assert torch.equal(ahead[:, ::2], both[:, 1::2])


def test_again_is_what_follows_from_the_same_pass():
    """Where it is untrained, the theorem's estimate, with a frame ahead."""
    frames = log_magnitudes()
    net = PhaseDerivativeNet(CONFIG, **POINTS["again"])
    found, _ = net.requires_grad_(False)(frames)
    theorem = GradientTheorem(CONFIG, lookahead=1)
    before = torch.cat([frames[:, :1], frames[:, :1], frames], dim=1)
    time, frequency = theorem.estimate(before)  # of the frames from -1 on
    again = found.again
    assert again.time.shape[1] == found.time.shape[1] // 2
    count = 2 * again.time.shape[1]
    for x, y in ((again.time, time), (again.frequency, frequency)):
        torch.testing.assert_close(x, y[:, :count:2])


@points
def test_the_same_weights_serve_any_number_of_bins(point):
    weights = network(point).state_dict()
    other = StftConfig(22050, 1024, hop_length=256)
    net = PhaseDerivativeNet(other, **point)
    net.load_state_dict(weights)
    derivatives, _ = net(log_magnitudes(bins=other.num_bins))
    assert derivatives.time.shape[-1] == 513


@points
def test_silence_and_steps_from_silence_stay_finite(point):
    frames = log_magnitudes()
    frames[:, :8] = -69.0
    for x in fields(network(point)(frames)[0]):
        assert torch.isfinite(x).all()


def test_confidences_and_prior_are_options():
    net = network(POINTS["latency 1"], confidences=False, prior=False)
    derivatives, _ = net(log_magnitudes())
    assert derivatives.time_confidence is None
    assert derivatives.frequency_confidence is None
    empty, _ = net(log_magnitudes()[:, :0])
    assert empty.time_confidence is None


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

"""A stream gives what the whole spectrogram gives, and nothing else."""

import copy
import io
import pickle

import pytest
import torch
from conftest import (
    CONFIG,
    KINDS,
    magnitudes,
    make_inverter,
    synthetic_speech,
)

from speechbrain_phaseinv import (
    InversionStream,
    SpectrogramInverter,
    StftConfig,
    analysis,
)
from speechbrain_phaseinv.streaming import StreamState

kinds = pytest.mark.parametrize("kind", KINDS)
CONFIGS = [
    CONFIG,
    StftConfig(16000, 512, hop_length=256, window="hamming"),
    StftConfig(16000, 512, 400, 100),
]


def play(stream, magnitude, sizes):
    pieces = [stream.push(m) for m in magnitude.split(sizes, dim=1)]
    return torch.cat([*pieces, stream.flush()], dim=1)


@pytest.mark.parametrize("config", CONFIGS)
@kinds
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_stream_equals_offline(config, kind, size):
    magnitude = magnitudes(2, config=config)
    inverter = make_inverter(kind, config)
    found = play(InversionStream(inverter), magnitude, size)
    assert torch.equal(found, inverter(magnitude))


@kinds
@pytest.mark.parametrize("batch", [1, 3])
def test_a_prepared_frame_is_the_step_of_the_inverter(kind, batch):
    inverter = make_inverter(kind, CONFIG)
    stream, state, outputs = InversionStream(inverter), None, []
    for i, frame in enumerate(magnitudes(batch).split(1, dim=1)):
        given = frame.clone()
        samples = stream.push(given)
        given.fill_(torch.nan)  # a stream keeps nothing of what it is given
        expected, state = inverter.step(frame, state)
        outputs.append((samples, samples.clone()))
        if i > 10:
            assert kind.startswith("gradient") or stream._prepared
            assert torch.equal(samples, expected)
            for own, other in zip(stream.state.inverter, state):
                if isinstance(own, torch.Tensor):
                    assert torch.equal(own, other)
                else:
                    assert own == other
    assert all(torch.equal(*pair) for pair in outputs)


@kinds
def test_frames_alone_and_together_in_any_order(kind):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    sizes = [20, 1, 1, 1, 2, 1, 3, 1, 1, 40, 1, 0, 2, 2, 2, 1]
    sizes.append(magnitude.shape[1] - sum(sizes))
    found = play(InversionStream(inverter), magnitude, sizes)
    assert torch.equal(found, inverter(magnitude))


def in_place(inverter):
    with torch.no_grad():  # as training does
        inverter.estimator.last.bias += 0.1


def new_tensors(inverter):
    other = make_inverter("network-1", CONFIG).estimator.state_dict()
    other["last.bias"] = other["last.bias"] + 0.1
    inverter.estimator.load_state_dict(other, assign=True)


def another_layer(inverter):
    layer = copy.deepcopy(inverter.estimator.last)
    torch.nn.init.constant_(layer.bias, 0.3)
    inverter.estimator.last = layer


def more_refinements(inverter):
    inverter.refinements += 1


def hook(inverter):
    def add(module, given, made):
        return made[0]._replace(time=made[0].time + 1), made[1]

    inverter.estimator.register_forward_hook(add)


def another_forward(inverter):
    forward = inverter.estimator.forward

    def quicker(*given):
        made, state = forward(*given)
        return made._replace(time=made.time + 1), state

    inverter.estimator.forward = quicker


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        new_tensors,
        another_layer,
        more_refinements,
        hook,
        another_forward,
    ],
)
def test_what_changes_under_way_counts_from_the_next_frame_on(change):
    inverter = make_inverter("network-1", CONFIG)
    state, stream, same = None, InversionStream(inverter), []
    for i, frame in enumerate(magnitudes(seconds=0.4).split(1, dim=1)):
        if i == 30:
            untouched, old = copy.deepcopy(inverter), state
            assert stream._prepared is not None
            change(inverter)
        samples = stream.push(frame)
        expected, state = inverter.step(frame, state)
        assert i < 10 or torch.equal(samples, expected)
        if i >= 30:
            before, old = untouched.step(frame, old)
            same.append(torch.equal(before, expected))
    assert not all(same)


@kinds
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
)
def test_a_copied_stream_goes_its_own_way(kind, copied):
    magnitude = magnitudes(seconds=0.4)
    inverter = make_inverter(kind, CONFIG)
    stream = InversionStream(inverter)
    head = stream.push(magnitude[:, :20])
    head = torch.cat([head, stream.push(magnitude[:, 20:22])], dim=1)
    other = copied(stream)
    play(other, magnitude[:, 30:], 1)
    rest = play(stream, magnitude[:, 22:], 1)
    assert torch.equal(torch.cat([head, rest], dim=1), inverter(magnitude))


class Failing(torch.nn.Module):
    """An estimator that can be told to fail."""

    def __init__(self, estimator):
        super().__init__()
        self.estimator, self.schedule = estimator, estimator.schedule
        self.fails = False

    def forward(self, *given):
        if self.fails:
            raise RuntimeError("not now")
        return self.estimator(*given)


def test_an_estimator_that_fails_leaves_the_stream_as_it_was():
    magnitude = magnitudes(seconds=0.4)
    own = Failing(make_inverter("network-1", CONFIG).estimator)
    inverter = SpectrogramInverter(CONFIG, estimator=own)
    stream, pieces = InversionStream(inverter), []
    for i, frame in enumerate(magnitude.split(1, dim=1)):
        if i == 25:
            own.fails = True
            with pytest.raises(RuntimeError, match="not now"):
                stream.push(frame)
            own.fails = False
        pieces.append(stream.push(frame))
    pieces.append(stream.flush())
    assert torch.equal(torch.cat(pieces, dim=1), inverter(magnitude))


def test_an_interrupted_stream_begins_anew(monkeypatch):
    from speechbrain_phaseinv.kernels import frame as kernel

    def interrupted(*arguments):
        raise KeyboardInterrupt

    magnitude = magnitudes(seconds=0.3)
    inverter = make_inverter("network-1", CONFIG)
    stream = InversionStream(inverter)
    for frame in magnitude.split(1, dim=1):
        stream.push(frame)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kernel, "run", interrupted)
        stream.push(frame)
    assert torch.equal(play(stream, magnitude, 1), inverter(magnitude))


class Halved(SpectrogramInverter):
    """An inverter with an idea of its own."""

    def synthesise(self, *given):
        waveform, state = super().synthesise(*given)
        return waveform / 2, state


def test_an_inverter_of_another_kind_has_its_own_step():
    magnitude = magnitudes(seconds=0.3)
    network = make_inverter("network-1", CONFIG).estimator
    stream = InversionStream(Halved(CONFIG, estimator=network))
    plain = InversionStream(SpectrogramInverter(CONFIG, estimator=network))
    for frame in magnitude.split(1, dim=1):
        assert torch.equal(stream.push(frame), plain.push(frame) / 2)


def test_an_estimator_need_not_be_a_module():
    class Plain:
        def __init__(self, network):
            self.network, self.schedule = network, network.schedule

        def __call__(self, *given):
            return self.network(*given)

    network = make_inverter("network-1", CONFIG).estimator
    inverter = SpectrogramInverter(CONFIG, estimator=Plain(network))
    magnitude = magnitudes(seconds=0.3)
    found = play(InversionStream(inverter), magnitude, 1)
    assert torch.equal(found, inverter(magnitude))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_precision_may_change_and_tensors_are_ordinary(mode):
    inverter = make_inverter("network-1", CONFIG)
    stream, state = InversionStream(inverter), None
    with mode():
        for i, frame in enumerate(magnitudes(seconds=0.4).split(1, dim=1)):
            frame = frame.double() if i > 20 else frame
            samples = stream.push(frame)
            assert not samples.is_inference()
            expected, state = inverter.step(frame, state)
            assert i < 10 or torch.equal(samples, expected)


def test_a_compiled_push_is_the_push():
    magnitude = magnitudes(seconds=0.3)
    inverter = make_inverter("network-1", CONFIG)
    stream = InversionStream(inverter)
    push = torch.compile(stream.push, backend="eager")
    pieces = [push(frame) for frame in magnitude.split(1, dim=1)]
    pieces.append(stream.flush())
    assert torch.equal(torch.cat(pieces, dim=1), inverter(magnitude))


def test_a_state_of_an_inverter_alone_goes_on():
    magnitude = magnitudes(seconds=0.3)
    inverter = make_inverter("network-1", CONFIG)
    _, state = inverter.step(magnitude[:, :20])
    stream = InversionStream(inverter)
    stream.state = StreamState(state)
    expected, _ = inverter.step(magnitude[:, 20:22], state)
    assert torch.equal(stream.push(magnitude[:, 20:22]), expected)


@kinds
def test_the_definition_streams_as_well(kind):
    magnitude = magnitudes(2, 0.2)
    inverter = make_inverter(kind, CONFIG, backend="torch")
    found = play(InversionStream(inverter), magnitude, 5)
    assert torch.equal(found, inverter(magnitude))


@kinds
def test_chunks_of_nothing_change_nothing(kind):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    sizes = [0, 1, 0, 0, 60, 0, 65, 0]
    found = play(InversionStream(inverter), magnitude, sizes)
    assert torch.equal(found, inverter(magnitude))


@kinds
@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_short_streams(kind, frames):
    magnitude = magnitudes()[:, :frames]
    inverter = make_inverter(kind, CONFIG)
    stream = InversionStream(inverter)
    found = torch.cat([stream.push(magnitude), stream.flush(700)], 1)
    assert torch.equal(found, inverter(magnitude, length=700))


@kinds
def test_what_is_ready_is_known_before(kind):
    stream = InversionStream(make_inverter(kind, CONFIG))
    for magnitude in magnitudes().split([1, 1, 0, 1, 1, 5, 1, 116], dim=1):
        promised = stream.num_samples_ready(magnitude.shape[1])
        assert stream.push(magnitude).shape[1] == promised
    waiting = 0 if kind.endswith(("0", "paired", "again")) else 1
    assert stream.state.samples == (126 - waiting) * 128 - 256


def test_streams_do_not_mix():
    one, two = magnitudes(), magnitudes(2).flip(1)
    inverter = make_inverter("gradient-1", CONFIG)
    streams = InversionStream(inverter), InversionStream(inverter)
    pieces = [], []
    for frames in zip(one.split(3, 1), two.split(3, 1)):
        for stream, frame, piece in zip(streams, frames, pieces):
            piece.append(stream.push(frame))
    for stream, magnitude, piece in zip(streams, (one, two), pieces):
        piece.append(stream.flush())
        assert torch.equal(torch.cat(piece, 1), inverter(magnitude))


def test_a_flushed_or_reset_stream_is_new():
    magnitude = magnitudes()
    stream = InversionStream(make_inverter("gradient-1", CONFIG))
    first = play(stream, magnitude, 5)
    assert torch.equal(play(stream, magnitude, 5), first)
    stream.push(magnitude[:, :50])
    stream.reset()
    assert torch.equal(play(stream, magnitude, 5), first)


@kinds
def test_the_state_can_be_copied_saved_and_resumed(kind):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    stream = InversionStream(inverter)
    stream.push(magnitude[:, :50])
    kept = stream.state
    file = io.BytesIO()
    torch.save(kept, file)
    file.seek(0)
    expected = play(stream, magnitude[:, 50:], 4)
    for state in (kept, copy.deepcopy(kept), torch.load(file)):
        other = InversionStream(inverter)
        other.state = state
        assert torch.equal(
            play(other.to("cpu"), magnitude[:, 50:], 9), expected
        )


@kinds
def test_a_state_of_another_stream_is_refused(kind):
    magnitude = magnitudes(seconds=0.2)
    stream = InversionStream(make_inverter(kind, CONFIG))
    stream.push(magnitude)
    for other in KINDS:
        if other != kind:
            another = InversionStream(make_inverter(other, CONFIG))
            another.state = stream.state
            with pytest.raises(ValueError, match="belongs to another inverter"):
                another.push(magnitude)
    with pytest.raises(ValueError, match="a batch of 1"):
        stream.push(magnitude.repeat(2, 1, 1))


@kinds
def test_what_comes_out_may_be_used_in_training(kind):
    stream = InversionStream(make_inverter(kind, CONFIG))
    gain = torch.ones(1, requires_grad=True)
    for samples in (stream.push(magnitudes()), stream.flush()):
        assert samples.numel()
        (gain * samples).square().sum().backward()
    assert gain.grad > 0


@kinds
def test_memory_is_constant(kind):
    stream = InversionStream(make_inverter(kind, CONFIG))
    sizes, saved = set(), set()
    for frames in magnitudes(seconds=4)[:, :500].split([498, 2], 1):
        stream.push(frames)
        file = io.BytesIO()
        torch.save(stream.state, file)
        sizes.add(stream.state_bytes)
        saved.add(len(file.getvalue()))
    # After 498 frames at once as after two more: nothing holds on to a chunk.
    assert len(sizes) == 1
    assert max(saved) < min(sizes) + 8192


@kinds
def test_a_bad_frame_is_refused_and_changes_nothing(kind):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    stream = InversionStream(inverter)
    pieces = []
    for i, frame in enumerate(magnitude.split(1, dim=1)):
        if i == 60:
            broken = frame.clone()
            broken[0, 0, 100] = torch.nan
            for bad in (broken, -frame, frame[..., :-1], frame.repeat(2, 1, 1)):
                with pytest.raises(ValueError):
                    stream.push(bad)
        pieces.append(stream.push(frame))
    pieces.append(stream.flush())
    assert torch.equal(torch.cat(pieces, 1), inverter(magnitude))


@kinds
@pytest.mark.parametrize(
    "name, signal",
    [
        ("silence", torch.zeros(1, 16000)),
        ("square wave", torch.sign(torch.sin(torch.arange(16000.0) / 9))[None]),
        ("denormals", torch.full((1, 16000), 1e-42)),
        (
            "120 dB up and down",
            torch.randn(1, 16000)
            * torch.tensor([1e-6, 1.0]).repeat(4).repeat_interleave(2000),
        ),
        (
            "speech out of digital silence",
            synthetic_speech().float()
            * torch.tensor([0.0, 1.0]).repeat(4).repeat_interleave(2000),
        ),
    ],
)
def test_hard_signals_pass(name, signal, kind):
    magnitude = analysis(signal, CONFIG).abs()
    y = play(InversionStream(make_inverter(kind, CONFIG)), magnitude, 1)
    assert y.isfinite().all()
    assert y.abs().max() <= 5 * signal.abs().max() + 1e-30

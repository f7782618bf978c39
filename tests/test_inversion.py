"""The whole chain: batches, chunks, silence, and what it refuses."""

import pytest
import torch
from conftest import CONFIG, KINDS, magnitudes, make_inverter

from speechbrain_phaseinv import (
    SpectrogramInverter,
    StftConfig,
    analysis,
    inversion,
    synthesis,
)
from speechbrain_phaseinv.integration.refinement import REOPENED

kinds = pytest.mark.parametrize("kind", KINDS)


def convergence(magnitude, waveform, config):
    difference = analysis(waveform, config).abs() - magnitude
    return 20 * torch.log10(difference.norm() / magnitude.norm()).item()


def in_chunks(inverter, magnitude, sizes):
    """Samples from the first frame's centre to the last one's, and states."""
    state, pieces, states = None, [], []
    for frames in magnitude.split(sizes, dim=1):
        samples, state = inverter.step(frames, state)
        pieces.append(samples)
        states.append(state)
    pieces.append(inverter.flush(state))
    config = inverter.config
    stop = config.trim + config.num_samples(magnitude.shape[1])
    return torch.cat(pieces, dim=1)[:, config.trim : stop], states


def same(one, two):
    """Whether two states have the same bits."""
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(one, two)
    )


def in_rest(inverter, magnitude, state):
    """What a stream gives from a state on."""
    samples, state = inverter.step(magnitude, state)
    return samples, inverter.flush(state)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_it_inverts_far_better_than_zero_phase(lookahead):
    magnitude = magnitudes(seconds=2)
    inverter = SpectrogramInverter(CONFIG, lookahead)
    y = inverter(magnitude, length=32000)
    zero_phase = inverter.invert(magnitude).abs() + 0j
    baseline = synthesis(zero_phase, CONFIG, 32000)
    gain = convergence(magnitude, baseline, CONFIG) - convergence(
        magnitude, y, CONFIG
    )
    assert gain > 10  # dB


def test_the_complex_spectrogram_keeps_the_magnitudes():
    magnitude = magnitudes(2)
    stft = SpectrogramInverter(CONFIG).invert(magnitude)
    assert torch.allclose(stft.abs(), magnitude, rtol=1e-5, atol=0)


@kinds
@pytest.mark.parametrize("size", [1, 2, 7, 126])
def test_chunks_change_nothing(kind, size):
    magnitude = magnitudes(2)
    inverter = make_inverter(kind, CONFIG)
    samples, states = in_chunks(inverter, magnitude, size)
    assert torch.equal(samples, inverter(magnitude))
    _, whole = in_chunks(inverter, magnitude, 126)
    assert same(states[-1], whole[-1])


@pytest.mark.parametrize("kind", ["gradient-1", "refined-0", "refined-again"])
def test_the_definition_gives_the_same_samples_in_chunks_too(kind):
    magnitude = magnitudes(2, 0.2)
    inverter = make_inverter(kind, CONFIG, backend="torch")
    whole = inverter(magnitude)
    for size in (1, 7):
        assert torch.equal(in_chunks(inverter, magnitude, size)[0], whole)
    # Rounding turns the phase of few bins, and the iterations of all.
    compiled = make_inverter(kind, CONFIG)(magnitude)
    assert (compiled - whole).norm() < 0.01 * whole.norm()


@kinds
def test_long_spectrograms_go_block_by_block(kind, monkeypatch):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    whole = inverter(magnitude), inverter.invert(magnitude)
    for frames in (1, 7, 125, 126, 127):
        monkeypatch.setattr(inversion, "BLOCK_FRAMES", frames)
        monkeypatch.setattr(inversion, "LEAST_FRAMES", 1)
        found = inverter(magnitude), inverter.invert(magnitude)
        assert all(torch.equal(*x) for x in zip(found, whole))


@kinds
def test_a_batch_is_its_members(kind):
    magnitude = magnitudes(3)
    inverter = make_inverter(kind, CONFIG)
    batch = inverter(magnitude)
    for i in range(3):
        assert torch.equal(inverter(magnitude[i : i + 1])[0], batch[i])


@kinds
def test_padding_changes_nothing(kind):
    magnitude = magnitudes(4)
    inverter = make_inverter(kind, CONFIG)
    lengths = torch.tensor([126, 50, 1, 0])
    padded = magnitude.clone()
    for i, valid in enumerate(lengths):
        padded[i, valid:] = torch.rand(126 - valid, 257)  # rubbish
    batch = inverter(padded, lengths=lengths)
    for i, valid in enumerate(lengths):
        alone = inverter(magnitude[i : i + 1, :valid])[0]
        assert torch.equal(batch[i, : len(alone)], alone)
        assert not batch[i, len(alone) :].any()
    stft = inverter.invert(padded, lengths.tolist())
    for i, valid in enumerate(lengths):
        alone = inverter.invert(magnitude[i : i + 1, :valid])[0]
        assert torch.equal(stft[i, :valid], alone)
        assert not stft[i, valid:].any()


@kinds
def test_a_frame_depends_on_nothing_beyond_its_lookahead(kind):
    magnitude = magnitudes()
    other = magnitude.clone()
    other[:, 61:] = torch.rand(1, 65, 257)
    inverter = make_inverter(kind, CONFIG)
    one, two = (in_chunks(inverter, x, 126)[0] for x in (magnitude, other))
    # Of a pair, (60, 61) here, the first frame sees the second. The window
    # of the first frame that differs begins half a window before its centre.
    safe = (61 - inverter.lookahead) * 128 - 256
    assert torch.equal(one[:, :safe], two[:, :safe])
    assert not torch.equal(one[:, : safe + 384], two[:, : safe + 384])


@pytest.mark.parametrize("kind", [k for k in KINDS if "refined" in k])
def test_refined_phases_are_those_of_the_waveform(kind):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    stft = inverter.invert(magnitude)
    assert torch.allclose(stft.abs(), magnitude, rtol=1e-5, atol=0)
    made = analysis(inverter(magnitude), CONFIG)
    inner = slice(4, -4)  # which the ends' padding does not reach
    turn = stft * made.conj()
    error = turn - turn.abs()
    assert error[:, inner].abs().max() < 1e-4 * turn.abs().max()


def test_the_same_input_gives_the_same_output():
    magnitude = magnitudes()
    inverter = SpectrogramInverter(CONFIG)
    assert torch.equal(inverter(magnitude), inverter(magnitude))


@kinds
@pytest.mark.parametrize("exponent", [-40, 3, 60])
def test_powers_of_two_scale_every_bit(kind, exponent):
    """Behind a mask, and after silence, as well."""
    magnitude = magnitudes(2)
    magnitude[1][magnitude[1] < 0.01 * magnitude.max()] = 0
    magnitude[1, :9] = 0
    scale = 2.0**exponent
    inverter = make_inverter(kind, CONFIG)
    expected = scale * inverter(magnitude)
    assert torch.equal(inverter(scale * magnitude), expected)
    assert torch.equal(in_chunks(inverter, scale * magnitude, 3)[0], expected)


@kinds
@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_few_frames(kind, frames):
    magnitude = magnitudes()[:, :frames]
    y = make_inverter(kind, CONFIG)(magnitude, length=700)
    assert y.shape == (1, 700) and y.isfinite().all()
    assert bool(y.any()) == (frames > 0)


@kinds
def test_silence_gives_silence(kind):
    y = make_inverter(kind, CONFIG)(torch.zeros(2, 50, 257))
    assert y.shape == (2, 49 * 128) and not y.any()


@kinds
def test_speech_after_silence_is_finite_and_goes_on(kind):
    magnitude = magnitudes()
    magnitude[:, 20:60] = 0
    magnitude[..., 200:] = 0  # as an inverted mel leaves it
    magnitude[:, 80] *= 1e6
    magnitude[:, 90] *= 1e-30
    y = make_inverter(kind, CONFIG)(magnitude)
    assert y.isfinite().all()
    assert not y[:, 22 * 128 : 57 * 128].any() and y[:, 70 * 128 :].any()


def test_precision_and_layout_are_kept():
    magnitude = magnitudes(2)
    inverter = SpectrogramInverter(CONFIG)
    y = inverter(magnitude)
    double = inverter(magnitude.double())
    assert double.dtype == torch.float64
    strided = magnitude.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(inverter(strided), y)
    assert inverter(magnitude[:0]).shape == (0, y.shape[1])
    assert inverter((10 * magnitude).round().to(torch.int32)).dtype == y.dtype


@kinds
def test_gradients_reach_the_magnitudes_and_are_finite(kind):
    magnitude = magnitudes()[:, :20].double()
    magnitude[:, 5:8] = 0
    magnitude.requires_grad_()
    inverter = make_inverter(kind, CONFIG).double()
    inverter(magnitude).square().sum().backward()
    assert magnitude.grad.isfinite().all() and magnitude.grad.any()


@kinds
def test_latency_is_what_an_impulse_shows(kind):
    # A device that takes a hop and gives a hop: frame by frame, place the
    # samples that come out beside those that went in just before. The frames
    # come out when the inverter says so; their phases are the true ones, for
    # no method can tell from its magnitudes where in a hop an impulse was.
    inverter = make_inverter(kind, CONFIG)
    x = torch.zeros(1, 8192)
    x[0, 4100] = 1
    stft = analysis(x, CONFIG)
    final = torch.nn.functional.pad(synthesis(stft, CONFIG)[0], (256, 0))
    done, taken = 0, 256  # frame 0 is complete after half a window
    state = None
    played = torch.zeros(9000)
    for t in range(stft.shape[1]):
        _, state = inverter.step(stft[:, t : t + 1].abs(), state)
        ready = final[done : 128 * state.position]
        done = 128 * state.position
        # A pair's second hop is played while the next frame is taken.
        played[taken - 128 :][: len(ready)] = ready
        taken += 128
    assert inverter.latency == 512 - 128 + 128 * inverter.lookahead
    assert int(played.abs().argmax()) - 4100 == inverter.latency


@pytest.mark.parametrize(
    "magnitude, error, message",
    [
        (torch.rand(1, 5, 257).numpy(), TypeError, "ndarray"),
        (torch.rand(1, 5, 257) + 0j, TypeError, r"\.abs\(\)"),
        (-torch.rand(1, 5, 257), ValueError, "negative"),
        (torch.full((1, 5, 257), torch.nan), ValueError, "finite"),
        (torch.full((1, 5, 257), torch.inf), ValueError, "finite"),
        (torch.full((1, 5, 257), 1e33), ValueError, "at most 3.4e"),
        (torch.rand(1, 5, 80), ValueError, "mel"),
        (torch.rand(1, 257, 5), ValueError, "swapped"),
        (torch.rand(5, 257), ValueError, "unsqueeze"),
        (torch.rand(1, 5, 129), ValueError, "257"),
    ],
)
def test_bad_magnitudes_are_refused(magnitude, error, message):
    with pytest.raises(error, match=message):
        SpectrogramInverter(CONFIG)(magnitude)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_the_loudest_that_is_taken_stays_finite(lookahead):
    magnitude = 3e32 * torch.rand(1, 40, 257)
    assert SpectrogramInverter(CONFIG, lookahead)(magnitude).isfinite().all()


@pytest.mark.parametrize("power", [float("nan"), float("inf"), -1, "one"])
def test_bad_powers_are_refused(power):
    with pytest.raises(ValueError, match="power must be a number"):
        SpectrogramInverter(CONFIG, power=power)


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match="length must not be negative"):
        SpectrogramInverter(CONFIG)(torch.rand(1, 5, 257), length=-1)


@pytest.mark.parametrize(
    "lengths, message",
    [
        (torch.tensor([5, 6, 7]), "integer lengths"),
        (torch.tensor([0.5, 1.0]), "integer lengths"),
        ([5, 127], r"\[0, 126\]"),
        ([5, -1], r"\[0, 126\]"),
    ],
)
def test_bad_lengths_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        SpectrogramInverter(CONFIG)(magnitudes(2), lengths)


@kinds
def test_a_state_is_for_its_own_inverter_and_batch_only(kind):
    magnitude = magnitudes(seconds=0.2)
    inverter = make_inverter(kind, CONFIG)
    _, state = inverter.step(magnitude)
    others = [make_inverter(x, CONFIG) for x in KINDS if x != kind]
    for window in ("hamming", "blackman"):
        others.append(
            make_inverter(kind, StftConfig(16000, 512, window=window))
        )
    own = dict(lookahead=inverter.lookahead, estimator=inverter.estimator)
    more = inverter.refinements + 1
    others.append(SpectrogramInverter(CONFIG, refinements=more, **own))
    others.append(SpectrogramInverter(CONFIG, power=0.3, **own))
    for other in others:
        with pytest.raises(ValueError, match="belongs to another inverter"):
            other.step(magnitude, state)
    with pytest.raises(ValueError, match="a batch of 1"):
        inverter.step(magnitude.repeat(2, 1, 1), state)
    for wrong in (tuple(state), "state", torch.zeros(3)):
        with pytest.raises(TypeError, match="expected the InverterState"):
            inverter.step(magnitude, wrong)
    # An equal one is welcome.
    same_kind = make_inverter(kind, CONFIG)
    assert same_kind.step(magnitude, state)[1].position > state.position


@kinds
def test_a_stream_may_start_from_true_phases(kind):
    """As if a step had given those phases, and may then go on."""
    noise = torch.randn(2, 4800, generator=torch.Generator().manual_seed(0))
    stft = analysis(noise, CONFIG)
    inverter = make_inverter(kind, CONFIG)
    state, (_, stepped) = inverter.start(stft), inverter.step(stft.abs())
    count, schedule = state.position, inverter.schedule
    assert count == schedule.num_passes(stft.shape[1]) * schedule.stride
    for field in ("estimator", "level", "sizes", "logs"):
        assert torch.equal(getattr(state, field), getattr(stepped, field))
    assert state[-2:] == stepped[-2:]
    phasors = stft[:, count - REOPENED : count]
    phasors = phasors / phasors.abs() * CONFIG.centre_phasor()
    kept = torch.view_as_complex(state.phasors)
    torch.testing.assert_close(kept, phasors, rtol=0, atol=1e-4)
    # What is pending begins where the last hop that is out ends.
    first = count * 128 - 256
    whole = synthesis(stft[:, :count], CONFIG, length=first + 384)
    pending = inverter.pending(state)
    torch.testing.assert_close(pending, whole[:, first:], rtol=0, atol=1e-4)
    # Its phases lead the frames that follow.
    more = stft[:, :7].abs()
    samples, after = inverter.step(more, state)
    other, _ = inverter.step(more, stepped)
    assert after.position > count and not torch.equal(samples, other)


@pytest.mark.parametrize("kind", [k for k in KINDS if "refined" not in k])
def test_from_true_phases_of_its_own_a_stream_goes_on_as_it_was(kind):
    """Refined phases, though, change until their frames are out."""
    magnitude = magnitudes(2, 0.3)
    inverter = make_inverter(kind, CONFIG)
    first, rest = magnitude.split([20, magnitude.shape[1] - 20], dim=1)
    state = inverter.start(inverter.invert(first))
    _, stepped = inverter.step(first)
    for one, two in zip(
        *(in_rest(inverter, rest, x) for x in (state, stepped))
    ):
        assert (one - two).norm() < 1e-3 * two.norm()


@kinds
def test_pending_is_what_the_end_would_bring_were_there_no_frame_left(kind):
    inverter = make_inverter(kind, CONFIG)
    _, state = inverter.step(magnitudes(2, 0.3))
    done = REOPENED
    nothing = state._replace(
        sizes=state.sizes[:, :done], logs=state.logs[:, :done]
    )
    assert torch.equal(inverter.pending(state), inverter.flush(nothing))


def test_a_config_is_asked_for():
    with pytest.raises(TypeError, match="StftConfig"):
        SpectrogramInverter(512)


def test_the_choice_of_the_estimator_is_visible_and_can_be_forced():
    odd = StftConfig(16000, 512, hop_length=384)  # no weights for that
    assert SpectrogramInverter(odd).method == "gradient theorem"
    forced = SpectrogramInverter(CONFIG, estimator="gradient")
    assert forced.method == "gradient theorem"
    assert "gradient theorem" in repr(forced)
    assert make_inverter("paired", CONFIG).method == "PhaseDerivativeNet"
    with pytest.raises(ValueError, match="no packaged weights"):
        SpectrogramInverter(odd, estimator="network")
    with pytest.raises(ValueError, match="no packaged weights"):
        SpectrogramInverter(odd, paired=True)
    with pytest.raises(ValueError, match="'griffin-lim'"):
        SpectrogramInverter(CONFIG, estimator="griffin-lim")
    with pytest.raises(ValueError, match="paired"):
        SpectrogramInverter(CONFIG, 1, "gradient", paired=True)

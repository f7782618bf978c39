"""The whole chain: batches, chunks, silence, and what it refuses."""

import pytest
import torch
from conftest import KINDS, make_inverter, synthetic_speech

from speechbrain_phaseinv import (
    SpectrogramInverter,
    StftConfig,
    analysis,
    inversion,
    synthesis,
)
from speechbrain_phaseinv.inversion import Inverted
from speechbrain_phaseinv.stft import (
    overlap_add,
    synthesis_step,
    windowed_frames,
)

CONFIG = StftConfig(16000, 512, hop_length=128)


def magnitudes(batch=1, seconds=1.0, config=CONFIG):
    x = torch.cat([synthetic_speech(seconds, seed=i) for i in range(batch)])
    return analysis(x.float(), config).abs()


def convergence(magnitude, waveform, config):
    difference = analysis(waveform, config).abs() - magnitude
    return 20 * torch.log10(difference.norm() / magnitude.norm()).item()


def in_chunks(inverter, magnitude, sizes):
    state, pieces = None, []
    for frames in magnitude.split(sizes, dim=1):
        inverted, state = inverter.step(frames, state)
        pieces.append(inverted)
    pieces.append(inverter.flush(state))
    return Inverted(*(torch.cat(x, dim=1) for x in zip(*pieces)))


def same(one, two):
    return all(torch.equal(x, y) for x, y in zip(one, two))


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 7, 126])
def test_chunks_change_nothing(kind, size):
    magnitude = magnitudes(2)
    inverter = make_inverter(kind, CONFIG)
    found = in_chunks(inverter, magnitude, size)
    assert same(found, in_chunks(inverter, magnitude, 126))
    assert torch.equal(overlap_add(found.added, CONFIG), inverter(magnitude))


@pytest.mark.parametrize("kind", KINDS)
def test_long_spectrograms_go_block_by_block(kind, monkeypatch):
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    whole = inverter(magnitude), inverter.invert(magnitude)
    for frames in (1, 7, 125, 126, 127):
        monkeypatch.setattr(inversion, "BLOCK_FRAMES", frames)
        assert same((inverter(magnitude), inverter.invert(magnitude)), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_members(kind):
    magnitude = magnitudes(3)
    inverter = make_inverter(kind, CONFIG)
    batch = inverter(magnitude)
    for i in range(3):
        assert torch.equal(inverter(magnitude[i : i + 1])[0], batch[i])


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_depends_on_nothing_beyond_its_lookahead(kind):
    magnitude = magnitudes()
    other = magnitude.clone()
    other[:, 61:] = torch.rand(1, 65, 257)
    inverter = make_inverter(kind, CONFIG)
    one, two = (in_chunks(inverter, x, 126) for x in (magnitude, other))
    # Of a pair, (60, 61) here, the first frame sees the second.
    safe = 61 - inverter.lookahead
    assert same(*((x[:, :safe] for x in found) for found in (one, two)))
    for before, after in zip(one, two):
        assert not torch.equal(before[:, safe], after[:, safe])


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith("refined")])
def test_samples_that_are_out_stay(kind):
    """What a pass adds begins where its own hop begins."""
    magnitude = magnitudes()
    inverter = make_inverter(kind, CONFIG)
    stft, added = in_chunks(inverter, magnitude, 126)
    plain = windowed_frames(stft, CONFIG)
    changes = (added - plain).abs().amax((0, 1))
    assert changes[:384].max() > 1e-3 and changes[384:].max() < 1e-6
    # The phases of all that came out are those of the spectrogram.
    found = inverter.invert(magnitude)
    assert torch.allclose(found.abs(), magnitude, rtol=1e-5, atol=0)
    made = analysis(inverter(magnitude), CONFIG)
    inner = slice(4, -4)  # which the ends' padding does not reach
    turn = found * made.conj()
    error = turn - turn.abs()
    assert error[:, inner].abs().max() < 1e-4 * turn.abs().max()


def test_the_same_input_gives_the_same_output():
    magnitude = magnitudes()
    inverter = SpectrogramInverter(CONFIG)
    assert torch.equal(inverter(magnitude), inverter(magnitude))


def test_the_level_does_not_matter():
    magnitude = magnitudes()
    inverter = SpectrogramInverter(CONFIG)
    y = inverter(magnitude)
    for scale in (2.0**-40, 2.0**60):  # powers of two round nothing away
        scaled = inverter(magnitude * scale) / scale
        assert (scaled - y).abs().max() < 1e-3 * y.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_few_frames(kind, frames):
    magnitude = magnitudes()[:, :frames]
    y = make_inverter(kind, CONFIG)(magnitude, length=700)
    assert y.shape == (1, 700) and y.isfinite().all()
    assert bool(y.any()) == (frames > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_gives_silence(kind):
    y = make_inverter(kind, CONFIG)(torch.zeros(2, 50, 257))
    assert y.shape == (2, 49 * 128) and not y.any()


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_magnitudes_and_are_finite(kind):
    magnitude = magnitudes()[:, :20].double()
    magnitude[:, 5:8] = 0
    magnitude.requires_grad_()
    inverter = make_inverter(kind, CONFIG).double()
    inverter(magnitude).square().sum().backward()
    assert magnitude.grad.isfinite().all() and magnitude.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_latency_is_what_an_impulse_shows(kind):
    # A device that takes a hop and gives a hop: frame by frame, place the
    # samples that come out beside those that went in just before. The frames
    # come out when the inverter says so; their phases are the true ones, for
    # no method can tell from its magnitudes where in a hop an impulse was.
    inverter = make_inverter(kind, CONFIG)
    x = torch.zeros(1, 8192)
    x[0, 4100] = 1
    stft = analysis(x, CONFIG)
    done, taken = 0, 256  # frame 0 is complete after half a window
    state = synthesis_state = None
    played = torch.zeros(9000)
    for t in range(stft.shape[1]):
        found, state = inverter.step(stft[:, t : t + 1].abs(), state)
        count = found.stft.shape[1]
        ready = stft[:, done : done + count]
        done += count
        samples, synthesis_state = synthesis_step(
            ready, CONFIG, synthesis_state
        )
        # A pair's second hop is played while the next frame is taken.
        played[taken - 128 :][: samples.shape[1]] = samples[0]
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

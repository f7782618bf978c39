"""Streaming enhancement against the offline call."""

import pytest
import torch
from conftest import synthetic_speech
from speechbrain.processing.features import STFT

from speechbrain_phaseinv import Resynthesizer, StftConfig, analysis

HALF = STFT(sample_rate=16000, n_fft=512, win_length=32, hop_length=16)
CONFIG = StftConfig(16000, 512, hop_length=256, window="hamming")
# Those that serve any transform; test_enhancement_network.py has the other.
phases = pytest.mark.parametrize("phase", ["model", "noisy", "both"])


def recording(samples=7000):
    generator = torch.Generator().manual_seed(0)
    speech = synthetic_speech(1.0).float()[:, :samples]
    return speech + 0.02 * torch.randn(2, samples, generator=generator)


def mask(magnitude):
    """A causal enhancer without a state, with zeros."""
    return (0.9 * magnitude - 0.3).clamp_min(0)


def streamed(stream, noisy, chunk):
    pieces = [stream.push(x) for x in noisy.split(chunk, dim=1)]
    return torch.cat([*pieces, stream.flush()], dim=1)


@phases
@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("chunk", [1, 100, 256, 7000])
def test_a_stream_gives_the_samples_of_the_offline_call(
    phase, lookahead, chunk
):
    noisy = recording(1500 if chunk == 1 else 7000)
    resynth = Resynthesizer(HALF, phase, False, lookahead)
    magnitude = analysis(noisy, CONFIG, "constant").abs()
    expected = resynth(mask(magnitude), noisy)
    made = streamed(resynth.stream(mask), noisy, chunk)
    assert torch.equal(made, expected)


@phases
@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_sample_leaves_after_the_latency(phase, lookahead):
    config = StftConfig(16000, 512, 400, 160)
    stream = Resynthesizer(config, phase, False, lookahead).stream(mask)
    given = taken = 0
    for _ in range(12):
        given += stream.push(torch.randn(1, 160)).shape[1]
        taken += 160
        if given:
            assert taken - given <= stream.latency_samples + 160
    for _ in range(160):
        given += stream.push(torch.randn(1, 1)).shape[1]
        taken += 1
        # The newest sample that is out went in so long ago.
        assert taken - given >= stream.latency_samples
    assert given


@phases
def test_a_stream_may_be_shorter_than_a_frame_or_of_any_length(phase):
    stream = Resynthesizer(HALF, phase, False).stream(mask)
    assert stream.flush(10).shape == (1, 10)
    stream.push(torch.randn(2, 20))
    assert stream.flush().shape == (2, 20)
    stream.push(torch.randn(2, 2000))
    given = 2000 - stream.flush(1990).shape[1]
    assert given <= 1990


def test_what_fails_leaves_the_stream_as_it_was():
    resynth = Resynthesizer(HALF, "both", False)
    noisy, answers = recording(), []

    def enhance(magnitude):
        answers.append(None)
        return magnitude[..., :-1] if len(answers) == 3 else mask(magnitude)

    stream = resynth.stream(enhance)
    pieces = []
    for chunk in noisy.split(700, dim=1):
        if len(answers) == 2:
            with pytest.raises(ValueError, match="257"):
                stream.push(chunk)
        pieces.append(stream.push(chunk))
    made = torch.cat([*pieces, stream.flush()], dim=1)
    assert torch.equal(made, streamed(resynth.stream(mask), noisy, 700))
    for wrong in (torch.randn(100), torch.full((2, 9), float("nan"))):
        with pytest.raises(ValueError, match="finite noisy samples"):
            stream.push(wrong)
    stream.push(noisy)
    with pytest.raises(ValueError, match="a batch of 2"):
        stream.push(noisy[:1])


def test_a_peak_that_is_not_known_is_not_normalised():
    with pytest.raises(ValueError, match="normalize_wavs=False"):
        Resynthesizer(HALF).stream(mask)

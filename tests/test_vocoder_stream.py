"""A vocoder's stream beside its offline call."""

import io

import pytest
import torch
from conftest import synthetic_speech

pytest.importorskip("speechbrain.inference.interfaces")

from speechbrain_phaseinv.config import StftConfig
from speechbrain_phaseinv.inference import PhaseInversionVocoder
from speechbrain_phaseinv.mel import available_mels, log_mel, mel_preset
from speechbrain_phaseinv.stft import analysis

from_hparams = PhaseInversionVocoder.from_hparams
HIFIGAN = "hifigan-22050"
LINEAR = StftConfig(22050, n_fft=1024, hop_length=256)


def mels(name, batch=2, seconds=0.4):
    """[batch, n_mels, time] of another voice each."""
    config = mel_preset(name)
    rate = config.stft.sample_rate
    waveforms = [synthetic_speech(seconds, rate, i) for i in range(batch)]
    magnitude = analysis(torch.cat(waveforms).float(), config.stft).abs()
    return log_mel(magnitude, config).transpose(1, 2)


def online(stream, spectrogram, size):
    parts = [stream.push(part) for part in spectrogram.split(size, dim=2)]
    return torch.cat([*parts, stream.flush()], dim=2)


@pytest.mark.parametrize("name", available_mels())
def test_a_stream_of_mels_gives_the_samples_of_the_whole(name):
    vocoder, mel = from_hparams("mel", mel=name), mels(name)
    stream, whole = vocoder.stream(), vocoder(mel)
    assert torch.equal(online(stream, mel, 1), whole)
    assert torch.equal(online(stream, mel, 7), whole)  # it starts anew


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("kind", ["magnitude", "log_magnitude"])
def test_a_stream_of_magnitudes_does_so_too(kind, lookahead):
    overrides = {"input": kind, "lookahead": lookahead}
    vocoder = from_hparams("linear-22050", overrides=overrides)
    magnitude = analysis(synthetic_speech(0.3, 22050).float(), LINEAR).abs()
    frames = magnitude.transpose(1, 2)
    frames = frames.log() if kind == "log_magnitude" else frames
    assert torch.equal(online(vocoder.stream(), frames, 3), vocoder(frames))


@pytest.mark.parametrize("name", ["speechbrain-22050", HIFIGAN])
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_stream_of_hardly_a_frame_gives_what_the_whole_gives(name, frames):
    vocoder, mel = from_hparams("mel", mel=name), mels(name, 1)[..., :frames]
    stream = vocoder.stream()
    found = torch.cat([stream.push(mel), stream.flush()], dim=2)
    assert torch.equal(found, vocoder(mel))


def test_a_frame_comes_out_after_the_latency():
    stream = from_hparams("mel", mel="speechbrain-22050").stream()
    assert stream.latency_samples == 1024
    sizes = [
        stream.push(frame).shape[2]
        for frame in mels("speechbrain-22050").split(1, dim=2)
    ]
    assert sizes[:3] == [0, 0, 0] and set(sizes[3:]) == {256}


def test_a_state_goes_on_elsewhere():
    vocoder, mel = from_hparams("mel", mel=HIFIGAN), mels(HIFIGAN)
    stream, other = vocoder.stream(), vocoder.stream()
    first = stream.push(mel[..., :9])
    file = io.BytesIO()
    torch.save(stream.state, file)
    file.seek(0)
    other.state = torch.load(file)
    rest = torch.cat([other.push(mel[..., 9:]), other.flush()], dim=2)
    assert torch.equal(torch.cat([first, rest], dim=2), vocoder(mel))


def test_what_is_refused_leaves_the_stream_as_it_was():
    vocoder, mel = from_hparams("mel", mel=HIFIGAN), mels(HIFIGAN)
    stream = vocoder.stream()
    first = stream.push(mel[..., :9])
    for bad, message in (
        (mel[:1], "batch of 2"),
        (mel[:, :40], r"\[batch, 80, time\]"),
        (mel * torch.nan, "NaN"),
        (mel + 1000, "decibels"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.push(bad)
    rest = torch.cat([stream.push(mel[..., 9:]), stream.flush()], dim=2)
    assert torch.equal(torch.cat([first, rest], dim=2), vocoder(mel))


def test_a_chunk_may_be_all_loud_or_all_silent():
    stream = from_hparams("mel", mel="coqui-22050").stream()
    stream.push(torch.full((1, 80, 1), 2.0))  # 75 dB above silence
    stream.push(torch.full((1, 80, 1), -6.0))
    assert torch.isfinite(stream.flush()).all()

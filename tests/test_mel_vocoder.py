"""The vocoder for any mel spectrogram: of a name, or of a description."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import synthetic_speech

pytest.importorskip("speechbrain.inference.interfaces")

from speechbrain_phaseinv.config import StftConfig
from speechbrain_phaseinv.inference import PhaseInversionVocoder
from speechbrain_phaseinv.mel import (
    MelConfig,
    available_mels,
    log_mel,
    mel_front_end,
    mel_preset,
    natural_log,
)

presets = pytest.mark.parametrize("name", available_mels())


def vocoder_of(mel, **options):
    return PhaseInversionVocoder.from_hparams("mel", mel=mel, **options)


def mels_of(waveform, config):
    """[batch, n_mels, time] by torch.stft, framed as the convention says."""
    stft = config.stft
    centred = stft.padding == "center"
    if not centred:
        around = (stft.pad_length, stft.pad_length)
        waveform = torch.nn.functional.pad(waveform, around, mode="reflect")
    magnitude = torch.stft(
        waveform,
        stft.n_fft,
        stft.hop_length,
        stft.win_length,
        torch.hann_window(stft.win_length),
        center=centred,
        return_complex=True,
    ).abs()
    return log_mel(magnitude.transpose(1, 2), config).transpose(1, 2)


def nepers(values, config):
    return natural_log(values.transpose(1, 2), config)


@presets
def test_what_comes_out_has_the_mels_that_went_in(name):
    config = mel_preset(name)
    samples = 30 * config.stft.hop_length
    waveform = synthetic_speech(0.7, config.stft.sample_rate).float()
    wanted = mels_of(waveform[:, :samples], config)
    made = vocoder_of(name)(wanted, sample_rate=config.stft.sample_rate)
    assert made.shape == (1, 1, samples)
    # Half a hop too early or too late would be an error of .4 and more.
    found, wanted = (
        nepers(x, config)[:, 2:-2] for x in (mels_of(made[0], config), wanted)
    )
    power = config.power
    loud = wanted > wanted.max() - 5 * power
    error = (found - wanted).abs()[loud].mean() / power
    assert error < 0.25
    # The same level, but for a decibel.
    assert (found - wanted)[loud].mean().abs() / power < 0.12


def test_bands_of_the_training_get_the_trained_network():
    config = mel_preset("speechbrain-22050")
    mel = mels_of(synthetic_speech(0.3, 22050).float(), config)
    own = PhaseInversionVocoder.from_hparams("mel80-22050")
    assert torch.equal(vocoder_of("speechbrain-22050")(mel), own(mel))
    decimal = replace(config, logarithm="log10", floor=1e-10)
    found = vocoder_of(decimal)(mel / torch.tensor(10.0).log())
    # Another logarithm rounds otherwise, and phases follow roundings.
    assert (found - own(mel)).norm() < 0.1 * own(mel).norm()


def test_a_window_shorter_than_the_transform_gets_packaged_weights():
    padded = mel_preset("espnet-24000")
    assert padded.stft.n_fft > padded.stft.win_length
    vocoder = vocoder_of(padded)
    assert "network" in vocoder.mods.inverter.method
    served = mel_front_end(padded).config
    magnitude = torch.ones(1, 1, 601), torch.ones(1, 1, 1025)
    ours, theirs = log_mel(magnitude[0], served), log_mel(magnitude[1], padded)
    assert (ours - theirs).abs().max() < 0.03  # decades


def test_sums_without_logarithm_keep_their_level_on_a_shorter_transform():
    options = {"power": 2.0, "logarithm": None}
    config = MelConfig(StftConfig(24000, 2048, 1200, 300), **options)
    served = mel_front_end(config).config
    assert served.stft.n_fft == 1200
    ours = log_mel(torch.ones(1, 1, 601), served)
    theirs = log_mel(torch.ones(1, 1, 1025), config)
    assert (ours / theirs - 1).abs().max() < 0.1


def test_the_readme_names_every_convention():
    root = Path(__file__).parents[1]
    readme = (root / "recipes/LJSpeech/vocoder/README.md").read_text("utf-8")
    assert all(f"`{x}`" in readme for x in available_mels())


def test_a_description_serves_as_a_name_does():
    config = mel_preset("vocos-24000")
    mel = mels_of(synthetic_speech(0.3, 24000).float(), config)
    assert torch.equal(vocoder_of(config)(mel), vocoder_of("vocos-24000")(mel))


def test_parameters_are_frozen_unless_they_are_to_be_tuned():
    for freeze in (True, False):
        vocoder = vocoder_of("hifigan-22050", freeze_params=freeze)
        assert all(p.requires_grad != freeze for p in vocoder.parameters())


@pytest.mark.parametrize(
    "source, mel, error, message",
    [
        ("mel", "vocos", ValueError, "vocos-24000"),
        ("mel", None, ValueError, "source='mel' needs mel="),
        ("mel", 80, TypeError, "expected a MelConfig, got 80"),
        ("mel80-22050", "vocos-24000", ValueError, "needs source='mel'"),
    ],
)
def test_what_names_no_mel_spectrogram_is_refused(source, mel, error, message):
    with pytest.raises(error, match=message):
        PhaseInversionVocoder.from_hparams(source, mel=mel)


# What a system gives, and what a user takes it for.
WRONG = [
    ("espnet-22050", "hifigan-22050"),
    ("hifigan-22050", "espnet-22050"),
    ("coqui-22050", "speechbrain-22050"),
    ("speechbrain-22050", "coqui-22050"),
    ("speecht5-16000", "speechbrain-16000"),
    ("whisper-80", "speechbrain-16000"),
    ("speechbrain-16000", "whisper-80"),
    ("vocos-24000", "bigvgan-24000"),
    ("bigvgan-24000", "vocos-24000"),
    ("librosa-22050", "bigvgan-44100"),
    ("bigvgan-44100", "librosa-22050"),
    ("whisper-128", "bigvgan-44100"),
    ("vocos-24000", "cosyvoice2-24000"),
]
# Their numbers are alike: only a rate or a hop that is passed tells.
ALIKE = [
    ("speechbrain-22050", "speechbrain-16000"),
    ("speechbrain-16000", "hifigan-22050"),
    ("hifigan-22050", "cosyvoice2-24000"),
    ("nemo-22050", "nemo-44100"),
    ("espnet-22050", "espnet-24000"),
    ("espnet-24000", "speecht5-16000"),
    ("bigvgan-44100-512", "bigvgan-44100"),
]


@pytest.mark.parametrize("true, taken", WRONG + ALIKE)
def test_no_wrong_pairing_gives_sound_without_a_word(true, taken):
    config = mel_preset(true)
    stft = config.stft
    mel = mels_of(synthetic_speech(0.7, stft.sample_rate).float(), config)
    told = {}
    if (true, taken) in ALIKE:
        told = {"sample_rate": stft.sample_rate, "hop_len": stft.hop_length}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, UserWarning)):
            vocoder_of(taken)(mel, **told)


@pytest.mark.parametrize("name", ["whisper-80", "whisper-128"])
def test_whisper_leaves_the_last_frame_out_and_nothing_else_moves(name):
    config = mel_preset(name)
    mel = mels_of(synthetic_speech(0.5, 16000).float(), config)
    whole, found = (vocoder_of(name)(x) for x in (mel, mel[..., :-1]))
    assert found.shape[2] == whole.shape[2] - 160
    same = found.shape[2] - 3 * 160  # what the last window reaches, and a hop
    torch.testing.assert_close(found[..., :same], whole[..., :same])


def test_bands_of_another_convention_name_it():
    with pytest.raises(ValueError, match="bigvgan-24000, vocos-24000"):
        vocoder_of("coqui-22050")(torch.zeros(1, 100, 9))
    with pytest.raises(ValueError, match="sample_rate is 24000, got"):
        vocoder_of("vocos-24000")(torch.zeros(1, 100, 9), sample_rate=22050)

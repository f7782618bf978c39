"""The mel conventions by name, beside the libraries that they come from."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.mel import (
    MelInversion,
    available_mels,
    log_mel,
    mel_filterbank,
    mel_preset,
    natural_log,
)
from speechbrain_phaseinv.mel.recognise import check_mel, value_range

librosa = pytest.importorskip("librosa")
torchaudio = pytest.importorskip("torchaudio")
presets = pytest.mark.parametrize("name", available_mels())


def frames(name):
    """Magnitudes of a preset's frames, [1, time, freq], by torch.stft."""
    config = mel_preset(name)
    stft = config.stft
    waveform = synthetic_speech(0.5, stft.sample_rate)
    centred = stft.padding == "center"
    if not centred:
        around = (stft.pad_length, stft.pad_length)
        waveform = torch.nn.functional.pad(waveform, around, mode="reflect")
    magnitude = torch.stft(
        waveform,
        stft.n_fft,
        stft.hop_length,
        stft.win_length,
        torch.hann_window(stft.win_length, dtype=torch.float64),
        center=centred,
        return_complex=True,
    ).abs()
    return magnitude.transpose(1, 2), waveform[0].numpy()


# What each system computes, from power 1 or 2 spectrograms of librosa's.
def natural(power, floor):
    return lambda mel: np.log(np.maximum(mel, floor)), power


def common(power, floor):
    return lambda mel: np.log10(np.maximum(mel, floor)), power


def coqui(mel):
    decibels = 20 * np.log10(np.maximum(1e-8, mel)) - 20
    return np.clip(8 * ((decibels + 100) / 100) - 4, -4, 4)


def whisper(mel):
    logs = np.log10(np.maximum(mel, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


FORMULAS = {
    "speechbrain-22050": natural(1, 1e-5),
    "speechbrain-16000": natural(1, 1e-5),
    "hifigan-22050": natural(1, 1e-5),
    "bigvgan-24000": natural(1, 1e-5),
    "bigvgan-44100": natural(1, 1e-5),
    "bigvgan-44100-512": natural(1, 1e-5),
    "cosyvoice2-24000": natural(1, 1e-5),
    "vocos-24000": natural(1, 1e-7),
    "espnet-22050": common(1, 1e-10),
    "espnet-24000": common(1, 1e-10),
    "speecht5-16000": common(1, 1e-10),
    "nemo-22050": (lambda mel: np.log(mel + 1e-5), 1),
    "nemo-44100": (lambda mel: np.log(mel + 1e-5), 1),
    "coqui-22050": (coqui, 1),
    "whisper-80": (whisper, 2),
    "whisper-128": (whisper, 2),
    "librosa-22050": (lambda mel: mel, 2),
    "torchaudio-16000": (lambda mel: mel, 2),
}


@presets
def test_the_filterbank_is_torchaudios_and_librosas(name):
    config = mel_preset(name)
    stft, htk = config.stft, config.scale == "htk"
    ours = mel_filterbank(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # empty bands
        theirs = torchaudio.functional.melscale_fbanks(
            stft.num_bins,
            config.f_min,
            config.f_max,
            config.n_mels,
            stft.sample_rate,
            config.norm,
            config.scale,
        )
        other = librosa.filters.mel(
            sr=stft.sample_rate,
            n_fft=stft.n_fft,
            n_mels=config.n_mels,
            fmin=config.f_min,
            fmax=config.f_max,
            htk=htk,
            norm=config.norm,
        )
    # Single precision of torchaudio's frequencies.
    close = dict(rtol=0, atol=1e-4 * ours.max().item())
    torch.testing.assert_close(ours, theirs, **close)
    torch.testing.assert_close(ours, torch.from_numpy(other.T), **close)


@presets
def test_the_values_are_those_of_the_systems_formula(name):
    config = mel_preset(name)
    stft = config.stft
    magnitude, waveform = frames(name)
    formula, power = FORMULAS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=stft.sample_rate,
            n_fft=stft.n_fft,
            win_length=stft.win_length,
            hop_length=stft.hop_length,
            center=stft.padding == "center",
            pad_mode="reflect",
            power=power,
            n_mels=config.n_mels,
            fmin=config.f_min,
            fmax=config.f_max,
            htk=config.scale == "htk",
            norm=config.norm,
        )
    theirs = torch.from_numpy(formula(mel)).T
    ours = log_mel(magnitude, config)[0]
    scale = 1 if config.logarithm else theirs.max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


@presets
def test_the_inverse_gives_the_bands_above_the_floor(name):
    config = mel_preset(name)
    magnitude, _ = frames(name)
    values = log_mel(magnitude, config)
    bands = magnitude**config.power @ mel_filterbank(config).double()
    there = natural_log(values, config).exp()
    heard = bands > 1e-3 * bands.max()
    # A floor that is added shows near it; the rest is rounding.
    torch.testing.assert_close(there[heard], bands[heard], rtol=1e-4, atol=1e-6)
    assert (there >= 0).all() and there.isfinite().all()


@presets
def test_any_convention_is_inverted(name):
    config = mel_preset(name)
    magnitude, _ = frames(name)
    values = log_mel(magnitude, config)
    found, _ = MelInversion(config)(values.float())
    again = log_mel(found, config)
    bands = natural_log(values, config)
    heard = bands > bands.max() - 5  # nepers: 43 dB
    error = natural_log(again, config)[heard] - bands[heard].float()
    assert found.isfinite().all() and error.abs().mean() < 0.15


def test_normalised_bands_go_there_and_back():
    config = mel_preset("espnet-22050")
    magnitude, _ = frames("espnet-22050")
    values = log_mel(magnitude, config)
    mean, deviation = values.mean((0, 1)), values.std((0, 1))
    normalised = replace(config, mean=mean, deviation=deviation)
    found = log_mel(magnitude, normalised)
    torch.testing.assert_close(found, (values - mean) / deviation)
    torch.testing.assert_close(
        natural_log(found, normalised), natural_log(values, config)
    )


def test_values_below_silence_count_as_silence():
    config = mel_preset("speechbrain-22050")
    values = torch.tensor([-26.0, -math.inf]).reshape(1, 2, 1).expand(1, 2, 80)
    silence = torch.full_like(values, math.log(1e-5))
    assert torch.equal(natural_log(values, config), silence)


@presets
def test_the_right_convention_is_taken_without_a_word(name, recwarn):
    config = mel_preset(name)
    values = log_mel(frames(name)[0], config)
    check_mel(values, config)
    silence, limit = value_range(config)
    assert silence <= values.min() + 1e-4 and values.max() < limit
    assert not recwarn.list


WRONG = [
    ("espnet-22050", "speechbrain-22050"),
    ("coqui-22050", "speechbrain-22050"),
    ("whisper-80", "speechbrain-16000"),
    ("speecht5-16000", "speechbrain-16000"),
    ("espnet-24000", "cosyvoice2-24000"),
    ("speechbrain-22050", "espnet-22050"),
    ("speechbrain-22050", "coqui-22050"),
    ("speechbrain-16000", "whisper-80"),
    ("hifigan-22050", "coqui-22050"),
    ("bigvgan-24000", "vocos-24000"),
    ("vocos-24000", "bigvgan-24000"),
    ("librosa-22050", "bigvgan-44100"),
    ("bigvgan-44100", "librosa-22050"),
    ("whisper-128", "bigvgan-44100"),
]


@pytest.mark.parametrize("true, taken", WRONG)
def test_a_wrong_convention_is_noticed(true, taken):
    values = log_mel(frames(true)[0], mel_preset(true))
    with pytest.warns() as caught:
        try:
            check_mel(values, mel_preset(taken))
        except ValueError as error:
            warnings.warn(str(error), stacklevel=1)
    message = str(caught[0].message)
    named = mel_preset(true).logarithm is not None
    assert (true in message) or not named, message


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ValueError, match="unknown mel convention.*whisper-80"):
        mel_preset("whisper")

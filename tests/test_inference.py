"""The vocoder in SpeechBrain's dialect, offline, and what it refuses."""

import math
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import synthetic_speech
from speechbrain.lobes.models.FastSpeech2 import FastSpeech2

pytest.importorskip("speechbrain.inference.interfaces")

from speechbrain_phaseinv.config import StftConfig
from speechbrain_phaseinv.inference import (
    PhaseInversionVocoder,
    Resynthesizer,
    available_vocoders,
)
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.mel import MelConfig, log_mel
from speechbrain_phaseinv.pretrained import FOLDER
from speechbrain_phaseinv.stft import analysis
from speechbrain_phaseinv.streaming import InversionStream

README = Path(__file__).parent.parent / "README.md"
STFT = StftConfig(22050, n_fft=1024, hop_length=256)
HOP = STFT.hop_length
from_hparams = PhaseInversionVocoder.from_hparams
names = pytest.mark.parametrize("name", available_vocoders())


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to reach out is an error."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def mel():
    return from_hparams("mel80-22050")


@pytest.fixture(scope="module")
def linear():
    return from_hparams("linear-22050")


def magnitudes(seconds=0.4, seed=0):
    """[1, freq, time] of something like speech."""
    waveform = synthetic_speech(seconds, 22050, seed).float()
    return analysis(waveform, STFT).abs().transpose(1, 2)


def mels(seconds=0.4, seed=0):
    """[1, mels, time] of the same."""
    magnitude = magnitudes(seconds, seed).transpose(1, 2)
    return log_mel(magnitude, MelConfig(STFT)).transpose(1, 2)


@names
def test_a_folder_that_was_copied_gives_the_same(name, tmp_path):
    shutil.copytree(FOLDER / name, tmp_path / "copy")
    packaged, copied = from_hparams(name), from_hparams(tmp_path / "copy")
    spectrogram = mels() if name.startswith("mel") else magnitudes()
    assert torch.equal(
        packaged.decode_batch(spectrogram), copied.decode_batch(spectrogram)
    )


@names
def test_parameters_are_frozen_unless_they_are_to_be_tuned(name):
    vocoder = from_hparams(name)
    assert not any(p.requires_grad for p in vocoder.parameters())
    assert not any(module.training for module in vocoder.mods.values())
    tuned = from_hparams(name, freeze_params=False)
    assert all(p.requires_grad for p in tuned.parameters())


@names
def test_each_has_a_model_card(name):
    card = (FOLDER / name / "README.md").read_text()
    for word in ("LJSpeech", "public domain", "PESQ", "evaluate.py"):
        assert word in card


def test_a_savedir_in_use_is_not_read(tmp_path, mel):
    hifigan(tmp_path / "saved")
    before = sorted(tmp_path.rglob("*"))
    saved = from_hparams("mel80-22050", savedir=tmp_path / "saved")
    assert torch.equal(saved(mels()), mel(mels()))
    other = from_hparams("linear-22050", savedir=tmp_path / "saved")
    assert other.hparams.input == "magnitude"
    assert sorted(tmp_path.rglob("*")) == before


def test_data_parallel_modules_are_used(mel):
    options = {"data_parallel_backend": True, "device": "cpu"}
    for freeze in (True, False):
        wrapped = from_hparams(
            "mel80-22050", run_opts=options, freeze_params=freeze
        )
        assert torch.equal(wrapped(mels()), mel(mels()))


@pytest.mark.parametrize("more", [{}, {"compile_module_keys": ["inverter"]}])
def test_the_run_option_compile_changes_nothing(more, mel):
    options = {"compile": True, "device": "cpu", **more}
    compiled = from_hparams("mel80-22050", run_opts=options)
    assert torch.equal(compiled(mels()), mel(mels()))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"jit": True}, "leave out the run options jit"),
        ({"compile": True, "compile_module_keys": ["vocoder"]}, "inverter"),
    ],
)
def test_run_options_that_cannot_be_met_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        from_hparams("mel80-22050", run_opts=options)


def test_a_vocoder_without_parameters_works(tmp_path):
    shutil.copytree(FOLDER / "linear-22050", tmp_path / "copy")
    path = tmp_path / "copy" / "hyperparams.yaml"
    text = path.read_text()
    assert "estimator: network" in text
    path.write_text(text.replace("estimator: network", "estimator: gradient"))
    vocoder = from_hparams(tmp_path / "copy")
    assert not list(vocoder.parameters())
    magnitude = magnitudes()
    inverter = SpectrogramInverter(STFT, estimator="gradient")
    expected = inverter(magnitude.transpose(1, 2)).unsqueeze(1)
    assert torch.equal(vocoder(magnitude), expected)


def test_damaged_front_end_weights_name_their_file(tmp_path):
    shutil.copytree(FOLDER / "mel80-22050", tmp_path / "copy")
    path = tmp_path / "copy" / "front_end.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="front_end.ckpt.*no archive"):
        from_hparams(tmp_path / "copy")
    with np.load(FOLDER / "mel80-22050" / "front_end.ckpt") as arrays:
        state = dict(arrays)
    state["band"] = state["band"] * np.nan
    with path.open("wb") as file:
        np.savez(file, **state)
    with pytest.raises(ValueError, match="front_end.ckpt.*band holds NaN"):
        from_hparams(tmp_path / "copy")


@pytest.mark.parametrize(
    "source", ["no/such-folder", "speechbrain/tts-hifigan-ljspeech", "mel80"]
)
def test_a_folder_that_is_not_there_is_no_download(source):
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        from_hparams(source)


def test_a_folder_without_hyperparameters_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such hyperparams.yaml"):
        from_hparams(tmp_path)


@pytest.mark.parametrize("frames", [0, 1, 2, 50])
def test_frames_give_a_hop_each_but_one(frames, mel, linear):
    batch = torch.full((2, 80, frames), -5.0)
    samples = HOP * max(frames - 1, 0)
    assert mel.decode_batch(batch).shape == (2, 1, samples)
    assert mel.decode_spectrogram(batch[0]).shape == (1, samples)
    assert mel(batch[:0]).shape == (0, 1, samples)
    assert linear(torch.ones(2, 513, frames)).shape == (2, 1, samples)


def test_what_comes_out_has_the_mels_that_went_in(mel):
    given = mels(1.0)
    waveform = mel.decode_batch(given)[:, 0]
    found = log_mel(analysis(waveform, STFT).abs(), MelConfig(STFT))
    error = (found.transpose(1, 2) - given).abs()[..., 2:-2]
    loud = given[..., 2:-2] > given.max() - 5  # nepers: 43 dB
    assert error[loud].mean() < 0.25


def test_a_stream_of_mels_gives_the_samples_of_the_whole(mel):
    given = mels()
    stream, state = InversionStream(mel.mods.inverter), None
    samples = []
    for frames in given.transpose(1, 2).split(3, dim=1):
        magnitude, state = mel.mods.front_end(frames, state)
        samples.append(stream.push(magnitude))
    samples.append(stream.flush())
    online = torch.cat(samples, dim=1)
    whole = mel(given)[:, 0]
    assert torch.equal(online[:, : whole.shape[1]], whole)


def test_what_fastspeech2_puts_out_becomes_sound(mel):
    # Small and untrained; a real one is loaded by SpeechBrain.
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "num_head": 2, "d_model": 32, "ffn_dim": 64}
    sizes |= {"k_dim": 32, "v_dim": 32, "dropout": 0.0}
    parts = ("enc", "dec")
    tts = FastSpeech2(
        **{f"{part}_{k}": v for part in parts for k, v in sizes.items()},
        normalize_before=False,
        ffn_type="1dcnn",
        ffn_cnn_kernel_size_list=[9, 1],
        n_char=40,
        n_mels=80,
        postnet_embedding_dim=32,
        postnet_kernel_size=5,
        postnet_n_convolutions=2,
        postnet_dropout=0.0,
        padding_idx=0,
        dur_pred_kernel_size=3,
        pitch_pred_kernel_size=3,
        energy_pred_kernel_size=3,
        variance_predictor_dropout=0.0,
    ).eval()
    tokens = torch.tensor([[13, 12, 31, 14, 19], [31, 16, 30, 31, 0]])
    durations = torch.tensor([[5, 9, 4, 7, 8], [6, 5, 9, 4, 0]])
    with torch.no_grad():
        _, mels, *_, mel_lens = tts(tokens, durations=durations)
    waveforms = mel.decode_batch(mels.transpose(1, 2), mel_lens)
    assert waveforms.shape == (2, 1, HOP * 32)
    assert waveforms[0].any()
    assert not waveforms[1, :, HOP * 23 :].any()  # 24 frames


def test_linear_magnitudes_go_to_the_inverter_as_they_are(linear):
    magnitude = magnitudes()
    expected = SpectrogramInverter(STFT)(magnitude.transpose(1, 2))
    assert torch.equal(linear(magnitude), expected.unsqueeze(1))
    logs = from_hparams("linear-22050", overrides={"input": "log_magnitude"})
    torch.testing.assert_close(
        logs(magnitude.log()), linear(magnitude), rtol=0, atol=1e-3
    )


def test_options_are_overrides(linear):
    instant = from_hparams("linear-22050", overrides={"lookahead": 0})
    assert instant.mods.inverter.lookahead == 0
    assert linear.mods.inverter.lookahead == 1


@pytest.mark.parametrize(
    "count",
    [
        torch.tensor,
        list,
        tuple,
        np.array,
        lambda n: torch.tensor(n).float(),
        lambda n: torch.tensor(n) / max(n),  # SpeechBrain's relative lengths
        lambda n: torch.tensor(n, dtype=torch.int8),
        lambda n: np.array(n, dtype=np.uint16),
    ],
)
def test_a_padded_batch_gives_each_the_samples_that_it_gives_alone(count, mel):
    lengths = [35, 1, 17]
    alone = [mels(seed=i)[0, :, :n] for i, n in enumerate(lengths)]
    batch = torch.full((3, 80, 35), torch.nan)  # padding does not matter
    for row, one in zip(batch, alone):
        row[:, : one.shape[1]] = one
    waveforms = mel.decode_batch(batch, count(lengths), HOP)
    assert waveforms.shape == (3, 1, 34 * HOP)
    for waveform, one in zip(waveforms, alone):
        samples = HOP * (one.shape[1] - 1)
        assert torch.equal(waveform[:, :samples], mel.decode_spectrogram(one))
        assert (waveform[:, samples:] == 0).all()


def test_the_same_holds_for_linear_magnitudes(linear):
    batch = torch.cat([magnitudes(), magnitudes(seed=1)])
    waveforms = linear.decode_batch(batch, [35, 20])
    alone = linear.decode_spectrogram(batch[1, :, :20])
    assert torch.equal(waveforms[1, :, : 19 * HOP], alone)


def test_silence_stays_silent(mel, linear):
    floor = torch.full((1, 80, 20), 1e-5).log()
    assert mel(floor).abs().max() < 1e-3
    nothing = torch.zeros(1, 80, 20).log()  # minus infinity
    assert torch.equal(mel(nothing), mel(floor))
    assert (linear(torch.zeros(1, 513, 20)) == 0).all()


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.rand(1, 513, 9), "linear-22050"),
        (torch.rand(1, 64, 9), "that of the training"),
        (torch.rand(1, 9, 80) - 5, "look swapped"),
        (torch.rand(80, 9) - 5, "decode_spectrogram"),
        (torch.rand(1, 80, 9), "Without a logarithm"),
        (1000 * torch.rand(1, 80, 9), "no logarithms at all"),
        (5.5 - torch.rand(1, 80, 9), "powers"),
        (-100 * torch.rand(1, 80, 9), "decibels"),
        (torch.full((1, 80, 9), torch.nan), "NaN"),
        (torch.full((1, 80, 9), torch.inf), "infinite"),
    ],
)
def test_what_is_no_log_mel_is_refused(bad, message, mel):
    with pytest.raises(ValueError, match=message):
        mel.decode_batch(bad)


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.rand(1, 80, 9), "mel80-22050"),
        (torch.rand(1, 257, 9), "mel80-22050"),
        (torch.rand(1, 9, 513), "look swapped"),
        (torch.rand(1, 513, 9) - 5, "log_magnitude"),
        (torch.full((1, 513, 9), torch.nan), "NaN"),
    ],
)
def test_what_are_no_magnitudes_is_refused(bad, message, linear):
    with pytest.raises(ValueError, match=message):
        linear.decode_batch(bad)


def test_what_is_no_real_tensor_is_refused(mel, linear):
    with pytest.raises(TypeError, match="torch.Tensor"):
        mel.decode_batch([[1.0]])
    with pytest.raises(TypeError, match="complex"):
        linear.decode_batch(torch.zeros(1, 513, 9, dtype=torch.complex64))
    with pytest.raises(ValueError, match="decode_batch"):
        mel.decode_spectrogram(mels())


@pytest.mark.parametrize(
    "lengths, message",
    [
        ([36], "must lie in"),
        ([-1], "must lie in"),
        ([1, 2], "1 integer lengths"),
        ([0.5, 1.0], "1 integer lengths"),
        ([True], "1 integer lengths"),
        ([2.5], "shares"),
        ([1e30], "must lie in"),
        (torch.tensor([torch.nan]), "shares"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths, message, mel):
    with pytest.raises(ValueError, match=message):
        mel.decode_batch(mels()[..., :35], lengths)


def test_another_hop_or_rate_is_refused(mel):
    with pytest.raises(ValueError, match="hop_len=200"):
        mel.decode_batch(mels(), hop_len=200)
    with pytest.raises(ValueError, match="sample_rate=16000"):
        mel.decode_batch(mels(), sample_rate=16000)
    assert mel.decode_batch(mels(), None, 256, 22050).shape[0] == 1


def test_single_values_below_silence_count_as_silence(mel):
    values = mels()
    values[:, 79, 3:5] = math.log(1e-5)
    deeper = values.clone()
    deeper[:, 79, 3:5] = torch.tensor([-26.0, -torch.inf])
    assert torch.equal(mel(deeper), mel(values))


def test_frames_that_are_not_centred_keep_their_place():
    vocoder = from_hparams("mel80-22050", overrides={"padding": "same"})
    config = MelConfig(STFT)

    def hifigan_mels(waveform):
        around = ((1024 - HOP) // 2,) * 2
        padded = torch.nn.functional.pad(waveform, around, mode="reflect")
        stft = torch.stft(
            padded,
            1024,
            HOP,
            window=torch.hann_window(1024),
            center=False,
            return_complex=True,
        )
        return log_mel(stft.abs().transpose(1, 2), config).transpose(1, 2)

    waveform = synthetic_speech(1.0, 22050).float()[:, : 80 * HOP]
    wanted = hifigan_mels(waveform)
    made = vocoder(wanted)
    assert wanted.shape[2] == 80 and made.shape == (1, 1, 80 * HOP)
    error = (hifigan_mels(made[0]) - wanted).abs()[..., 2:-2]
    assert error[wanted[..., 2:-2] > wanted.max() - 5].mean() < 0.25
    both = vocoder(wanted.repeat(2, 1, 1), [80, 30])
    alone = vocoder(wanted[..., :30])
    assert torch.equal(both[0], made[0])
    assert torch.equal(both[1, :, : 30 * HOP], alone[0])
    assert not both[1, :, 30 * HOP :].any()
    assert vocoder(wanted, [0]).shape == made.shape


@pytest.mark.parametrize("change", [{"n_mels": 64}, {"f_max": 11025.0}])
def test_other_bands_do_not_fit_the_weights(change):
    with pytest.raises(ValueError, match="another mel spectrogram"):
        from_hparams("mel80-22050", overrides={"mel": change})


def test_an_unknown_input_is_refused():
    with pytest.raises(ValueError, match="input must be one of"):
        from_hparams("linear-22050", overrides={"input": "decibels"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_works_on_another_device(mel):
    moved = from_hparams("mel80-22050", run_opts={"device": "cuda"})
    found = moved(mels())
    assert found.device.type == "cuda"
    assert found.cpu().shape == mel(mels()).shape


def test_the_resynthesizer_is_at_hand():
    from speechbrain_phaseinv import resynthesizer

    assert Resynthesizer is resynthesizer.Resynthesizer


def hifigan(folder):
    """A folder as that of SpeechBrain's HiFi-GAN, small and untrained."""
    from speechbrain.lobes.models.HifiGAN import HifiganGenerator

    sizes = {
        "in_channels": 80,
        "out_channels": 1,
        "resblock_type": "2",
        "resblock_dilation_sizes": [[1, 3]],
        "resblock_kernel_sizes": [3],
        "upsample_kernel_sizes": [16, 16, 4, 4],
        "upsample_initial_channel": 16,
        "upsample_factors": [8, 8, 2, 2],
    }
    folder.mkdir(parents=True)
    generator = HifiganGenerator(**sizes)
    torch.save(generator.state_dict(), folder / "generator.ckpt")
    lines = [f"    {name}: {value!r}" for name, value in sizes.items()]
    (folder / "hyperparams.yaml").write_text(
        "\n".join(
            [
                "generator: !new:speechbrain.lobes.models.HifiGAN."
                "HifiganGenerator",
                *lines,
                "modules: {generator: !ref <generator>}",
                "pretrainer: !new:speechbrain.utils.parameter_transfer."
                "Pretrainer",
                "    loadables: {generator: !ref <generator>}",
            ]
        )
    )


def swaps():
    """The diffs of both READMEs that are about vocoders."""
    recipe = README.parent / "recipes" / "LJSpeech" / "vocoder" / "README.md"
    text = README.read_text("utf-8") + recipe.read_text("utf-8")
    diffs = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    return [diff for diff in diffs if "PhaseInversionVocoder" in diff]


def side(diff, sign):
    """The code before (-) or after (+)."""
    lines = [
        x[1:].removeprefix(" ")
        for x in diff.splitlines()
        if x[:1] in " " + sign
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("sign", "-+")
def test_the_readmes_swaps_run(number, sign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hifigan(tmp_path / "speechbrain" / "tts-hifigan-ljspeech")
    given = mels()
    names = {"torch": torch, "mel_output": given}
    exec(side(swaps()[number], sign), names)
    waveforms = names["waveforms"]
    assert waveforms.dim() == 3 - number * (sign == "-")
    assert torch.isfinite(waveforms).all()
    if sign == "+":
        assert waveforms.shape == (1, 1, HOP * (given.shape[2] - 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype, mel):
    frames = mels()
    with torch.autocast("cpu", dtype):
        found = mel(frames)
    assert torch.equal(found, mel(frames))


def test_the_default_precision_may_be_double(mel):
    frames = mels()
    torch.set_default_dtype(torch.float64)
    try:
        found = from_hparams("mel80-22050")(frames)
    finally:
        torch.set_default_dtype(torch.float32)
    # The phase network's weights are doubles then: other roundings.
    one, other = (analysis(x[0], STFT).abs() for x in (found, mel(frames)))
    assert (one - other).norm() < 0.1 * other.norm()

"""The vocoder's recipe: it trains, its second step loads, it compares."""

import json
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from recipe_tools import HPARAMS, manifest, run, train
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from speechbrain_phaseinv import PhaseInversionVocoder
from speechbrain_phaseinv.mel import GeneralMelNet, mel_preset
from speechbrain_phaseinv.mel.front_end import resembles_training
from speechbrain_phaseinv.pretrained import FOLDER, load_weights

load_hparams = import_module("common.hparams").load_hparams
COUNTS = {"train": 2, "valid": 1, "test": 1}
FRONT_END = str(FOLDER / "mel80-22050" / "front_end.ckpt")


def load(name, **overrides):
    return load_hparams(HPARAMS / name, overrides)[0]


def test_a_run_ends_with_a_vocoder_and_the_second_step_takes_its_weights(
    tmp_path,
):
    data = manifest(tmp_path, COUNTS)
    output = tmp_path / "mel"
    logs = output / "tensorboard"
    train(
        "LJSpeech.vocoder.train_mel",
        "vocoder_mel.yaml",
        data,
        output,
        "--batch_size=2",
        "--excerpt_frames=16",
        "--number_of_epochs=2",
        f"--tensorboard_folder={logs}",
    )
    log = (output / "train_log.txt").read_text().splitlines()
    assert len(log) == 3  # two epochs and the test
    for line in log:
        assert all(
            f" {x}: " in line
            for x in (
                "loss",
                "sc",
                "estoi",
                *["pesq"][: bool(find_spec("pesq"))],
            )
        )
        assert "nan" not in line
    assert (output / "samples" / "test" / "0_inverted.wav").is_file()
    events = EventAccumulator(str(logs)).Reload().Tags()
    assert {"sc/valid", "sc/test"} <= set(events["scalars"])

    vocoder = PhaseInversionVocoder.from_hparams(output / "vocoder")
    waveform = vocoder.decode_batch(-2 * torch.rand(1, 80, 11))
    assert waveform.shape == (1, 1, 2560) and waveform.isfinite().all()
    trained = load_hparams(output / "hyperparams.yaml")[0]["network"]
    load_weights(trained, output / "front_end.ckpt")
    mels = -2 * torch.rand(1, 7, 80)
    with torch.no_grad():
        assert torch.equal(vocoder.mods.front_end(mels)[0], trained(mels)[0])

    second = load(
        "vocoder.yaml",
        data_folder=str(data),
        output_folder=str(tmp_path / "phase"),
        front_end_weights=str(output / "front_end.ckpt"),
    )
    magnitude = torch.rand(1, 5, 513)
    estimate = second["front_end"](magnitude)
    assert estimate.shape == magnitude.shape
    assert not torch.equal(estimate, magnitude)


def test_other_bands_and_transforms_reach_the_vocoder(tmp_path):
    data = manifest(tmp_path, COUNTS)
    train(
        "LJSpeech.vocoder.train_mel",
        "vocoder_mel.yaml",
        data,
        tmp_path / "mel",
        "--number_of_epochs=1",
        "--sample_rate=16000",
        "--n_fft=512",
        "--hop_length=160",
        "--n_mels=40",
        "--mel={floor: 1e-3}",
        "--stft={window: hamming}",
        "--channels=8",
        "--excerpt_frames=16",
        "--skip_test=True",
        "--perceptual_utterances=0",
    )
    vocoder = PhaseInversionVocoder.from_hparams(tmp_path / "mel" / "vocoder")
    waveform = vocoder.decode_batch(-2 * torch.rand(1, 40, 11))
    assert waveform.shape == (1, 1, 1600)
    assert vocoder.hparams.stft.sample_rate == 16000
    assert vocoder.hparams.stft.window == "hamming"
    assert vocoder.hparams.mel.floor == 1e-3


def test_a_run_on_random_conventions_ends_with_weights_for_all(tmp_path):
    data, output = manifest(tmp_path, COUNTS), tmp_path / "general"
    train(
        "LJSpeech.vocoder.train_general_mel",
        "vocoder_general.yaml",
        data,
        output,
        "--number_of_epochs=1",
        "--updates_per_epoch=2",
        "--batch_size=2",
        "--excerpt_seconds=0.4",
        "--presets=[vocos-24000]",
        "--perceptual_utterances=0",
    )
    log = (output / "train_log.txt").read_text().splitlines()
    assert len(log) == 1 and "nan" not in log[0]
    network = GeneralMelNet(mel_preset("whisper-80"))
    load_weights(network, output / "front_end.ckpt")
    assert network.of_bin[-1].weight.any()  # zero before the training


def test_all_conventions_that_are_drawn_count_as_trained():
    conventions = import_module("LJSpeech.vocoder.conventions")
    drawn = [conventions.draw_convention() for _ in range(300)]
    assert all(resembles_training(config) for config in drawn)
    assert {x.stft.sample_rate for x in drawn} >= {16000, 22050, 24000, 44100}
    assert {x.power for x in drawn} == {1, 2}


def test_excerpts_are_at_the_conventions_rate_and_of_no_lower_one(tmp_path):
    conventions = import_module("LJSpeech.vocoder.conventions")
    data = manifest(tmp_path, {**COUNTS, "train": 4})
    prepare = import_module("common.prepare").prepare
    prepare(str(data), tmp_path / "tables")
    table = tmp_path / "tables" / "train.json"
    pools = conventions.recordings_by_rate(table, str(tmp_path))
    assert {rate: len(pool) for rate, pool in pools.items()} == {
        16000: 2,
        22050: 2,
    }
    dataset = conventions.ConventionDataset(table, str(tmp_path), 9, 2, 0.3)
    for config, excerpts in dataset:
        assert excerpts.shape == (2, round(0.3 * config.stft.sample_rate))
        assert excerpts.isfinite().all() and excerpts.abs().amax(1).all()
    for name, count in (("whisper-80", 4), ("vocos-24000", 2)):
        found = conventions.PresetDataset(table, str(tmp_path), [name], 9)
        assert len(found) == count
        assert all(config == mel_preset(name) for config, _ in found)


def test_the_second_step_differs_from_the_other_recipe_only_where_it_says():
    usual = load("train.yaml", data_folder="x")
    ours = load("vocoder.yaml", data_folder="x", front_end_weights=FRONT_END)
    assert usual.keys() <= ours.keys()
    plain = (int, float, bool, str, tuple)
    changed = {
        name
        for name, value in usual.items()
        if isinstance(value, plain) and ours[name] != value
    }
    assert changed == {
        "experiment",
        "output_folder",
        "save_folder",
        "train_log",
        "sample_rate",
        "n_fft",
        "win_length",
        "hop_length",
        "shortest_window",
        "derivative_steps",
        "lr",
        "lr_muon",
        "excerpt_samples",
        "provisional",
        "refinements",
    }


def test_the_comparison_has_a_row_for_each_method(tmp_path, capsys):
    pytest.importorskip("torchaudio")
    evaluate = import_module("LJSpeech.vocoder.evaluate")
    data = manifest(tmp_path, COUNTS)
    figures = tmp_path / "new" / "figures.json"
    run(
        "LJSpeech.vocoder.evaluate",
        f"--data_folder={data}",
        "--griffin_lim=2",
        f"--json={figures}",
    )
    rows = json.loads(figures.read_text())
    methods = [row["method"] for row in rows]
    assert len(set(methods)) == len(methods) == 7
    assert "mel80-22050" in methods and "Griffin-Lim 2" in methods
    assert all(row["real_time_factor"] > 0 for row in rows)
    assert "all, 1 recordings" in evaluate.tables(rows)
    assert "all, 1 recordings" in capsys.readouterr().out

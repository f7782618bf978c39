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

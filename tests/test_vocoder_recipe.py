"""The vocoder's recipe: it trains, its second step loads, it compares."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from test_recipe import manifest

from speechbrain_phaseinv.pretrained import FOLDER

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "LJSpeech" / "vocoder"
HPARAMS = ROOT / "hparams"


def load(name, **overrides):
    with open(HPARAMS / name, encoding="utf-8") as file:
        return load_hyperpyyaml(file, overrides)


def test_the_first_step_trains_and_the_second_takes_its_weights(tmp_path):
    data = manifest(tmp_path, {"train": 2, "valid": 1, "test": 1})
    command = [
        sys.executable,
        str(RECIPE / "train_mel.py"),
        str(HPARAMS / "vocoder_mel.yaml"),
        f"--data_folder={data}",
        f"--output_folder={tmp_path / 'mel'}",
        "--device=cpu",
        "--noprogressbar",
        "--batch_size=2",
        "--excerpt_frames=16",
        "--number_of_epochs=2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    log = (tmp_path / "mel" / "train_log.txt").read_text().splitlines()
    assert len(log) == 2
    assert all("valid loss" in line and "nan" not in line for line in log)
    second = load(
        "vocoder.yaml",
        data_folder=str(data),
        output_folder=str(tmp_path / "phase"),
        front_end_weights=str(tmp_path / "mel" / "front_end.ckpt"),
    )
    magnitude = torch.rand(1, 5, 513)
    estimate = second["front_end"](magnitude)
    assert estimate.shape == magnitude.shape
    assert not torch.equal(estimate, magnitude)


def test_the_second_step_differs_from_the_other_recipe_only_where_it_says(
    tmp_path,
):
    options = {"data_folder": "x", "output_folder": str(tmp_path)}
    usual = load("train.yaml", **options)
    ours = load(
        "vocoder.yaml",
        front_end_weights=str(FOLDER / "mel80-22050" / "front_end.ckpt"),
        **options,
    )
    assert usual.keys() <= ours.keys()
    plain = (int, float, bool, str, tuple)
    changed = {
        name
        for name, value in usual.items()
        if isinstance(value, plain) and ours[name] != value
    }
    assert changed == {
        "sample_rate",
        "n_fft",
        "hop_length",
        "derivative_steps",
        "excerpt_samples",
        "provisional",
        "refinements",
    }


def test_the_comparison_has_a_row_for_each_method(tmp_path, monkeypatch):
    pytest.importorskip("torchaudio")
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in ("evaluate", "train"):  # the other recipe's, perhaps
        monkeypatch.delitem(sys.modules, name, raising=False)
    import evaluate

    data = manifest(tmp_path, {"train": 1, "valid": 1, "test": 1})
    arguments = evaluate.parse([f"--data_folder={data}", "--griffin_lim=2"])
    rows = evaluate.evaluate(arguments)
    methods = [row["method"] for row in rows]
    assert len(set(methods)) == len(methods) == 7
    assert "mel80-22050" in methods and "Griffin-Lim 2" in methods
    assert all(row["real_time_factor"] > 0 for row in rows)
    assert "all, 1 recordings" in evaluate.tables(rows)

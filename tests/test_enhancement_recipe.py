"""The enhancement recipe: a mask is trained, loaded and evaluated."""

import csv
import json
import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import soundfile
import torch
from conftest import synthetic_speech
from recipe_tools import HPARAMS, run, train
from speechbrain import Stage
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from speechbrain_phaseinv import analysis

load_hparams = import_module("common.hparams").load_hparams
script = import_module("enhancement.train")
mixing = import_module("enhancement.mixing")
KINDS, Noise, coloured, mix = (
    mixing.KINDS,
    mixing.Noise,
    mixing.coloured,
    mixing.mix,
)


class Tones:
    """Recordings that can be told from each other: constants."""

    def __len__(self):
        return 3

    def waveform(self, index):
        return torch.full((100,), index + 1.0).numpy()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_a_mixture_has_the_ratio_that_was_asked_for(snr):
    clean = synthetic_speech()[0]
    noise = coloured(len(clean), generator()).double()
    added = mix(clean, noise, snr) - clean
    ratio = clean.square().sum() / added.square().sum()
    assert 10 * ratio.log10().item() == pytest.approx(snr, abs=1e-3)


def test_noise_follows_from_the_seed_and_all_kinds_come():
    noise = Noise(Tones(), Tones())
    for seed in range(5):
        one, other = (noise.draw(250, generator(seed)) for _ in range(2))
        assert torch.equal(one, other) and one.shape == (250,)
    kinds = set()
    for seed in range(20):
        drawn = noise.draw(250, generator(seed), own=0)
        level = drawn[0].item()
        varies = drawn.std() > 0
        # Babble is the sum of six voices of level 1, whoever they are.
        kinds.add("coloured" if varies else "babble" if level == 6 else "file")
    assert len(kinds) == len(KINDS)


def test_babble_leaves_the_speaker_out():
    class Two(Tones):
        def __len__(self):
            return 2

        def waveform(self, index):
            tone = torch.ones(100) if index else torch.eye(100)[0]
            return tone.numpy()

    noise = Noise(Two())
    noise.kinds = ("babble",)
    for seed in range(5):
        drawn = noise.draw(100, generator(seed), own=0)
        assert torch.equal(drawn, torch.full((100,), 6.0))


def write(folder, make, **counts):
    """A manifest of so many recordings per split, made from their number."""
    folder.mkdir()
    with open(folder / "list.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split"])
        for split, count in counts.items():
            for i in range(count):
                name = f"{split}{i}.wav"
                soundfile.write(str(folder / name), make(i).numpy(), 16000)
                writer.writerow([name, split])
    return folder / "list.csv"


@pytest.mark.parametrize("phase", ["noisy", "learnt"])
def test_the_mask_learns_from_the_waveform_behind_a_phase(phase, tmp_path):
    options = {"data_folder": "none", "output_folder": str(tmp_path)}
    weights = {"magnitude_weight": 0.0, "waveform_weight": 1.0}
    path = HPARAMS / "enhancement.yaml"
    with torch.random.fork_rng(devices=[]):
        hparams, _ = load_hparams(path, {**options, **weights, "phase": phase})
        script.prepare_modules(hparams)
    brain = script.MaskBrain(
        hparams["modules"], hparams["opt_class"], hparams, {"device": "cpu"}
    )
    brain.init_optimizers()
    clean = synthetic_speech(0.5).float()
    noise = 0.1 * coloured(clean.shape[1], generator())
    losses = [brain.fit_batch((clean + noise, clean)) for _ in range(6)]
    assert torch.stack(losses).diff().max() < 0
    assert not any(p.requires_grad for p in hparams["resynth"].parameters())
    predictions = brain.compute_forward((clean + noise, clean), None)
    loss = brain.compute_objectives(
        predictions, (clean + noise, clean), Stage.TRAIN
    )
    loss.backward()
    for p in hparams["modules"]["enhance_model"].parameters():
        assert p.grad.abs().max() > 0


CLEAN = "clean magnitude, "


def test_an_enhancer_is_trained_loaded_and_evaluated(tmp_path, capsys):
    counts = {"train": 2, "valid": 1, "test": 1}
    data = write(
        tmp_path / "speech",
        lambda i: synthetic_speech(1.5, seed=i)[0],
        **counts,
    )
    write(
        tmp_path / "noise",
        lambda i: coloured(16000, generator(i)).clamp(-1, 1),
        **counts,
    )
    output = tmp_path / "out"
    logs = output / "tensorboard"
    train(
        "enhancement.train",
        "enhancement.yaml",
        data,
        output,
        f"--noise_folder={tmp_path / 'noise'}",
        "--number_of_epochs=1",
        "--excerpt_seconds=1",
        "--samples=1",
        f"--tensorboard_folder={logs}",
    )
    valid, test = (output / "train_log.txt").read_text().splitlines()
    for score in ("loss", "sc", "estoi", *["pesq"][: bool(find_spec("pesq"))]):
        assert f"valid {score}: " in valid and f"test {score}: " in test
    assert (output / "samples" / "test" / "0.png").is_file()
    events = EventAccumulator(str(logs)).Reload().Tags()
    assert {"estoi/valid", "estoi/test"} <= set(events["scalars"])

    from speechbrain.inference.enhancement import SpectralMaskEnhancement

    enhancer = SpectralMaskEnhancement.from_hparams(
        source=str(output / "enhancer")
    )
    noisy = synthetic_speech().float()
    assert enhancer.enhance_batch(noisy).shape == noisy.shape
    enhanced = enhancer.enhance_file(str(tmp_path / "speech" / "test0.wav"))
    assert enhanced.shape == (24000,) and torch.isfinite(enhanced).all()

    run("enhancement.evaluate", output, "--snrs", 0, 20)
    text = capsys.readouterr().out
    rows = json.loads((output / "evaluation.json").read_text())
    assert len(rows) == 2 * (1 + 2 * 5)
    scores = {}
    for row in rows:
        assert row["method"] in text and 0 < row["estoi"] <= 1
        scores.setdefault(row["method"], []).append(row["estoi"])
    # Less noise is better; where the magnitudes are clean, the model's phase
    # and Griffin-Lim hear nothing of it.
    for name in ("noisy speech, as it is", f"{CLEAN}noisy phase (SpeechBrain)"):
        loud, soft = scores[name]
        assert soft > loud
    for name in (f"{CLEAN}ours", f"{CLEAN}Griffin-Lim 32"):
        loud, soft = scores[name]
        assert soft == pytest.approx(loud, abs=1e-12)

    run("enhancement.compare", output, output, "--against", output, output)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (x for x in lines if x.startswith("| enhanced, noisy phase"))
    assert line.count("+0.000 ± 0.000") >= 2 and "+0.000 +0.000" in line


enhancers = import_module("enhancement.enhancers")
maskers = import_module("enhancement.maskers")


def test_a_gain_goes_to_a_finer_grid_and_back():
    coarse, fine = enhancers.TRANSFORMS["gtcrn"], maskers.GRID
    gain = torch.rand(2, 9, 257, generator=generator())
    there = enhancers.carry(gain, coarse, fine, 17)
    assert torch.allclose(there[:, 1], (gain[:, 0] + gain[:, 1]) / 2)
    assert torch.equal(enhancers.carry(there, fine, coarse, 9), gain)


def test_a_third_of_all_excerpts_is_near_clean_or_clean():
    clean = synthetic_speech(1.0).float()
    mixture = {"clean": clean, "noisy": clean + 0.02 * torch.randn(1, 16000)}
    data = maskers.MaskedExcerpts(
        [{**mixture, "gains": {}}], 30, repeats=200, fixed=True
    )
    shares = torch.stack([data[i][3] for i in range(200)])
    assert 0.1 < (shares == 1).float().mean() < 0.3
    assert 0.4 < (shares == 0).float().mean() < 0.7
    batch = [x[None] for x in data[0]]
    for config in enhancers.TRANSFORMS.values():
        size = maskers.magnitude(*batch[:3], torch.ones(1), config)
        assert torch.allclose(size, analysis(batch[0], config).abs())


phases = import_module("enhancement.evaluate_phase")


class LoudnessIsQuality:
    """In place of `speechmos.dnsmos`."""

    @staticmethod
    def run(samples, rate):
        assert rate == 16000 and abs(samples).max() <= 1
        return {"ovrl_mos": abs(samples).mean()}


@pytest.mark.parametrize("installed", [True, False])
def test_dnsmos_comes_with_its_package_and_is_a_gap_without(
    installed, tmp_path, capsys, monkeypatch
):
    package = SimpleNamespace(dnsmos=LoudnessIsQuality)
    monkeypatch.setitem(sys.modules, "speechmos", package)
    monkeypatch.setattr(phases, "find_spec", lambda _: installed or None)
    counts = {"train": 1, "valid": 1, "test": 1}
    data = write(
        tmp_path / "speech", lambda i: synthetic_speech(1.0)[0], **counts
    )
    figures = tmp_path / "figures.json"
    run(
        "enhancement.evaluate_phase",
        *("--data_folder", data, "--json", figures, "--snrs", 0, 10),
        *("--magnitudes", "clean", "--phases", "noisy", "clean"),
    )
    head, _, noisy, clean, *_ = capsys.readouterr().out.splitlines()
    assert head.endswith("| DNSMOS |")
    for line in (noisy, clean):
        assert line.endswith(" - |") != installed
    for row in json.loads(figures.read_text()):
        noisy, clean = (row["scores"][x] for x in ("noisy", "clean"))
        assert (clean["dnsmos"] is not None) == installed
        assert clean["estoi"] > noisy["estoi"]
        assert clean["si_sdr"] > noisy["si_sdr"] + 10


def test_no_difference_at_all_is_no_gap():
    same = dict.fromkeys(phases.SCORES, 1.0)
    row = {"enhancer": "clean", "transform": "hann 512/128"}
    row["scores"] = {"noisy": same, "learnt": same}
    *_, noisy, learnt = phases.table([row, row]).splitlines()
    assert noisy.count(" 1.000 ") == learnt.count(" +0.000 ± 0.000 ") == 4

"""The recipe: every layout of data, a run, its resumption, two processes."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from conftest import synthetic_speech
from recipe_tools import HPARAMS, RECIPES, manifest, train, write_speech
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import (
    available_pretrained,
    load_pretrained,
)
from speechbrain_phaseinv.stft import analysis

RECIPE = RECIPES / "spectrogram_inversion"
inversion_metrics = import_module("common.metrics").inversion_metrics
prepare = import_module("common.prepare").prepare
data_root = import_module("common.prepare").data_root
load_hparams = import_module("common.hparams").load_hparams
TRAIN = "spectrogram_inversion.train"
SPLITS = ("train", "valid", "test")


def prepared(data, tmp_path, **options):
    prepare(str(data), str(tmp_path / "save"), **options)
    tables = {}
    for split in SPLITS:
        text = (tmp_path / "save" / f"{split}.json").read_text()
        tables[split] = json.loads(text)
    for table in tables.values():
        for entry in table.values():
            root = data_root(str(data))
            path = Path(entry["wav"].replace("{data_root}", root))
            assert path.is_file()
            assert 0.69 < entry["length"] < 0.71
    return tables


def speakers(table):
    return {entry["speaker"] for entry in table.values()}


def assert_disjoint(tables):
    parts = [speakers(table) for table in tables.values()]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert all(parts)


def test_librispeech_keeps_its_own_split(tmp_path):
    for i, subset in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        folder = tmp_path / "data" / subset / str(i) / "7"
        write_speech(folder / f"{i}-7-0000.flac", i)
        (folder / f"{i}-7.trans.txt").write_text("")
    tables = prepared(tmp_path / "data", tmp_path)
    assert [list(t) for t in tables.values()] == [
        ["0-7-0000"],
        ["1-7-0000"],
        ["2-7-0000"],
    ]
    assert_disjoint(tables)


def test_ljspeech_is_split_by_chapter(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.csv").write_text("")
    for i in range(8):
        write_speech(
            tmp_path / "data" / "wavs" / f"LJ{i // 2:03d}-{i:04d}.wav", i
        )
    tables = prepared(tmp_path / "data", tmp_path)
    assert sum(map(len, tables.values())) == 8
    assert_disjoint(tables)


def test_vctk_takes_one_microphone_and_splits_by_speaker(tmp_path):
    root = tmp_path / "data" / "wav48_silence_trimmed"
    for i in range(6):
        for mic in (1, 2):
            write_speech(root / f"p{i}" / f"p{i}_001_mic{mic}.flac", i)
    tables = prepared(tmp_path / "data", tmp_path)
    assert sum(map(len, tables.values())) == 6
    assert not any("mic2" in name for t in tables.values() for name in t)
    assert_disjoint(tables)


def test_a_plain_folder_is_split_the_same_way_every_time(tmp_path):
    for i in range(9):
        write_speech(tmp_path / "data" / f"s{i}" / "a.wav", i)
    tables = prepared(tmp_path / "data", tmp_path)
    assert_disjoint(tables)
    assert prepared(tmp_path / "data", tmp_path / "again") == tables


def test_a_manifest_decides_on_the_split(tmp_path):
    counts = {"train": 3, "valid": 2, "test": 1, "noise": 1}
    path = manifest(tmp_path, counts)
    tables = prepared(path, tmp_path)
    assert [len(tables[split]) for split in SPLITS] == [3, 2, 1]


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path):
    counts = {"train": 3, "valid": 2, "test": 1}
    data = tmp_path / "data"
    manifest(data, counts, "manifest.csv")
    tables = prepared(data, tmp_path)
    assert [len(tables[split]) for split in SPLITS] == [3, 2, 1]
    (data / "manifest.csv").write_text("name\nx\n")
    with pytest.raises(ValueError, match="column 'path'.*layout"):
        prepare(str(data), str(tmp_path / "other"))
    every = prepared(data, tmp_path / "every", layout="folder")
    assert sum(map(len, every.values())) == 6


def test_mistaken_folders_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prepare(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no recordings"):
        prepare(str(tmp_path), str(tmp_path))
    with pytest.raises(ValueError, match="unknown layout"):
        prepare(str(tmp_path), str(tmp_path), layout="tape")


def test_what_a_librispeech_lacks_is_taken_from_its_training(tmp_path):
    for i in range(8):
        folder = tmp_path / "data" / "train-clean-100" / str(i) / "7"
        write_speech(folder / f"{i}-7-0000.flac", i)
        (folder / f"{i}-7.trans.txt").write_text("")
    tables = prepared(tmp_path / "data", tmp_path)
    assert_disjoint(tables)
    assert [len(tables[split]) for split in SPLITS] == [6, 1, 1]
    # The subset itself does not tell speakers from chapters.
    subset = tmp_path / "data" / "train-clean-100"
    with pytest.raises(ValueError, match="one subset of LibriSpeech"):
        prepare(str(subset), str(tmp_path / "other"))


def test_recordings_of_one_name_are_told_apart_or_refused(tmp_path):
    lines = ["path,split"]
    for i, speaker in enumerate("abcd"):
        write_speech(tmp_path / speaker / "000.wav", i)
        lines.append(f"{speaker}/000.wav,")
    path = tmp_path / "list.csv"
    # As a spreadsheet writes it.
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    tables = prepared(path, tmp_path)
    assert_disjoint(tables)
    names = {name for table in tables.values() for name in table}
    assert names == {"a__000", "b__000", "c__000", "d__000"}
    lines = ["id,path,split", "x,a/000.wav,train", "x,b/000.wav,train"]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="called 'x'"):
        prepare(str(path), str(tmp_path / "twice"))


@pytest.mark.parametrize("fails", ["nothing", "single", "paired"])
def test_train_all_evaluates_what_both_trainings_made(tmp_path, fails):
    """In the place of Python, a script that writes down what it was to do."""
    python, log = tmp_path / "bin" / "python", tmp_path / "log"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$*" >> "{log}"\n'
        f'case "$*" in evaluate.py*) ;; *out/{fails}*) exit 3 ;; esac\n'
    )
    python.chmod(0o755)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(
        ["sh", str(RECIPE / "train_all.sh"), ".", "out"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    assert found.returncode == (0 if fails == "nothing" else 3)
    lines = log.read_text().splitlines()
    trained = [x for x in lines if x.startswith("train.py")]
    evaluated = [x for x in lines if x.startswith("evaluate.py")]
    out = str(tmp_path / "out")
    folders = {x.split("--output_folder ")[1].split()[0] for x in trained}
    assert folders == {f"{out}/single", f"{out}/paired"}
    assert len(trained) == 2
    assert len(evaluated) == (fails == "nothing")
    for line in evaluated:
        assert f"{out}/single/pretrained {out}/paired/pretrained" in line


TINY = {
    "channels": 4,
    "batch_size": 2,
    "rollout_frames": 12,
    "rollouts": 2,
    "derivative_steps": 2,
    "perceptual_utterances": 1,
    "samples": 1,
}


def run(data, output, *options, configuration="train.yaml"):
    tiny = [f"--{name}={value}" for name, value in TINY.items()]
    train(TRAIN, configuration, data, output, *tiny, *options)


@pytest.mark.parametrize(
    "options",
    [
        ("--warm_start=no-such-weights",),
        ("--window=no-such-window",),
        ("--layout=tape",),
        ("--no_such_key=1",),
    ],
)
def test_a_refused_start_leaves_no_folder(tmp_path, options):
    counts = {"train": 1, "valid": 1, "test": 1}
    data = manifest(tmp_path, counts)
    output = tmp_path / "new" / "out"
    with pytest.raises((ValueError, RuntimeError, FileNotFoundError)):
        run(data, output, *options)
    assert not (tmp_path / "new").exists()


def test_data_without_a_split_that_is_needed_leaves_no_folder(tmp_path):
    data = manifest(tmp_path, {"train": 1, "test": 1})
    (tmp_path / "list.csv").write_text(
        "path,split\ntrain0.wav,train\ntest0.wav,test\n"
    )
    with pytest.raises(ValueError, match="no recordings of the split 'valid'"):
        run(data, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_an_output_folder_that_was_there_stays(tmp_path):
    data = manifest(tmp_path, {"train": 1, "valid": 1, "test": 1})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(FileNotFoundError, match="no-such-weights"):
        run(data, tmp_path / "out", "--warm_start=no-such-weights")
    assert (tmp_path / "out" / "notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["train", "vocoder_mel", "enhancement"])
def test_every_recipe_has_the_options_of_all(name):
    hparams, _ = load_hparams(HPARAMS / f"{name}.yaml", {"data_folder": "x"})
    assert hparams["ckpt_interval_minutes"] > 0  # within an epoch
    assert hparams["output_folder"].startswith("results/")
    assert hparams["layout"] == "auto" and not hparams["skip_test"]
    assert hparams["tensorboard_folder"] is None


def test_overrides_reach_the_file_that_has_the_key():
    values = {"data_folder": "x", "lr": 0.5, "n_fft": 256, "channels": 3}
    hparams, nested = load_hparams(HPARAMS / "train.yaml", values)
    assert (hparams["lr"], hparams["channels"]) == (0.5, 3)
    assert hparams["network"].config is hparams["stft"]
    assert hparams["stft"].n_fft == 256
    assert nested["base"]["base"]["data_folder"] == "x"
    assert hparams["output_folder"] == "results/latency1/1"
    with pytest.raises(ValueError, match="no key learning_rate"):
        load_hparams(HPARAMS / "train.yaml", "learning_rate: 1")


def test_a_run_resumes_exports_and_can_be_evaluated(tmp_path):
    counts = {"train": 4, "valid": 1, "test": 1}
    data = manifest(tmp_path, counts)
    output = tmp_path / "out"
    logs = output / "tensorboard"
    run(data, output, "--number_of_epochs=1", f"--tensorboard_folder={logs}")
    options = "--number_of_epochs=2", "--precision=bf16", "--augment=True"
    run(data, output, *options)
    log = (output / "log.txt").read_text()
    assert log.count("Going into epoch 1") == 1
    assert log.count("Going into epoch 2") == 1
    for name in (
        "train_log.txt",
        "env.log",
        "train.py",
        "hyperparams.yaml",
        "samples/001/0_inverted.wav",
        "samples/001/0_original.wav",
        "samples/002/0.png",
        "samples/test/0_inverted.wav",
        "pretrained/weights.npz",
        "pretrained/hyperparameters.json",
    ):
        assert (output / name).is_file(), name
    lines = (output / "train_log.txt").read_text().splitlines()
    assert len(lines) == 4  # two epochs, and a test after each run
    assert all("sc:" in line and "nan" not in line for line in lines)
    events = EventAccumulator(str(logs)).Reload().Tags()
    assert {"sc/valid", "loss/train", "sc/test"} <= set(events["scalars"])
    assert "001/0" in events["audio"]

    evaluate = import_module("spectrogram_inversion.evaluate")

    arguments = evaluate.parse(
        [f"--data_folder={data}", str(output / "pretrained")]
    )
    ((_, plain),) = evaluate.targets(arguments, 16000)
    arguments.offset = 20
    ((_, raised),) = evaluate.targets(arguments, 16000)
    offset = (raised - plain).double()
    assert offset.mean() == pytest.approx(10 * plain.square().mean() ** 0.5)
    assert offset.std() < 1e-6
    arguments.offset, arguments.rumble = None, -5
    ((_, shaken),) = evaluate.targets(arguments, 16000)
    rumble = torch.fft.rfft(shaken - plain).abs().square()
    bins = 90 * plain.shape[1] // 16000  # of 90 Hz
    assert rumble[:, bins:].sum() < 0.01 * rumble.sum()
    power = (shaken - plain).square().mean() / plain.var()
    assert 10 * power.log10() == pytest.approx(-5, abs=0.1)
    arguments.high_pass, arguments.rumble = 7000, None
    ((_, rest),) = evaluate.targets(arguments, 16000)
    assert rest.norm() < 0.1 * plain.norm()
    arguments.high_pass = None
    results = evaluate.evaluate(arguments)
    assert len(results["csv"]) == 4  # three methods and the count
    arguments.corpora = ["another"]
    with pytest.raises(ValueError, match="no recording"):
        evaluate.evaluate(arguments)
    text = evaluate.markdown(results)
    assert "csv, 1 utterances" in text
    assert text.count("±") == 9


def test_two_processes_train_together(tmp_path):
    data = manifest(tmp_path, {"train": 4, "valid": 1, "test": 1})
    output = tmp_path / "out"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--standalone", "--nproc_per_node=2"),
            str(RECIPE / "train.py"),
            str(HPARAMS / "train.yaml"),
            f"--data_folder={data}",
            f"--output_folder={output}",
            *("--device=cpu", "--noprogressbar", "--number_of_epochs=1"),
            *("--distributed_backend=gloo", "--paired=True"),
            *(f"--{name}={value}" for name, value in TINY.items()),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "torchvision" not in result.stdout + result.stderr
    assert (output / "pretrained" / "weights.npz").is_file()
    # Two batches a process, not four: each has half of the data.
    lines = (output / "train_log.txt").read_text()
    assert "steps: 4" in lines


def test_the_previous_best_trains_from_its_own_configuration(tmp_path):
    data = manifest(tmp_path, {"train": 2, "valid": 1, "test": 1})
    output = tmp_path / "out"
    options = "--number_of_epochs=1", "--skip_test=True"
    run(data, output, *options, configuration="masuyama.yaml")
    (checkpoint,) = output.glob("save/CKPT*/network.ckpt")
    weights = torch.load(checkpoint, weights_only=True)
    assert weights["time.first.weight"].shape == (4, 4, 1, 1)
    # Its weights are not those of the package's network.
    assert not (output / "pretrained").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--provisional=True", "--delays=[0, 1]", "--refinements=2"),
        ("--paired=True", "--again=True", "--refinements=3"),
    ],
)
def test_training_goes_through_the_refinement(tmp_path, options):
    data = manifest(tmp_path, {"train": 4, "valid": 1, "test": 1})
    output = tmp_path / "out"
    more = "--number_of_epochs=2", "--skip_test=True"
    run(data, output, *options, *more)
    lines = (output / "train_log.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all("sc:" in line and "nan" not in line for line in lines)
    network = load_pretrained(output / "pretrained")
    assert network.refinements == int(options[-1][-1])
    # What every output is trained by: none is where it started.
    assert network.last.weight.flatten(1).any(1).all()


@pytest.mark.parametrize("lookahead", [0, 1])
def test_limits_replace_predictions_by_truth(monkeypatch, lookahead):
    limits = import_module("spectrogram_inversion.limits")

    network = load_pretrained("hann-512-128")
    inverter = SpectrogramInverter(network.config, lookahead, network)
    speech = synthetic_speech(1.0, 16000, 3)

    def convergence():
        made = limits.partly_true(speech, inverter)
        return {
            name: inversion_metrics(x, speech, network.config, False)["sc"]
            for name, x in made.items()
        }

    found = convergence()
    magnitude = analysis(speech, network.config).abs()
    waveform = inverter(magnitude, length=speech.shape[1])
    assert found["as predicted"] == pytest.approx(
        inversion_metrics(waveform, speech, network.config, False)["sc"],
        abs=0.01,
    )
    assert found["both true below 750 Hz"] < found["as predicted"]
    assert found["as predicted, from the true last frame"] < -20
    inverter.refinements = 0
    monkeypatch.setattr(limits, "LOW", 1e6)
    found = convergence()
    assert found["both true below 1000000 Hz"] < -80
    assert found["both true above 1000000 Hz"] == found["as predicted"]


def test_each_transform_has_a_row_for_all_weights(
    tmp_path, capsys, monkeypatch
):
    transforms = import_module("spectrogram_inversion.transforms")
    monkeypatch.setattr(transforms, "TRANSFORMS", [(256, 256, 64, "hann")])
    data = manifest(tmp_path, {"test": 1})
    figures = tmp_path / "figures.json"
    transforms.main(
        [f"--data_folder={data}", f"--json={figures}", "--griffin_lim", "2"]
    )
    (result,) = json.loads(figures.read_text()).values()
    assert sum(name.startswith("**") for name in result) == 2
    assert {f"{x}, look-ahead 1" for x in available_pretrained()} <= set(result)
    name = "**network (hann-512-128), look-ahead 0**"
    assert name in capsys.readouterr().out

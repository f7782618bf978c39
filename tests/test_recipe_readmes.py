"""Each recipe's README: its commands, in their order, on two seconds of sound.

The commands run in a copy of the tree's folders, from the recipe's own folder,
with small networks and one epoch. What they leave is what the next ones read.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from recipe_tools import HPARAMS, RECIPES, manifest, run, write_speech

# Overrides that keep a run short, by script. A README's own come first.
SHORT = {
    "train.py": {
        "channels": 4,
        "batch_size": 1,
        "rollout_frames": 12,
        "rollouts": 2,
        "derivative_steps": 2,
    },
    "train_mel.py": {"excerpt_frames": 16},
    "train_general_mel.py": {"updates_per_epoch": 2, "excerpt_seconds": 0.5},
    "enhancement/train.py": {"excerpt_seconds": 1},
    "enhancement/train_phase.py": {
        "train_mixtures": 1,
        "valid_mixtures": 1,
        "mixture_seconds": 1,
        "excerpt_frames": 24,
    },
}
COMMON = {"number_of_epochs": 1, "perceptual_utterances": 0, "samples": 0}


@pytest.fixture
def data(tmp_path):
    """What stands for the data of a README."""
    folder = tmp_path / "data"
    counts = {"train": 1, "valid": 1, "test": 1}
    table = manifest(folder, counts, "list.csv", 2, "librispeech")
    return {"DATA": table, "SPEECH": table, "NOISE": folder}


def blocks(recipe):
    """The README's code blocks: (language, text)."""
    text = (RECIPES / recipe / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)


def commands(text):
    """The commands of a block, as lists of words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def execute(words, data, monkeypatch):
    """One command of a README, in the current folder."""
    words = [str(data.get(word, word)) for word in words]
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
    elif words[0] == "sh":
        for line in recorded(words, monkeypatch):
            execute(["python", *shlex.split(line)], data, monkeypatch)
    elif words[0] == "python":
        script, *arguments = words[1:]
        folder = Path.cwd().relative_to(data["root"] / "recipes")
        module = ".".join([*folder.parts, Path(script).stem])
        if script.startswith("train"):
            arguments = shortened(script, folder.parts[-1], arguments)
        if module.startswith("enhancement.evaluate"):
            arguments += ["--snrs", "5"]
        run(module, *arguments)
    else:
        assert words[0] == "pip"


def shortened(script, recipe, arguments):
    """A training's arguments, with one epoch and a small network."""
    short = SHORT.get(f"{recipe}/{script}", SHORT.get(script))
    if "masuyama.yaml" in arguments[0]:
        short = {**short, "history": 1}
    if "vocoder.yaml" in arguments[0]:
        short = {**short, "warm_start": "null"}
    for name, value in {**short, **COMMON}.items():
        if f"--{name}" in arguments:
            if name in COMMON:
                arguments[arguments.index(f"--{name}") + 1] = value
        else:
            arguments = [*arguments, f"--{name}={value}"]
    for name in ("--device=cpu", "--noprogressbar"):
        arguments = [x for x in arguments if x != name] + [name]
    return arguments


def recorded(words, monkeypatch):
    """What a shell script calls Python with, instead of calling it."""
    folder = Path.cwd() / "bin"
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    stub = folder / "python"
    stub.write_text(f'#!/bin/sh\necho "$*" >> "{log}"\n')
    stub.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    subprocess.run(words, env=environment, check=True)
    # The evaluation comes last, the trainings in any order.
    return sorted(log.read_text().splitlines(), key=lambda x: "evaluate" in x)


@pytest.mark.parametrize(
    "recipe", ["spectrogram_inversion", "LJSpeech/vocoder", "enhancement"]
)
def test_the_commands_of_a_readme_run_in_their_order(
    recipe, data, tmp_path, monkeypatch
):
    root = tmp_path / "tree"
    for folder in ("spectrogram_inversion", "LJSpeech/vocoder", "enhancement"):
        (root / "recipes" / folder).mkdir(parents=True)
    for name in ("train_all.sh", "extra_requirements.txt"):
        place = Path("spectrogram_inversion", name)
        (root / "recipes" / place).write_bytes((RECIPES / place).read_bytes())
    (root / "hparams").symlink_to(HPARAMS)
    data["root"] = root
    monkeypatch.chdir(root / "recipes" / recipe)
    write_speech(Path("noisy.wav"), seconds=2)
    names = {"mel_output": -2 * torch.rand(1, 80, 9)}
    names["mel_frames"] = (-2 * torch.rand(1, 5, 80)).split(1, dim=1)
    for language, text in blocks(recipe):
        if language == "bash":
            for words in filter(None, commands(text)):
                execute(words, data, monkeypatch)
        elif language == "python":
            exec(compile(text, f"{recipe}/README.md", "exec"), names)
    results = {
        "spectrogram_inversion": "results/latency1/1/pretrained/weights.npz",
        "LJSpeech/vocoder": "results/mel/vocoder/hyperparams.yaml",
        "enhancement": "enhanced.wav",
    }
    assert (root / "recipes" / recipe / results[recipe]).is_file()
    # Everything is where the options say, nothing in a "<seed>".
    assert not list(root.rglob("*<*"))
    assert list(root.rglob("*evaluation.json"))

"""Every piece of code in the README runs, and so do the lines to change.

The commands for the shell are run by the continuous integration.
"""

import re
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENHANCER = (ROOT / "hparams" / "enhancer.yaml").read_text(encoding="utf-8")

# The README's place for an enhancer of SpeechBrain: what the recipe writes.
FOLDER = "results/enhancement/1/enhancer"


def blocks(language):
    """What stands in the README between ```language and ```."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def sides(diff):
    """What a diff takes away, and what it puts there."""
    lines = diff.splitlines()
    return [
        "\n".join(line[1:] for line in lines if line[0] in f" {sign}") + "\n"
        for sign in "-+"
    ]


def write_enhancer(folder, resynth=None):
    """An untrained enhancer, with this resynthesis in its YAML file."""
    text = ENHANCER
    if resynth is not None:
        # SpeechBrain's own needs a module that ours has no use for.
        istft = "compute_istft: !new:speechbrain.processing.features.ISTFT"
        istft += "\n    sample_rate: 16000\n    win_length: 32"
        istft += "\n    hop_length: 16\n"
        ours = re.compile(r"^resynth:.*?\n(?=\S|\n)", re.DOTALL | re.MULTILINE)
        text, count = ours.subn(lambda _: istft + resynth, text)
        assert count == 1
    folder.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    model = load_hyperpyyaml(text)["enhance_model"]
    torch.save(model.state_dict(), folder / "enhance_model.ckpt")


def test_the_readme_has_code():
    assert len(blocks("python")) > 1
    assert blocks("diff")


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_its_code_runs(number, tmp_path, monkeypatch):
    code = blocks("python")[number]
    monkeypatch.chdir(tmp_path)
    if FOLDER in code:
        write_enhancer(tmp_path / FOLDER)
    exec(code, {"__name__": "readme"})


def test_an_enhancer_loads_before_and_after_the_change(tmp_path):
    from speechbrain.inference.enhancement import SpectralMaskEnhancement

    (diff,) = (text for text in blocks("diff") if "resynth:" in text)
    noisy = torch.randn(1, 4000)
    made = []
    for i, resynth in enumerate(sides(diff)):
        write_enhancer(tmp_path / str(i), resynth)
        enhancer = SpectralMaskEnhancement.from_hparams(str(tmp_path / str(i)))
        made.append(enhancer.enhance_batch(noisy))
        assert made[-1].shape == noisy.shape
        assert torch.isfinite(made[-1]).all()
    assert not torch.equal(*made)

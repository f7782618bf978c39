"""Every dotted path that a user can copy from the project's texts resolves."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import speechbrain_phaseinv

ROOT = Path(__file__).parent.parent
PACKAGE = Path(speechbrain_phaseinv.__file__).parent
TEXTS = [
    ROOT / "README.md",
    *ROOT.glob("hparams/**/*.yaml"),
    *ROOT.glob("recipes/**/*.md"),
    *ROOT.glob("recipes/**/*.yaml"),
    *PACKAGE.glob("pretrained/*/*.md"),
    *PACKAGE.glob("pretrained/*/*.yaml"),
]

# Paths of 0.1 that users' own files may hold.
OLD = [
    "speechbrain_phaseinv.inference.Resynthesizer",
    "speechbrain_phaseinv.mel.MelConfig",
    "speechbrain_phaseinv.mel.MelInversion",
    "speechbrain_phaseinv.mel.log_mel",
    "speechbrain_phaseinv.mel.mel_filterbank",
    "speechbrain_phaseinv.mel.through_mel",
    "speechbrain_phaseinv.mel_network.MelInversionNet",
    "speechbrain_phaseinv.network.GatedBlock",
    "speechbrain_phaseinv.network.PhaseDerivativeNet",
    "speechbrain_phaseinv.stft.StftConfig",
]


def paths_in(text):
    """Dotted paths, and the names of import statements."""
    found = set(re.findall(r"\bspeechbrain_phaseinv(?:\.[A-Za-z_]\w*)+", text))
    imports = r"from (speechbrain_phaseinv[\w.]*) import (\([^)]*\)|[^\n]*)"
    for module, names in re.findall(imports, text):
        for name in re.findall(r"(?:^|[,(])\s*\+?\s*(\w+)", names):
            found.add(f"{module}.{name}")
    return found


def resolve(path):
    """The module or the attribute behind a dotted path."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        parent, _, name = path.rpartition(".")
        if not parent:
            raise
        return getattr(resolve(parent), name)


def test_the_texts_are_read():
    assert paths_in("a speechbrain_phaseinv.stft.StftConfig. Then") == {
        "speechbrain_phaseinv.stft.StftConfig"
    }
    assert paths_in(
        "from speechbrain_phaseinv import (\n    A,\n    B,\n)"
    ) == {
        "speechbrain_phaseinv.A",
        "speechbrain_phaseinv.B",
    }
    found = set().union(*(paths_in(text.read_text()) for text in TEXTS))
    assert "speechbrain_phaseinv.pretrained.load_weights" in found
    assert "speechbrain_phaseinv.PhaseInversion" in found


@pytest.mark.parametrize(
    "path",
    sorted(set(OLD).union(*(paths_in(text.read_text()) for text in TEXTS))),
)
def test_every_path_resolves(path):
    if path.endswith((".yaml", ".json")):
        pytest.skip("a file's name")
    resolve(path)


def test_a_path_that_is_not_there_is_noticed():
    for path in ("speechbrain_phaseinv.nothing", "speechbrain_phaseinv.mel.no"):
        with pytest.raises(AttributeError):
            resolve(path)

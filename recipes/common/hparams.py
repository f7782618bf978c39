"""The recipes' YAML files, which include each other as `base`."""

from pathlib import Path

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML

INCLUDE = "!include:"


def load_hparams(path, overrides=None):
    """Read a recipe's YAML file.

    A file may include another one as `base`. Its keys then count as the
    file's own, for overrides too.

    Arguments
    ---------
    path : str or Path
        The YAML file.
    overrides : str or dict, optional
        New values of keys, as YAML or as a dict.

    Returns
    -------
    hparams : dict
        All keys of the file and of its bases, in one dict.
    overrides : dict
        The overrides, in the file's own nesting.

    Raises
    ------
    ValueError
        If no file has a key that is to be overridden.
    """
    path = Path(path)
    if not isinstance(overrides, dict):
        overrides = YAML().load(overrides or "{}")
    rest = dict(overrides)
    nested = _nest(YAML().load(path), rest, path.parent)
    if rest:
        raise ValueError(
            f"{path} and the files that it includes have no key "
            f"{', '.join(rest)}: expected a key of theirs or one of "
            "SpeechBrain's options."
        )
    with open(path, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, nested, overrides_must_match=False)
    return _flatten(hparams), nested


def _nest(tree, overrides, folder):
    """Take overrides out of a dict, each to where the tree has its key."""
    nested = {key: overrides.pop(key) for key in list(overrides) if key in tree}
    if "base" in tree and overrides:
        base = tree["base"]
        if (base.tag.value or "").startswith(INCLUDE):
            base = YAML().load(folder / base.tag.value.removeprefix(INCLUDE))
        nested["base"] = _nest(base, overrides, folder)
    return nested


def _flatten(hparams):
    """A file's keys and the keys of its bases, in one dict."""
    base = _flatten(hparams.pop("base")) if "base" in hparams else {}
    own = {k: v for k, v in hparams.items() if not k.startswith("__")}
    return {**base, **own}

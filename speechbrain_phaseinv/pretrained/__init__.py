"""Weights that come with the package, and how to read and write them.

A folder holds ``weights.npz``, plain arrays that are read without unpickling
anything, ``hyperparameters.json``, which describes the STFT that the weights
were trained on and the network, and ``README.md``, the model card.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..network import PhaseDerivativeNet
from ..stft import StftConfig

FOLDER = Path(__file__).parent


def available_pretrained():
    """Names of the packaged weights, sorted.

    Example
    -------
    >>> all(name == name.lower() for name in available_pretrained())
    True
    """
    return tuple(
        sorted(x.parent.name for x in FOLDER.glob("*/hyperparameters.json"))
    )


def find_pretrained(config, lookahead=1, paired=False):
    """Packaged weights that fit, or None.

    Arguments
    ---------
    config : StftConfig
        Must be that of the training: sampling rate, lengths and window.
    lookahead : int
        0 or 1, in frames.
    paired : bool
        See `PhaseDerivativeNet`.

    Returns
    -------
    name : str or None
        For `load_pretrained`.

    Example
    -------
    >>> odd = StftConfig(16000, n_fft=512, hop_length=100)
    >>> print(find_pretrained(odd))
    None
    """
    for name in available_pretrained():
        hyperparameters = read_hyperparameters(FOLDER / name)
        network = hyperparameters["network"]
        if (
            StftConfig(**hyperparameters["stft"]) == config
            and network["lookahead"] == lookahead
            and network["paired"] == paired
        ):
            return name
    return None


def load_pretrained(source, config=None):
    """A trained network, frozen and in evaluation mode.

    Arguments
    ---------
    source : str or Path
        A packaged name, see `available_pretrained`, or a folder written by
        `save_pretrained`.
    config : StftConfig, optional
        A transform other than that of the training. The network runs with
        any; how well is not promised.

    Returns
    -------
    network : PhaseDerivativeNet

    Raises
    ------
    FileNotFoundError
        If there are no such weights; the message lists those there are.
    ValueError
        If the weights do not fit the hyperparameters beside them.
    """
    folder = FOLDER / source
    if not (folder / "weights.npz").is_file():  # also where source is absolute
        folder = Path(source)
    if not (folder / "weights.npz").is_file():
        raise FileNotFoundError(
            f"no pretrained weights {str(source)!r}: expected one of "
            f"{', '.join(available_pretrained()) or '(none packaged)'}, or a "
            "folder with weights.npz and hyperparameters.json."
        )
    hyperparameters = read_hyperparameters(folder)
    if config is None:
        config = StftConfig(**hyperparameters["stft"])
    network = PhaseDerivativeNet(config, **hyperparameters["network"])
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {folder} do not fit: {error}"
        ) from None
    return network.eval().requires_grad_(False)


def save_pretrained(network, folder, notes=None):
    """Write a network's weights and hyperparameters.

    Arguments
    ---------
    network : PhaseDerivativeNet
        What to write.
    folder : str or Path
        Made if need be.
    notes : dict, optional
        Anything else to keep with the hyperparameters, such as metrics.

    Example
    -------
    >>> import tempfile
    >>> network = PhaseDerivativeNet(StftConfig(16000, 512, hop_length=128))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(network, folder)
    ...     again = load_pretrained(folder)
    >>> torch.equal(again.first.weight, network.first.weight)
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: value.detach().cpu().numpy()
        for name, value in network.state_dict().items()
    }
    np.savez(folder / "weights.npz", **arrays)
    hyperparameters = {
        "stft": asdict(network.config),
        "network": network.hyperparameters,
        "notes": notes or {},
    }
    text = json.dumps(hyperparameters, indent=2) + "\n"
    (folder / "hyperparameters.json").write_text(text, encoding="utf-8")


def read_hyperparameters(folder):
    """The contents of ``hyperparameters.json``."""
    path = Path(folder) / "hyperparameters.json"
    return json.loads(path.read_text(encoding="utf-8"))

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

from ..estimation.derivatives import gaussian_gamma
from ..estimation.network import PhaseDerivativeNet
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

    What a network has learned depends on the shape of the window in its own
    bins and on the overlap, and hardly on the sampling rate or on the
    length: see `serves`. Weights of exactly this transform come first, then
    those of the nearest overlap. Provisional ones do without look-ahead, too,
    but not those for half overlap, where too much of what comes out is the
    newest frame's.

    Arguments
    ---------
    config : StftConfig
        The transform whose magnitudes are to be inverted.
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
    >>> find_pretrained(StftConfig(22050, n_fft=1024, hop_length=256))
    'hann-512-128'
    >>> print(find_pretrained(StftConfig(22050, n_fft=1024, hop_length=768)))
    None
    """
    fitting = []
    for name in available_pretrained():
        hyperparameters = read_hyperparameters(FOLDER / name)
        network = hyperparameters["network"]
        trained = StftConfig(**hyperparameters["stft"])
        offered = {network["lookahead"]}
        quarter = 4 * trained.hop_length <= trained.win_length
        if network.get("provisional") and quarter:
            offered.add(0)
        if lookahead not in offered or network["paired"] != paired:
            continue
        if serves(trained, config):
            hop = trained.hop_length / trained.n_fft
            fitting.append((trained != config, hop, name))
    return min(fitting)[-1] if fitting else None


def serves(trained, config):
    """Whether weights trained on one transform are of use for another.

    They are, by measurement (the figures are in the recipe's README), where
    the overlap is that of the training or more, up to twice as many frames,
    and the window's main lobe not much narrower in bins, nor wider than a
    Blackman window's that is zero-padded from 400 samples to 512: for the
    usual windows of any length, at any rate. Beyond that, as with weights for
    75 % at half overlap, the gradient theorem is as good or better.

    Arguments
    ---------
    trained, config : StftConfig
        The transform of the training, and the one at hand.

    Returns
    -------
    serves : bool
    """
    lobe = gaussian_gamma(config) / config.n_fft**2
    lobe /= gaussian_gamma(trained) / trained.n_fft**2
    hop = config.hop_length / config.win_length
    learned = trained.hop_length / trained.win_length
    return 0.4 < lobe < 1.25 and learned / 2 <= hop <= max(learned, 0.375)


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
    load_weights(network, folder / "weights.npz")
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
    save_weights(network, folder / "weights.npz")
    hyperparameters = {
        "stft": asdict(network.config),
        "network": network.hyperparameters,
        "notes": notes or {},
    }
    text = json.dumps(hyperparameters, indent=2) + "\n"
    (folder / "hyperparameters.json").write_text(text, encoding="utf-8")


def load_weights(module, path):
    """Read a module's weights.

    Arguments
    ---------
    module : torch.nn.Module
        Built as it was when it was saved.
    path : str or Path
        Written by `save_weights`, of any name.

    Returns
    -------
    module : torch.nn.Module
        The same.

    Raises
    ------
    ValueError
        If the weights do not fit, or are not plain arrays.
    """
    with np.load(path, allow_pickle=False) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit: {error}") from None
    return module


def save_weights(module, path):
    """Write a module's weights as plain arrays, under exactly this name."""
    arrays = {
        name: value.detach().cpu().numpy()
        for name, value in module.state_dict().items()
    }
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def read_hyperparameters(folder):
    """The contents of ``hyperparameters.json``."""
    path = Path(folder) / "hyperparameters.json"
    return json.loads(path.read_text(encoding="utf-8"))

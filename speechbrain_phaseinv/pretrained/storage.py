"""How weights are read and written.

A folder holds ``weights.npz``, plain arrays that are read without unpickling
anything, ``hyperparameters.json``, which describes the network and the STFT
that it was trained on, and ``README.md``, the model card.
"""

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..checks import check_integer
from ..config import StftConfig
from ..estimation.enhancement import EnhancementNet
from ..estimation.grid import move_to_grid, padding_of
from ..estimation.network import PhaseDerivativeNet

FOLDER = Path(__file__).parent
DESCRIPTION = "hyperparameters.json"

# Smallest and largest value of each number that describes a network. Larger
# ones are mistakes, or would fill the memory.
LIMITS = {
    "lookahead": (0, 1),
    "channels": (1, 1024),
    "kernel_size": (1, 255),
    "history": (1, 64),
    "refinements": (0, 64),
}
DILATION_LIMITS = 1, 256
NETWORKS = {x.__name__: x for x in (PhaseDerivativeNet, EnhancementNet)}
SWITCHES = "paired", "prior", "confidences", "provisional", "again"


def available_pretrained(kind="PhaseDerivativeNet"):
    """Names of the packaged weights of a kind of network, sorted."""
    folders = (x.parent for x in FOLDER.glob(f"*/{DESCRIPTION}"))
    kinds = ((x.name, read_hyperparameters(x)["class"]) for x in folders)
    return tuple(sorted(name for name, own in kinds if own == kind))


def load_pretrained(source, config=None):
    """A trained network, frozen and in evaluation mode.

    Arguments
    ---------
    source : str or Path
        A packaged name, see `available_pretrained`, or a folder written by
        `save_pretrained`.
    config : StftConfig, optional
        Another transform than that of the training. The network runs with
        any; its quality is not promised. Where the window is padded with
        more or fewer zeros, the last layer is scaled: see `estimation.grid`.

    Returns
    -------
    network : PhaseDerivativeNet or EnhancementNet

    Raises
    ------
    FileNotFoundError
        If there are no such weights; the message lists the packaged ones.
    ValueError
        If the description or the weights are damaged, or do not fit each
        other; the message names the file.
    """
    folder = find_folder(source, "weights.npz", available_pretrained())
    hyperparameters = read_hyperparameters(folder)
    trained = StftConfig(**hyperparameters["stft"])
    config = config or trained
    try:
        with torch.device("cpu"):  # the device meta would keep no values
            make = NETWORKS[hyperparameters["class"]]
            network = make(config, **hyperparameters["network"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / DESCRIPTION}: {error}") from None
    load_weights(network, folder / "weights.npz")
    padding = padding_of(config) / padding_of(trained)
    if isinstance(network, PhaseDerivativeNet) and padding != 1:
        move_to_grid(network, padding)
    device = torch.get_default_device()
    if device.type != "meta":
        network.to(device)
    return network.eval().requires_grad_(False)


def find_folder(source, file, names):
    """The folder of a packaged name, or a local folder, that has a file."""
    for folder in (FOLDER / source, Path(source)):
        if (folder / file).is_file():
            return folder
    missing = f"{file} in it" if Path(source).is_dir() else "folder"
    raise FileNotFoundError(
        f"{str(source)!r}: there is no such {missing}. Expected one of "
        f"{', '.join(names)}, or a local folder with {file}; nothing is "
        "downloaded."
    )


def save_pretrained(network, folder, notes=None):
    """Write a network's weights and hyperparameters.

    Arguments
    ---------
    network : PhaseDerivativeNet or EnhancementNet
        The network to write.
    folder : str or Path
        Created where it is missing.
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
        "class": type(network).__name__,
        "stft": asdict(network.config),
        "network": network.hyperparameters,
        "notes": notes or {},
    }
    text = json.dumps(hyperparameters, indent=2) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def load_weights(module, path):
    """Read a module's weights.

    Arguments
    ---------
    module : torch.nn.Module
        Built as it was when it was saved.
    path : str or Path
        File of any name, written by `save_weights`.

    Returns
    -------
    module : torch.nn.Module
        The same.

    Raises
    ------
    ValueError
        If the file is damaged or much too large, if its arrays are no finite
        real numbers, or if they do not fit; the module is left as it was.
    """
    size = sum(x.nbytes for x in module.state_dict().values())
    try:
        weights = _read_arrays(path, 16 * size + 2**20)
        module.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
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
    """The contents of ``hyperparameters.json``, checked against the limits.

    `stft` and `network` are the arguments of `StftConfig` and of the network,
    whose name is `class`, "PhaseDerivativeNet" where nothing is said; `serves`
    lists the transforms that an `EnhancementNet` was measured with. A
    ValueError names the file and the value.
    """
    path = Path(folder) / DESCRIPTION
    try:
        hyperparameters = json.loads(path.read_text(encoding="utf-8"))
        stft = hyperparameters["stft"]
        StftConfig(**stft)
        for served in hyperparameters.setdefault("serves", [stft]):
            StftConfig(**served)
        kind = hyperparameters.setdefault("class", "PhaseDerivativeNet")
        if kind not in NETWORKS:
            raise ValueError(f"there is no network {kind!r}.")
        _check_network(**hyperparameters["network"])
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return hyperparameters


def _check_network(dilations=(), **values):
    """Refuse a description that no network has."""
    for i, dilation in enumerate(dilations):
        check_integer(f"dilations[{i}]", dilation, *DILATION_LIMITS)
    for name, value in values.items():
        if name in LIMITS:
            check_integer(name, value, *LIMITS[name])
        elif name not in SWITCHES:
            raise ValueError(f"a network has no {name!r}.")
        elif not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}.")


def _read_arrays(path, limit):
    """Finite real arrays of an archive of at most `limit` bytes, as tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(x.file_size for x in archive.infolist())
        if size > limit:
            raise ValueError(f"{size} bytes, expected at most {limit}")
        with np.load(path, allow_pickle=False) as arrays:
            weights = {name: np.asarray(arrays[name]) for name in arrays.files}
    except OSError:
        raise
    except Exception as error:  # what a damaged archive raises is no contract
        raise ValueError(f"no archive of plain arrays ({error}).") from None
    for name, array in weights.items():
        if array.dtype.kind != "f" or array.dtype.itemsize > 8:
            raise ValueError(f"{name} is of type {array.dtype}, not float.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity.")
        array = array.astype(array.dtype.newbyteorder("="))
        weights[name] = torch.from_numpy(array)
    return weights

"""Which estimator serves a transform: packaged weights, or the theorem."""

import math
import warnings
from dataclasses import replace

from ..config import StftConfig
from ..estimation.derivatives import gaussian_gamma
from ..estimation.gradient_theorem import GradientTheorem
from ..estimation.grid import padding_of
from .storage import (
    FOLDER,
    available_pretrained,
    load_pretrained,
    read_hyperparameters,
)

# Of weights for 75 % overlap, in windows, and of a transform, in windows.
MOST_HOP = 0.375
MOST_PADDING = 4

# Of the gradient theorem where it stands in for weights, and of weights on
# windows wider than in their training: chosen on validation speech. Both are
# better with each one, and by less.
REFINEMENTS = 8

# Said where no weights fit.
SERVED = (
    "By the recipe's measurements, packaged weights serve any window with 75 % "
    "overlap or more; Hann, Hamming and Blackman windows with 62.5 %; with one "
    "frame of look-ahead, those and root-Hann windows with half overlap; all "
    "padded with zeros to four times their length at most"
)


def choose_estimator(choice, config, lookahead=1, paired=False):
    """The estimator of a name.

    Arguments
    ---------
    choice : str
        "network", "gradient" or "auto": see `SpectrogramInverter`.
    config, lookahead, paired
        As for `find_pretrained`.

    Returns
    -------
    method : str
        What is at work.
    estimator : torch.nn.Module

    Raises
    ------
    ValueError
        If there is no such name, or no weights where they are asked for.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> choose_estimator("auto", config)[0]
    'network (hann-512-128)'
    """
    if choice not in ("auto", "network", "gradient"):
        raise ValueError(
            "expected the estimator 'auto', 'network' or 'gradient', or a "
            f"torch.nn.Module, got {choice!r}."
        )
    if paired and choice == "gradient":
        raise ValueError("only a network can be paired, got 'gradient'.")
    if choice != "gradient":
        name = find_pretrained(config, lookahead, paired)
        if name is not None:
            network = load_pretrained(name, config)
            if _is_wide(_trained_on(name), config):
                network.refinements = max(network.refinements, REFINEMENTS)
            return f"network ({name})", network
        if paired or choice == "network":
            raise ValueError(
                f"there are no packaged weights for {config}, lookahead "
                f"{lookahead}, paired {paired}. There are: "
                f"{', '.join(available_pretrained()) or 'none'}. "
                "estimator='gradient' works for any transform."
            )
        warnings.warn(
            f"no packaged weights fit {_shown(config)}, lookahead "
            f"{lookahead}, paired {paired}: the gradient theorem stands in, of "
            f"lower quality. {SERVED}. With estimator='gradient' nothing is "
            f"said, and nothing refined unless refinements={REFINEMENTS}.",
            stacklevel=3,
        )
    theorem = GradientTheorem(config, lookahead)
    if choice == "auto":
        theorem.refinements = REFINEMENTS
    return "gradient theorem", theorem


def _is_wide(trained, config):
    """Whether a window is wider than the training's.

    As root-Hann is for Hamming (1.4) and for Hann (1.6), while Hann and Hamming
    are alike (.9, 1.2).
    """
    return _width(config) > 1.2 * _width(trained)


def _width(config):
    """Of the Gaussian nearest to a window, by the window's length."""
    return gaussian_gamma(config) / config.win_length**2


def _trained_on(name):
    """The transform that packaged weights are trained on."""
    return StftConfig(**read_hyperparameters(FOLDER / name)["stft"])


def choose_enhancement(choice, config, lookahead=1):
    """The packaged `EnhancementNet` for a transform.

    Arguments
    ---------
    choice : str
        "learnt" or "auto": see `Resynthesizer`.
    config : StftConfig
        The transform of the enhanced magnitudes.
    lookahead : int
        The weights need 1.

    Returns
    -------
    network : EnhancementNet or None
        None, with "auto", where no weights fit; a warning says so.

    Raises
    ------
    ValueError
        With "learnt", where no weights fit.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> choose_enhancement("auto", config).hyperparameters["channels"]
    16
    """
    served = []
    for name in available_pretrained("EnhancementNet"):
        for stft in read_hyperparameters(FOLDER / name)["serves"]:
            served.append(StftConfig(**stft))
            # What surrounds a recording does not matter.
            if lookahead and served[-1] == replace(config, padding="center"):
                return load_pretrained(name, config)
    message = (
        f"no packaged phase network for enhancement fits {_shown(config)}, "
        f"sample_rate {config.sample_rate}, lookahead {lookahead}. There are "
        "weights at 16 kHz, with one frame of look-ahead, for "
        f"{'; '.join(map(_shown, served))}."
    )
    if choice == "learnt":
        raise ValueError(message)
    warnings.warn(
        f"{message} The noisy phase stands in. With phase='noisy' nothing is "
        "said.",
        stacklevel=4,
    )
    return None


def _shown(config):
    """A transform for a message."""
    window = config.window
    if not isinstance(window, str):  # of hundreds of numbers
        window = "own"
    return (
        f"n_fft {config.n_fft}, win_length {config.win_length}, hop_length "
        f"{config.hop_length}, window {window}"
    )


def find_pretrained(config, lookahead=1, paired=False):
    """Packaged weights that fit, or None.

    Weights depend on the shape of the window and on the overlap, and hardly on
    the sampling rate or on the length: see `serves`. Weights of exactly this
    transform come first, then those for 75 % overlap, then those whose window
    is padded most alike.
    Provisional weights work without look-ahead, too, with an overlap of 60 % or
    more, as in their training; with less, the newest frame is too large a part
    of the output.

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
        overlap = all(
            5 * x.hop_length <= 2 * x.win_length for x in (trained, config)
        )
        instant = network.get("provisional") and overlap and lookahead == 0
        fits = lookahead == network["lookahead"] or instant
        if fits and network["paired"] == paired and serves(trained, config):
            other = _shape(trained) != _shape(config)
            sparse = trained.hop_length > MOST_HOP * trained.win_length
            zeros = abs(math.log(padding_of(trained) / padding_of(config)))
            fitting.append((other, sparse, zeros, name))
    return min(fitting)[-1] if fitting else None


def _shape(config):
    """What makes a transform, but for the rate and the padding."""
    return config.n_fft, config.win_length, config.hop_length, config.window


def serves(trained, config):
    """Whether weights trained on one transform are of use for another.

    Measurements (the recipe's transforms.py) say yes where the overlap is
    little less than that of the training, or more; the main lobe of the window
    is not much narrower than that of the training's, both without zeros, and,
    with less than 75 % overlap, not much wider; and the window is padded as in
    the training or more, to at most four times its length. Beyond it, as with
    weights for 75 % at half overlap, the gradient theorem is as good or better.

    Arguments
    ---------
    trained, config : StftConfig
        The transform of the training, and the transform in use.
    """
    lobe = _width(config) / _width(trained)
    hop = config.hop_length / config.win_length
    learned = trained.hop_length / trained.win_length
    # Hann as learned: root-Hann has 1.6, a rectangular window 3.7.
    similar = 0.24 < lobe and (lobe < 1.5 or hop <= 0.25)
    padded = padding_of(trained) <= padding_of(config) <= MOST_PADDING
    enough = learned / 4 <= hop <= min(max(1.25 * learned, MOST_HOP), 0.5)
    return similar and padded and enough

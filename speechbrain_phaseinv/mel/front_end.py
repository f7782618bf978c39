"""The packaged front end that serves a mel convention best."""

import math
from dataclasses import replace

import torch

from ..config import StftConfig
from ..pretrained import FOLDER, find_pretrained, load_weights
from .config import NEPERS, MelConfig, mel_filterbank
from .inversion import MelInversion
from .network import MelInversionNet

# The bands that the packaged network is trained on.
TRAINED = MelConfig(StftConfig(22050, n_fft=1024, hop_length=256))
WEIGHTS = FOLDER / "mel80-22050" / "front_end.ckpt"
# A window that is padded more is inverted on a transform of its own length: by
# validation better, and in half the time.
MOST_PADDED = 1.6
TRAINED_UPDATES = 4  # trained with ten; as good, on validation recordings


def mel_front_end(config, n_iter=10):
    """What turns a mel spectrogram into magnitudes that can be inverted.

    The packaged network where the bands are those of its training, whatever
    stands for them; multiplicative updates for all others. Where the window
    is much shorter than the transform, the magnitudes are those of a shorter
    transform with the same window: ``front_end.config.stft`` says which.

    Arguments
    ---------
    config : MelConfig
        The convention.
    n_iter : int
        Updates, where there is no network.

    Returns
    -------
    front_end : torch.nn.Module
        `MelInversionNet` or `MelInversion`, in evaluation mode.

    Raises
    ------
    TypeError
        If `config` is no `MelConfig`.

    Example
    -------
    >>> from speechbrain_phaseinv.mel import mel_preset
    >>> type(mel_front_end(mel_preset("hifigan-22050"))).__name__
    'MelInversionNet'
    >>> mel_front_end(mel_preset("espnet-24000")).config.stft.n_fft
    1200
    """
    if not isinstance(config, MelConfig):
        raise TypeError(f"expected a MelConfig, got {config!r}.")
    if _bands(config) == _bands(TRAINED):
        with torch.device("cpu"):
            front_end = MelInversionNet(config, n_iter=TRAINED_UPDATES)
        load_weights(front_end, WEIGHTS)
        return front_end.to(torch.get_default_device()).eval()
    return MelInversion(_served(config), n_iter).eval()


def _bands(config):
    """What the network's weights depend on."""
    stft = replace(config.stft, padding=TRAINED.stft.padding)
    return (
        *(stft, config.n_mels, config.f_min, config.f_max),
        *(config.scale, config.norm, config.power),
    )


def _served(config):
    """The same values, of a transform as long as its window if that helps."""
    stft = config.stft
    short = replace(stft, n_fft=stft.win_length)
    room = config.n_mels <= short.num_bins
    padded = stft.n_fft > MOST_PADDED * stft.win_length
    if not (padded and room and find_pretrained(short)):
        return config
    # Bands are sums: they hold fewer bins now, but the same spectrum.
    share = short.n_fft / stft.n_fft
    changes = {"stft": short, "floor": config.floor * share}
    if config.logarithm is None:
        changes["gain"] = config.gain / share
    else:
        change = config.gain * math.log(share) / NEPERS[config.logarithm]
        changes["offset"] = config.offset - change
    served = replace(config, **changes)
    return config if (mel_filterbank(served).sum(0) == 0).any() else served

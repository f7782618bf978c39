"""The packaged front end that serves a mel convention best."""

import math
from dataclasses import replace

import torch

from ..config import StftConfig
from ..pretrained import FOLDER, find_pretrained, load_weights
from .config import NEPERS, MelConfig, mel_filterbank
from .general import GeneralMelNet
from .inversion import MelInversion
from .network import MelInversionNet

NETWORKS = ("auto", "general", "none")
# The network for any mel spectrogram, and the one for these bands.
GENERAL_WEIGHTS = FOLDER / "mel-general" / "front_end.ckpt"
TRAINED = MelConfig(StftConfig(22050, n_fft=1024, hop_length=256))
WEIGHTS = FOLDER / "mel80-22050" / "front_end.ckpt"
# A window that is padded more is inverted on a transform of its own length: by
# validation better, and in half the time.
MOST_PADDED = 1.6
TRAINED_UPDATES = 4  # trained with ten; as good, on validation recordings


def mel_front_end(config, network="auto", n_iter=10):
    """What turns a mel spectrogram into magnitudes that can be inverted.

    The packaged network for its bands, whatever stands for them; the general
    network for others like those of its training, see `resembles_training`;
    multiplicative updates alone for the rest. Where the window is much
    shorter than the transform, the magnitudes are those of a shorter
    transform with the same window: ``front_end.config.stft`` says which.

    Arguments
    ---------
    config : MelConfig
        The convention.
    network : str
        "auto", as above; "general", that network for any convention; "none",
        the updates alone.
    n_iter : int
        Updates, where there is no network.

    Returns
    -------
    front_end : torch.nn.Module
        `MelInversionNet`, `GeneralMelNet` or `MelInversion`, in evaluation
        mode.

    Raises
    ------
    TypeError, ValueError
        If `config` is no `MelConfig`, or `network` none of the three.

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
    if network not in NETWORKS:
        raise ValueError(
            f"network must be one of {', '.join(NETWORKS)}, got {network!r}."
        )
    with torch.device("cpu"):
        if network == "auto" and _bands(config) == _bands(TRAINED):
            front_end = MelInversionNet(config, n_iter=TRAINED_UPDATES)
            load_weights(front_end, WEIGHTS)
        elif network == "general" or (
            network == "auto" and resembles_training(config)
        ):
            front_end = GeneralMelNet(_served(config))
            load_weights(front_end, GENERAL_WEIGHTS)
        else:
            front_end = MelInversion(_served(config), n_iter)
    return front_end.to(torch.get_default_device()).eval()


def resembles_training(config):
    """Whether the general network is trained on conventions like this one.

    Arguments
    ---------
    config : MelConfig
        The convention.

    Example
    -------
    >>> from speechbrain_phaseinv.mel import mel_preset
    >>> resembles_training(mel_preset("vocos-24000"))
    True
    >>> resembles_training(MelConfig(StftConfig(8000, 256), 40, f_max=4000))
    False
    """
    stft = config.stft
    seconds = stft.win_length / stft.sample_rate
    return (
        16000 <= stft.sample_rate <= 48000
        and 0.0155 <= seconds <= 0.13
        and 0.19 <= stft.hop_length / stft.win_length <= 0.51
        and stft.n_fft <= 2 * stft.win_length
        and 64 <= config.n_mels <= min(128, 0.65 * stft.num_bins)
        and config.f_min <= 130
        and config.f_max >= 6500
        and config.power in (1, 2)
    )


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

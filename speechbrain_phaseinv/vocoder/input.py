"""What a vocoder takes: the shapes, the values and the lengths, checked."""

import math

import torch

from ..checks import check_lengths, length_tensor
from ..mel import available_mels, mel_preset
from ..mel.recognise import check_mel

INPUTS = ("log_mel", "log_magnitude", "magnitude")

# Range of natural logarithms of magnitudes: full scale has about 6 in a bin,
# and no convention takes logarithms of less than 1e-10.
LOWEST, HIGHEST = -25.0, 10.0


def check_shape(spectrogram, kind, bands, bins):
    """Refuse a spectrogram that is not [batch, bands, time].

    Arguments
    ---------
    spectrogram : torch.Tensor
        What a user passed.
    kind : str
        One of `INPUTS`.
    bands, bins : int
        Of the input, and of the transform.
    """
    shape = list(spectrogram.shape)
    if len(shape) == 3 and shape[1] == bands:
        return
    hint = "The spectrogram has to be that of the training."
    if len(shape) == 2:
        hint = "Use decode_spectrogram for a single one."
    elif len(shape) == 3 and shape[2] == bands:
        hint = "Time and frequency look swapped: .transpose(1, 2)."
    elif len(shape) == 3 and bins in (bands, shape[1]):
        takes, name = "linear magnitudes", "linear-22050"
        if bands == bins:
            takes, name = "80 mel bands", "mel80-22050"
        hint = f"from_hparams(source={name!r}) takes {takes}."
    elif len(shape) == 3 and kind == "log_mel":
        names = [
            name
            for name in available_mels()
            if mel_preset(name).n_mels == shape[1]
        ]
        if names:
            hint = "from_hparams(source='mel', mel=...) takes these bands: "
            hint += f"{', '.join(names)}."
    raise ValueError(
        f"expected {kind} [batch, {bands}, time], got shape {shape}. {hint}"
    )


def check_values(frames, kind, mel=None, whole=True):
    """Refuse values that are not those of the input.

    Arguments
    ---------
    frames : torch.Tensor, [batch, time, bands]
    kind : str
        One of `INPUTS`.
    mel : MelConfig, optional
        The convention of log-mels.
    whole : bool
        Whether this is a whole spectrogram: see `check_mel`.
    """
    if not frames.numel():
        return
    if kind == "log_mel":
        check_mel(frames, mel, whole)
        return
    low, high = (x.item() for x in torch.aminmax(frames))
    if math.isnan(low) or high == math.inf:
        raise ValueError("the spectrogram holds NaN or infinite values.")
    if kind == "magnitude" and low < 0:
        raise ValueError(
            f"magnitudes must not be negative, got {low:g}. For natural "
            "logarithms: from_hparams(..., overrides={'input': "
            "'log_magnitude'})."
        )
    # The logarithm of zero is allowed.
    low = frames.masked_fill(frames == -math.inf, 0).min().item()
    if kind == "log_magnitude" and (low < LOWEST or high > HIGHEST):
        raise ValueError(
            "expected natural logarithms of magnitudes, got values from "
            f"{low:g} to {high:g}, which look like decibels, powers, or "
            "no logarithms at all."
        )
    if kind == "log_magnitude" and whole and low >= 0 and high > 0:
        raise ValueError(
            "expected natural logarithms of magnitudes, most of them "
            f"negative, got {low:g} to {high:g}. Without a logarithm? "
            "Then pass spectrogram.clamp_min(1e-5).log()."
        )


def count_frames(mel_lens, frames):
    """Valid frames of each, from counts or shares.

    Arguments
    ---------
    mel_lens : torch.Tensor, numpy.ndarray or list, [batch]
        Integers, or floats up to 1, shares of the longest.
    frames : torch.Tensor, [batch, time, bands]

    Returns
    -------
    lengths : torch.Tensor, [batch], int64
    """
    mel_lens = length_tensor(mel_lens)
    if mel_lens.is_floating_point() and mel_lens.shape == frames.shape[:1]:
        mel_lens = mel_lens.double()
        if ((mel_lens >= 0) & (mel_lens <= 1)).all():
            mel_lens = (mel_lens * frames.shape[1]).round()
        if (mel_lens != mel_lens.round()).any():
            raise ValueError(
                "mel_lens must be numbers of frames, or shares up to 1 of the "
                f"longest, got {mel_lens.tolist()}."
            )
        # NaN is refused above, and beyond int64 nothing is a length.
        mel_lens = mel_lens.clamp(-1, 1e9).long()
    return check_lengths(mel_lens, frames)

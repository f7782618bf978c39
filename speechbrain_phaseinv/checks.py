"""What comes in at every public door: magnitudes, lengths, whole numbers.

One home for the rules and for their messages. Each function returns its
argument in the form that the package computes with, or raises a TypeError or
a ValueError that says what was expected, what came, and what to do.
"""

import operator

import numpy as np
import torch

from .backends import is_traced

# Largest magnitude, relative to the largest number of its precision: sums
# over bins, frames and iterations stay finite.
LOUDEST = 1e-6


def check_magnitude(magnitude, config):
    """Magnitudes that can be inverted, or an error that helps.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Real, not negative, and far from overflow. Whole numbers and half
        precision are made floats; what is all but zero becomes zero.
    config : StftConfig
        The transform.

    Returns
    -------
    magnitude : torch.Tensor, [batch, time, freq]
        Single or double precision.

    Example
    -------
    >>> from speechbrain_phaseinv.config import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> check_magnitude(torch.ones(1, 3, 257).half(), config).dtype
    torch.float32
    """
    magnitude = check_real(magnitude)
    if magnitude.dim() != 3 or magnitude.shape[-1] != config.num_bins:
        raise ValueError(_explain_shape(magnitude, config))
    if magnitude.numel() == 0 or is_traced():
        return magnitude
    low, high = _extremes(magnitude)
    quietest, limit = accepted(magnitude.dtype)
    if not (low >= 0 and high <= limit):
        hint = ""
        if low < 0:
            hint = (
                " A log-magnitude needs .exp() first, a spectrogram in dB "
                "10 ** (x / 20), a masked one perhaps .clamp(min=0)."
            )
        raise ValueError(
            "magnitudes must be finite and not negative, and at most "
            f"{limit:.2g}, got values from {low:g} to {high:g}.{hint}"
        )
    if low < quietest and _holds_traces(magnitude, quietest):
        magnitude = torch.nn.functional.threshold(magnitude, quietest, 0)
    return magnitude


def accepted(dtype):
    """The magnitude up to which all counts as silence, and the largest one.

    In singles the first is 1e-31: roundings of what is smaller are subnormal,
    inexact, and five to fifteen times slower.
    """
    limits = torch.finfo(dtype)
    return limits.tiny / limits.eps, LOUDEST * limits.max


def _holds_traces(magnitude, quietest):
    """Whether there is something between zero and the quietest magnitude.

    Zeros alone, which are common, then cost no copy of a whole spectrogram.
    """
    blocks = magnitude.split(1024, dim=1)
    return any(bool(((x > 0) & (x <= quietest)).any()) for x in blocks)


def _extremes(x):
    """Smallest and largest value, NaN if there is one."""
    if x.is_cpu:  # NumPy takes a third of the time for a frame of a stream
        x = x.numpy(force=True)
        return float(x.min()), float(x.max())
    return tuple(value.item() for value in torch.aminmax(x.detach()))


def check_real(x, name="magnitudes"):
    """A real tensor in single or double precision, or a TypeError.

    Whole numbers and half precision are made floats; `name` says in the
    message what was expected.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(
            f"expected {name} as a torch.Tensor, got {type(x).__name__}."
        )
    if x.is_complex():
        raise TypeError(
            f"expected real {name}, got a complex tensor: pass its .abs() "
            "where magnitudes are meant."
        )
    if x.dtype in (torch.float32, torch.float64):
        return x
    double = torch.get_default_dtype() == torch.float64
    return x.to(torch.float64 if double else torch.float32)


def check_lengths(lengths, magnitude):
    """Numbers of valid frames that go with magnitudes, or an error that helps.

    Arguments
    ---------
    lengths : torch.Tensor, numpy.ndarray, list or tuple, [batch]
        Numbers of frames, integers of any type.
    magnitude : torch.Tensor, [batch, time, ...]
        The spectrograms that they count.

    Returns
    -------
    lengths : torch.Tensor, [batch], int64
        On the device of `magnitude`.

    Example
    -------
    >>> check_lengths([2, 3], torch.ones(2, 3, 257))
    tensor([2, 3])
    """
    batch, time = magnitude.shape[:2]
    lengths = length_tensor(lengths)
    dtype = lengths.dtype
    whole = not (dtype.is_floating_point or dtype.is_complex)
    if lengths.shape != (batch,) or not whole or dtype == torch.bool:
        raise ValueError(
            f"expected {batch} integer lengths in frames, one for each "
            f"spectrogram, got {dtype} of shape {list(lengths.shape)}."
        )
    lengths = lengths.to(magnitude.device, torch.int64)
    if is_traced():
        return lengths
    if ((lengths < 0) | (lengths > time)).any():
        raise ValueError(
            f"lengths must lie in [0, {time}], the number of frames, got "
            f"{lengths.tolist()}."
        )
    return lengths


def check_integer(name, value, low=0, high=None):
    """A whole number from `low` to `high`, or an error with its name.

    Example
    -------
    >>> check_integer("n_iter", 4)
    4
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}.") from None
    if number < low or (high is not None and number > high):
        least = {0: "not be negative", 1: "be positive"}.get(low)
        if high is not None or least is None:
            least = f"lie in [{low}, {high}]"
        raise ValueError(f"{name} must {least}, got {number}.")
    return number


def check_batch(frames, batch):
    """Frames of as many signals as those before, or a ValueError.

    `batch` is None where there are none before.
    """
    if batch is not None and len(frames) != batch:
        raise ValueError(
            f"expected a batch of {batch}, as in the frames before, got "
            f"{len(frames)}. Use a stream for each, or reset() this one."
        )


def check_momentum(momentum):
    """The momentum of fast Griffin-Lim, in [0, 1), or a ValueError."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}.")
    return momentum


def explain_bins(bins):
    """What to do with a spectrogram of so many bins, if it looks like mels."""
    if bins not in (40, 64, 80, 100, 128):
        return ""
    return (
        f" {bins} bins look like a mel spectrogram: turn it into linear "
        "magnitudes first."
    )


def length_tensor(lengths):
    """Lengths as a tensor; a list or an array goes to the CPU."""
    if isinstance(lengths, torch.Tensor):
        return lengths
    array = np.asarray(lengths)
    if array.dtype.kind in "iu" or array.size == 0:
        array = array.astype(np.int64)
    elif array.dtype.kind == "f":
        array = array.astype(np.float64)
    elif array.dtype.kind != "b":
        raise ValueError(f"expected integer lengths, got {lengths!r}.")
    return torch.from_numpy(array)


def _explain_shape(magnitude, config):
    """What is wrong with a spectrogram's shape, and what to do."""
    shape = list(magnitude.shape)
    message = (
        f"expected magnitudes [batch, time, {config.num_bins}] for n_fft = "
        f"{config.n_fft}, got shape {shape}."
    )
    if magnitude.dim() == 3 and shape[1] == config.num_bins:
        return f"{message} Time and frequency look swapped: .transpose(1, 2)."
    hint = explain_bins(shape[-1]) if shape else ""
    if not hint and magnitude.dim() == 2:
        hint = " Add the batch axis: use .unsqueeze(0)."
    return message + hint

"""Arrays of magnitudes from files, of any size: read when they are used."""

from pathlib import Path

import numpy as np


def open_magnitude(path, n_fft=None):
    """Open magnitudes that `numpy.save` wrote, in either order of the axes.

    Returns the file's values, [channels, time, freq], which are read when they
    are used (by way of `as_magnitude`), and n_fft. Without n_fft, the axis is
    frequency that makes it a power of two; if both do, [freq, time] is meant,
    the order of torchaudio and librosa.
    """
    array = _open(path)
    axis, n_fft = _frequency_axis(path, array.shape[-2:], n_fft)
    array = array.reshape(-1, *array.shape[-2:])
    return (array.swapaxes(1, 2) if axis == 0 else array), n_fft


def read_mel(path, n_mels):
    """A mel spectrogram of either order of the axes, [channels, n_mels, time].

    If both axes are as long as it has bands, [n_mels, time] is meant.
    """
    array = _open(path)
    shape = list(array.shape)
    if n_mels not in shape[-2:]:
        raise ValueError(
            f"{path}: neither axis of {shape} has the {n_mels} bands of this "
            "convention. Is it another one?"
        )
    array = array.reshape(-1, *shape[-2:]).astype(np.float32)
    return array if shape[-2] == n_mels else array.swapaxes(1, 2)


def _open(path):
    """The array of a file, read when it is used, of two or three axes."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:  # nothing to map, or no array at all
            array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path}: cannot be read as a .npy array of numbers. Write one "
            "with numpy.save(path, magnitude)."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"{path}: expected one array in a .npy file, got an archive of "
            f"{len(array.files)}. Save one of them with numpy.save."
        )
    if array.dtype.kind == "c":
        raise TypeError(
            f"{path}: expected magnitudes, got a complex array. Save "
            "numpy.abs of it."
        )
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{path}: expected numbers, got {array.dtype}.")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            f"{path}: expected an array [freq, time], [time, freq] or with "
            f"channels before, got shape {list(array.shape)}."
        )
    return array


def as_magnitude(path, array, power=1.0):
    """Values of a file, raised to `power`, as magnitudes of any precision."""
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}.")
    wide = array.dtype.itemsize >= 8 and array.dtype.kind == "f"
    array = array.astype(np.float64 if wide else np.float32)
    low, high = array.min(), array.max()
    if not (low >= 0 and high < np.inf):
        raise ValueError(
            f"{path}: magnitudes must be finite and not negative, got values "
            f"from {low:g} to {high:g}. A log-magnitude needs numpy.exp "
            "first, decibels 10 ** (x / 20)."
        )
    return np.ascontiguousarray(array ** (1 / power))


def _frequency_axis(path, shape, n_fft):
    """Which of two axes is frequency, and the length of the transform."""
    shown = f"{path}: neither axis of {list(shape)}"
    mel = " It looks like a mel spectrogram: give its convention with --mel."
    hint = mel if {40, 64, 80, 100, 128} & set(shape) else ""
    if n_fft is not None:
        fits = [axis for axis in (0, 1) if shape[axis] == n_fft // 2 + 1]
        if not fits:
            raise ValueError(
                f"{shown} has the {n_fft // 2 + 1} bins of n_fft = {n_fft}."
                + hint
            )
        return fits[0], n_fft
    fits = [axis for axis in (0, 1) if _is_power_of_two(shape[axis] - 1)]
    if len(fits) == 2 and shape[0] != shape[1]:
        raise ValueError(
            f"{path}: both axes of {list(shape)} could be frequency. Give "
            "--n-fft."
        )
    if not fits:
        raise ValueError(
            f"{shown} is n_fft // 2 + 1 of a power of two. Give --n-fft." + hint
        )
    return fits[0], 2 * (shape[fits[0]] - 1)


def _is_power_of_two(number):
    """Whether a number is one of 16, 32, 64..."""
    return number >= 16 and number & (number - 1) == 0

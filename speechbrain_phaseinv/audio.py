"""Files in, files out: recordings and arrays of magnitudes.

What is wrong with a file is a `ValueError` or an `OSError` whose message is
one line that names it. What is written appears whole or not at all.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

# Formats that are written, and the sample formats that each can hold.
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
# What is looked for in a folder: what libsndfile reads.
READABLE = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au"}


def read_audio(path):
    """Read a recording of any rate and any number of channels.

    Arguments
    ---------
    path : str or Path
        A file that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF...

    Returns
    -------
    waveform : numpy.ndarray, [channels, samples], float32
        Full scale is 1.
    sample_rate : int
        In Hz.
    subtype : str
        libsndfile's name of the sample format, such as "PCM_16".

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no audio file, is empty, or holds NaN or infinite samples.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.is_dir():
        raise ValueError(f"{path}: expected an audio file, got a folder.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty, 0 bytes.")
    try:
        with soundfile.SoundFile(path) as file:
            waveform = file.read(dtype="float32", always_2d=True).T
            sample_rate, subtype = file.samplerate, file.subtype
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise ValueError(
            f"{path}: cannot be read as audio ({reason}). Expected a WAV, "
            "FLAC, OGG or MP3 file."
        ) from error
    if waveform.shape[1] == 0:
        raise ValueError(f"{path}: the recording is empty, 0 samples.")
    if not np.isfinite(waveform).all():
        raise ValueError(f"{path}: the recording holds NaN or infinity.")
    return np.ascontiguousarray(waveform), sample_rate, subtype


def write_audio(path, waveform, sample_rate, subtype=None):
    """Write a recording, whole or not at all.

    Arguments
    ---------
    path : str or Path
        Its ending, .wav, .flac or .ogg, decides the format.
    waveform : numpy.ndarray, [channels, samples], float
        Full scale is 1.
    sample_rate : int
        In Hz.
    subtype : str, optional
        Sample format, such as "PCM_24". Default: the format's own, 16 bit
        for WAV and FLAC.

    Returns
    -------
    clipped : int
        Samples beyond full scale that the sample format cut off.
    """
    kind = check_writable(path, FORMATS)
    check_subtype(kind, subtype)
    subtype = subtype or soundfile.default_subtype(kind)
    clipped = 0
    if subtype not in ("FLOAT", "DOUBLE"):
        clipped = int((np.abs(waveform) > 1).sum())
        waveform = np.clip(waveform, -1, 1)
    with replacing(path) as temporary:
        try:
            soundfile.write(
                temporary, waveform.T, sample_rate, subtype, format=kind
            )
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
            raise OSError(f"{path}: cannot be written ({reason}).") from error
    return clipped


def read_magnitude(path, n_fft=None, power=1.0):
    """Read magnitudes that `numpy.save` wrote, in either order of the axes.

    Arguments
    ---------
    path : str or Path
        A .npy file of a real array, [freq, time] or [time, freq], or of
        three axes with channels first.
    n_fft : int, optional
        Length of the transform, in samples. The axis of ``n_fft // 2 + 1``
        entries is frequency; if both are, the order is [freq, time], that of
        torchaudio and librosa. Default: whichever axis makes it a power of
        two, ``2 * (bins - 1)``.
    power : float
        Exponent that the magnitudes were raised to: 1 for magnitudes, 2 for
        a power spectrogram.

    Returns
    -------
    magnitude : numpy.ndarray, [channels, time, freq], float
        Single precision, or double where the file has it.
    n_fft : int
        Given or found.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}.")
    try:
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
    axis, n_fft = _frequency_axis(path, array.shape[-2:], n_fft)
    wide = array.dtype.itemsize >= 8 and array.dtype.kind == "f"
    array = array.astype(np.float64 if wide else np.float32)
    array = array.reshape(-1, *array.shape[-2:])
    low, high = array.min(), array.max()
    if not (low >= 0 and high < np.inf):
        raise ValueError(
            f"{path}: magnitudes must be finite and not negative, got values "
            f"from {low:g} to {high:g}. A log-magnitude needs numpy.exp "
            "first, decibels 10 ** (x / 20)."
        )
    if axis == 0:
        array = array.swapaxes(1, 2)
    return np.ascontiguousarray(array ** (1 / power)), n_fft


def resample(waveform, sample_rate, target_rate):
    """Change the sample rate of a waveform [..., samples], with soxr."""
    if sample_rate == target_rate:
        return waveform
    rows = waveform.reshape(-1, waveform.shape[-1]).T
    rows = soxr.resample(rows, sample_rate, target_rate)
    return rows.T.reshape(*waveform.shape[:-1], -1)


def kept_subtype(kind, subtype):
    """An input's sample format, where it is uncompressed and fits."""
    plain = subtype.startswith("PCM_") or subtype in ("FLOAT", "DOUBLE")
    fits = soundfile.check_format(kind, subtype)
    return subtype if plain and fits else None


def check_subtype(kind, subtype):
    """An error if a format cannot hold samples of the wanted kind."""
    if subtype is not None and not soundfile.check_format(kind, subtype):
        raise ValueError(
            f"{kind} files cannot hold {subtype!r} samples. Expected one of "
            f"{', '.join(soundfile.available_subtypes(kind))}."
        )


def check_writable(path, formats):
    """The format of a file to be written, or an error before any work."""
    path = Path(path)
    kind = formats.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"{path}: expected a name that ends in "
            f"{', '.join(formats)}, got {path.suffix or 'none of them'!r}."
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: the output folder {path.parent} does not exist. Create "
            "it first."
        )
    return kind


@contextmanager
def replacing(path):
    """A temporary name beside a file, which takes its place at the end.

    If the block fails or is interrupted, the temporary file is removed and
    the file that was there before stays.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "notes.txt") as temporary:
    ...         size = Path(temporary).write_text("whole")
    ...     print((Path(folder) / "notes.txt").read_text())
    whole
    """
    path = Path(path).resolve()  # not the link, but what it leads to
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield str(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _frequency_axis(path, shape, n_fft):
    """Which of two axes is frequency, and the length of the transform."""
    shown = f"{path}: neither axis of {list(shape)}"
    mel = (
        " It looks like a mel spectrogram, which PhaseInversionVocoder takes, "
        "in Python."
    )
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

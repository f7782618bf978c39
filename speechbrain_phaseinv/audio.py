"""Recordings in, recordings out, whole or block by block.

What is wrong with a file is a `ValueError` or an `OSError` whose message is
one line that names it. What is written appears whole or not at all.
"""

import os
import re
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

# Formats that are written, and the sample formats that each can hold.
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
# What is looked for in a folder: what libsndfile reads.
READABLE = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au"}

# Beyond these a header is damaged: transforms of such a rate, and blocks of
# so many channels, would fill the memory. libsndfile has the same 1,024.
MAX_RATE = 10_000_000
MAX_CHANNELS = 1024

# From about this size on, in bytes, the header of a WAV file means "until the
# end": writers to a pipe put the largest number there, or round it down to
# whole sample frames.
UNTIL_THE_END = 0x7FFFF000

# Samples a write: libsndfile's Vorbis crashes in a write of minutes.
WRITE_SAMPLES = 1 << 14
READ = "cannot be read as audio ({}). Expected a WAV, FLAC, OGG or MP3 file."
WRITE = "cannot be written ({})."


class AudioReader:
    """Read a recording block by block, in sequence, from a file or a pipe.

    Arguments
    ---------
    path : str or Path
        A file that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF...

    Attributes
    ----------
    sample_rate, channels, samples : int
        In Hz; their number; samples of each that have been read.
    subtype : str
        libsndfile's name of the sample format, such as "PCM_16".

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file; if it is no audio file, or its rate or
        channels are absurd. A truncated one is read, with a warning.
    """

    def __init__(self, path):
        self.path, self.samples = Path(path), 0
        if not self.path.exists():
            raise FileNotFoundError(f"{path}: no such file.")
        if self.path.is_dir():
            raise ValueError(f"{path}: expected an audio file, got a folder.")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise ValueError(f"{path}: the file is empty, 0 bytes.")
        with _explained(self.path, ValueError, READ):
            self._file = soundfile.SoundFile(_name(path))
        self.sample_rate = self._file.samplerate
        self.channels = self._file.channels
        self.subtype = self._file.subtype
        check_format(path, self.sample_rate, self.channels)
        self._warn_if_truncated()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def blocks(self, samples=1 << 16):
        """All of it, [channels, samples] each, float32, full scale 1.

        A recording that is empty, or holds NaN, is a `ValueError`.
        """
        more = True
        while more:
            with _explained(self.path, ValueError, READ):
                # A number of samples: some formats cannot look for the end.
                block = self._file.read(samples, "float32", always_2d=True).T
            more = block.shape[1] == samples
            if block.shape[1] + self.samples == 0:
                raise ValueError(
                    f"{self.path}: the recording is empty, 0 samples."
                )
            if not np.isfinite(block).all():
                raise ValueError(
                    f"{self.path}: the recording holds NaN or infinity."
                )
            self.samples += block.shape[1]
            if block.shape[1]:
                yield np.ascontiguousarray(block)

    def _warn_if_truncated(self):
        """libsndfile reads what there is, and notes it in its log only."""
        sizes = re.search(
            r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)",
            self._file.extra_info,
            re.MULTILINE,
        )
        if sizes is None:
            return
        stated, there = map(int, sizes.groups())
        if there < stated < UNTIL_THE_END - 8 * self.channels:
            warnings.warn(
                f"{self.path}: the file is truncated: its header states "
                f"{stated} bytes of samples, and {there} are there.",
                stacklevel=3,
            )


def read_audio(path):
    """Read a recording of any rate and any number of channels.

    Arguments
    ---------
    path : str or Path
        See `AudioReader`, also for what is refused.

    Returns
    -------
    waveform : numpy.ndarray, [channels, samples], float32
        Full scale is 1.
    sample_rate : int
        In Hz.
    subtype : str
        libsndfile's name of the sample format, such as "PCM_16".
    """
    with AudioReader(path) as reader:
        waveform = np.concatenate([*reader.blocks()], axis=1)
    return waveform, reader.sample_rate, reader.subtype


class AudioWriter:
    """Write a recording block by block; it appears whole or not at all.

    Arguments
    ---------
    path : str or Path
        Its ending, .wav, .flac or .ogg, decides the format.
    sample_rate, channels : int
        In Hz, and the number of channels.
    subtype : str, optional
        Sample format, such as "PCM_24". Default: the format's own, 16 bit
        for WAV and FLAC.

    Attributes
    ----------
    samples, clipped : int
        Of each channel so far; those that the sample format cut off, of all.
    peak : float
        The largest absolute value so far.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with AudioWriter(Path(folder) / "x.wav", 8000, 1) as writer:
    ...         writer.write(np.full((1, 80), 1.5))
    >>> writer.samples, writer.clipped, writer.peak
    (80, 80, 1.5)
    """

    def __init__(self, path, sample_rate, channels, subtype=None):
        kind = check_writable(path, FORMATS)
        check_subtype(kind, subtype)
        subtype = subtype or soundfile.default_subtype(kind)
        self.path, self.peak = path, 0.0
        self.samples = self.clipped = 0
        self._floats = subtype in ("FLOAT", "DOUBLE")
        self._settings = "w", sample_rate, channels, subtype, None, kind

    def __enter__(self):
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            stack.enter_context(_explained(self.path, OSError, WRITE))
            self._file = soundfile.SoundFile(_name(temporary), *self._settings)
            stack.enter_context(self._file)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def write(self, waveform):
        """Append samples, [channels, samples], float, full scale 1."""
        for first in range(0, waveform.shape[1], WRITE_SAMPLES):
            block = waveform[:, first : first + WRITE_SAMPLES].T
            self.peak = max(self.peak, float(np.abs(block).max()))
            if not self._floats:
                self.clipped += int((np.abs(block) > 1).sum())
                block = np.clip(block, -1, 1)
            self._file.write(block)
        self.samples += waveform.shape[1]


def write_audio(path, waveform, sample_rate, subtype=None):
    """Write a recording, whole or not at all.

    Arguments
    ---------
    path, sample_rate, subtype
        See `AudioWriter`.
    waveform : numpy.ndarray, [channels, samples], float
        Full scale is 1.

    Returns
    -------
    clipped : int
        Samples beyond full scale that the sample format cut off.
    """
    with AudioWriter(path, sample_rate, len(waveform), subtype) as writer:
        writer.write(waveform)
    return writer.clipped


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


def check_format(name, sample_rate, channels):
    """An error if a rate in Hz or a number of channels is absurd."""
    if not (1 <= sample_rate <= MAX_RATE and 1 <= channels <= MAX_CHANNELS):
        raise ValueError(
            f"{name}: sample rate and channels must be positive, and at most "
            f"{MAX_RATE} Hz and {MAX_CHANNELS}, got {sample_rate} and "
            f"{channels}."
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
    check_place(path)
    return kind


def check_place(path):
    """An error if a file cannot be written because of where it would be."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: the output folder {path.parent} does not exist. Create "
            "it first."
        )


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


@contextmanager
def _explained(path, kind, text):
    """Errors of libsndfile name the file."""
    try:
        yield
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise kind(f"{path}: {text.format(reason)}") from error


def _name(path):
    """A name that soundfile opens even where it is no UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)

"""Samples from and to pipes and files, block by block: WAV, or raw.

`audio` reads and writes recordings; this is for sound that has not ended. A
read that waits for sound has to give way to a signal, which libsndfile's does
not, and libsndfile writes no WAV to a pipe.
"""

import os
import stat
import struct
import sys
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..audio import UNTIL_THE_END, check_format, check_place, replacing

# Encodings that are read: the tag of a WAV file, bytes, NumPy's type, and full
# scale.
ENCODINGS = {
    "u8": (1, 1, "u1", 2**7),
    "s16le": (1, 2, "<i2", 2**15),
    "s24le": (1, 3, "u1", 2**31),  # three bytes, the upper ones of four
    "s32le": (1, 4, "<i4", 2**31),
    "f32le": (3, 4, "<f4", 1),
    "f64le": (3, 8, "<f8", 1),
}
TAGS = {(tag, 8 * n): name for name, (tag, n, *_) in ENCODINGS.items()}


class Format(NamedTuple):
    """What the bytes of raw samples mean; the rate is in Hz."""

    sample_rate: int
    channels: int
    encoding: str

    @property
    def width(self):
        """Bytes of one sample of all channels."""
        return ENCODINGS[self.encoding][1] * self.channels


class SampleReader:
    """Blocks of samples from an unbuffered file or pipe, raw or WAV."""

    def __init__(self, file, name, format=None):
        self._file, self._buffer = file, bytearray()
        self._left = float("inf")  # bytes of samples still to be read
        self.name = name
        self.format = format or self._header()

    @property
    def missing(self):
        """Bytes of samples that the header states, and that have not come."""
        return self._left if self._left < float("inf") else 0

    def read(self, samples):
        """The next samples of each channel, [channels, samples], full scale 1.

        Waits until they are there; there are fewer at the end. If a signal
        handler raises meanwhile, nothing is lost.
        """
        width = self.format.width
        data = self._take(min(samples * width, self._left))
        self._left -= len(data)
        data = data[: len(data) // width * width]
        waveform = decode(data, self.format.encoding)
        waveform = waveform.reshape(-1, self.format.channels).T
        return np.ascontiguousarray(waveform)

    def _take(self, size):
        """`size` bytes, or fewer at the end."""
        while len(self._buffer) < size:  # never more at once than there is
            more = self._file.read(min(int(size) - len(self._buffer), 1 << 20))
            if not more:
                break
            self._buffer += more
        data = bytes(self._buffer[: int(size)])
        del self._buffer[: len(data)]
        return data

    def _header(self):
        """Read up to the first sample of a WAV file."""
        riff = self._take(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            raise ValueError(
                f"{self.name}: expected a WAV header, got "
                f"{riff[:12]!r}. For samples without a header pass --raw; "
                "for other formats, sox or ffmpeg -f wav in front."
            )
        format = None
        while True:
            chunk = self._take(8)
            if len(chunk) < 8:
                raise ValueError(f"{self.name}: the WAV file has no samples.")
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data" and format is not None:
                # SoX rounds its "unknown" down to whole sample frames.
                if 0 < size <= UNTIL_THE_END - format.width:
                    self._left = size
                return format
            # Chunks begin at even places.
            content = self._take(size + size % 2)
            if name == b"fmt " and len(content) >= 16:
                format = self._describe(content)

    def _describe(self, content):
        """Sample rate, channels and encoding, as the chunk "fmt " has it."""
        tag, channels, rate = struct.unpack("<HHI", content[:8])
        bits = struct.unpack("<H", content[14:16])[0]
        if tag == 0xFFFE and len(content) >= 26:  # extensible
            tag = struct.unpack("<H", content[24:26])[0]
        if (tag, bits) not in TAGS:
            raise ValueError(
                f"{self.name}: cannot read WAV format {tag} with {bits} bits. "
                "Expected PCM of 8 to 32 bits or floats; convert it with sox "
                "or ffmpeg."
            )
        check_format(self.name, rate, channels)
        return Format(rate, channels, TAGS[tag, bits])


class SampleWriter:
    """Blocks of samples to an unbuffered file or pipe, each written at once.

    Beyond 16 bits `clipped` samples are cut off. The sizes in a header mean
    "until the end", until `close` puts them right where a file can be rewound.
    """

    def __init__(self, file, format, header=True):
        self._file, self._format = file, format
        self.clipped = self.samples = 0
        self._header = wav_header(format) if header else b""
        self._write(self._header)

    def write(self, waveform):
        """Write samples, [channels, samples], float."""
        encoding = self._format.encoding
        data, clipped = encode(waveform.T.reshape(-1), encoding)
        self.clipped += clipped
        self._write(data)
        self.samples += waveform.shape[1]

    def close(self):
        """Put the sizes into the header, if it can be reached."""
        if self._header and _can_rewind(self._file):
            self._file.seek(0)
            self._write(wav_header(self._format, self.samples))
            self._file.seek(0, os.SEEK_END)

    def _write(self, data):
        while data:
            data = data[self._file.write(data) :]


def decode(data, encoding):
    """Bytes to samples of full scale 1, float32."""
    *_, kind, scale = ENCODINGS[encoding]
    numbers = np.frombuffer(data, kind)
    if encoding == "s24le":
        wide = np.zeros((len(numbers) // 3, 4), "u1")
        wide[:, 1:] = numbers.reshape(-1, 3)
        numbers = wide.view("<i4")[:, 0]
    if encoding == "u8":
        numbers = numbers.astype(np.int16) - 128
    with np.errstate(all="ignore"):  # floats may be anything
        return (numbers / scale).astype(np.float32)


def encode(samples, encoding):
    """Samples to bytes, "s16le" or "f32le", and how many were clipped."""
    if encoding == "f32le":
        return samples.astype("<f4").tobytes(), 0
    scaled = np.rint(np.asarray(samples, np.float64) * 2**15)
    inside = np.clip(scaled, -(2**15), 2**15 - 1)
    # One step beyond the largest number is rounding, no clipping.
    clipped = int((np.abs(scaled - inside) > 1).sum())
    return inside.astype("<i2").tobytes(), clipped


def wav_header(format, samples=None):
    """What precedes samples in a WAV file; None of them: until the end."""
    rate, channels, encoding = format
    tag, size, *_ = ENCODINGS[encoding]
    width, most = format.width, 0xFFFFFFFF
    data = most if samples is None else samples * width
    fmt = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * width, width, 8 * size
    )
    fact = b""
    if tag == 3:  # all but PCM: an empty extension, and the length
        fmt += struct.pack("<H", 0)
        count = most if samples is None else min(samples, most)
        fact = struct.pack("<4sII", b"fact", 4, count)
    middle = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + fact
    total = 4 + len(middle) + 8 + data
    if total > most:
        total = data = most
    riff = struct.pack("<4sI4s", b"RIFF", total, b"WAVE")
    return riff + middle + struct.pack("<4sI", b"data", data)


def open_input(path):
    """A file, or standard input for "-", unbuffered; and its name."""
    if path != "-":
        return open(path, "rb", buffering=0), path
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise ValueError(
            f"expected audio on standard input, which is {state}. Name a "
            "file, or pipe something in."
        )
    return open(0, "rb", buffering=0, closefd=False), "standard input"


@contextmanager
def open_output(path, overwrite=False, source=None):
    """A file, or standard output for "-", unbuffered.

    A file appears whole, at the end. One that exists is replaced only with
    `overwrite`, and `source`, an open file, never.
    """
    if path == "-":
        if sys.stdout is None or sys.stdout.isatty():
            state = "closed" if sys.stdout is None else "a terminal"
            raise ValueError(
                f"standard output is {state}, which plays no audio. Name a "
                "file, or pipe it into something."
            )
        with open(1, "wb", buffering=0, closefd=False) as file:
            yield file
        return
    check_place(path)
    if os.path.isfile(path):
        if source and os.path.samestat(
            os.stat(path), os.fstat(source.fileno())
        ):
            raise ValueError(f"{path}: would replace its own input.")
        if not overwrite:
            raise FileExistsError(
                f"{path}: exists already. Pass --overwrite to replace it."
            )
    elif os.path.exists(path):  # a pipe or a device
        with open(path, "wb", buffering=0) as file:
            yield file
        return
    with replacing(path) as temporary:
        with open(temporary, "wb", buffering=0) as file:
            yield file


def _can_rewind(file):
    """Whether a file is ours from its start, and writes anywhere."""
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return False
    except (OSError, AttributeError):  # in memory
        return file.seekable()
    try:
        import fcntl
    except ImportError:  # no append mode to look for
        return True
    return not fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND

"""SpeechBrain's own dialect: a vocoder for text-to-speech.

`PhaseInversionVocoder` stands where SpeechBrain's HIFIGAN stands, and
`Resynthesizer` where ``resynthesize`` does. This is the only module that
needs speechbrain, and with it torchaudio.
"""

import math
from pathlib import Path

import torch

from .pretrained import FOLDER
from .resynthesizer import Resynthesizer

try:
    from speechbrain.inference.interfaces import Pretrained
    from speechbrain.utils.fetching import FetchConfig
except (ImportError, OSError, RuntimeError, AttributeError) as error:
    raise ImportError(
        "speechbrain cannot be imported. It needs torchaudio, whose last "
        "release, 2.11, loads only beside torch 2.11 or 2.12: "
        'pip install "torch<2.13" "torchaudio<2.12" "speechbrain>=1.1.2"'
    ) from error

__all__ = ["PhaseInversionVocoder", "Resynthesizer", "available_vocoders"]

INPUTS = ("log_mel", "log_magnitude", "magnitude")

# Natural logarithms of speech lie well inside: full scale has about 2 in a
# mel band and 6 in a bin, and nobody takes logarithms of less than 1e-10.
LOWEST = -25.0
HIGHEST = {"log_mel": 4.0, "log_magnitude": 10.0}


def available_vocoders():
    """Names of the packaged vocoders, sorted.

    Example
    -------
    >>> available_vocoders()
    ('linear-22050', 'mel80-22050')
    """
    return tuple(
        sorted(x.parent.name for x in FOLDER.glob("*/hyperparams.yaml"))
    )


class PhaseInversionVocoder(Pretrained):
    """Speech from the spectrograms of a text-to-speech system.

    Made by `from_hparams`, of a packaged name or a folder. "mel80-22050"
    takes what SpeechBrain's Tacotron2 and FastSpeech2 put out: 80 bands,
    22.05 kHz, windows of 1024 samples and hops of 256, natural logarithms.
    "linear-22050" takes the magnitudes of the same transform.

    T frames give ``hop_length * (T - 1)`` samples, the distance between the
    first frame's centre and the last one's: a recording of a multiple of
    `hop_length` keeps its length. (HIFIGAN makes ``hop_length * (T + 10)``.)
    The output is the same every time, and parameters are frozen unless
    ``freeze_params=False``.

    Arguments
    ---------
    *args : tuple
    **kwargs : dict
        Those of ``speechbrain.inference.interfaces.Pretrained``. The
        hyperparameters have to hold `stft`, a `StftConfig`, and `input`, one
        of "log_mel", "log_magnitude" and "magnitude"; the modules "inverter",
        a `SpectrogramInverter`, and for mels "front_end", which turns them
        into magnitudes.

    Example
    -------
    >>> vocoder = PhaseInversionVocoder.from_hparams(source="mel80-22050")
    >>> vocoder.decode_batch(-2 * torch.rand(2, 80, 101)).shape
    torch.Size([2, 1, 25600])
    """

    HPARAMS_NEEDED = ["stft", "input"]
    MODULES_NEEDED = ["inverter"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not kwargs.get("freeze_params", True):
            self.mods.requires_grad_(True)  # packaged weights come frozen
        if self.hparams.input not in INPUTS:
            raise ValueError(
                f"input must be one of {', '.join(INPUTS)}, got "
                f"{self.hparams.input!r}."
            )
        if (self.hparams.input == "log_mel") != ("front_end" in self.mods):
            raise ValueError(
                "the module front_end turns log-mels into magnitudes: it is "
                "needed for the input 'log_mel', and for no other."
            )

    @classmethod
    def from_hparams(cls, source, hparams_file="hyperparams.yaml", **kwargs):
        """Build a vocoder from a packaged name or a local folder.

        Nothing is ever downloaded.

        Arguments
        ---------
        source : str or Path
            One of `available_vocoders`, or a folder like theirs.
        hparams_file : str
            Name of the YAML file in it.
        **kwargs : dict
            As in SpeechBrain: `overrides`, `run_opts`, `savedir` and so on.

        Returns
        -------
        vocoder : PhaseInversionVocoder

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or no such file in it.
        """
        folder = FOLDER / source  # `source` itself where that is absolute
        if not (folder / hparams_file).is_file():
            folder = Path(source)
        if not (folder / hparams_file).is_file():
            missing = f"{hparams_file} in it" if folder.is_dir() else "folder"
            raise FileNotFoundError(
                f"{str(source)!r}: there is no such {missing}. Expected one "
                f"of {', '.join(available_vocoders())}, or a local folder "
                f"with {hparams_file}; nothing is downloaded."
            )
        kwargs.setdefault("fetch_config", FetchConfig(allow_network=False))
        return super().from_hparams(str(folder), hparams_file, **kwargs)

    def decode_batch(self, spectrogram, mel_lens=None, hop_len=None):
        """Waveforms of a batch of spectrograms.

        Arguments
        ---------
        spectrogram : torch.Tensor, [batch, mels, time]
            Or [batch, freq, time], for a vocoder of linear magnitudes.
        mel_lens : torch.Tensor or list, [batch], optional
            Where shorter ones are padded: valid frames of each, or their
            share of the longest, as SpeechBrain counts (floats up to 1). Each
            gives the samples that it gives alone, then zeros. What stands in
            the padding does not matter.
        hop_len : int, optional
            There for HIFIGAN's callers. Must be the vocoder's own.

        Returns
        -------
        waveforms : torch.Tensor, [batch, 1, hop_length * (time - 1)]

        Raises
        ------
        TypeError, ValueError
            If the spectrogram is not what this vocoder was made for, as far
            as can be told, or `mel_lens` or `hop_len` do not fit it.
        """
        stft = self.hparams.stft
        if hop_len is not None and hop_len != stft.hop_length:
            raise ValueError(
                f"this vocoder's hops are of {stft.hop_length} samples, got "
                f"hop_len={hop_len!r}."
            )
        self._check_shape(spectrogram)
        device = next(self.mods.parameters()).device
        frames = spectrogram.transpose(1, 2).to(device, torch.float32)
        lengths = None
        if mel_lens is not None:
            lengths = _frames(mel_lens, *frames.shape[:2]).to(device)
            steps = torch.arange(frames.shape[1], device=device)
            padding = (steps >= lengths[:, None]).unsqueeze(-1)
            # Any valid value will do; the last frames are not touched by it.
            frames = frames.masked_fill(padding, -math.inf if self._log else 0)
        self._check_values(frames)
        with torch.no_grad():
            magnitude = self._magnitude(frames)
            return self.mods.inverter(magnitude, lengths).unsqueeze(1)

    def decode_spectrogram(self, spectrogram):
        """The waveform of one spectrogram.

        Arguments
        ---------
        spectrogram : torch.Tensor, [mels, time]
            Or [freq, time].

        Returns
        -------
        waveform : torch.Tensor, [1, hop_length * (time - 1)]
        """
        if isinstance(spectrogram, torch.Tensor) and spectrogram.dim() != 2:
            raise ValueError(
                "expected one spectrogram [mels, time], got shape "
                f"{list(spectrogram.shape)}: use decode_batch for a batch."
            )
        return self.decode_batch(spectrogram[None]).squeeze(0)

    def forward(self, spectrogram, mel_lens=None, hop_len=None):
        """As `decode_batch`."""
        return self.decode_batch(spectrogram, mel_lens, hop_len)

    @property
    def _log(self):
        return self.hparams.input.startswith("log")

    @property
    def _bands(self):
        if self.hparams.input == "log_mel":
            return self.mods.front_end.config.n_mels
        return self.hparams.stft.num_bins

    def _magnitude(self, frames):
        """Linear magnitudes, [batch, time, freq]."""
        if self.hparams.input == "log_mel":
            floor = math.log(self.mods.front_end.config.floor)
            return self.mods.front_end(frames.clamp_min(floor))[0]
        return frames.exp() if self._log else frames

    def _check_shape(self, spectrogram):
        """An error that helps unless it is [batch, bands, time], real."""
        if not isinstance(spectrogram, torch.Tensor):
            raise TypeError(
                f"expected a torch.Tensor, got {type(spectrogram).__name__}."
            )
        if spectrogram.is_complex():
            raise TypeError(
                "expected a real spectrogram, got a complex one: take its "
                ".abs()."
            )
        bands, shape = self._bands, list(spectrogram.shape)
        if len(shape) == 3 and shape[1] == bands:
            return
        message = (
            f"expected {self.hparams.input} [batch, {bands}, time], got shape "
            f"{shape}."
        )
        if len(shape) == 2:
            message += " Use decode_spectrogram for a single one."
        elif len(shape) == 3 and shape[2] == bands:
            message += " Time and frequency look swapped: .transpose(1, 2)."
        elif len(shape) == 3 and shape[1] == self.hparams.stft.num_bins:
            message += (
                " These look like linear magnitudes: from_hparams("
                "source='linear-22050') takes them."
            )
        elif len(shape) == 3 and bands == self.hparams.stft.num_bins:
            message += (
                " For a mel spectrogram, from_hparams(source='mel80-22050') "
                "takes one of 80 bands."
            )
        else:
            message += " The spectrogram has to be that of the training."
        raise ValueError(message)

    def _check_values(self, frames):
        """An error that helps where the values cannot be what they should."""
        if not frames.numel():
            return
        kind = self.hparams.input
        low, high = (x.item() for x in torch.aminmax(frames))
        if math.isnan(low) or high == math.inf:
            raise ValueError("the spectrogram holds NaN or infinite values.")
        if not self._log:
            if low < 0:
                raise ValueError(
                    f"magnitudes must not be negative, got {low:g}. For "
                    "natural logarithms: from_hparams(..., overrides="
                    "{'input': 'log_magnitude'})."
                )
            return
        # Logarithms of zero are taken as they are meant.
        low = frames.masked_fill(frames == -math.inf, 0).min().item()
        if low < LOWEST or high > HIGHEST[kind]:
            raise ValueError(
                f"expected {kind}, natural logarithms of magnitudes, got "
                f"values from {low:g} to {high:g}, which look like decibels, "
                "powers, normalised features or no logarithms at all."
            )
        if low >= 0 and high > 0:
            raise ValueError(
                f"expected {kind}, natural logarithms of magnitudes, most of "
                f"them negative, got {low:g} to {high:g}. Without a "
                "logarithm? Then pass spectrogram.clamp_min(1e-5).log()."
            )


def _frames(mel_lens, batch, time):
    """Valid frames of each, [batch], int64, from either way to count."""
    lengths = torch.as_tensor(mel_lens).detach().cpu()
    if lengths.shape != (batch,):
        raise ValueError(
            f"expected mel_lens of {batch} utterances, got shape "
            f"{list(lengths.shape)}."
        )
    if lengths.is_floating_point():
        lengths = lengths.double()
        if ((lengths >= 0) & (lengths <= 1)).all():
            lengths = lengths * time
        elif (lengths != lengths.round()).any():
            raise ValueError(
                "mel_lens must be numbers of frames, or shares up to 1 of the "
                f"longest, got {lengths.tolist()}."
            )
        lengths = lengths.round()
    lengths = lengths.long()
    if ((lengths < 0) | (lengths > time)).any():
        raise ValueError(
            f"mel_lens must lie in [0, {time}], the number of frames, got "
            f"{lengths.tolist()}."
        )
    return lengths

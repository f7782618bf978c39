"""SpeechBrain's dialect: a vocoder for text-to-speech.

`PhaseInversionVocoder` replaces SpeechBrain's HIFIGAN, and `Resynthesizer`
its ``resynthesize``; `TorchaudioVocoder` stands in torchaudio's bundles. Only
this module needs speechbrain, and with it torchaudio.
"""

import math

import torch

from .checks import check_real
from .inversion import SpectrogramInverter
from .mel import available_mels, mel_front_end, mel_preset
from .pretrained import FOLDER, find_folder
from .resynthesizer import Resynthesizer
from .vocoder.bundle import TorchaudioVocoder
from .vocoder.input import INPUTS, check_shape, check_values, count_frames
from .vocoder.stream import VocoderStream

try:
    from speechbrain.inference.interfaces import Pretrained
    from speechbrain.utils.fetching import FetchConfig
except (ImportError, OSError, RuntimeError, AttributeError) as error:
    raise ImportError(
        "speechbrain cannot be imported. It needs torchaudio, whose release "
        "2.11.0 loads only beside torch 2.11 or 2.12, and 2.11.1 not there: "
        'pip install "torch<2.13" "torchaudio<2.11.1" "speechbrain>=1.1.2"'
    ) from error

__all__ = [
    "PhaseInversionVocoder",
    "Resynthesizer",
    "TorchaudioVocoder",
    "available_vocoders",
]

WRAPPERS = (
    torch.nn.DataParallel,
    torch.nn.parallel.DistributedDataParallel,
)

# A third iteration takes time and gives mel spectrograms nothing.
MEL_REFINEMENTS = 2


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

    `from_hparams` builds one from a packaged name or a folder. "mel80-22050"
    takes the output of SpeechBrain's Tacotron2 and FastSpeech2: 80 bands,
    22.05 kHz, windows of 1024 samples and hops of 256, natural logarithms.
    "linear-22050" takes the magnitudes of the same transform. "mel" takes any
    mel spectrogram, of a convention by name or described by a `MelConfig`.

    T frames give ``hop_length * (T - 1)`` samples, the distance between the
    centres of the first and the last frame: a recording of a multiple of
    `hop_length` keeps its length. (HIFIGAN gives ``hop_length * (T + 10)``.)
    The output is the same every time, and parameters are frozen unless
    ``freeze_params=False``. The run option `compile` is accepted and has no
    effect, since the modules are compiled already; `jit` is refused.

    Arguments
    ---------
    *args : tuple
    **kwargs : dict
        Arguments of ``speechbrain.inference.interfaces.Pretrained``. The
        hyperparameters need `stft`, a `StftConfig`, and `input`, one of
        "log_mel", "log_magnitude" and "magnitude"; the modules are
        "inverter", a `SpectrogramInverter`, and for mels "front_end", which
        turns them into magnitudes.

    Example
    -------
    >>> vocoder = PhaseInversionVocoder.from_hparams(source="mel80-22050")
    >>> vocoder.decode_batch(2 * torch.randn(2, 80, 101) - 6).shape
    torch.Size([2, 1, 25600])
    >>> vocos = PhaseInversionVocoder.from_hparams("mel", mel="vocos-24000")
    >>> vocos.decode_batch(2 * torch.randn(2, 100, 101) - 4).shape
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
    def from_hparams(
        cls, source, hparams_file="hyperparams.yaml", mel=None, **kwargs
    ):
        """Build a vocoder from a packaged name or a local folder.

        Nothing is downloaded, and all files are read where they lie.

        Arguments
        ---------
        source : str or Path
            One of `available_vocoders`, a folder like theirs, or "mel", for
            the mel spectrogram that `mel` says.
        hparams_file : str
            Name of the YAML file in it.
        mel : str or MelConfig, optional
            With the source "mel": one of `speechbrain_phaseinv.mel`'s
            `available_mels`, or a convention of your own.
        **kwargs : dict
            As in SpeechBrain: `overrides`, `run_opts` and so on. `savedir`
            is accepted and has no effect: local files need no copies, and
            files of another model may be there. With the source "mel" there
            is no YAML file to override: `run_opts` and `freeze_params`.

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or no such file in it.
        ValueError
            If the convention is unknown, or `mel` is not what `source` needs.
        """
        kwargs.pop("savedir", None)
        if source == "mel":
            return cls(*_generic(mel), **kwargs)
        if mel is not None:
            raise ValueError(
                f"mel= needs source='mel', got {str(source)!r}, whose mel "
                "spectrogram is its own."
            )
        folder = find_folder(source, hparams_file, available_vocoders())
        kwargs.setdefault("fetch_config", FetchConfig(allow_network=False))
        return super().from_hparams(str(folder), hparams_file, **kwargs)

    def decode_batch(
        self, spectrogram, mel_lens=None, hop_len=None, sample_rate=None
    ):
        """Waveforms of a batch of spectrograms.

        Arguments
        ---------
        spectrogram : torch.Tensor, [batch, mels, time]
            Or [batch, freq, time], for a vocoder of linear magnitudes.
        mel_lens : torch.Tensor, numpy.ndarray or list, [batch], optional
            Valid frames of each where shorter ones are padded, as integers,
            or as floats up to 1, SpeechBrain's shares of the longest. Each
            spectrogram gives the same samples as alone, then zeros; the
            values in the padding do not matter.
        hop_len, sample_rate : int, optional
            In samples and Hz. They must be the vocoder's own.

        Returns
        -------
        waveforms : torch.Tensor, [batch, 1, hop_length * (time - 1)]
            Where a mel spectrogram's frames are not centred on samples, as
            HiFi-GAN's, ``hop_length * time``.

        Raises
        ------
        TypeError, ValueError
            If the spectrogram does not look like this vocoder's input, or
            another argument does not fit it. A mel spectrogram whose values
            are unusual gives a warning.
        """
        stft = self.hparams.stft
        for name, value, own in (
            ("hop_len", hop_len, stft.hop_length),
            ("sample_rate", sample_rate, stft.sample_rate),
        ):
            if value is not None and value != own:
                raise ValueError(
                    f"this vocoder's {name} is {own}, got {name}={value!r}."
                )
        frames = self._prepare(spectrogram)
        lengths = None
        if mel_lens is not None:
            lengths = count_frames(mel_lens, frames)
            steps = torch.arange(frames.shape[1], device=frames.device)
            padding = (steps >= lengths[:, None]).unsqueeze(-1)
            # Any valid value does: the last valid frame is repeated later.
            frames = frames.masked_fill(padding, -math.inf if self._log else 0)
        check_values(frames, self.hparams.input, self._mel)
        with torch.no_grad():
            magnitude, _ = self._magnitude(frames)
            waveforms = self._module("inverter")(magnitude, lengths)
        return waveforms.unsqueeze(1)

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
        spectrogram = check_real(spectrogram, "the spectrogram")
        if spectrogram.dim() != 2:
            raise ValueError(
                "expected one spectrogram [mels, time], got shape "
                f"{list(spectrogram.shape)}: use decode_batch for a batch."
            )
        return self.decode_batch(spectrogram[None]).squeeze(0)

    def stream(self):
        """A stream: frames of spectrograms in, samples out.

        Returns
        -------
        stream : VocoderStream
            Its samples are those of `decode_batch`, bit for bit.

        Example
        -------
        >>> vocoder = PhaseInversionVocoder.from_hparams("mel80-22050")
        >>> stream = vocoder.stream()
        >>> mel = 2 * torch.randn(1, 80, 50) - 6
        >>> parts = [stream.push(part) for part in mel.split(7, dim=2)]
        >>> waveform = torch.cat([*parts, stream.flush()], dim=2)
        >>> torch.equal(waveform, vocoder.decode_batch(mel))
        True
        """

        def prepare(spectrogram):
            frames = self._prepare(spectrogram)
            check_values(frames, self.hparams.input, self._mel, whole=False)
            return frames

        return VocoderStream(prepare, self._magnitude, self._module("inverter"))

    def forward(self, *args, **kwargs):
        """The same as `decode_batch`."""
        return self.decode_batch(*args, **kwargs)

    def _compile(self):
        """SpeechBrain's hook for the run options `compile` and `jit`.

        `torch.compile` leaves an inverter as it is, and rounds a front end
        in another way for each length of spectrogram.
        """
        if self.jit:
            raise ValueError(
                "TorchScript cannot hold this vocoder, whose kernels are "
                "compiled already: leave out the run options jit and "
                "jit_module_keys."
            )
        missing = set(self.compile_module_keys or ()) - set(self.mods)
        if missing:
            raise ValueError(
                f"compile_module_keys must be among {', '.join(self.mods)}, "
                f"got {', '.join(sorted(missing))}."
            )

    def _module(self, name):
        """A module, out of SpeechBrain's wrapper for several devices."""
        module = self.mods[name]
        return module.module if isinstance(module, WRAPPERS) else module

    @property
    def _log(self):
        return self.hparams.input.startswith("log")

    @property
    def _mel(self):
        if self.hparams.input == "log_mel":
            return self._module("front_end").config
        return None

    @property
    def _bands(self):
        return self._mel.n_mels if self._mel else self.hparams.stft.num_bins

    def _prepare(self, spectrogram):
        """Frames, [batch, time, bands], where the modules are."""
        spectrogram = check_real(spectrogram, "the spectrogram")
        bins = self.hparams.stft.num_bins
        check_shape(spectrogram, self.hparams.input, self._bands, bins)
        # A vocoder need not have parameters.
        first = next(self.mods.parameters(), None)
        device = self.device if first is None else first.device
        return spectrogram.transpose(1, 2).to(device, torch.float32)

    def _magnitude(self, frames, state=None):
        """Linear magnitudes, [batch, time, freq], and the front end's state."""
        if self.hparams.input == "log_mel":
            return self._module("front_end")(frames, state)
        return (frames.exp() if self._log else frames), None


def _generic(mel):
    """Modules and hyperparameters of a vocoder for any mel spectrogram."""
    if mel is None:
        raise ValueError(
            "source='mel' needs mel=, a MelConfig or one of "
            f"{', '.join(available_mels())}."
        )
    config = mel_preset(mel) if isinstance(mel, str) else mel
    front_end = mel_front_end(config)
    stft = front_end.config.stft
    inverter = SpectrogramInverter(stft, refinements=MEL_REFINEMENTS)
    modules = {"front_end": front_end, "inverter": inverter}
    return modules, {"stft": stft, "input": "log_mel", "mel": config}

"""Mel conventions by name, from the systems' own code and configurations."""

from ..config import StftConfig
from .config import MelConfig

# Options that several systems share.
_SAME = {"padding": "same"}  # of the transform
_LOG10 = {"logarithm": "log10", "floor": 1e-10}
_HTK = {"scale": "htk", "norm": None}
_WHISPER = {
    **_LOG10,
    **{"power": 2.0, "gain": 0.25, "offset": 1.0, "dynamic_range": 8.0},
}
_SUMS = {"power": 2.0, "logarithm": None}

# Name: systems; sample_rate, n_fft, win_length, hop_length; n_mels, f_min,
# f_max; what differs from the defaults of `MelConfig`, and the transform's
# padding. ParallelWaveGAN, TensorFlowTTS and some models of ESPnet and Coqui
# normalise each band: their statistics go into `mean` and `deviation`. Whisper
# drops the last frame: N samples, a multiple of 160, have N / 160 frames, and
# N - 160 samples come back. NeMo's window is symmetric, which changes
# magnitudes by less than .1 %.
PRESETS = {
    "speechbrain-22050": (
        "SpeechBrain's and torchaudio's Tacotron2, FastSpeech2 for LJSpeech",
        (22050, 1024, 1024, 256),
        (80, 0, 8000),
        {},
    ),
    "speechbrain-16000": (
        "SpeechBrain's HiFi-GAN for LibriTTS",
        (16000, 1024, 1024, 256),
        (80, 0, 8000),
        {},
    ),
    "hifigan-22050": (
        "HiFi-GAN, Tacotron2 with WaveGlow, Matcha-TTS, CosyVoice 1",
        (22050, 1024, 1024, 256),
        (80, 0, 8000),
        _SAME,
    ),
    "espnet-22050": (
        "ESPnet2, ParallelWaveGAN for LJSpeech",
        (22050, 1024, 1024, 256),
        (80, 80, 7600),
        _LOG10,
    ),
    "espnet-24000": (
        "ESPnet2, ParallelWaveGAN, TensorFlowTTS at 24 kHz",
        (24000, 2048, 1200, 300),
        (80, 80, 7600),
        _LOG10,
    ),
    "coqui-22050": (
        "Coqui TTS with its default audio configuration",
        (22050, 1024, 1024, 256),
        (80, 0, 11025),
        # (20 log10(x) - 20 + 100) / 100 * 8 - 4
        {**_LOG10, "floor": 1e-8, "gain": 1.6, "offset": 2.4}
        | {"limits": (-4.0, 4.0)},
    ),
    "vocos-24000": (
        "Vocos, F5-TTS",
        (24000, 1024, 1024, 256),
        (100, 0, 12000),
        {**_HTK, "floor": 1e-7},
    ),
    "bigvgan-24000": (
        "BigVGAN with 100 bands",
        (24000, 1024, 1024, 256),
        (100, 0, 12000),
        _SAME,
    ),
    "bigvgan-44100": (
        "BigVGAN with 128 bands and hops of 256",
        (44100, 1024, 1024, 256),
        (128, 0, 22050),
        _SAME,
    ),
    "bigvgan-44100-512": (
        "BigVGAN with 128 bands and hops of 512",
        (44100, 2048, 2048, 512),
        (128, 0, 22050),
        _SAME,
    ),
    "cosyvoice2-24000": (
        "CosyVoice 2",
        (24000, 1920, 1920, 480),
        (80, 0, 8000),
        _SAME,
    ),
    "nemo-22050": (
        "NeMo's FastPitch at 22.05 kHz",
        (22050, 1024, 1024, 256),
        (80, 0, 8000),
        {"add_floor": True},
    ),
    "nemo-44100": (
        "NeMo's FastPitch at 44.1 kHz",
        (44100, 2048, 2048, 512),
        (80, 0, 22050),
        {"add_floor": True},
    ),
    "speecht5-16000": (
        "SpeechT5",
        (16000, 1024, 1024, 256),
        (80, 80, 7600),
        _LOG10,
    ),
    "whisper-80": ("Whisper", (16000, 400, 400, 160), (80, 0, 8000), _WHISPER),
    "whisper-128": (
        "Whisper large-v3",
        (16000, 400, 400, 160),
        (128, 0, 8000),
        _WHISPER,
    ),
    "librosa-22050": (
        "librosa.feature.melspectrogram with its defaults",
        (22050, 2048, 2048, 512),
        (128, 0, 11025),
        _SUMS,
    ),
    "torchaudio-16000": (
        "torchaudio.transforms.MelSpectrogram with its defaults",
        (16000, 400, 400, 200),
        (128, 0, 8000),
        {**_HTK, **_SUMS},
    ),
}


def available_mels():
    """Names of the mel conventions, sorted.

    Example
    -------
    >>> "vocos-24000" in available_mels()
    True
    """
    return tuple(sorted(PRESETS))


def mel_preset(name):
    """The mel convention of a name.

    Arguments
    ---------
    name : str
        One of `available_mels`.

    Returns
    -------
    config : MelConfig

    Raises
    ------
    ValueError
        If there is no such name; the message lists all of them.

    Example
    -------
    >>> mel_preset("vocos-24000").n_mels
    100
    """
    if name not in PRESETS:
        raise ValueError(
            f"unknown mel convention {name!r}: expected one of "
            f"{', '.join(available_mels())}, or a MelConfig."
        )
    _, transform, bands, options = PRESETS[name]
    options = dict(options)
    padding = options.pop("padding", "center")
    stft = StftConfig(*transform, padding=padding)
    return MelConfig(stft, *bands, **options)

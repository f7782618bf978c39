"""Mel spectrograms: their conventions, and the magnitudes behind them.

- `config`: `MelConfig`, the filterbank, `log_mel` and its inverse;
- `presets`: the conventions of known systems by name;
- `inversion`: `MelInversion`, magnitudes without training;
- `general`: `GeneralMelNet`, a small network that improves them for any
  convention, by its `geometry`;
- `network`: `MelInversionNet`, one that is trained for one convention;
- `front_end`: which of them a convention gets.
"""

from .config import (
    MelConfig,
    hz_to_mel,
    log_mel,
    mel_filterbank,
    mel_to_hz,
    natural_log,
)
from .front_end import mel_front_end
from .general import GeneralMelNet
from .inversion import MelInversion, through_mel
from .network import MelInversionNet
from .presets import available_mels, mel_preset

__all__ = [
    "GeneralMelNet",
    "MelConfig",
    "MelInversion",
    "MelInversionNet",
    "available_mels",
    "hz_to_mel",
    "log_mel",
    "mel_front_end",
    "mel_filterbank",
    "mel_preset",
    "mel_to_hz",
    "natural_log",
    "through_mel",
]

"""Mel spectrograms: their conventions, and the magnitudes behind them.

- `config`: `MelConfig`, the filterbank, and `log_mel`;
- `inversion`: `MelInversion`, magnitudes without training;
- `network`: `MelInversionNet`, a small network that improves them.
"""

from .config import MelConfig, hz_to_mel, log_mel, mel_filterbank, mel_to_hz
from .inversion import MelInversion, through_mel
from .network import MelInversionNet

__all__ = [
    "MelConfig",
    "MelInversion",
    "MelInversionNet",
    "hz_to_mel",
    "log_mel",
    "mel_filterbank",
    "mel_to_hz",
    "through_mel",
]

"""Mel spectrograms: their conventions, and the magnitudes behind them."""

from .conventions import (
    MelConfig,
    MelInversion,
    log_mel,
    mel_filterbank,
    through_mel,
)

__all__ = [
    "MelConfig",
    "MelInversion",
    "log_mel",
    "mel_filterbank",
    "through_mel",
]

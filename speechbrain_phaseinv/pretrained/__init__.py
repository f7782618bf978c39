"""The packaged weights: how they are stored, and which transform they serve."""

from .choice import (
    choose_enhancement,
    choose_estimator,
    find_pretrained,
    serves,
)
from .storage import (
    FOLDER,
    available_pretrained,
    find_folder,
    load_pretrained,
    load_weights,
    read_hyperparameters,
    save_pretrained,
    save_weights,
)

__all__ = [
    "FOLDER",
    "available_pretrained",
    "choose_enhancement",
    "choose_estimator",
    "find_folder",
    "find_pretrained",
    "load_pretrained",
    "load_weights",
    "read_hyperparameters",
    "save_pretrained",
    "save_weights",
    "serves",
]

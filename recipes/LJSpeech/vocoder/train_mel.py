#!/usr/bin/env python3
"""Recipe to train the network that turns log-mels into magnitudes.

    python train_mel.py ../../../hparams/vocoder_mel.yaml --data_folder SPEECH

The first of two steps, which learns from magnitudes alone: the network sees the
log-mels of excerpts, and its output is compared with the magnitudes of the
excerpts. The run ends with a folder that `PhaseInversionVocoder.from_hparams`
takes. README.md has the second step, which adapts the phase network.

Start reading at the bottom.
"""

# ruff: noqa: E402
import shutil
import sys
from dataclasses import fields
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import speechbrain as sb
import torch
from common.audio import datasets
from common.prepare import prepare_data
from common.training import MuonBrain, experiment, fit
from hyperpyyaml import resolve_references
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv import SpectrogramInverter, analysis
from speechbrain_phaseinv.mel import log_mel
from speechbrain_phaseinv.pretrained import FOLDER, save_weights


class MelBrain(MuonBrain):
    """Trains a `MelInversionNet`."""

    def compute_forward(self, batch, stage):
        """Magnitudes, and their estimate from mel bands.

        Arguments
        ---------
        batch : torch.Tensor, [batch, samples]
            Excerpts, or an utterance.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        predictions : dict
            "target" and "estimate", [batch, time, freq].
        """
        mel = self.hparams.mel
        target = analysis(batch.to(self.device), mel.stft).abs()
        estimate, _ = self.modules.network(log_mel(target, mel))
        return {"target": target, "estimate": estimate}

    def compute_objectives(self, predictions, batch, stage):
        """Distance of the two, at the level of the ear and of energy.

        Arguments
        ---------
        predictions : dict
            From `compute_forward`.
        batch : torch.Tensor, [batch, samples]
            The recordings.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        loss : torch.Tensor, scalar
        """
        target, estimate = predictions["target"], predictions["estimate"]
        if stage != sb.Stage.TRAIN:
            self.evaluate_magnitude(estimate, batch, stage)
        energy = target.square().mean((1, 2)) + 1e-8
        error = (estimate - target).square().mean((1, 2))
        convergence = (error / energy + 1e-5).log().mean() / 2
        power = self.hparams.compression
        # The root's slope is infinite at zero.
        floor = 1e-4 * energy.sqrt()[:, None, None]
        target, estimate = ((x + floor).pow(power) for x in (target, estimate))
        compressed = (estimate - target).abs().mean() / target.mean()
        return (
            self.hparams.convergence_weight * convergence
            + self.hparams.compressed_weight * compressed
        )

    def evaluate_magnitude(self, estimate, batch, stage):
        """Measure the speech of estimated magnitudes, by packaged weights."""
        inverter = self.inverter.to(self.device)
        waveform = inverter(estimate.float(), length=batch.shape[1])
        self.evaluate_waveform(waveform, batch, inverter.config, stage)

    @cached_property
    def inverter(self):
        """What turns magnitudes into speech, as in the packaged vocoder."""
        return SpectrogramInverter(self.hparams.mel.stft, refinements=2)

    @staticmethod
    def is_matrix(name, parameter):
        """The layers' weights."""
        return name.endswith("weight")


def save_vocoder(hparams, folder):
    """Write a folder that `PhaseInversionVocoder.from_hparams` takes.

    It is the packaged vocoder of mels with this run's transform, bands and
    weights.

    Arguments
    ---------
    hparams : dict
        The run's hyperparameters.
    folder : Path
        Where `hyperparams.yaml` and `front_end.ckpt` go.
    """
    folder.mkdir(exist_ok=True)
    shutil.copy(folder.parent / "front_end.ckpt", folder)
    network = ("channels", "blocks", "bin_channels", "history", "n_iter")
    mel = hparams["mel"]
    values = {
        **{key: hparams[key] for key in ("sample_rate", "n_fft", "hop_length")},
        "stft": _settings(mel.stft, ("sample_rate", "n_fft", "hop_length")),
        "mel": _settings(mel, ("stft",)),
        "front_end": {key: hparams[key] for key in network},
        # Where no packaged weights serve the transform, the gradient theorem.
        "inverter": {"estimator": "auto"},
    }
    packaged = FOLDER / "mel80-22050" / "hyperparams.yaml"
    with open(packaged, encoding="utf-8") as file:
        text = resolve_references(file, values).read()
    lines = [
        "# A vocoder of a run of train_mel.py:",
        f"# PhaseInversionVocoder.from_hparams({str(folder)!r}).",
    ]
    body = [x for x in text.splitlines() if not x.startswith("#")]
    text = "\n".join([*lines, *body]) + "\n"
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")


def _settings(config, excluded):
    """The fields of a configuration as YAML writes them."""
    values = {x.name: getattr(config, x.name) for x in fields(config)}
    return {
        # HyperPyYAML reads a tuple from its text.
        name: str(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name not in excluded
    }


def export(hparams):
    """Write the weights, for the second step, and a whole vocoder."""
    output = Path(hparams["output_folder"])
    save_weights(hparams["network"], output / "front_end.ckpt")
    save_vocoder(hparams, output / "vocoder")


def main(argv=None):
    """Train, test and export, as the options say."""
    argv = sys.argv[1:] if argv is None else argv
    with experiment(argv, __file__, prepare_data) as (hparams, run_opts):
        data = datasets(hparams)
        brain = MelBrain(
            modules=hparams["modules"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
    fit(brain, *data)
    run_on_main(export, args=[hparams])


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()

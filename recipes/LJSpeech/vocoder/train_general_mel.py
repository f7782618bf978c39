#!/usr/bin/env python3
"""Recipe to train the network that turns any log-mels into magnitudes.

    python train_general_mel.py ../../../hparams/vocoder_general.yaml \
        --data_folder SPEECH

As `train_mel.py`, but each batch is in a mel convention of its own, drawn at
random; what is validated are presets, through the packaged phase networks.

Start reading at the bottom.
"""

# ruff: noqa: E402
import sys
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import speechbrain as sb
import torch
from common.prepare import prepare_data
from common.training import experiment, fit
from LJSpeech.vocoder.conventions import convention_datasets
from LJSpeech.vocoder.train_mel import MelBrain
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv import SpectrogramInverter, analysis
from speechbrain_phaseinv.mel import log_mel
from speechbrain_phaseinv.pretrained import save_weights


class GeneralMelBrain(MelBrain):
    """Trains a `GeneralMelNet`; the objective is that of `train_mel.py`."""

    def make_dataloader(self, dataset, stage, **options):
        """The training's items are batches already."""
        if stage == sb.Stage.TRAIN:
            options = {"batch_size": None}
        else:
            options["collate_fn"] = _only
        return super().make_dataloader(dataset, stage, **options)

    def compute_forward(self, batch, stage):
        """Magnitudes, and their estimate from mel bands.

        Arguments
        ---------
        batch : tuple
            A `MelConfig` and waveforms, [batch, samples].
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        predictions : dict
            "target" and "estimate", [batch, time, freq].
        """
        mel, waveform = batch
        target = analysis(waveform.to(self.device), mel.stft).abs()
        self.hparams.network.describe(mel)
        estimate, _ = self.modules.network(log_mel(target, mel))
        return {"target": target, "estimate": estimate}

    def evaluate_magnitude(self, estimate, batch, stage):
        """Measure the speech of estimated magnitudes, by packaged weights."""
        mel, waveform = batch
        made = inverter_of(mel.stft)(estimate, length=waveform.shape[1])
        self.evaluate_waveform(made, waveform, mel.stft, stage)

    @staticmethod
    def is_matrix(name, parameter):
        """The layers' weights, but not those of the functions of geometry."""
        return name.endswith("weight") and not name.startswith("of_")


@lru_cache(maxsize=64)
def inverter_of(stft):
    """What turns magnitudes into speech, as in the packaged vocoder."""
    return SpectrogramInverter(stft, refinements=2)


def _only(items):
    """The one item of a batch."""
    (item,) = items
    return item


def export(hparams):
    """Write the weights."""
    output = Path(hparams["output_folder"])
    save_weights(hparams["network"], output / "front_end.ckpt")


def main(argv=None):
    """Train, test and export, as the options say."""
    argv = sys.argv[1:] if argv is None else argv
    with experiment(argv, __file__, prepare_data) as (hparams, run_opts):
        data = convention_datasets(hparams)
        brain = GeneralMelBrain(
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

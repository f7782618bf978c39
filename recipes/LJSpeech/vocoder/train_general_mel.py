#!/usr/bin/env python3
"""Recipe to train the network that turns any log-mels into magnitudes.

    python train_general_mel.py ../../../hparams/vocoder_general.yaml \
        --data_folder SPEECH

Each batch is in a mel convention of its own, drawn at random. The network's
magnitudes are compared with those of the excerpts and, from some update on,
also after the packaged phase network: as those of the waveform that comes out.

Start reading at the bottom.
"""

# ruff: noqa: E402
import sys
import warnings
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import speechbrain as sb
import torch
from common.prepare import prepare_data
from common.training import MuonBrain, experiment, fit
from LJSpeech.vocoder.conventions import convention_datasets
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv import SpectrogramInverter, StftConfig, analysis
from speechbrain_phaseinv.losses import magnitude_loss
from speechbrain_phaseinv.mel import log_mel
from speechbrain_phaseinv.pretrained import save_weights


class GeneralMelBrain(MuonBrain):
    """Trains a `GeneralMelNet`."""

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

    def compute_objectives(self, predictions, batch, stage):
        """Distance of magnitudes, before and after the phase network.

        Arguments
        ---------
        predictions : dict
            From `compute_forward`.
        batch : tuple
            A `MelConfig` and waveforms, [batch, samples].
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        loss : torch.Tensor, scalar
        """
        mel, waveform = batch
        target, estimate = predictions["target"], predictions["estimate"]
        energy = target.square().mean((1, 2)) + 1e-8
        error = (estimate - target).square().mean((1, 2))
        convergence = (error / energy + 1e-5).log().mean() / 2
        power = self.hparams.compression
        # The root's slope is infinite at zero.
        floor = 1e-4 * energy.sqrt()[:, None, None]
        target, root = ((x + floor).pow(power) for x in (target, estimate))
        compressed = (root - target).abs().mean() / target.mean()
        loss = self.weigh(convergence, compressed)
        train = stage == sb.Stage.TRAIN
        if train and self.optimizer_step < self.hparams.magnitude_updates:
            return loss
        if train:
            waveform = waveform[: self.hparams.waveforms]
            estimate = estimate[: self.hparams.waveforms]
        made = self.vocode(estimate, mel.stft, waveform.shape[1])
        if not train:
            self.evaluate_waveform(made, waveform, mel.stft, stage)
        for seconds in self.hparams.resolutions:
            rate = mel.stft.sample_rate
            config = StftConfig(rate, 4 * round(seconds * rate / 4))
            distance = magnitude_loss(made, waveform, config)
            heard = self.weigh(distance.convergence, distance.compressed)
            loss = loss + heard / len(self.hparams.resolutions)
        return loss

    def vocode(self, magnitude, stft, length):
        """Waveforms by the packaged phase network.

        Gradients reach back over `rollout_frames`: over longer stretches they
        grow beyond all bounds.
        """
        inverter, state, parts = inverter_of(stft), None, []
        for block in magnitude.split(self.hparams.rollout_frames, dim=1):
            part, state = inverter.step(block, state)
            state = state.detach()
            parts.append(part)
        waveform = torch.cat([*parts, inverter.flush(state)], dim=1)
        return waveform[:, stft.trim :][:, :length]

    def weigh(self, convergence, compressed):
        """One number of both distances."""
        return (
            self.hparams.convergence_weight * convergence
            + self.hparams.compressed_weight * compressed
        )

    @staticmethod
    def is_matrix(name, parameter):
        """The layers' weights, but not those of the functions of geometry."""
        return name.endswith("weight") and not name.startswith("of_")


@lru_cache(maxsize=64)
def inverter_of(stft):
    """What turns magnitudes into speech, as in the packaged vocoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the gradient theorem stands in
        inverter = SpectrogramInverter(stft, refinements=2)
    return inverter.requires_grad_(False)


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

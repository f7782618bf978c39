#!/usr/bin/env python3
"""Recipe to train the network that turns log-mels into magnitudes.

    python train_mel.py ../../../hparams/vocoder_mel.yaml --data_folder SPEECH

The first of two steps: it learns from magnitudes alone. Of excerpts, the
log-mels go in, and what comes out is compared with the magnitudes that they
were made of. README.md has the second step, which adapts the phase network.

Start reading at the bottom.
"""

import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import run_on_main

# The data and the optimizer are those of the other recipe.
sys.path.append(str(Path(__file__).parents[2] / "spectrogram_inversion"))

from audio import ExcerptDataset, UtteranceDataset, collate  # noqa: E402
from muon import Muon  # noqa: E402
from prepare import data_root, prepare  # noqa: E402

from speechbrain_phaseinv.mel import log_mel  # noqa: E402
from speechbrain_phaseinv.pretrained import save_weights  # noqa: E402
from speechbrain_phaseinv.stft import analysis  # noqa: E402


class MelBrain(sb.Brain):
    """Trains a `MelInversionNet`."""

    def compute_forward(self, batch, stage):
        """Magnitudes, and what is made of their mel bands.

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

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; keep the checkpoint of the lowest loss."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        elif stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "steps": self.optimizer_step},
                train_stats={"loss": self.train_loss},
                valid_stats={"loss": stage_loss},
            )
            self.checkpointer.save_and_keep_only(
                meta={"loss": stage_loss}, min_keys=["loss"]
            )
        else:
            self.hparams.train_logger.log_stats(
                {"epoch loaded": self.hparams.epoch_counter.current},
                test_stats={"loss": stage_loss},
            )

    def init_optimizers(self):
        """Muon for the layers' matrices, AdamW for all else."""
        matrices, others = [], []
        for name, p in self.hparams.network.named_parameters():
            inner = name.endswith("weight")
            (matrices if inner else others).append(p)
        self.optimizers_dict = {
            "muon": Muon(
                matrices,
                lr=self.hparams.lr_muon,
                weight_decay=self.hparams.weight_decay,
            ),
            "adamw": torch.optim.AdamW(
                others, lr=self.hparams.lr, betas=(0.9, 0.98)
            ),
        }
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]
        for name, optimizer in self.optimizers_dict.items():
            self.checkpointer.add_recoverable(name, optimizer)

    def on_fit_batch_start(self, batch, should_step):
        """Learning rate: a short rise, then a cosine down to nearly zero."""
        step = torch.tensor(float(self.optimizer_step))
        share = (step / max(self.total_steps, 1)).clamp(0, 1)
        factor = 0.01 + 0.99 * (1 + torch.cos(torch.pi * share)) / 2
        factor = factor * ((step + 1) / self.hparams.warmup_steps).clamp(0, 1)
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor.item()


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as fin:
        hparams = load_hyperpyyaml(fin, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    run_on_main(
        prepare,
        kwargs={
            "data_folder": hparams["data_folder"],
            "save_folder": hparams["save_folder"],
            "layout": hparams["layout"],
            "skip_prep": hparams["skip_prep"],
        },
    )
    root = data_root(hparams["data_folder"])
    tables = Path(hparams["save_folder"])
    rate = hparams["sample_rate"]
    train_data = ExcerptDataset(
        tables / "train.json", root, rate, hparams["excerpt_samples"]
    )
    valid_data = UtteranceDataset(tables / "valid.json", root, rate)
    brain = MelBrain(
        modules=hparams["modules"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    train_loader = brain.make_dataloader(
        train_data,
        stage=sb.Stage.TRAIN,
        batch_size=hparams["batch_size"],
        shuffle=True,
        drop_last=len(train_data) >= hparams["batch_size"],
        collate_fn=collate,
    )
    # So the schedule knows its own length.
    brain.total_steps = hparams["number_of_epochs"] * len(train_loader)
    if hparams["max_updates"] is not None:
        brain.total_steps = min(brain.total_steps, hparams["max_updates"])
        brain.optimizer_step_limit = brain.total_steps
    # Resumes by itself from the last checkpoint in save_folder.
    brain.fit(
        hparams["epoch_counter"],
        train_loader,
        valid_data,
        valid_loader_kwargs={"batch_size": 1, "collate_fn": collate},
    )
    # Loads the best checkpoint, which then is exported.
    brain.on_evaluate_start(min_key="loss")
    run_on_main(
        save_weights,
        kwargs={
            "module": hparams["network"],
            "path": Path(hparams["output_folder"], "front_end.ckpt"),
        },
    )

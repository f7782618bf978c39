#!/usr/bin/env python3
"""Recipe of a small spectral enhancer, to hear what its resynthesis does.

    python train.py ../../hparams/enhancement.yaml --data_folder SPEECH

A mask of log-magnitudes, learned in a few minutes. What comes out is
``enhancer/`` in the output folder, which SpeechBrain loads::

    SpectralMaskEnhancement.from_hparams(source="results/.../enhancer")

Start reading at the bottom.
"""

import shutil
import sys
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import run_on_main

HERE = Path(__file__).resolve().parent
# Recordings are found and read as in the other recipe.
sys.path.append(str(HERE.parent / "spectrogram_inversion"))

from audio import ExcerptDataset, Recordings  # noqa: E402
from mixing import Noise, NoisyExcerpts, NoisyUtterances  # noqa: E402
from prepare import data_root, prepare  # noqa: E402


class MaskBrain(sb.Brain):
    """Learns a mask as `SpectralMaskEnhancement` will apply it."""

    def compute_forward(self, batch, stage):
        """Enhanced log-magnitudes of a batch (noisy, clean)."""
        noisy, _ = batch
        features = self.features(noisy.to(self.device))
        return self.modules.enhance_model(features) * features

    def compute_objectives(self, predictions, batch, stage):
        """Mean square error of the log-magnitudes."""
        _, clean = batch
        target = self.features(clean.to(self.device))
        return torch.nn.functional.mse_loss(predictions, target)

    def features(self, waveform):
        """As `SpectralMaskEnhancement.compute_features`."""
        enhancer = self.hparams.enhancer
        stft = enhancer["compute_stft"](waveform)
        return torch.log1p(enhancer["spectral_magnitude"](stft))

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; keep the checkpoint of the lowest validation error."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        old, new = self.hparams.lr_annealing(stage_loss)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new)
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": old},
            train_stats={"loss": self.train_loss},
            valid_stats={"loss": stage_loss},
        )
        self.checkpointer.save_and_keep_only(
            meta={"loss": stage_loss}, min_keys=["loss"]
        )


def prepare_all(data_folder, noise_folder, save_folder):
    """List speech and noise; a quarter of the noises is for the test."""
    prepare(data_folder, save_folder)
    if noise_folder is not None:
        prepare(noise_folder, f"{save_folder}/noise", "folder", 0.25, 0.25)


def recordings(hparams, split):
    """Speech of a split, and the noise that goes with it."""
    save, rate = Path(hparams["save_folder"]), hparams["sample_rate"]
    folder, noise = hparams["data_folder"], hparams["noise_folder"]
    speech = Recordings(save / f"{split}.json", data_root(folder), rate)
    if noise is not None:
        path = save / "noise" / f"{split}.json"
        noise = Recordings(path, data_root(noise), rate)
    return speech, Noise(speech, noise)


def write_enhancer(enhance_model, hparams_file, folder):
    """What `from_hparams` needs: the weights, and the YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(enhance_model.state_dict(), folder / "enhance_model.ckpt")
    shutil.copy(
        Path(hparams_file).parent / "enhancer.yaml",
        folder / "hyperparams.yaml",
    )


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as fin:
        hparams = load_hyperpyyaml(fin, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    folders = ("data_folder", "noise_folder", "save_folder")
    run_on_main(prepare_all, kwargs={key: hparams[key] for key in folders})

    speech, noise = recordings(hparams, "train")
    excerpts = ExcerptDataset(
        Path(hparams["save_folder"], "train.json"),
        data_root(hparams["data_folder"]),
        hparams["sample_rate"],
        hparams["excerpt_seconds"] * hparams["sample_rate"],
    )
    excerpts.recordings = speech  # decoded once, for speech and babble
    train_data = NoisyExcerpts(
        excerpts, noise, hparams["lowest_snr"], hparams["highest_snr"]
    )
    valid_data = NoisyUtterances(*recordings(hparams, "valid"), [0, 10, 20])

    brain = MaskBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    # Resumes by itself from the last checkpoint in save_folder.
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        valid_data,
        train_loader_kwargs={
            "batch_size": hparams["batch_size"],
            "shuffle": True,
        },
        valid_loader_kwargs={"batch_size": 1},
    )
    # Loads the best checkpoint, which then is exported.
    brain.on_evaluate_start(min_key="loss")
    run_on_main(
        write_enhancer,
        kwargs={
            "enhance_model": hparams["enhancer"]["enhance_model"],
            "hparams_file": hparams_file,
            "folder": Path(hparams["output_folder"], "enhancer"),
        },
    )

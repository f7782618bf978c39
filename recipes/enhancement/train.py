#!/usr/bin/env python3
"""Recipe of a small spectral enhancer, to hear what its resynthesis does.

    python train.py ../../hparams/enhancement.yaml --data_folder SPEECH

A mask of log-magnitudes, learned in a few minutes. What comes out is
``enhancer/`` in the output folder, which SpeechBrain loads::

    SpectralMaskEnhancement.from_hparams(source="results/.../enhancer")

Start reading at the bottom.
"""

# ruff: noqa: E402
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import speechbrain as sb
import torch
from common.audio import Recordings, datasets
from common.prepare import data_root, prepare, prepare_data
from common.training import RecipeBrain, experiment, fit
from enhancement.mixing import (
    KINDS,
    Noise,
    NoisyExcerpts,
    NoisyUtterances,
)
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv.resynthesizer import describe


class MaskBrain(RecipeBrain):
    """Learns a mask as `SpectralMaskEnhancement` will apply it."""

    def compute_forward(self, batch, stage):
        """Enhanced log-magnitudes of a batch (noisy, clean)."""
        noisy, _ = batch
        features = self.features(noisy.to(self.device))
        return self.modules.enhance_model(features) * features

    def compute_objectives(self, predictions, batch, stage):
        """Errors of log-magnitudes, and of the waveform behind `resynth`."""
        noisy, clean = (x.to(self.device) for x in batch)
        weight = self.hparams.waveform_weight
        loss = self.hparams.magnitude_weight * torch.nn.functional.mse_loss(
            predictions, self.features(clean)
        )
        if stage != sb.Stage.TRAIN or weight:
            magnitude = torch.expm1(predictions)
            waveform = self.hparams.resynth(magnitude, noisy)
            loss = loss + weight * self.distance(waveform, clean)
        if stage != sb.Stage.TRAIN:
            config, _, _ = describe(self.hparams.enhancer["compute_stft"])
            self.evaluate_waveform(waveform, clean, config, stage)
        return loss

    def distance(self, waveform, clean):
        """Of the waveforms' magnitudes, at all resolutions."""
        level = clean.square().mean(1).sqrt() + 1e-4
        total = 0
        for config in self.hparams.resolutions:
            loss = self.hparams.magnitude_loss(waveform, clean, config, level)
            total = total + loss.convergence
            total = total + self.hparams.compressed_weight * loss.compressed
        return total / len(self.hparams.resolutions)

    def features(self, waveform):
        """As `SpectralMaskEnhancement.compute_features`."""
        enhancer = self.hparams.enhancer
        stft = enhancer["compute_stft"](waveform)
        return torch.log1p(enhancer["spectral_magnitude"](stft))

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; anneal the learning rate after a validation."""
        if stage == sb.Stage.VALID:
            _, new = self.hparams.lr_annealing(stage_loss)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new)
        super().on_stage_end(stage, stage_loss, epoch)


def prepare_all(hparams):
    """List speech and noise; a quarter of the noises is for the test."""
    prepare_data(hparams)
    noise = hparams["noise_folder"]
    if noise is not None:
        layout = "csv" if Path(noise).is_file() else "folder"
        prepare(noise, f"{hparams['save_folder']}/noise", layout, 0.25, 0.25)


def recordings(hparams, split, kinds=KINDS):
    """Speech of a split, and the noise that goes with it."""
    save, rate = Path(hparams["save_folder"]), hparams["sample_rate"]
    folder, noise = hparams["data_folder"], hparams["noise_folder"]
    speech = Recordings(save / f"{split}.json", data_root(folder), rate)
    if noise is not None:
        path = save / "noise" / f"{split}.json"
        noise = Recordings(path, data_root(noise), rate)
    return speech, Noise(speech, noise, kinds)


def mixtures(hparams):
    """Pairs (noisy, clean) of each split."""
    excerpts, *_ = datasets(hparams)
    # Decoded once, for speech and babble.
    excerpts.recordings, noise = recordings(hparams, "train")
    snrs = hparams["lowest_snr"], hparams["highest_snr"]
    return (
        NoisyExcerpts(excerpts, noise, *snrs),
        *(
            NoisyUtterances(*recordings(hparams, split), hparams["valid_snrs"])
            for split in ("valid", "test")
        ),
    )


def prepare_modules(hparams):
    """Weights of another run, if wanted; the phase's own stay as they are."""
    source = hparams["warm_start"]
    if source is not None:
        path = Path(source, "enhance_model.ckpt")
        weights = torch.load(path, map_location="cpu")
        hparams["enhancer"]["enhance_model"].load_state_dict(weights)
    hparams["resynth"].requires_grad_(False)
    # What is drawn from here on is the same for each phase.
    sb.utils.seed_everything(hparams["seed"])


def write_enhancer(enhance_model, hparams_file, folder):
    """What `from_hparams` needs: the weights, and the YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(enhance_model.state_dict(), folder / "enhance_model.ckpt")
    shutil.copy(
        Path(hparams_file).parent / "enhancer.yaml",
        folder / "hyperparams.yaml",
    )


def main(argv=None):
    """Train, test and export, as the options say."""
    argv = sys.argv[1:] if argv is None else argv
    with experiment(argv, __file__, prepare_all) as (hparams, run_opts):
        data = mixtures(hparams)
        prepare_modules(hparams)
        checkpointer = hparams["checkpointer"]
        checkpointer.add_recoverable("annealing", hparams["lr_annealing"])
        brain = MaskBrain(
            modules=hparams["modules"],
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
    fit(brain, *data)
    run_on_main(
        write_enhancer,
        kwargs={
            "enhance_model": hparams["enhancer"]["enhance_model"],
            "hparams_file": argv[0],
            "folder": Path(hparams["output_folder"], "enhancer"),
        },
    )


if __name__ == "__main__":
    main()

"""What all training scripts share: options, folders, metrics, logs, fitting.

A script's `main(argv)` opens an `experiment`, builds its datasets and its
Brain in it, and calls `fit`.
"""

# ruff: noqa: E402
import logging
import shutil
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

# SpeechBrain warns of figures of TensorBoard, which no recipe logs.
logging.getLogger("speechbrain.utils.train_logger").addFilter(
    lambda record: "torchvision" not in record.getMessage()
)

import speechbrain as sb
import torch
from common.hparams import load_hparams
from common.metrics import inversion_metrics, mean_and_interval, write_samples
from common.muon import Muon
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.distributed import if_main_process, run_on_main
from speechbrain.utils.train_logger import TensorboardLogger

logger = logging.getLogger(__name__)


class RecipeBrain(sb.Brain):
    """A Brain with the metrics, samples, logs and checkpoints of all recipes.

    A recipe calls `evaluate_waveform` for each recording of the validation
    and of the test. The checkpoint with the lowest value of `criterion`, one
    of the validation's statistics, is the best.
    """

    criterion = "loss"

    def evaluate_waveform(self, waveform, target, config, stage):
        """Keep an utterance's metrics and, of the first ones, samples.

        Arguments
        ---------
        waveform, target : torch.Tensor, [1, samples]
            What the recipe put out, and the recording.
        config : StftConfig
            In which the spectral convergence is measured.
        stage : sb.Stage
            VALID or TEST.

        Returns
        -------
        metrics : dict
            From `inversion_metrics`.
        """
        count = len(self.metrics)
        limit = self.hparams.perceptual_utterances
        perceptual = stage == sb.Stage.TEST or count < limit
        metrics = inversion_metrics(waveform, target, config, perceptual)
        self.metrics.append(metrics)
        if count < self.hparams.samples and if_main_process():
            epoch = self.hparams.epoch_counter.current
            name = "test" if stage == sb.Stage.TEST else f"{epoch:03d}"
            folder = Path(self.hparams.output_folder, "samples", name)
            write_samples(folder, str(count), waveform, target, config)
            if self.tensorboard is not None:
                self.tensorboard.log_audio(
                    f"{name}/{count}", waveform.cpu(), config.sample_rate
                )
        return metrics

    def on_stage_start(self, stage, epoch=None):
        """Start the list of an evaluation's metrics."""
        self.metrics = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log the statistics; keep the best checkpoint and the last one."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        table = mean_and_interval(self.metrics)
        stats = {name: round(mean, 4) for name, (mean, _) in table.items()}
        if self.criterion == "loss":
            stats = {"loss": stage_loss, **stats}
        if stage == sb.Stage.VALID:
            self.log_stats(
                {"epoch": epoch, "steps": self.optimizer_step},
                train_stats={"loss": self.train_loss},
                valid_stats=stats,
            )
            self.checkpointer.save_and_keep_only(
                meta=stats, min_keys=[self.criterion], num_to_keep=2
            )
        else:
            self.log_stats(
                {"epoch loaded": self.hparams.epoch_counter.current},
                test_stats=stats,
            )

    def log_stats(self, meta, **stats):
        """Write statistics to the log file and, if wanted, to TensorBoard."""
        self.hparams.train_logger.log_stats(meta, **stats)
        if self.tensorboard is not None:
            self.tensorboard.log_stats(meta, **stats)
            if self.tensorboard.writer is not None:  # the main process
                self.tensorboard.writer.flush()

    @cached_property
    def tensorboard(self):
        """TensorBoard's logger, or None."""
        folder = getattr(self.hparams, "tensorboard_folder", None)
        return None if folder is None else TensorboardLogger(folder)


class MuonBrain(RecipeBrain):
    """Trains the module "network": Muon for its matrices, AdamW for the rest.

    The learning rates rise for `warmup_steps` and fall as a cosine does.
    """

    @staticmethod
    def is_matrix(name, parameter):
        """Whether Muon updates a parameter."""
        return parameter.dim() > 1

    def init_optimizers(self):
        """Build both optimizers, as parts of the checkpoint."""
        matrices, others = [], []
        for name, p in self.hparams.network.named_parameters():
            (matrices if self.is_matrix(name, p) else others).append(p)
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
        for name, optimizer in self.optimizers_dict.items():
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]
            self.checkpointer.add_recoverable(name, optimizer)

    def on_fit_batch_start(self, batch, should_step):
        """Set the learning rate: a short rise, then a cosine to nearly zero."""
        step = torch.tensor(float(self.optimizer_step))
        share = (step / max(self.total_steps, 1)).clamp(0, 1)
        factor = 0.01 + 0.99 * (1 + torch.cos(torch.pi * share)) / 2
        factor = factor * ((step + 1) / self.hparams.warmup_steps).clamp(0, 1)
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor.item()

    def optimizers_step(self):
        """Leave out an update whose gradient is not finite.

        Once in some thousand rollouts the predictions for a bin cancel so
        nearly that the direction of their sum has no slope to speak of. In
        half precision the gradient's scaler sees to that.
        """
        if not self.scaler.is_enabled():
            gradients = [
                p.grad
                for p in self.hparams.network.parameters()
                if p.grad is not None
            ]
            norm = torch.nn.utils.get_total_norm(gradients)
            if not torch.isfinite(norm):
                logger.warning("Update %d left out.", self.optimizer_step)
                self.zero_grad()
                self.optimizer_step += 1
                return
        super().optimizers_step()


@contextmanager
def experiment(argv, script, prepare):
    """Read the options, prepare the data and make the output folder.

    A start that fails inside the ``with`` leaves no folder behind.

    Arguments
    ---------
    argv : list of str
        The command line: a YAML file, then overrides and run options.
    script : str
        The calling script's ``__file__``; the output folder gets a copy.
    prepare : callable
        Takes the hyperparameters and lists the recordings in `save_folder`.

    Yields
    ------
    hparams : dict
        The hyperparameters, with "checkpointer".
    run_opts : dict
        For the Brain.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, overrides = load_hparams(hparams_file, overrides)
    output = Path(hparams["output_folder"])
    fresh = [x for x in (output, *output.parents) if not x.exists()]
    try:
        run_on_main(prepare, args=[hparams])
        # SpeechBrain copies this file, the caller's, there.
        sb.create_experiment_directory(output, hparams_file, overrides)
        if if_main_process():
            shutil.copy(script, output)
        counter = {"counter": hparams["epoch_counter"]}
        hparams["checkpointer"] = Checkpointer(
            hparams["save_folder"], {**hparams["modules"], **counter}
        )
        yield hparams, run_opts
    except BaseException:
        if if_main_process():
            _remove(fresh)
        raise


def _remove(fresh):
    """Remove a new output folder, and its new parents if they are empty."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    if fresh:
        shutil.rmtree(fresh[0], ignore_errors=True)
    for folder in fresh[1:]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def fit(brain, train_data, valid_data, test_data, updates_per_batch=1):
    """Train, resuming by itself; load the best checkpoint; test.

    Arguments
    ---------
    brain : RecipeBrain
        What is trained.
    train_data, valid_data, test_data : torch.utils.data.Dataset
        Excerpts of equal length, and whole recordings twice.
    updates_per_batch : int
        How many updates of the weights the Brain makes of a batch.
    """
    hparams = brain.hparams
    loader = brain.make_dataloader(
        train_data,
        stage=sb.Stage.TRAIN,
        batch_size=hparams.batch_size,
        shuffle=True,
        drop_last=len(train_data) >= hparams.batch_size,
    )
    brain.total_steps = (
        hparams.number_of_epochs * len(loader) * updates_per_batch
    )
    if hparams.max_updates is not None:
        brain.total_steps = min(brain.total_steps, hparams.max_updates)
        brain.optimizer_step_limit = brain.total_steps
    one = {"batch_size": 1}
    brain.fit(
        hparams.epoch_counter, loader, valid_data, valid_loader_kwargs=one
    )
    brain.on_evaluate_start(min_key=brain.criterion)
    if not hparams.skip_test:
        brain.evaluate(
            test_data, min_key=brain.criterion, test_loader_kwargs=one
        )

#!/usr/bin/env python3
"""Speech from a corpus of spectrograms, on all cores or on many machines.

    python corpus.py ../../hparams/corpus.yaml --input MELS --output_folder OUT

MELS is a folder of ``.npy`` files, a CSV manifest with a column `path`, or a
folder of tar files. Ray Data hands batches of like lengths to actors, of which
each holds one vocoder. A WAV file appears whole or not at all; a second start
does what is missing. What fails is listed in ``failures.csv`` with its reason.

Start reading at the bottom.
"""

# ruff: noqa: E402
import csv
import io
import os
import sys
import zlib
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(RECIPES))

import numpy as np
import ray
import speechbrain as sb
import torch
from common.hparams import load_hparams
from tqdm import tqdm

from speechbrain_phaseinv.audio import write_audio

FAILURES = "failures.csv"

# Share of a core for what reads tar files. The actors leave it: as many of them
# as there are cores would otherwise wait for ever for something to do.
READING = 0.1


def place(identity, hparams):
    """Where an utterance's recording goes."""
    folder = Path(hparams["output_folder"])
    if hparams["shards"]:
        # A file system slows down with millions of files in a folder.
        shard = zlib.crc32(identity.encode()) % hparams["shards"]
        folder = folder / f"{shard:05d}"
    return folder / f"{identity}.wav"


class Worker:
    """What an actor does: read, vocode, write, and say what failed.

    Arguments
    ---------
    path : str
        The recipe's YAML file.
    overrides : dict
        Of its keys.
    """

    def __init__(self, path, overrides):
        torch.set_num_threads(1)  # the actors share the machine's cores
        torch.set_grad_enabled(False)
        self.hparams, _ = load_hparams(path, overrides)

    def __call__(self, batch):
        """A batch of rows to one row of a result for each.

        Arguments
        ---------
        batch : dict of numpy.ndarray
            "id", and "path" or "data", the bytes of a file.

        Returns
        -------
        results : dict of list
            "id" and "reason", empty where a recording was written.
        """
        names = batch["id"].tolist()
        sources = batch["data"] if "data" in batch else batch["path"]
        reasons, arrays = dict.fromkeys(names, ""), {}
        for name, source in zip(names, sources):
            try:
                arrays[name] = read(source)
            except Exception as error:  # whatever a damaged file raises
                reasons[name] = explain(error)
        try:
            self._write(arrays)
        except Exception:
            # One of them: each alone, to find out which.
            for name, array in arrays.items():
                try:
                    self._write({name: array})
                except Exception as error:
                    reasons[name] = explain(error)
        return {"id": names, "reason": [reasons[name] for name in names]}

    def _write(self, arrays):
        """Vocode some arrays and write what comes of them."""
        if not arrays:
            return
        waveforms, rate = self.hparams["speech"](list(arrays.values()))
        for name, waveform in zip(arrays, waveforms):
            path = place(name, self.hparams)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, waveform, rate)


def read(source):
    """An array from a path or from the bytes of a ``.npy`` file."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    array = np.load(source, allow_pickle=False)
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def explain(error):
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def vocode(arrays, vocoder, gpu=False):
    """Log-mels [mels, time] to waveforms, padded to one batch.

    Arguments
    ---------
    arrays : list of torch.Tensor, [mels, time]
    vocoder : PhaseInversionVocoder
    gpu : bool
        Run on CUDA.

    Returns
    -------
    waveforms : list of torch.Tensor, [1, samples]
        Those that each spectrogram gives alone.
    sample_rate : int
        In Hz.
    """
    from speechbrain_phaseinv.inference import TorchaudioVocoder

    convert = TorchaudioVocoder(vocoder)
    if gpu:
        convert.cuda()
    lengths = torch.tensor([x.shape[-1] for x in arrays])
    batch = torch.nn.utils.rnn.pad_sequence(
        [x.transpose(0, 1) for x in arrays], batch_first=True
    ).transpose(1, 2)
    device = "cuda" if gpu else "cpu"
    waveforms, lengths = convert(batch.to(device), lengths.to(device))
    waveforms = [
        x[None, :count] for x, count in zip(waveforms.cpu(), lengths.tolist())
    ]
    return waveforms, convert.sample_rate


def invert(arrays, inverter):
    """Magnitudes [freq, time] to waveforms; else as `vocode`."""
    waveforms = [inverter(x.transpose(0, 1)[None]) for x in arrays]
    return waveforms, inverter.config.sample_rate


def listing(source):
    """Identity and path of each file, the longest first.

    Arguments
    ---------
    source : str or Path
        A folder of ``.npy`` files, or a CSV manifest with a column `path`,
        relative to its folder, and perhaps `ID`.

    Returns
    -------
    rows : list of dict
        "id" and "path".
    """
    source = Path(source)
    if source.is_dir():
        paths = sorted(source.rglob("*.npy"))
        names = [
            x.relative_to(source).with_suffix("").as_posix() for x in paths
        ]
    else:
        with open(source, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        paths = [source.parent / row["path"] for row in table]
        names = [
            row.get("ID") or Path(row["path"]).with_suffix("").as_posix()
            for row in table
        ]
    if len(set(names)) < len(names):
        raise ValueError(f"{source}: two utterances have the same name.")
    rows = [{"id": n, "path": str(p)} for n, p in zip(names, paths)]
    # Like lengths make a batch, and no long one is left for the end.
    return sorted(rows, key=_size, reverse=True)


def _size(row):
    """Bytes of a file, none of one that is missing: its reader says so."""
    try:
        return os.path.getsize(row["path"])
    except OSError:
        return 0


def dataset(hparams):
    """What is still to be done, as a dataset, and how much it is if known."""
    source = Path(hparams["input"])
    tars = sorted(source.rglob("*.tar")) if source.is_dir() else []
    if tars:
        rows = ray.data.read_webdataset(
            [str(x) for x in tars],
            suffixes=["npy"],
            decoder=None,
            ray_remote_args={"num_cpus": READING},
        )
        rows = rows.map(
            lambda row: {"id": row["__key__"], "data": row["npy"]},
            num_cpus=READING,
        )
        rows = rows.filter(
            lambda row: not place(row["id"], hparams).exists(),
            num_cpus=READING,
        )
        return rows, None
    rows = listing(source)
    rows = [row for row in rows if not place(row["id"], hparams).exists()]
    return (ray.data.from_items(rows) if rows else None), len(rows)


def run(path, hparams, overrides):
    """Do what is missing, and list what failed.

    Arguments
    ---------
    path : str
        The YAML file.
    hparams, overrides : dict
        Its contents, and what the actors are to override in it.

    Returns
    -------
    done, failed : int
    """
    output = Path(hparams["output_folder"])
    output.mkdir(parents=True, exist_ok=True)
    scalars = {k: hparams[k] for k in ("input", "output_folder", "shards")}
    rows, count = dataset(scalars)
    done = failed = 0
    with open(output / FAILURES, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "reason"])
        if rows is None:
            return done, failed
        results = rows.map_batches(
            Worker,
            fn_constructor_args=(str(path), overrides),
            batch_size=hparams["batch_size"],
            compute=ray.data.ActorPoolStrategy(size=hparams["actors"]),
            num_cpus=1 - READING,
            num_gpus=hparams["gpus_per_actor"],
        )
        progress = tqdm(
            results.iter_rows(), total=count, unit="utterance", disable=None
        )
        for row in progress:
            failed += bool(row["reason"])
            done += not row["reason"]
            if row["reason"]:
                writer.writerow([row["id"], row["reason"]])
                file.flush()
    return done, failed


def main(argv=None):
    """Start or join Ray, and work."""
    argv = sys.argv[1:] if argv is None else argv
    path, _, overrides = sb.parse_arguments(argv)
    path = Path(path).resolve()
    hparams, nested = load_hparams(path, overrides)
    here = [str(RECIPES / "corpus"), str(RECIPES)]
    here += filter(None, [os.environ.get("PYTHONPATH")])
    if not ray.is_initialized():
        ray.init(
            address=hparams["address"],
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={
                "env_vars": {
                    "PYTHONPATH": os.pathsep.join(here),
                    "OMP_NUM_THREADS": "1",
                }
            },
        )
    ray.data.DataContext.get_current().enable_progress_bars = False
    done, failed = run(path, hparams, dict(nested))
    print(f"{done} done, {failed} failed", end="")
    print(f": see {hparams['output_folder']}/{FAILURES}" if failed else "")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

"""recipes/corpus: nothing lost, nothing twice, the bytes of a plain loop."""

import shutil
import sys
import tarfile

import numpy as np
import pytest
import torch
from recipe_tools import HPARAMS, RECIPES

pytest.importorskip("ray")
sys.path.insert(0, str(RECIPES / "corpus"))
import corpus  # noqa: E402

from speechbrain_phaseinv.audio import write_audio  # noqa: E402
from speechbrain_phaseinv.inference import (  # noqa: E402
    PhaseInversionVocoder,
)

# A worker dies in the middle of its work, once.
DIES = """
import os
from pathlib import Path
import corpus

def vocode(arrays, vocoder, flag):
    if len(arrays) > 1 and not Path(flag).exists():
        Path(flag).touch()
        os._exit(1)
    return corpus.vocode(arrays, vocoder)
"""


@pytest.fixture
def mels(tmp_path):
    """A folder of made-up log-mels, one of them damaged."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "mels"
    (folder / "reader").mkdir(parents=True)
    for i in range(9):
        frames = int(generator.integers(3, 12))
        mel = 2 * generator.standard_normal((80, frames)) - 6
        np.save(folder / "reader" / f"{i}.npy", mel.astype(np.float32))
    (folder / "damaged.npy").write_bytes(b"no array")
    return folder


def outputs(folder):
    return {
        x.relative_to(folder).as_posix(): x.read_bytes()
        for x in folder.rglob("*.wav")
    }


def plain_loop(mels, folder):
    vocoder = PhaseInversionVocoder.from_hparams("mel80-22050")
    (folder / "reader").mkdir(parents=True)
    for path in (mels / "reader").glob("*.npy"):
        mel = torch.from_numpy(np.load(path))
        waveform = vocoder.decode_batch(mel[None])[0]
        write_audio(folder / "reader" / f"{path.stem}.wav", waveform, 22050)
    return outputs(folder)


def test_a_corpus_survives_a_dead_worker_a_damaged_file_and_a_restart(
    mels, tmp_path, monkeypatch
):
    (tmp_path / "dies.py").write_text(DIES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    text = (HPARAMS / "corpus.yaml").read_text()
    text = text.replace("corpus.vocode", "dies.vocode")
    recipe = tmp_path / "corpus.yaml"
    recipe.write_text(text + f"    flag: {tmp_path / 'flag'}\n")
    output = tmp_path / "out"
    options = ["--input", str(mels), "--output_folder", str(output)]
    try:
        assert corpus.main([str(recipe), *options, "--batch_size", "4"]) == 1
        made = outputs(output)
        assert (tmp_path / "flag").exists()
        assert made == plain_loop(mels, tmp_path / "loop")
        listed = (output / "failures.csv").read_text().splitlines()
        assert len(listed) == 2 and listed[1].startswith("damaged,ValueError")
        # Started again, it does what is missing.
        (output / "reader" / "3.wav").unlink()
        times = {x: x.stat().st_mtime_ns for x in output.rglob("*.wav")}
        (mels / "damaged.npy").unlink()
        assert corpus.main([str(recipe), *options]) == 0
        assert outputs(output) == made
        assert all(x.stat().st_mtime_ns == t for x, t in times.items())
    finally:
        corpus.ray.shutdown()


def test_tar_files_give_the_same(mels, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    tars = tmp_path / "tars"
    tars.mkdir()
    with tarfile.open(tars / "shard.tar", "w") as archive:
        for path in sorted(mels.rglob("*.npy")):
            archive.add(path, path.relative_to(mels).as_posix())
    output = tmp_path / "out"
    options = ["--input", str(tars), "--output_folder", str(output)]
    try:
        assert corpus.main([str(HPARAMS / "corpus.yaml"), *options]) == 1
    finally:
        corpus.ray.shutdown()
    assert outputs(output) == plain_loop(mels, tmp_path / "loop")


def test_the_longest_come_first_and_names_are_unique(mels):
    rows = corpus.listing(mels)
    sizes = [corpus._size(row) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["id"] for row in rows} >= {"damaged", "reader/0"}
    table = mels / "list.csv"
    table.write_text("ID,path\na,reader/0.npy\na,reader/1.npy\n")
    with pytest.raises(ValueError, match="the same name"):
        corpus.listing(table)
    table.write_text("path\nreader/0.npy\nmissing.npy\n")
    assert [x["id"] for x in corpus.listing(table)] == ["reader/0", "missing"]


def test_one_bad_spectrogram_does_not_fail_its_batch(mels, tmp_path):
    np.save(mels / "nan.npy", np.full((80, 5), np.nan, np.float32))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    overrides = {"input": str(mels), "output_folder": str(tmp_path / "out")}
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    try:
        worker = corpus.Worker(HPARAMS / "corpus.yaml", overrides)
        rows = corpus.listing(mels)
        results = worker(
            {k: np.array([row[k] for row in rows]) for k in rows[0]}
        )
    finally:
        torch.set_grad_enabled(grad)
        torch.set_num_threads(threads)
    failed = {n for n, r in zip(results["id"], results["reason"]) if r}
    assert failed == {"damaged", "nan"}
    assert len(outputs(tmp_path / "out")) == 9


def test_folders_may_be_spread():
    options = {"output_folder": "out", "shards": 100}
    places = {corpus.place(f"reader/{i}", options).parts[1] for i in range(50)}
    assert len(places) > 20
    assert corpus.place("x", options) == corpus.place("x", options)

"""Data preparation: find the recordings, split them by speaker, list them.

Understands LibriSpeech, LJSpeech and VCTK as they are distributed, a CSV
manifest, and any folder of audio files, at any sampling rate. The split
depends on the names of the speakers alone: it is the same on every machine.
"""

import csv
import hashlib
import json
import logging
from pathlib import Path

import soundfile

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")
MANIFEST = "manifest.csv"
LAYOUTS = ("librispeech", "ljspeech", "vctk", "csv", "folder")

# LibriSpeech's own split, disjoint in speakers.
LIBRISPEECH = {"train": "train", "dev": "valid", "test": "test"}


def prepare(
    data_folder,
    save_folder,
    layout="auto",
    valid_share=0.05,
    test_share=0.05,
    skip_prep=False,
    needed=(),
):
    """Write train.json, valid.json and test.json.

    Arguments
    ---------
    data_folder : str
        Root of the recordings, or a CSV manifest with the column "path" (or
        "wav"), relative to the manifest, and optionally "split" (train,
        valid, test; lines with any other are left out), "speaker" and "id"
        (default: each path is one). A folder with a manifest.csv is read by
        it.
    save_folder : str
        Where the JSON files go. Those already there are kept.
    layout : str
        "librispeech", "ljspeech", "vctk", "csv", "folder", or "auto": what it
        looks like.
    valid_share, test_share : float
        Shares of the speakers (of the recordings, if there are fewer than
        three speakers) where the data has no split of its own, or lacks one.
    skip_prep : bool
        Do nothing.
    needed : sequence of str
        Splits that may not be empty.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    ValueError
        If the layout is unknown or not what it looks like, a manifest has no
        column of paths, two recordings have the same name, or a split that is
        needed is empty. Nothing is written then.
    """
    paths = {s: Path(save_folder) / f"{s}.json" for s in SPLITS}
    if skip_prep or all(path.exists() for path in paths.values()):
        return
    root = Path(data_folder)
    if not root.exists():
        raise FileNotFoundError(
            f"data_folder {data_folder!r} does not exist: pass the folder of "
            "the recordings, or a CSV manifest, as --data_folder."
        )
    if layout == "auto":
        layout = guess_layout(root)
    if layout not in LAYOUTS:
        raise ValueError(
            f"unknown layout {layout!r}: expected one of {', '.join(LAYOUTS)}."
        )
    entries = list(FINDERS[layout](root))
    if not entries:
        raise FileNotFoundError(
            f"no recordings ({', '.join(EXTENSIONS)}) found under {root} with "
            f"the layout {layout!r}."
        )
    assign_splits(entries, valid_share, test_share)
    base = root.parent if root.is_file() else root
    tables = {split: {} for split in SPLITS}
    for entry in entries:
        if entry["split"] not in SPLITS:
            continue
        table = tables[entry["split"]]
        if entry["id"] in table:
            raise ValueError(
                f"two recordings are called {entry['id']!r}, one of them "
                f"{entry['path']}: each needs a name, or an id in the "
                "manifest, of its own."
            )
        info = soundfile.info(str(entry["path"]))
        table[entry["id"]] = {
            "wav": relative(entry["path"], base),
            "length": round(info.duration, 4),
            "speaker": entry["speaker"],
            "corpus": entry.get("corpus", layout),
        }
    for split in needed:
        if not tables[split]:
            raise ValueError(
                f"{data_folder} has no recordings of the split {split!r}: "
                f"expected one at least, got {len(entries)} recordings for "
                "all splits."
            )
    Path(save_folder).mkdir(parents=True, exist_ok=True)
    for split, table in tables.items():
        paths[split].write_text(json.dumps(table, indent=1, sort_keys=True))
        hours = sum(x["length"] for x in table.values()) / 3600
        logger.info(
            "%s: %d recordings, %.2f hours, %d speakers",
            split,
            len(table),
            hours,
            len({x["speaker"] for x in table.values()}),
        )


def prepare_data(hparams):
    """Prepare what a training recipe's hyperparameters name."""
    prepare(
        hparams["data_folder"],
        hparams["save_folder"],
        hparams["layout"],
        skip_prep=hparams["skip_prep"],
        needed=("train", "valid"),
    )


def data_root(data_folder):
    """What stands for "{data_root}" in the JSON files."""
    root = Path(data_folder)
    return str(root.parent if root.is_file() else root)


def guess_layout(root):
    """The layout that a folder, or a file, looks like."""
    if root.is_file():
        return "csv"
    if any(root.glob("*/*/*/*.trans.txt")):
        return "librispeech"
    if any(root.glob("*/*/*.trans.txt")):
        raise ValueError(
            f"{root} looks like one subset of LibriSpeech: pass the folder "
            "that holds it, for the speakers to be told apart."
        )
    if (root / "metadata.csv").exists() and (root / "wavs").is_dir():
        return "ljspeech"
    if any((root / name).is_dir() for name in VCTK_FOLDERS):
        return "vctk"
    return "csv" if (root / MANIFEST).exists() else "folder"


def find_librispeech(root):
    """<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"""
    for path in audio_files(root):
        subset = path.relative_to(root).parts[0].split("-")[0]
        yield {
            "id": path.stem,
            "path": path,
            "speaker": path.stem.split("-")[0],
            "split": LIBRISPEECH.get(subset),
        }


def find_ljspeech(root):
    """wavs/LJ001-0001.wav; the one reader's chapters take speakers' place."""
    for path in audio_files(root / "wavs"):
        chapter = path.stem.split("-")[0]
        yield {"id": path.stem, "path": path, "speaker": chapter}


VCTK_FOLDERS = ("wav48_silence_trimmed", "wav48", "wav16")


def find_vctk(root):
    """wav48*/<speaker>/<speaker>_<number>[_mic1].flac; microphone 1 only."""
    (folder, *_) = [x for x in VCTK_FOLDERS if (root / x).is_dir()]
    for path in audio_files(root / folder):
        if path.stem.endswith("_mic2"):
            continue
        yield {"id": path.stem, "path": path, "speaker": path.parent.name}


def find_csv(root):
    """One recording a line of a manifest, see `prepare`."""
    manifest = root if root.is_file() else root / MANIFEST
    # Spreadsheets put a mark before the first column's name: "-sig".
    with open(manifest, newline="", encoding="utf-8-sig") as file:
        for line in csv.DictReader(file):
            path = line.get("path") or line.get("wav")
            if path is None:
                raise ValueError(
                    f"{manifest} needs a column 'path' or 'wav', got "
                    f'{", ".join(line)}. With the layout "folder" a '
                    "folder's recordings are taken whatever it says."
                )
            split = line.get("split") or None
            if split is not None and split not in SPLITS:
                continue
            name = path_name(Path(path))
            yield {
                "id": line.get("id") or name,
                "path": manifest.parent / path,
                "speaker": line.get("speaker") or name,
                "split": split,
                "corpus": line.get("corpus") or "csv",
            }


def find_folder(root):
    """Any audio file; its folder is the speaker, if it has one."""
    for path in audio_files(root):
        place = path.relative_to(root)
        own = path.parent == root
        yield {
            "id": path_name(place),
            "path": path,
            "speaker": path.stem if own else place.parent.as_posix(),
        }


def path_name(path):
    """What a recording without a name is called: its path, in one word."""
    return path.with_suffix("").as_posix().replace("/", "__")


FINDERS = {
    "librispeech": find_librispeech,
    "ljspeech": find_ljspeech,
    "vctk": find_vctk,
    "csv": find_csv,
    "folder": find_folder,
}


def audio_files(root):
    """All audio files below a folder, in a fixed order."""
    return sorted(
        path
        for path in Path(root).rglob("*")
        if path.suffix.lower() in EXTENSIONS
    )


def assign_splits(entries, valid_share, test_share):
    """Fill in the split of each recording where the data has none.

    A split that the data lacks altogether, as where only a training subset was
    fetched, is taken from the recordings for training. A speaker's place is the
    hash of the name, so that no speaker is in two splits. With fewer than three
    speakers the recordings take their place.
    """
    shares = {"valid": valid_share, "test": test_share}
    shared = [entry for entry in entries if entry.get("split") is None]
    if not shared:
        there = {entry["split"] for entry in entries}
        shares = {name: x for name, x in shares.items() if name not in there}
        shared = [entry for entry in entries if entry["split"] == "train"]
    key = "speaker"
    if len({entry["speaker"] for entry in shared}) < 3:
        key = "id"
    names = sorted({entry[key] for entry in shared}, key=_place)
    split, first = dict.fromkeys(names, "train"), 0
    for name, share in shares.items():
        # At least one each, as soon as there is enough to share.
        count = max(round(share * len(names)), int(len(names) >= 3))
        split.update(dict.fromkeys(names[first : first + count], name))
        first += count
    for entry in shared:
        entry["split"] = split[entry[key]]


def _place(name):
    return hashlib.sha256(name.encode()).hexdigest()


def relative(path, base):
    """The path below the base, or, of one that lies elsewhere, all of it."""
    if path.is_relative_to(base):
        return "{data_root}/" + path.relative_to(base).as_posix()
    return str(path)

"""Which recordings a command reads, and where each result goes.

As ``cp``: one input and a file, or any inputs and a folder. A file that
exists is replaced only if that is asked for, an input never.
"""

from pathlib import Path
from typing import NamedTuple

from ..audio import FORMATS, READABLE, check_writable


class Job(NamedTuple):
    """One recording to read, one to write; whether it is one of several."""

    source: Path
    target: Path
    in_batch: bool


def plan(paths, folder=None, overwrite=False):
    """Pair inputs with outputs, and refuse what would go wrong later.

    Without a `folder`, which is created, the last of several paths is the
    output. An output with a name of our own making may be replaced.
    """
    paths = [Path(path) for path in paths]
    if folder is None and len(paths) > 1 and _is_folder(paths[-1]):
        folder = paths.pop()
    named = folder is not None or len(paths) > 1
    batch = folder is not None or paths[0].is_dir()
    if len(paths) > 1 and not batch and len(paths) == 2:
        jobs = [Job(*paths, False)]
    elif folder is None and len(paths) > 1:
        raise ValueError(
            "several inputs need an output folder: give it as the last path, "
            f"or as --output-folder DIR; {paths[-1]} is none."
        )
    elif not batch:
        target = Path(f"{paths[0].stem}-phaseinv{_suffix(paths[0])}")
        jobs = [Job(paths[0], target, False)]
    else:
        folder = Path(folder or f"{paths[0].resolve().name}-phaseinv")
        jobs = [
            Job(source, folder / relative, True)
            for path in paths
            for source, relative in _recordings(path, folder)
        ]
        _refuse_collisions(jobs)
        _make_folders(folder, jobs)
    for job in jobs:
        check_writable(job.target, FORMATS)
        # A link that leads nowhere fails alone, when it is read.
        there = job.target.exists() and job.source.exists()
        if there and job.source.samefile(job.target):
            raise ValueError(f"{job.target}: would replace its own input.")
        refuse_to_replace(job.target, overwrite or not named)
    return jobs


def refuse_to_replace(path, overwrite):
    """An error if a file exists and may not be replaced."""
    if Path(path).exists() and not overwrite:
        raise FileExistsError(
            f"{path}: exists already. Pass --overwrite to replace it."
        )


def _is_folder(path):
    """Whether an output is meant as a folder: it is one, or looks like it."""
    return path.is_dir() or not (path.exists() or path.suffix)


def _suffix(path):
    """Of the output: lossless formats are kept, all else becomes WAV."""
    suffix = path.suffix.lower()
    return suffix if suffix in (".wav", ".flac") else ".wav"


def _recordings(path, output):
    """The recordings below a path, with their names relative to it.

    Those in an output folder below it are results of an earlier run.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_dir():
        return [(path, Path(path.stem + _suffix(path)))]
    entries = sorted(
        entry
        for entry in path.rglob("*")
        if entry.suffix.lower() in READABLE
        and not entry.name.startswith(".")
        and not entry.is_dir()
    )
    output = output.resolve()
    if output != path.resolve():
        entries = [x for x in entries if output not in x.resolve().parents]
    if not entries:
        raise ValueError(
            f"{path}: holds no recordings ({', '.join(sorted(READABLE))})."
        )
    return [
        (entry, entry.relative_to(path).with_suffix(_suffix(entry)))
        for entry in entries
    ]


def _refuse_collisions(jobs):
    """An error if two inputs would be written to one place."""
    sources = {}
    for job in jobs:
        other = sources.setdefault(job.target, job.source)
        if other != job.source:
            raise ValueError(
                f"{other} and {job.source} would both be written to "
                f"{job.target}. Process them separately."
            )


def _make_folders(folder, jobs):
    """Create the output folder, but no folders above it."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"{folder}: the folder {folder.parent} does not exist. Create it "
            "first."
        )
    for place in sorted({job.target.parent for job in jobs}):
        place.mkdir(parents=True, exist_ok=True)

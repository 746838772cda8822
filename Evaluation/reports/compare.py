"""The common table: all systems on the same subjects and images, by the same metric, beside the mean face.

Two tables, and a third by attribute on request. *This photo's face*: from one image alone, the face that it shows with
its expression, evaluated where it is visible (as `Evaluation.reports.subjects.score_photos`). *This subject*: from all
images, the neutral face, and whether it is nearest to its own subject (as
`Evaluation.reports.subjects.score_subjects`). The mean face is evaluated like the systems.
"""
from __future__ import annotations

import math
import os
import time
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Iterator, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from Dataset.face_model.model import BUILT_IN, load_face_model
from Dataset.io.atomic import all_or_none
from Dataset.io.workers import cores
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Dataset.synthesis.sidecar import model_hash
from Evaluation.evaluate_predictions import DEFINITIONS, Results, Scores, score_batches
from Evaluation.figures.plots import plot_comparison
from Evaluation.metrics.identification import identify
from Evaluation.reports.strata import SystemErrors, strata_table
from Evaluation.reports.subjects import SubjectSet, landmark_rows, photo_batch
from Evaluation.reports.tables import Cell, Table

SEED = 9001                     # of the evaluated subjects; nothing is trained on them
SUBJECTS, IMAGES, PHOTOS = 64, 8, 2       # subjects; images of each; of them, those evaluated alone
MEAN_FACE = "mean face"


class System(Protocol):
    """read: an image (S, S, 3) uint8 BGR -> points (N, 3) or (M, 3) of its face, landmarks (68, 2) in normalised
    coordinates or None, and whether a face is found; subject: images (T, S, S, 3) -> one face (N, 3); points: N;
    parameters; size: bytes; training: "samples" and "cpu_hours", as far as known; fusion: of a subject's images;
    seed: of its training subjects; side: of its input, px."""

    name: str
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]]
    subject: Callable[[np.ndarray], np.ndarray]
    points: int
    parameters: int
    size: int
    training: Mapping[str, float]
    fusion: str
    seed: int | None
    side: int


class _Mean(NamedTuple):
    name: str
    read: Callable
    subject: Callable
    points: int
    parameters: int = 0
    size: int = 0
    training: Mapping[str, float] = MappingProxyType({})
    fusion: str = "the same face for every subject"
    seed: int | None = None
    side: int = 0


class Score(NamedTuple):
    """The numbers of one system. photo, subject: of `score_batches`; missed: images evaluated alone in which it finds
    no face: they count with the mean face; landmarks: % of sqrt(w h), NaN where it has none; own: genuine/impostor
    distance ratio; nearest: how many of `subjects` are nearest to their own ground truth (rank-1); photo_ms,
    subject_ms: median time per image; a subject's time is divided by its number of images; faceless: of photos without
    a face the names, SUBJECT/IMAGE."""

    system: System
    photo: Results
    subject: Results
    missed: int
    landmarks: float
    own: float
    nearest: int
    subjects: int
    photo_ms: float
    subject_ms: float
    faceless: frozenset[str] = frozenset()


class Comparison(NamedTuple):
    """The two tables, the scores, the mean face first, and, where asked for, the table by attribute."""

    photo: Table
    subject: Table
    scores: list[Score]
    strata: Table | None = None

    def text(self) -> str:
        """The tables for a terminal."""
        return "\n".join(table.text() for table in (self.photo, self.subject, self.strata) if table)

    def write(self, stem: str | os.PathLike[str]) -> list[Path]:
        """STEM_photo, STEM_subject and STEM_strata as .txt, .csv and .md, and STEM.png -> the paths."""
        stem = Path(stem)
        stem = stem.with_suffix("") if stem.suffix in (".txt", ".csv", ".md", ".png") else stem
        figure = stem.with_name(f"{stem.name}.png")
        with all_or_none():
            paths = [path for kind in ("photo", "subject", "strata") if getattr(self, kind)
                     for path in getattr(self, kind).write(stem.with_name(f"{stem.name}_{kind}"))]
            plot_comparison([[score.system.name, error(score.photo), error(score.subject), score.own, score.photo_ms,
                              score.system.parameters, score.system.size] for score in self.scores], figure)
        return [*paths, figure]


def cached_subjects(subjects: int = SUBJECTS, size: int = 128, seed: int = SEED, workers: int = 1,
                    progress: Callable | None = None) -> Path:
    """Rendered subjects to compare on, as shards in the user's cache folder (XDG_CACHE_HOME, else ~/.cache) -> the
    folder. They are rendered once; an interrupted rendering is continued. ValueError for numbers out of range."""
    options = RenderOptions(subjects=subjects, images=IMAGES, size=size, seed=seed, buffers=("uv", "visible_mask"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faces3d"
    face = load_face_model()        # another face model has a folder of its own
    face = "" if face is load_face_model(BUILT_IN) else f"_{model_hash(face)[:8]}"
    folder = cache / f"compare_{subjects}x{IMAGES}_{size}px_seed{seed}_seen{face}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_shards(folder, options, workers, progress)
    return folder


def compare_on(folder: str | Path | None, count: int, systems: Callable[[float], Sequence[System]],
               subject_set: Callable[[Path, int, int], SubjectSet], photos: int = PHOTOS, surface: bool = True,
               progress: Callable = lambda items, total: items, strata: bool = False, seed: int = SEED) -> Comparison:
    """`compare` on the shards in `folder`, or on `count` rendered subjects of `seed` where it is None.

    systems      margin of the images' boxes -> the systems
    subject_set  (folder, size, points) -> all subjects of a folder of shards (Datagenerator/source.py)
    ValueError as `compare`, and for a folder without shards.
    """
    found = systems(open_shards(folder).settings.margin if folder else RenderOptions.margin)
    title = str(folder or f"rendered subjects of seed {seed}")
    if not folder:
        side = max((system.side for system in found), default=128)
        folder = cached_subjects(count, side, seed, progress=progress)
    folder, size = Path(folder), open_shards(folder).size
    everybody = cache(lambda points: subject_set(folder, size, points))
    return compare(found, everybody, title, photos, surface, progress, strata=strata)


def compare(systems: Sequence[System], subjects: Callable[[int], SubjectSet], title: str, photos: int = PHOTOS,
            surface: bool = True, progress: Callable = lambda items, total: items,
            clock: Callable[[], float] = time.perf_counter, strata: bool = False) -> Comparison:
    """Evaluate the systems and the mean face.

    subjects  points of a face -> the subjects, with ground truths of so many points
    photos    images of each subject that are evaluated alone
    surface   False leaves the slow surface protocol out: the error is then `chamfer`
    clock     seconds, for the times
    strata    also by attribute (Evaluation/reports/strata.py)
    ValueError for no system, or fewer than two subjects.
    """
    if not systems:
        raise ValueError("nothing to compare: no network is bundled, and none was named by --model")
    points = max(system.points for system in systems)
    everybody = subjects(points)
    if len(everybody.targets) < 2 or not 1 <= photos <= everybody.count:
        raise ValueError(f"at least two subjects with {photos} images are needed, got {len(everybody.targets)} with "
                         f"{everybody.count}")
    constant = everybody.constant
    mean = _Mean(MEAN_FACE, lambda image: (constant, None, True), lambda images: constant, points)
    scores = [score(system, subjects(system.points), photos, surface, progress, clock) for system in (mean, *systems)]
    seeds = [system.name for system in systems if system.seed == getattr(everybody, "seed", None) is not None]
    where = (f"{title}: {len(everybody.targets)} subjects (SHA-256 of their identities {everybody.digest[:16]})"
             + (f"; SEEN IN TRAINING by {', '.join(seeds)}" if seeds else ""))
    alone, fusion = f"from one photo, {photos} of each", f"from all {everybody.count} photos of each"
    return Comparison(photo_table(scores, f"This photo's face. {where}, {alone}", surface),
                      subject_table(scores, f"This subject. {where}, {fusion}", surface), scores,
                      strata_table([_stratified(score) for score in scores], everybody.attributes, where)
                      if strata else None)


def _stratified(score: Score) -> SystemErrors:
    """What the table by attribute needs of a system."""
    return SystemErrors(score.system.name, *({row.id: error_of(row.scores) for row in results.rows}
                                             for results in (score.photo, score.subject)), score.faceless)


def score(system: System, subjects: SubjectSet, photos: int, surface: bool, progress: Callable,
          clock: Callable[[], float]) -> Score:
    """Evaluate one system on all subjects."""
    pairs = [(p, k) for p in range(len(subjects.targets)) for k in range(photos)]
    system.subject(subjects.images(0))     # not timed: the graph may be built now
    times: tuple[list[float], list[float]] = ([], [])
    marks: list[np.ndarray | None] = []
    found: list[bool] = []
    faces: list[np.ndarray] = []

    def timed(kind: int, call: Callable, images: np.ndarray):
        begun = clock()
        answer = call(images)
        times[kind].append(1000 * (clock() - begun))
        return answer

    def in_photos() -> Iterator[tuple]:
        for p, k in progress(pairs, total=len(pairs)):
            cloud, landmarks, sees = timed(0, system.read, subjects.images(p)[k])
            marks.append(landmarks)
            found.append(sees)
            yield photo_batch(subjects, p, k, cloud)

    def neutral() -> Iterator[tuple]:
        for p in progress(range(len(subjects.targets)), total=len(subjects.targets)):
            faces.append(timed(1, system.subject, subjects.images(p)))
            yield faces[-1][None], subjects.targets[p][None], [str(p)]
    photo = score_batches(in_photos(), ordered=False, surface=surface)
    subject = score_batches(neutral(), ordered=True, surface=surface)
    rows = landmark_rows(marks, [subjects.landmarks(p, k) for p, k in pairs])
    own = identify(np.stack(faces), subjects.targets)
    faceless = frozenset(f"{p}/{k}" for (p, k), sees in zip(pairs, found) if not sees)
    return Score(system, photo, subject, found.count(False), float(rows[0][1]) if rows else math.nan, own.ratio,
                 own.nearest, own.subjects, float(np.median(times[0])), float(np.median(times[1])) / subjects.count,
                 faceless)


def error_of(scores: Scores) -> float:
    """As `error`, of one sample."""
    return 100 * scores.chamfer if math.isnan(scores.surface_chamfer) else scores.surface_chamfer


def error(results: Results) -> float:
    """In %: the Chamfer distance of the surface protocol where it was measured, else that of nearest points."""
    found = results.means["surface_chamfer"]
    return 100 * results.means["chamfer"] if math.isnan(found) else found


def photo_table(scores: Sequence[Score], title: str, surface: bool) -> Table:
    """The first table; the mean face is the first score."""
    floor = error(scores[0].photo)
    rows: list[list[Cell]] = [[*_named(score, floor, score.photo),
                               score.missed if score.system.parameters else math.nan,
                               score.landmarks, *_cost(score, score.photo_ms)] for score in scores]
    return Table(title, ["system", "error", "ratio to the mean face", "reverse", "no face", "landmarks", "ms per photo",
                         "parameters", "MB", "samples", "CPU-hours"], rows,
                 [*_notes(scores, [score.photo for score in scores], surface),
                  "no face: photos in which the system finds none; they count with the mean face, and with each "
                  "landmark's mean position over all photos",
                  "landmarks: mean distance of the 68 in the image, hidden ones too / sqrt(w h) of the true ones' "
                  "bounding box, in %; '-': it has none"], digits=3)


def subject_table(scores: Sequence[Score], title: str, surface: bool) -> Table:
    """The second table."""
    floor = error(scores[0].subject)
    rows: list[list[Cell]] = [[*_named(score, floor, score.subject), score.own, f"{score.nearest} of {score.subjects}",
                               *_cost(score, score.subject_ms), score.system.fusion] for score in scores]
    return Table(title, ["system", "error", "ratio to the mean face", "reverse", "genuine/impostor ratio",
                         "rank-1", "ms per photo", "parameters", "MB", "samples", "CPU-hours",
                         "fusion of the photos"], rows,
                 [*_notes(scores, [score.subject for score in scores], surface),
                  "genuine/impostor ratio: mean distance from the own ground truth / from the others', 1 for a "
                  "constant face; rank-1: how many faces are nearest to their own subject; both point to point after a "
                  "similarity"], digits=3)


def _named(score: Score, floor: float, results: Results) -> list[Cell]:
    ours = error(results)
    return [score.system.name, ours, ours / floor if floor else math.nan, 100 * results.means["reverse"]]


def _cost(score: Score, milliseconds: float) -> list[Cell]:
    """Time, parameters and size; missing for the mean face."""
    if not score.system.parameters:
        return [math.nan] * 5
    return [milliseconds, score.system.parameters, score.system.size / 1e6,
            *(score.system.training.get(name, math.nan) for name in ("samples", "cpu_hours"))]


def _notes(scores: Sequence[Score], results: Sequence[Results], surface: bool) -> list[str]:
    """The definitions, and what could not be scored."""
    name = "surface_chamfer" if surface else "chamfer"
    scale = "" if surface else ", times 100: in %"
    skipped = [f"{score.system.name}: {len(found.skipped)} skipped, the first {found.skipped[0][0]}: "
               f"{found.skipped[0][1]}" for score, found in zip(scores, results) if found.skipped]
    return [f"error: {DEFINITIONS[name]}{scale}; {name} of evaluate.py",
            "reverse: mean distance ground truth -> nearest predicted point after rigid ICP, in % of the diagonal",
            f"ms per photo: from the crop to the face, median, {cores()} cores; MB: the files of the network; samples, "
            "CPU-hours: of its training",
            *skipped]

"""All systems on the same people, the same pictures, by the same metric, beside the mean face: the common table.

Two tables. *This photo's face*: one picture alone, the face that it shows, its expression included, where it shows it
(as `Evaluation.reports.subjects.score_photos`). *This person*: all pictures together, the neutral face, and whether it is nearest
to its own person (as `Evaluation.reports.subjects.score_people`). The mean face is judged like every other system.
"""
from __future__ import annotations

import math
import os
import time
from functools import cache
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Protocol, Sequence

import numpy as np

from Dataset.face_model.model import BUILT_IN, load_face_model
from Dataset.io.workers import cores
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Dataset.synthesis.sidecar import model_hash
from Evaluation.evaluate_predictions import DEFINITIONS, Results, score_batches
from Evaluation.figures.plots import plot_comparison
from Evaluation.metrics.identification import identify
from Evaluation.reports.subjects import SubjectSet, landmark_rows, photo_batch
from Evaluation.reports.tables import Cell, Table

SEED = 9001                     # of the people that the table is made of; nothing is trained on them
SUBJECTS, IMAGES, PHOTOS = 64, 8, 2       # people; pictures of each; of them, those judged alone
MEAN_FACE = "mean face"


class System(Protocol):
    """read: a picture (S, S, 3) uint8 BGR -> points (N, 3) or (M, 3) of the face in it, landmarks (68, 2) in
    its sides or None, whether it sees a face at all; person: pictures (T, S, S, 3) -> one face (N, 3); points: N;
    parameters; size: bytes; together: how a person is made; seed: of its training people; side: of its own pictures,
    px."""

    name: str
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]]
    subject: Callable[[np.ndarray], np.ndarray]
    points: int
    parameters: int
    size: int
    together: str
    seed: int | None
    side: int


class _Mean(NamedTuple):
    name: str
    read: Callable
    subject: Callable
    points: int
    parameters: int = 0
    size: int = 0
    together: str = "the same face for everybody"
    seed: int | None = None
    side: int = 0


class Score(NamedTuple):
    """What one system scored. photo, person: of `score_batches`; missed: photos in which it sees no face, of those
    judged alone: they count with the mean face; landmarks: % of sqrt(w h), NaN where it says none; own: distance from
    the own ground truth over that from the others'; nearest: of `people`, how many are nearest to their own; photo_ms,
    person_ms: median, of a photo; the person's time is divided by the number of photos."""

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


class Comparison(NamedTuple):
    """The two tables, and what was scored, the mean face first."""

    photo: Table
    subject: Table
    scores: list[Score]

    def text(self) -> str:
        """Both tables for a terminal."""
        return f"{self.photo.text()}\n{self.subject.text()}"

    def write(self, stem: str | os.PathLike[str]) -> list[Path]:
        """STEM_photo and STEM_person as .txt, .csv and .md, and STEM.png -> the paths."""
        stem = Path(stem)
        stem = stem.with_suffix("") if stem.suffix in (".txt", ".csv", ".md", ".png") else stem
        paths = [path for kind in ("photo", "subject")
                 for path in getattr(self, kind).write(stem.with_name(f"{stem.name}_{kind}"))]
        figure = stem.with_name(f"{stem.name}.png")
        plot_comparison([[score.system.name, error(score.photo), error(score.subject), score.own, score.photo_ms,
                          score.system.parameters, score.system.size] for score in self.scores], figure)
        return [*paths, figure]


def cached_subjects(subjects: int = SUBJECTS, size: int = 128, seed: int = SEED, workers: int = 1,
                  progress: Callable | None = None) -> Path:
    """Rendered people to compare on, as shards in the user's cache folder (XDG_CACHE_HOME, else ~/.cache); rendered
    once, gone on with after a kill -> the folder. ValueError for numbers out of range."""
    options = RenderOptions(subjects=subjects, images=IMAGES, size=size, seed=seed, buffers=("uv", "visible_mask"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faces3d"
    face = load_face_model()        # of another one: in another folder
    face = "" if face is load_face_model(BUILT_IN) else f"_{model_hash(face)[:8]}"
    folder = cache / f"compare_{subjects}x{IMAGES}_{size}px_seed{seed}_seen{face}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_shards(folder, options, workers, progress)
    return folder


def compare_on(folder: str | Path | None, count: int, systems: Callable[[float], Sequence[System]],
               subject_set: Callable[[Path, int, int], SubjectSet], photos: int = PHOTOS, surface: bool = True,
               progress: Callable = lambda items, total: items) -> Comparison:
    """`compare` on the shards in `folder`, or on `count` rendered people where it is None.

    systems(margin): what is compared, on pictures of boxes grown so much; people_of(folder, size, points): everybody in
    a folder of shards (Datagenerator/source.py). ValueError as `compare`, and for a folder that is none of shards.
    """
    found = systems(open_shards(folder).settings.margin if folder else RenderOptions.margin)
    title = str(folder or f"rendered people of seed {SEED}")
    folder = Path(folder) if folder else cached_subjects(count, max((system.side for system in found), default=128),
                                                       progress=progress)
    size = open_shards(folder).size
    return compare(found, cache(lambda points: subject_set(folder, size, points)), title, photos, surface, progress)


def compare(systems: Sequence[System], subjects: Callable[[int], SubjectSet], title: str, photos: int = PHOTOS,
            surface: bool = True, progress: Callable = lambda items, total: items,
            clock: Callable[[], float] = time.perf_counter) -> Comparison:
    """people: points of a face -> the same people with truths of so many; photos: of each person judged alone; surface:
    False leaves the slow protocol out, then errors are `chamfer`. ValueError for no system, or one person."""
    if not systems:
        raise ValueError("nothing to compare: no network has weights in the box, and none was named")
    points = max(system.points for system in systems)
    everybody = subjects(points)
    if len(everybody.targets) < 2 or not 1 <= photos <= everybody.count:
        raise ValueError(f"at least two people with {photos} pictures are needed, got {len(everybody.targets)} with "
                         f"{everybody.count}")
    constant = everybody.constant
    mean = _Mean(MEAN_FACE, lambda image: (constant, None, True), lambda images: constant, points)
    scores = [score(system, subjects(system.points), photos, surface, progress, clock) for system in (mean, *systems)]
    seeds = [system.name for system in systems if system.seed == getattr(everybody, "seed", None) is not None]
    where = (f"{title}: {len(everybody.targets)} people (SHA-256 of their identities {everybody.digest[:16]})"
             + (f"; SEEN IN TRAINING by {', '.join(seeds)}" if seeds else ""))
    alone, together = f"{photos} photos of each, one at a time", f"{everybody.count} photos of each together"
    return Comparison(photo_table(scores, f"This photo's face. {where}, {alone}", surface),
                      subject_table(scores, f"This person. {where}, {together}", surface), scores)


def score(system: System, subjects: SubjectSet, photos: int, surface: bool, progress: Callable,
          clock: Callable[[], float]) -> Score:
    """One system on everybody."""
    pairs = [(p, k) for p in range(len(subjects.targets)) for k in range(photos)]
    system.subject(subjects.images(0))     # not timed: a network may build its graph for so many pictures
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
            cloud, places, sees = timed(0, system.read, subjects.images(p)[k])
            marks.append(places)
            found.append(sees)
            yield photo_batch(subjects, p, k, cloud)

    def persons() -> Iterator[tuple]:
        for p in progress(range(len(subjects.targets)), total=len(subjects.targets)):
            faces.append(timed(1, system.subject, subjects.images(p)))
            yield faces[-1][None], subjects.targets[p][None], [str(p)]
    photo = score_batches(in_photos(), ordered=False, surface=surface)
    subject = score_batches(persons(), ordered=True, surface=surface)
    rows = landmark_rows(marks, [subjects.landmarks(p, k) for p, k in pairs])
    own = identify(np.stack(faces), subjects.targets)
    return Score(system, photo, subject, found.count(False), float(rows[0][1]) if rows else math.nan, own.ratio,
                 own.nearest, own.subjects, float(np.median(times[0])), float(np.median(times[1])) / subjects.count)


def error(results: Results) -> float:
    """In %: the surface protocol's Chamfer distance, where it was measured, else the nearest points'."""
    found = results.means["surface_chamfer"]
    return 100 * results.means["chamfer"] if math.isnan(found) else found


def photo_table(scores: Sequence[Score], title: str, surface: bool) -> Table:
    """The first table; the mean face is the first score."""
    floor = error(scores[0].photo)
    rows: list[list[Cell]] = [[*_named(score, floor, score.photo),
                               score.missed if score.system.parameters else math.nan,
                               score.landmarks, *_cost(score, score.photo_ms)] for score in scores]
    return Table(title, ["system", "error", "of the mean face", "reverse", "no face", "landmarks", "ms per photo",
                         "parameters", "MB"], rows,
                 [*_notes(scores, [score.photo for score in scores], surface),
                  "no face: photos in which the system sees none; they count with the mean face, and each landmark's "
                  "mean place over all the photos",
                  "landmarks: mean distance of the 68 in the picture, hidden ones too / sqrt(w h) of the true ones' "
                  "bounding box, in %; '-': it says none"], digits=3)


def subject_table(scores: Sequence[Score], title: str, surface: bool) -> Table:
    """The second table."""
    floor = error(scores[0].subject)
    rows: list[list[Cell]] = [[*_named(score, floor, score.subject), score.own, f"{score.nearest} of {score.subjects}",
                               *_cost(score, score.subject_ms), score.system.together] for score in scores]
    return Table(title, ["system", "error", "of the mean face", "reverse", "own to others", "nearest own",
                         "ms per photo", "parameters", "MB", "how photos become a person"], rows,
                 [*_notes(scores, [score.subject for score in scores], surface),
                  "own to others: distance from the own ground truth / from the others', 1 of a constant face; nearest "
                  "own: how many are nearest to their own person; point to point after a similarity"], digits=3)


def _named(score: Score, floor: float, results: Results) -> list[Cell]:
    ours = error(results)
    return [score.system.name, ours, ours / floor if floor else math.nan, 100 * results.means["reverse"]]


def _cost(score: Score, milliseconds: float) -> list[Cell]:
    """The mean face costs nothing."""
    if not score.system.parameters:
        return [math.nan, math.nan, math.nan]
    return [milliseconds, score.system.parameters, score.system.size / 1e6]


def _notes(scores: Sequence[Score], results: Sequence[Results], surface: bool) -> list[str]:
    """What the numbers are, and what could not be scored."""
    name = "surface_chamfer" if surface else "chamfer"
    scale = "" if surface else ", times 100: in %"
    skipped = [f"{score.system.name}: {len(found.skipped)} skipped, the first {found.skipped[0][0]}: "
               f"{found.skipped[0][1]}" for score, found in zip(scores, results) if found.skipped]
    return [f"error: {DEFINITIONS[name]}{scale}; {name} of evaluate.py",
            "reverse: mean distance ground truth -> nearest predicted point after rigid ICP, in % of the diagonal",
            f"ms per photo: from a cut-out picture to the face, median, {cores()} cores; MB: the files in the box",
            *skipped]

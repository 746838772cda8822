"""How well a network does on subjects of another face model, found by the detector in whole photos, as users' are:

    python -m tests.bench.otherfaces MODEL [--photo] [--shared ../shared] [--out DIR] [--jobs 2]

MODEL is named as demo.py's: a weight or run folder, a file, or a bundled network. SHARED/otherfaces holds
eight subjects of eight photos each (its README.md says which); nothing may be trained on them or chosen by them. For
each subject DIR/P00/subject.ply is the face from all photos in order, and DIR/P00/000.npy the 68 landmarks (68, 3) px
of each photo in which a face was found. Then SHARED/score.py, where it is, measures both. --photo: the face is the one
in the first photo alone, frontal and neutral, as `evaluate.py --compare` reads it.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.images import read_image
from Dataset.io.inputs import NamedImage
from Dataset.io.mesh_io import write_mesh
from Network import from_run
from Network.commands.results import face_mesh
from Network.inference.base import Predictor
from Network.inference.photos import NoFace


def predict_photo(folder: Path, out: Path, predictor: Predictor) -> list[float]:
    """The same for a subject's first photo alone."""
    out.mkdir(parents=True, exist_ok=True)
    path = min(folder.glob("*.jpg"))
    begun = time.process_time()
    crops = predictor.crops(NamedImage(path.name, read_image(path)))
    face = predictor.photo(crops[0].image) if crops else None
    if face is None or not face.seen:
        return [np.nan]
    write_mesh(out / "subject.ply", Mesh(face.points))
    return [time.process_time() - begun]


def predict_subject(folder: Path, out: Path, predictor: Predictor) -> list[float]:
    """One subject's files -> seconds of processor time of each photo, NaN where no face was found."""
    face, spent = None, []
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.jpg")):
        (out / path.with_suffix(".npy").name).unlink(missing_ok=True)       # of another run
        begun = time.process_time()
        try:
            face = predictor.add(NamedImage(path.name, read_image(path)))
        except NoFace:
            spent.append(np.nan)
            continue
        spent.append(time.process_time() - begun)
        if face.landmarks is not None:
            np.save(out / path.with_suffix(".npy").name, face.image_landmarks)
    predictor.reset()
    if face is not None:
        write_mesh(out / "subject.ply", face_mesh(face)._replace(uv=None, colours=None))
    return spent


def main(argv: list[str] | None = None) -> int:
    """Exit code 2 and one line where the photos or the model are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--photo", action="store_true", help="the face in the first photo")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, metavar="DIR", help="default /tmp/otherfaces_MODEL")
    parser.add_argument("--jobs", type=int, default=2, help="processes of score.py")
    arguments = parser.parse_args(argv)
    photos, scorer = arguments.shared / "otherfaces", arguments.shared / "score.py"
    subjects = sorted(path for path in photos.glob("*") if path.is_dir())
    if not subjects:
        print(f"tests.bench.otherfaces: {photos}: holds no people's photos", file=sys.stderr)
        return 2
    try:
        predictor = from_run(arguments.model)
    except ValueError as error:
        print(f"tests.bench.otherfaces: {error}", file=sys.stderr)
        return 2
    out = arguments.out or Path(f"/tmp/otherfaces_{Path(arguments.model).resolve().name}")
    predict = predict_photo if arguments.photo else predict_subject
    spent = np.concatenate([predict(folder, out / folder.name, predictor) for folder in subjects])
    print(f"{arguments.model}: {len(spent)} photos, {np.isnan(spent).sum()} without a face; processor time "
          f"{1000 * np.nanmedian(spent):.0f} ms a photo (median), {1000 * np.nanmax(spent):.0f} at most; wrote {out}",
          flush=True)
    if not scorer.is_file():
        print(f"{scorer}: not there, so nothing is measured")
        return 0
    return subprocess.run([sys.executable, str(scorer), "--pred", str(out), "--identify", "--jobs",
                           str(arguments.jobs)]).returncode


if __name__ == "__main__":
    sys.exit(main())

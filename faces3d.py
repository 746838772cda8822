"""The API's door:  faces3d.reconstruct(["me1.jpg", "me2.jpg"]).save("me.glb")

On the command line  faces3d demo|train|evaluate WORDS  runs demo.py, train.py and evaluate.py.
"""
from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence, Union

from Network import __version__, from_preset, from_run

if TYPE_CHECKING:       # so that importing this waits for nothing
    import numpy as np

    from Dataset.io.inputs import NamedImage
    from Network.inference.base import Face, Predictor

__all__ = ["Photo", "Reconstruction", "__version__", "from_preset", "from_run", "reconstruct", "reconstruct_subjects"]

#: a file, a folder of photos, a video, or an image: (H, W, 3) uint8 BGR or an image with its name
Source = Union[str, "os.PathLike[str]", "np.ndarray", "NamedImage"]
COMMANDS = ("demo", "train", "evaluate")


class Photo(NamedTuple):
    """What became of a photo. score: the detector's, 0 to 1, None where a box was given; missing: why it shows no face,
    None where it does."""

    name: str
    score: float | None
    missing: str | None


class Reconstruction(NamedTuple):
    """One subject. face: `Network.inference.base.Face` after the last photo with a face; photos: one for each image;
    files: the sources that are files, which `save` does not replace."""

    face: Face
    photos: tuple[Photo, ...]
    files: tuple[Path, ...] = ()

    def save(self, path: str | os.PathLike[str], expression: bool | None = None, overwrite: bool = False) -> list[Path]:
        """Write the mesh as the ending says (.ply, .obj: mm; .glb: metres), its landmarks and pose -> the paths, which
        appear together.

        expression  True: with the last photo's expression; False: the neutral face; None: as `demo.py`, that of a
                    single photo, else neutral
        ValueError for another ending, and where it would replace a photo or, without `overwrite`, a file that this
        program has not written. OSError where it cannot be written.
        """
        from Dataset.io.atomic import all_or_none
        from Dataset.io.marks import mark
        from Network.commands.results import refuse_overwriting, write_result
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"path must be a file's path, got {type(path).__name__}")
        path = Path(path)
        refuse_overwriting(path, self.files, overwrite, preview=False)
        single = sum(photo.missing is None for photo in self.photos) == 1
        with all_or_none(mark):
            return write_result(path, self.face, single if expression is None else expression).paths


def reconstruct(photos: Source | Sequence[Source], model: str | os.PathLike[str] | Predictor = "compact",
                progress: Callable[[Photo], None] | None = None) -> Reconstruction:
    """The face of one subject from any number of photos.

    photos    see Source; a folder gives all of its photos, a video eight frames
    model     a bundled network's name, a run or weight folder, or a Predictor, which is reset
    progress  called after each photo; what it raises ends the work
    ValueError, one line that names the file and the rule, for what cannot be read; NoFace, a ValueError, where no photo
    shows a face. A Predictor that was given is as it was where `photos` or `model` is of another type.
    """
    sources = _sources(photos, "photos")
    return _reconstruct(sources, _predictor(model), progress)


def _reconstruct(sources: list[Source], predictor: Predictor, progress: Callable[[Photo], None] | None
                 ) -> Reconstruction:
    predictor.reset()
    seen: list[Photo] = []
    for image in _images(sources):
        seen.append(_add(predictor, image))
        if progress:
            progress(seen[-1])
    if predictor.face is None:
        from Network.inference.photos import NoFace
        raise NoFace("; ".join(photo.missing or "" for photo in seen) or "no photo was given")
    files = tuple(Path(one) for one in sources if isinstance(one, (str, os.PathLike)) and Path(one).exists())
    return Reconstruction(predictor.face, tuple(seen), files)


def reconstruct_subjects(subjects: Mapping[str, Source | Sequence[Source]],
                         model: str | os.PathLike[str] | Predictor = "compact",
                         progress: Callable[[Photo], None] | None = None
                         ) -> Iterator[tuple[str, Reconstruction | ValueError]]:
    """`reconstruct` of many subjects with one network: name, and the result or the error, one after the other. To
    cancel, stop iterating. ValueError, at once, where `subjects` is no mapping, or for the model."""
    if not isinstance(subjects, Mapping):
        raise ValueError(f"subjects must be a mapping of names to photos, got {type(subjects).__name__}")
    return _each(subjects, _predictor(model), progress)


def _each(subjects: Mapping[str, Source | Sequence[Source]], predictor: Predictor,
          progress: Callable[[Photo], None] | None) -> Iterator[tuple[str, Reconstruction | ValueError]]:
    for name, photos in subjects.items():
        try:
            yield name, _reconstruct(_sources(photos, f"{name}: photos"), predictor, progress)
        except ValueError as error:
            yield name, error


def _predictor(model: str | os.PathLike[str] | Predictor) -> Predictor:
    from Network.inference.base import Predictor
    if isinstance(model, Predictor):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise ValueError("model must be a bundled network's name, a run or weight folder, or a Predictor, got "
                         f"{type(model).__name__}")
    return from_run(model)


def _sources(photos: Source | Sequence[Source], what: str) -> list[Source]:
    """One source, or several, as a list. ValueError, which begins with `what`, for what is none."""
    import numpy as np

    from Dataset.io.inputs import NamedImage
    kinds = (str, os.PathLike, NamedImage, np.ndarray)
    if isinstance(photos, kinds):
        return [photos]
    if isinstance(photos, (bytes, bytearray, memoryview, Mapping)) or not isinstance(photos, Iterable):
        raise ValueError(f"{what} must be a file, a folder, an image, or several of them, got {type(photos).__name__}")
    sources = list(photos)
    for number, source in enumerate(sources, 1):
        if not isinstance(source, kinds):
            raise ValueError(f"{what} must be files, folders or images, number {number} is {type(source).__name__}")
    return sources


def _images(sources: Iterable[Source]) -> Iterator[NamedImage]:
    from Dataset.io.inputs import NamedImage, check_inputs, read_inputs
    for number, source in enumerate(sources):
        if isinstance(source, (str, os.PathLike)):
            check_inputs([source])
            yield from read_inputs([source])
        else:
            yield source if isinstance(source, NamedImage) else NamedImage(f"photo {number + 1}", source)


def _add(predictor: Predictor, image: NamedImage) -> Photo:
    from Network.inference.photos import NoFace
    try:
        return Photo(image.name, predictor.add(image).crop.detected, None)
    except NoFace as error:
        return Photo(image.name, None, str(error))


def main(argv: list[str] | None = None) -> int:
    """The console command -> the script's exit code; 2, with one line, for another command."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] not in COMMANDS:
        known = words and words[0] in ("-h", "--help")
        print(f"usage: faces3d {'|'.join(COMMANDS)} ...; each prints its flags with --help", file=sys.stdout if known
              else sys.stderr)
        return 0 if known else 2
    return import_module(words[0]).main(words[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())

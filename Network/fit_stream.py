"""One face from any number of photos by networks that answer per pixel: each is looked at once, all are fitted."""
from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from Dataset.images import minmax
from Dataset.pose import pose_numbers
from Network.colours import Colours
from Network.fitted import FITTERS, MOST_PHOTOS, Person, faces_of_people
from Network.loading import Loaded
from Network.predict import MOST_CUTS, Crop, Look, NoFace, Prediction, cut_again, surest, view
from Network.streaming import compiled
from Network.uvnet import read_maps

# Mean log-variance of u and v within `uvnet`'s mask: a face up to the first, none from the second on. Own renders, 592
# crops by the detector, at the face and at random, cut again up to three times: in 240 the mask is empty; of the 339
# whose landmarks then err by less than 8 % it is -9.8 to -8.9, of the 13 that lie elsewhere (above 12 %) -7.5 to -6.2.
# Real profiles have -7.5 to -6.6, other photos -9.3 to -8.3. That was of the first weights; of those with `compact`'s
# pruned encoder 60 faces have -9.7 to -7.3 (95 %: -8.2), the same pictures cut in half -8.2 to -4.7 (median -6.5).
FACE, NO_FACE = -7.8, -5.8


class FitStream:
    """`Network.streaming.Stream`. Holds what the network said of the newest MOST_PHOTOS photos, so that its memory does
    not grow; older ones are forgotten, and the fit begins anew. ValueError for a model of another kind."""

    def __init__(self, loaded: Loaded) -> None:
        name = loaded.config.get("network")
        if name not in FITTERS:
            raise ValueError(f"{loaded.source}: does not answer per pixel")
        self.loaded, self._fitter = loaded, FITTERS[name](loaded.calibration)
        model = loaded.telling or loaded.model
        self._run = compiled(lambda images: model(images, training=False))
        self.reset()
        self._run(ops.zeros((1, loaded.image_size, loaded.image_size, 3)))      # traced now, not with the first photo

    def reset(self) -> None:
        """Forget everything: the next photo is another person's first."""
        self.answer: np.ndarray | None = None       # (S, S, C), of the last photo, cut as its crop is
        self.pose: np.ndarray | None = None         # `pose_numbers` of its head, where the network says them
        self._readings: list[Any] = []
        self._person: Person | None = None
        self._colours = Colours(self.loaded.points)
        self.count = 0

    def add(self, crop: Crop) -> Prediction:
        """The face from this crop and all before it; the crop is cut again first where the face lies off its place, and
        the picture's other places are looked at where the network sees none there. NoFace, and nothing is kept of the
        crop, where it sees none anywhere."""
        crop, _, (person, readings, answer) = surest(crop, self._look)
        self.answer, self.pose = answer, None if person.pose is None else pose_numbers(person.pose, crop.box, 1)
        self._readings, self._person, self.count = readings, person, self.count + 1
        crop = crop._replace(whole=None, others=None)
        shape = person.points if person.in_photo is None else person.in_photo
        seen = view(shape, crop, person.places)
        if seen is not None:
            # uvnet alone says what stands before the face
            free = read_maps(answer).occluded if self.loaded.config["network"] == "uvnet" else None
            self._colours.add(crop.photo, seen, free)
        return Prediction(person.points, [crop], person.places, self._colours, person.in_photo, person.landmarks)

    def _look(self, crop: Crop) -> Look:
        found = self._with(crop)
        for _ in range(MOST_CUTS):
            places = found[0].places
            better = None if places is None else cut_again(crop, places)
            if better is None:
                break
            try:
                found, crop = self._with(better), better
            except NoFace:              # the cut before was the better one
                break
        return Look(crop, self._doubt(found[-1]), found)

    def _doubt(self, answer: np.ndarray) -> float:
        """As `Look` has it; of `uvnet` alone, and only where it says how sure it is."""
        doubt = read_maps(answer).log_variance if self.loaded.config["network"] == "uvnet" else None
        return 0.0 if doubt is None else (float(np.nanmean(doubt)) - FACE) / (NO_FACE - FACE)

    def _with(self, crop: Crop) -> tuple[Person, list[Any], np.ndarray]:
        found = self._run(ops.convert_to_tensor(minmax(crop.image)[None]))
        output, *evidence = (np.asarray(part)[0] for part in (found if self.loaded.telling else [found]))
        try:
            readings = [*self._readings, self._fitter.read(output, *evidence)][-MOST_PHOTOS:]
        except NoFace as error:
            raise NoFace(f"{crop.source}: {error}") from None
        state = None if self._person is None or len(readings) == len(self._readings) else self._person.state
        return self._fitter.fit(readings, state), readings, output


class FitPrefixes:
    """The faces after one image, two, three ...: `Network.streaming.Prefixes` for networks that answer per pixel."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) float32 in [0, 1] -> (B, T, N, 3) float32: [:, t] is the face from the first t + 1 images."""
        outputs, evidence = self._loaded.told(images)
        how = self._loaded.config["network"], self._loaded.calibration
        return np.stack([faces_of_people(outputs[:, :t + 1], *how, None if evidence is None else evidence[:, :t + 1])
                         for t in range(images.shape[1])], axis=1)

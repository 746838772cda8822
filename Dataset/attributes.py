"""What distinguishes images and subjects of shards, for errors by attribute: yaw, glasses, light, skin tone, age ...

Shards hold poses and masks, not glasses, light or appearance. These are the random choices of the generator, which
depend only on the seed, the subject and the image: they are drawn again here, without rendering, so that sets of any
age have them and no byte of a set changes. Age and sex are those of the *appearance* (folds, beard, hair, brows): the
shape of a synthetic subject depends on neither.
"""
from __future__ import annotations

from typing import Mapping

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.rendering import shading
from Dataset.synthesis.glasses import CLEAR, DARK, NONE
from Dataset.synthesis.photographed_skin import sample_base
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import MIXED, RenderOptions, image_choices, subject_choices
from Dataset.synthesis.scene import View
from Dataset.synthesis.shards import Shards
from Dataset.synthesis.skin import Appearance, melanin_of

#: attribute -> its values, in the order of tables
IMAGE_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "yaw": ("up to 30", "30 to 60", "over 60"),             # degrees, either side
    "glasses": ("none", "clear", "dark"),
    "lamp": ("in front", "from the side"),                  # by LAMP_ANGLE
    "brightness": ("dark", "medium", "bright"),             # by BRIGHTNESS
    "hidden": ("up to 5 %", "5 to 20 %", "over 20 %"),      # of the face's pixels, by hair, glasses and clothes
}
SUBJECT_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin tone": ("light", "medium", "dark"),               # thirds of melanin in [0, 1]
    "age": ("young", "middle", "old"),                      # thirds of the depth of folds in [0, 1]
    "sex": ("woman", "man"),
    "beard": ("none", "stubble", "beard"),
}
YAWS, HIDDEN, THIRDS, BRIGHTNESS = (30.0, 60.0), (0.05, 0.2), (1 / 3, 2 / 3), (0.7, 1.1)
LAMP_ANGLE = 45.0       # degrees between the lamp and where the face looks
STUBBLE = 0.3           # less of it is hardly seen


def subject_attributes(shards: Shards, subject: int) -> Mapping[str, str]:
    """Values of SUBJECT_ATTRIBUTES of a subject, by its index in the shards; {} where subjects have no skin
    (`RenderOptions.texture`)."""
    if shards.settings.texture != MIXED:
        return {}
    _, appearance = subject_choices(int(shards.subjects[subject]), shards.settings, load_face_model())
    return {"skin tone": _binned("skin tone", _melanin(appearance, shards.settings), THIRDS),
            "age": _binned("age", appearance.age, THIRDS),
            "sex": "man" if appearance.beard or appearance.stubble else "woman",       # only men are drawn with stubble
            "beard": "beard" if appearance.beard else "stubble" if appearance.stubble > STUBBLE else "none"}


def image_attributes(shards: Shards, subject: int, image: int) -> Mapping[str, str]:
    """Values of IMAGE_ATTRIBUTES of an image; "hidden" only where the shards have the buffers uv and visible_mask."""
    view = image_choices(int(shards.subjects[subject]), image, shards.settings, load_face_model())[0]
    found = {"yaw": _binned("yaw", abs(float(view.pose[0])), YAWS),
             "glasses": {NONE: "none", CLEAR: "clear", DARK: "dark"}[view.glasses],
             "lamp": IMAGE_ATTRIBUTES["lamp"][int(lamp_angle(view) > LAMP_ANGLE)],
             "brightness": _binned("brightness", brightness(view), BRIGHTNESS)}
    if {"uv", "visible_mask"} <= set(shards.names):
        uv, seen = (shards.gather(name, [subject], [image])[0] for name in ("uv", "visible_mask"))
        face = np.isfinite(uv[..., 0])
        if face.any():
            found["hidden"] = _binned("hidden", 1 - float(seen[face].mean()), HIDDEN)
    return found


def lamp_angle(view: View) -> float:
    """Degrees between the lamp and the direction in which the face looks."""
    cosine = float(np.clip(np.asarray(view.light_direction, float) @ _ahead(view), -1, 1))
    return float(np.degrees(np.arccos(cosine)))


def brightness(view: View) -> float:
    """The luminance of a white surface that faces where the face looks, lamp and environment together."""
    light, ahead = shading.Light(view.light_direction, view.light_colour, view.light_ambient), _ahead(view)[None]
    received = shading.lamp_light(ahead, light) + shading.ambient_light(ahead, light.ambient)
    return float((received @ shading.LUMINANCE)[0])


def _ahead(view: View) -> np.ndarray:
    return rotation_from_euler(*(float(angle) for angle in view.pose[:3])) @ (0.0, 0.0, 1.0)


def _melanin(appearance: Appearance, options: RenderOptions) -> float:
    """Of the skin as it is drawn: where it is photographed, of the same luminance."""
    if not options.skins:
        return appearance.melanin
    base = sample_base(render_context().skins, appearance, options.skins)
    return appearance.melanin if base is None else float(melanin_of(base.tone))


def _binned(name: str, value: float, limits: tuple[float, ...]) -> str:
    values = {**IMAGE_ATTRIBUTES, **SUBJECT_ATTRIBUTES}[name]
    return values[int(np.searchsorted(limits, value, side="left"))]

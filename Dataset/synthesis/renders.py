"""The training images of one subject as arrays, with the targets of all networks.

Faces, appearance and renderer are those of `Dataset.synthesis.subject_folders`, over a wider range of poses. Most
images are framed by a prediction of the detector's box (`Dataset/synthesis/framing.py`, with its measured bias and
noise), since running the detector costs more than the image. The random choices of image i of subject p for seed s are
the same on every machine: they are drawn from Generator([s, p, 1, i]).
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from Dataset.face_model.model import FaceModel
from Dataset.geometry.camera import Camera
from Dataset.geometry.normals import normalise
from Dataset.rendering.raycast import Hits, Scene
from Dataset.representations import uvmap
from Dataset.representations.points import GRID, coarse_grid
from Dataset.seeding import MAX_SEED
from Dataset.synthesis.framing import detected_face, predict_box
from Dataset.synthesis.plain_material import BLEND, KINDS, BlendedSubject, PlainSubject
from Dataset.synthesis.scene import (PosedScene, RenderContext, SceneSubject, View, roughen, sample_view,
                                     view_camera)
from Dataset.synthesis.skin import Appearance, sample_appearance

MAPS = ("uv", "mask", "visible_mask")       # of BUFFERS, those of Dataset/representations/uvmap.py
BUFFERS = (*MAPS, "depth", "normals")
MIXED = "mixed"         # texture: skin, hair, clothes and backgrounds of all kinds
TEXTURES = (MIXED, *KINDS, BLEND)
POSES = ("mixed", "gaussian")
PERCENTILE = 3.2905     # standard deviations within which 99.9 % of a normal distribution lie
OPEN = ("jawOpen", "mouth-open")        # expression units that open the mouth
CLEARANCE = 4.0         # mm: surfaces up to this distance in front of a point do not hide it
_FRONTAL = (25.0, 12.0, 10.0)       # standard deviations of yaw, pitch, roll, degrees, of the frontal half
_LIMITS = {"subjects": (1, 1_000_000), "images": (1, 1000), "size": (16, 512), "seed": (0, MAX_SEED), "yaw": (0, 90),
           "pitch": (0, 60), "roll": (0, 180), "expression": (0, 1), "margin": (0.5, 3), "detect": (0, 1),
           "clutter": (0, 1), "glasses": (0, 1), "skins": (0, 1), "shift": (0, 1), "open_mouths": (-1, 1)}


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Options of the rendering. ValueError for a value out of range.

    subjects, images    counts; images of each subject
    size                side of a crop, px
    yaw, pitch, roll    largest absolute angle, degrees
    expression          strength in [0, 1]
    margin              the box is enlarged about its centre by this factor
    detect              fraction of the images that the detector itself frames
    clutter, glasses    fractions with a cluttered background and with glasses
    buffers             some of `BUFFERS`
    skins               fraction of the subjects with photographed skin (Dataset/synthesis/photographed_skin.py)
    texture             of `TEXTURES`; grey and noise are without skin (Dataset/synthesis/plain_material.py)
    poses               mixed: half near the front, half uniform over the range; gaussian: 99.9 % within the angles
    shift               of the frame, normal on each axis: 99.9 % within this fraction of its side
    open_mouths         fraction of the images with an open mouth; -1: as expressions are drawn, about one in seven
    """
    subjects: int = 1000
    images: int = 8
    size: int = 128
    seed: int = 0
    yaw: float = 90.0
    pitch: float = 40.0
    roll: float = 45.0
    expression: float = 1.0
    margin: float = 1.15
    detect: float = 0.1
    clutter: float = 0.6
    glasses: float = 0.12
    buffers: tuple[str, ...] = ()
    skins: float = 0.0          # added later: 0 in older sets
    texture: str = MIXED        # added later
    poses: str = POSES[0]       # added later, as what follows
    shift: float = 0.0
    open_mouths: float = -1.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"--{name.replace('_', '-')} must be within {low} to {high}, got {value}")
        unknown = [name for name in self.buffers if name not in BUFFERS]
        if unknown or len(set(self.buffers)) != len(self.buffers):
            raise ValueError(f"--buffers must be some of {','.join(BUFFERS)}, once each, got {','.join(self.buffers)}")
        if self.texture not in TEXTURES:
            raise ValueError(f"--texture must be one of {', '.join(TEXTURES)}, got {self.texture!r}")
        if self.poses not in POSES:
            raise ValueError(f"--poses must be one of {', '.join(POSES)}, got {self.poses!r}")
        if self.texture in KINDS and self.skins:
            raise ValueError(f"--skins are for --texture {MIXED}: {self.texture} has no skin")

    def written(self) -> dict[str, Any]:
        """The settings for files. Options that were added later are left out at their defaults, so that older sets
        remain the same."""
        later = {"skins": 0.0, "texture": MIXED, "poses": POSES[0], "shift": 0.0, "open_mouths": -1.0}
        return {name: value for name, value in dataclasses.asdict(self).items()
                if name not in later or value != later[name]}


def layout(options: RenderOptions) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """name -> (shape, dtype) of one subject's arrays; T images of S x S pixels.

    images (T, S, S, 3) uint8 BGR; identity (200,) float32 standard deviations; expression (T, 84) float32 weights;
    pose (T, 6) float32 yaw, pitch, roll in degrees and x, y, z in mm, as in :class:`Dataset.synthesis.scene.View`;
    camera (T, 4) float32: focal length and principal point x, y in pixels of the crop, distance in mm; image_points
    (T, 256, 2) float32: the 16x16 ordered grid of the posed, expressive head in pixels of the crop (first pixel's
    centre 0.5; may lie outside); depth_points (T, 256) float32 their camera depth, mm; visible (T, 256) bool: nothing
    lies more than 4 mm in front of the point; landmarks (T, 68, 2) float32 pixels; found (T,) bool: framed by the
    detector.
    Buffers: uv (T, S, S, 2) float16, mask and visible_mask (T, S, S) bool, as `Dataset.representations.uvmap.UVMap`
    says: the texture coordinates of the point at the pixel's centre, NaN off the mask; whether the whole pixel shows
    the face (with eyes and the mouth's inside, without ears, scalp and neck), ignoring hair and glasses; and whether
    nothing is in front of it. depth (T, S, S) float32 mm of each pixel's first hit, NaN where nothing is;
    normals (T, S, S, 3) int8, 127 x the unit normal there in the camera's upright frame (x right, y up, z to the
    camera), 0 where nothing is hit.
    """
    t, s, n = options.images, options.size, GRID * GRID
    f32 = np.dtype(np.float32)
    shapes = {"images": ((t, s, s, 3), np.dtype(np.uint8)), "identity": ((200,), f32), "expression": ((t, 84), f32),
              "pose": ((t, 6), f32), "camera": ((t, 4), f32), "image_points": ((t, n, 2), f32),
              "depth_points": ((t, n), f32), "visible": ((t, n), np.dtype(bool)), "landmarks": ((t, 68, 2), f32),
              "found": ((t,), np.dtype(bool))}
    buffers = {"uv": ((t, s, s, 2), np.dtype(np.float16)), "mask": ((t, s, s), np.dtype(bool)),
               "visible_mask": ((t, s, s), np.dtype(bool)), "depth": ((t, s, s), f32),
               "normals": ((t, s, s, 3), np.dtype(np.int8))}
    return {**shapes, **{name: buffers[name] for name in BUFFERS if name in options.buffers}}


def render_subject(number: int, options: RenderOptions, context: RenderContext) -> dict[str, np.ndarray]:
    """Subject ``number``'s arrays, see :func:`layout`; the bytes depend only on (seed, number, image) and the
    options."""
    identity, appearance = subject_choices(number, options, context.model)
    scene_subject = {MIXED: SceneSubject, BLEND: BlendedSubject}[options.texture](
        context, identity, appearance, options.skins) if options.texture not in KINDS \
        else PlainSubject(context, identity, appearance, options.texture)
    out = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout(options).items()}
    out["identity"][:] = identity
    for image in range(options.images):
        view, detect, moved = image_choices(number, image, options, context.model)
        posed = scene_subject.set(view)
        camera, out["found"][image] = _frame(posed, options, detect, moved)
        _fill(out, image, posed, camera, options)
    return out


def subject_choices(number: int, options: RenderOptions, model: FaceModel) -> tuple[np.ndarray, Appearance]:
    """Subject ``number``'s identity (200,) float32 and appearance, without rendering."""
    rng = np.random.default_rng([options.seed, number, 0])
    return model.sample_identity(rng).astype(np.float32), sample_appearance(rng)


def image_choices(number: int, image: int, options: RenderOptions, model: FaceModel
                  ) -> tuple[View, bool, np.ndarray]:
    """The settings of a subject's image, whether the detector frames it if it can, and how far the crop is shifted
    (2,), in its sides; without rendering."""
    rng = np.random.default_rng([options.seed, number, 1, image])     # [s, p] would be the same stream as [s, p, 0]
    angles = sample_angles(rng, options)
    detect = rng.random() < options.detect
    view = sample_view(rng, expression_of(rng, options, model), angles=angles)
    view = roughen(view, rng, options.clutter, options.glasses)
    return view, detect, rng.normal(0, options.shift / PERCENTILE, 2) if options.shift else np.zeros(2)


def sample_angles(rng: np.random.Generator, options: RenderOptions) -> np.ndarray:
    """Yaw, pitch, roll (3,) in degrees: half of the images near the front, half uniform over the range; or normal."""
    limits = np.array([options.yaw, options.pitch, options.roll])
    if options.poses == "gaussian":
        return rng.normal(0, limits / PERCENTILE)
    frontal, near, wide = rng.random() < 0.5, rng.normal(0, _FRONTAL), rng.uniform(-1, 1, 3) * limits
    return np.clip(near, -limits, limits) if frontal else wide


def expression_of(rng: np.random.Generator, options: RenderOptions, model: FaceModel) -> np.ndarray:
    """A random expression (84,): as the face model draws it, or with the mouth open in so many images."""
    drawn = model.sample_expression(rng, options.expression)
    units = [i for i, name in enumerate(model.expression_names) if name in OPEN]
    if options.open_mouths < 0 or not units:
        return drawn
    wanted, weight, unit = rng.random() < options.open_mouths, rng.uniform(0.2, 1.0), units[rng.integers(len(units))]
    if wanted != bool(drawn[units].any()):
        drawn[units] = 0
        drawn[unit] = options.expression * weight * wanted
    return drawn


def visible(scene: Scene, camera: Camera, positions: np.ndarray) -> np.ndarray:
    """Which points (N, 3) of the world the camera sees: (N,) bool. Surfaces less than CLEARANCE in front of a
    point (its own, a closed lid's strip) do not hide it."""
    towards = positions - camera.position()
    depth = towards @ camera.rotation[2]
    return ~scene.occluded(camera.position(), towards * (1 - CLEARANCE / depth)[:, None], far=1.0)


def _frame(posed: PosedScene, options: RenderOptions, detect: bool, moved: np.ndarray) -> tuple[Camera, bool]:
    """The crop's camera, shifted by `moved` (2,) of its sides, and whether the detector framed it."""
    find = detected_face(posed) if detect else None
    box = find.box if find else predict_box(posed)
    side = box[2] * options.margin
    x, y = (box[k] + (box[2] - side) / 2 + moved[k] * side for k in (0, 1))
    grown = (x, y, side, side)
    return view_camera(posed.view).crop(grown, options.size), find is not None


def _fill(out: dict[str, np.ndarray], image: int, posed: PosedScene, camera: Camera, options: RenderOptions) -> None:
    model = posed.scene_subject.context.model
    hits = posed.scene.cast(camera)
    out["images"][image] = posed.render(camera, hits=hits)
    out["expression"][image], out["pose"][image] = posed.view.expression, posed.view.pose
    out["camera"][image] = camera.focal, *camera.centre, posed.view.distance
    positions = (coarse_grid(model) @ posed.vertices[:len(model.mean)])
    projected = camera.project(positions)
    out["image_points"][image] = np.stack([projected.x, projected.y], -1)
    out["depth_points"][image] = projected.depth
    out["visible"][image] = visible(posed.scene, camera, positions)
    projected = camera.project(posed.landmarks())
    out["landmarks"][image] = np.stack([projected.x, projected.y], -1)
    if any(name in MAPS for name in options.buffers):
        maps = uv_map(posed, camera, hits)._asdict()
        for name in filter(options.buffers.__contains__, MAPS):
            out[name][image] = maps[name]
    if "depth" in options.buffers:
        out["depth"][image] = hits.depth
    if "normals" in options.buffers:
        out["normals"][image] = _normals(posed, hits)


def uv_map(posed: PosedScene, camera: Camera, hits: Hits) -> uvmap.UVMap:
    """The UV map of an image; hits: the result of `posed.scene.cast(camera)`."""
    model, context = posed.scene_subject.context.model, posed.scene_subject.context
    number = np.append(np.where(posed.numbers < 0, uvmap.OTHER, posed.numbers), uvmap.NOTHING)    # the last: a miss
    return uvmap.encode(posed.vertices[:len(model.mean)], camera, None, model, posed.numbers[posed.numbers >= 0],
                        hits._replace(triangle=number[hits.triangle]), context.threads)


def _normals(posed: PosedScene, hits: Hits) -> np.ndarray:
    corners = posed.triangles[hits.triangle]
    normals = sum(posed.normals[corners[..., k]] * hits.barycentric[..., k, None] for k in range(3))
    return np.rint(127 * normalise(normals)).astype(np.int8)

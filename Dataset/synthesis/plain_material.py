"""Non-realistic subjects of Ronkainen 2017, 3.3 and 4.4: uniform grey, 1/f noise, or skin blended with a material.

Subjects, views, light and cameras are the same as with skin; the background has the same material, as in the paper's
figures 3.6 and 3.7. One colour or texture covers skin, eyes, hair, clothes and glasses, so that only geometry and light
distinguish them. A blend, the thesis's final material, has the background of ordinary subjects.
"""
from __future__ import annotations

import cv2
import numpy as np

from Dataset.rendering import shading
from Dataset.synthesis.chart import HEIGHT, WIDTH, sample_texture
from Dataset.synthesis.hair_and_clothes import FRAME
from Dataset.synthesis.scene import VIEW, PosedScene, RenderContext, SceneSubject, View
from Dataset.synthesis.skin import Appearance

GREY, NOISE = "grey", "noise"
KINDS = (GREY, NOISE)
BLEND = "blend"         # a material and one colour, mixed, then mixed with the subject's own skin, hair and clothes
_CONTRAST = (0.25, 0.7)         # standard deviation of the noise's logarithm
_OWN_COLOUR = 0.6               # of the noise: the part that is independent in each channel
_WRAP = np.array([0.15, 0.15, 0.15], np.float32)


def fractal(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of `shape`, float32, mean 0, variance 1, whose amplitude falls with 1 / frequency, like that of
    natural images; periodic."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape, np.float32))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency, shape)
    return (noise / noise.std()).astype(np.float32)


def paint(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Linear BGR albedo (h, w, 3) float32 in (0, 1): one random grey, or coloured 1/f noise. ValueError for another
    kind."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    level = np.float32(np.exp(rng.uniform(np.log(0.08), np.log(0.6))))
    if kind == GREY:
        return np.full((*shape, 3), level, np.float32)
    common, own = fractal(shape, rng), cv2.merge([fractal(shape, rng) for _ in range(3)])
    noise = (common[..., None] + _OWN_COLOUR * own) / np.float32(np.hypot(1, _OWN_COLOUR))
    return np.clip(level * np.exp(np.float32(rng.uniform(*_CONTRAST)) * noise), 0.004, 0.95)


class PlainSubject(SceneSubject):
    """A `SceneSubject` in grey or noise. Texture and gloss depend on the seed of the appearance, the background on that
    of the view."""

    def __init__(self, context: RenderContext, identity: np.ndarray, appearance: Appearance, kind: str) -> None:
        super().__init__(context, identity, appearance)
        rng = np.random.default_rng([appearance.seed, 4])
        self.kind, self.texture = kind, paint(kind, (HEIGHT, WIDTH), rng)
        self._specular, self._shininess = rng.uniform(0, 0.05), np.exp(rng.uniform(np.log(8), np.log(60)))

    def material(self, positions: np.ndarray, kinds: np.ndarray) -> shading.Material:
        """The texture everywhere; its mean for glasses, which have colours instead of positions."""
        albedo = sample_texture(self.texture, self.context.chart.texels(positions))
        albedo[kinds >= FRAME] = self.texture.mean((0, 1))
        return shading.Material(albedo, np.full(len(kinds), self._specular, np.float32),
                                np.full(len(kinds), self._shininess, np.float32), _WRAP)

    def set(self, view: View) -> PosedScene:
        """The posed scene of one view, with a background of the same kind."""
        posed = super().set(view)
        posed.backdrop = paint(self.kind, (VIEW, VIEW), np.random.default_rng([view.seed, 4]))
        return posed


def paint_material(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Linear BGR albedo (h, w, 3) float32 in (0, 1) of a material as the thesis's 70 photographs of materials have
    them, made of noise: coloured 1/f noise, or bands between two colours, as in wood and marble."""
    if rng.random() < 0.5:
        return paint(NOISE, shape, rng)
    two = rng.uniform(0.03, 0.8, (2, 3)).astype(np.float32)
    bands = 0.5 + 0.5 * np.sin(np.float32(rng.uniform(1, 8)) * fractal(shape, rng))
    return two[0] + bands[..., None] * (two[1] - two[0])


class BlendedSubject(SceneSubject):
    """A `SceneSubject` whose colours and gloss are mixed with those of a material; all amounts depend on the seed of
    the appearance. Glasses keep theirs."""

    def __init__(self, context: RenderContext, identity: np.ndarray, appearance: Appearance, photographed: float
                 ) -> None:
        super().__init__(context, identity, appearance, photographed)
        rng = np.random.default_rng([appearance.seed, 5])
        solid, amount = rng.uniform(0.02, 0.9, 3).astype(np.float32), np.float32(rng.random())
        self.material_texture = amount * solid + (1 - amount) * paint_material((HEIGHT, WIDTH), rng)
        self.own = np.float32(rng.random())
        self._specular, self._shininess = np.float32(rng.uniform(0, 0.15)), np.exp(rng.uniform(np.log(6), np.log(150)))

    def material(self, positions: np.ndarray, kinds: np.ndarray) -> shading.Material:
        """As `SceneSubject.material`, mixed."""
        found = super().material(positions, kinds)
        texture = sample_texture(self.material_texture, self.context.chart.texels(positions))
        own = np.where(kinds >= FRAME, np.float32(1), self.own)
        return found._replace(
            albedo=(own[:, None] * found.albedo + (1 - own[:, None]) * texture).astype(np.float32),
            specular=(own * found.specular + (1 - own) * self._specular).astype(np.float32),
            shininess=np.where(own > 0.5, found.shininess, np.float32(self._shininess)))

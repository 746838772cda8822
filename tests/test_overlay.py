"""Evaluation/figures/overlay.py: a sphere of known shading, faces at the frame's edge, frames without a face."""
from types import SimpleNamespace

import numpy as np
import pytest

from Evaluation.figures.overlay import AMBIENT, LIGHT, Drawn, Overlay, OverlayConfig, Shaded, blend, draw_net

SOLID = OverlayConfig(opacity=1.0, size=256)


def ball(x, y, radius, rings=40):
    """A sphere about a pixel: vertices (V, 3), triangles counter-clockwise from outside with y down."""
    steps = np.linspace(1e-3, np.pi - 1e-3, rings), np.linspace(0, 2 * np.pi, 2 * rings)
    polar, turn = np.meshgrid(*steps, indexing="ij")
    up = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)], -1).reshape(-1, 3)
    cells = np.arange(rings * 2 * rings).reshape(rings, -1)
    a, b, c, d = (part.ravel() for part in (cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return np.array([x, y, 0]) + radius * up * (1, -1, 1), triangles


def face(vertices, track=0):
    return SimpleNamespace(vertices=vertices, keypoints=np.zeros((256, 2)), track=track, box=(10, 10, 30))


def test_a_sphere_is_shaded_as_lambert_says():
    vertices, triangles = ball(60, 50, 30)
    frame = np.zeros((100, 120, 3), np.uint8)
    out = Overlay(triangles, SOLID)(frame, [face(vertices)])
    assert not frame.any()                                  # a copy
    y, x = np.mgrid[0:100, 0:120] + 0.5
    across, up = (x - 60) / 30, -(y - 50) / 30
    inside = across ** 2 + up ** 2 < 0.9
    normals = np.stack([across, up, np.sqrt(np.clip(1 - across ** 2 - up ** 2, 0, 1))], -1)
    shade = AMBIENT + (1 - AMBIENT) * np.clip(normals @ LIGHT, 0, 1)
    assert np.abs(out[inside] - shade[inside, None] * (232, 214, 190)).max() < 9
    assert not out[across ** 2 + up ** 2 > 1.1].any()


def test_opacity_lets_the_frame_through():
    vertices, triangles = ball(50, 50, 30)
    frame = np.full((100, 100, 3), 100, np.uint8)
    solid = Overlay(triangles, SOLID)(frame, [face(vertices)])
    half = Overlay(triangles, OverlayConfig(0.5, 256))(frame, [face(vertices)])
    assert np.abs(half[50, 50].astype(float) - (solid[50, 50].astype(float) + 100) / 2).max() <= 1
    np.testing.assert_array_equal(Overlay(triangles, OverlayConfig(0.0))(frame, [face(vertices)]), frame)


def test_a_small_square_enlarged_lies_where_the_large_one_does():
    vertices, triangles = ball(70.3, 60.7, 45)
    frame = np.zeros((120, 140, 3), np.uint8)
    small, large = (Overlay(triangles, OverlayConfig(1.0, size))(frame, [face(vertices)]).astype(float)
                    for size in (48, 200))
    assert np.abs(small - large).mean() < 3
    for axis in (0, 1):
        middles = [(np.arange(p.shape[axis]) * p.sum((1 - axis, 2))).sum() / p.sum() for p in (small, large)]
        assert abs(middles[0] - middles[1]) < 0.25


@pytest.mark.parametrize("x, y", [(0, 50), (100, 50), (50, 0), (50, 100), (-200, 50), (50, 400)])
def test_faces_at_the_edge_and_beyond(x, y):
    vertices, triangles = ball(x, y, 30)
    whole = np.zeros((300, 300, 3), np.uint8)
    moved = Overlay(triangles, SOLID)(whole, [face(vertices + (100, 100, 0))])[100:200, 100:200]
    out = Overlay(triangles, SOLID)(np.zeros((100, 100, 3), np.uint8), [face(vertices)])
    assert np.abs(out.astype(float) - moved).max() <= 1


def test_tracks_have_colours_and_networks_without_vertices_a_net():
    vertices, triangles = ball(50, 50, 30)
    frame = np.zeros((100, 100, 3), np.uint8)
    first, second = (Overlay(triangles, SOLID)(frame, [face(vertices, track)])[50, 50] for track in (0, 1))
    assert (first != second).any()
    lattice = np.stack(np.meshgrid(np.linspace(20, 80, 16), np.linspace(30, 90, 16)), -1).reshape(-1, 2)
    out = Overlay(None)(frame, [SimpleNamespace(vertices=None, keypoints=lattice, track=0, box=(0, 0, 5))])
    assert out[30, 20:80].any(-1).all() and not out[:28].any() and not out[:, :18].any()
    assert (out[62:65, 22:23].sum(-1) == 0).any()
    lost = face(np.full_like(vertices, np.nan))
    lost.keypoints = np.full((256, 2), np.nan)
    np.testing.assert_array_equal(Overlay(triangles)(frame, [lost]), frame)
    lost.vertices = None
    np.testing.assert_array_equal(Overlay(None)(frame, [lost]), frame)
    labelled = Overlay(triangles, OverlayConfig(labels=True))(frame, [face(vertices)])
    assert labelled[10, 12:38].any(-1).all()


def test_the_painter_may_be_another():
    drawn = Drawn(np.full((10, 10), 0.5, np.float32), np.ones((10, 10), np.float32), 20.0, 30.0, 10.0)
    overlay = Overlay(None, SOLID, paint=lambda vertices, size: drawn)
    out = overlay(np.zeros((60, 60, 3), np.uint8), [face(np.zeros((3, 3)))])
    assert (out[31:39, 21:29] == (116, 107, 95)).all() and not out[:29].any() and not out[:, :19].any()
    empty = np.zeros((40, 40, 3), np.uint8)
    blend(empty, drawn._replace(cover=np.zeros((10, 10), np.float32)), (1, 2, 3), 1.0)
    draw_net(empty, np.full((4, 2), 1e9), (1, 2, 3))        # far outside: nothing, and no overflow
    assert not empty.any()


def test_bad_values():
    with pytest.raises(ValueError, match=r"triangles must be \(F, 3\), got \(3,\)"):
        Shaded(np.zeros(3, int))
    with pytest.raises(ValueError, match="opacity must be within 0 and 1 and size within 8 and 1024, got 2 and 160"):
        OverlayConfig(2)

"""The canonical 128x128 grid on the built-in face: one fixed point of the subdivided head per grid point.

The front of the face is cut out, eyes and mouth are closed by flat strips between the lids and between the lips, the
outline goes to the square's border by arc length, and the inside follows by mean value coordinates (Floater,
CAGD 20(1), 2003) with two rounds of stretch minimisation (Yoshizawa, Belyaev, Seidel, SMI 2004).
"""
from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from Dataset.face_model.build.makehuman import REGIONS, Head
from Dataset.geometry.subdivision import subdivision, triangulate

SIZE, ROUNDS = 128, 2
AZIMUTH, TOP, BELOW_JAW = 64.0, 46.0, 6.0  # degrees, seen from a point CENTRE (mm) inside the head
CENTRE = (0.0, -20.0, -80.0)


def build_grid(faces: list[np.ndarray], head: Head, landmarks: list[np.ndarray]) -> dict[str, np.ndarray]:
    """grid_vertices (128, 128, 3) int32 and grid_weights (128, 128, 3) float32 over the subdivided head's vertices,
    and grid_landmarks (68, 2) float64, row and column of each landmark.

    `faces` are vertices (V, 3) mm and `landmarks` theirs (68, 3): first the mean face, on which the grid is laid out; a
    landmark's position is the nearest one over all faces, so that open mouths separate the upper from the lower lip.
    """
    fine = subdivision(head.quads, len(head.vertices))
    shapes = [fine.matrix.astype(float) @ face for face in faces]
    vertices = shapes[0]
    skin = fine.quads[np.repeat(head.regions, 4) == REGIONS.index("skin")]
    triangles = triangulate(skin)
    triangles = np.concatenate([triangles, *(close_hole(h, vertices) for h in holes(triangles, vertices))])
    cut = clip(triangles, inside_outline(vertices, landmarks[0]))
    points = (vertices[cut[1]] * cut[2][..., None]).sum(1)
    square = flatten(points, cut[0])
    rows, columns = np.divmod(np.arange(SIZE * SIZE), SIZE)
    wanted = np.stack([columns, SIZE - 1 - rows], 1) / (SIZE - 1)
    found, weights = locate(wanted, square, cut[0])
    positions, fractions = merge(cut, found, weights)
    surfaces = [(v[positions] * fractions[..., None]).sum(1).reshape(SIZE, SIZE, 3) for v in shapes]
    return {"grid_vertices": positions.reshape(SIZE, SIZE, 3).astype(np.int32),
            "grid_weights": fractions.reshape(SIZE, SIZE, 3).astype(np.float32),
            "grid_landmarks": nearest_position(np.concatenate(landmarks, 1), np.concatenate(surfaces, 2))}


def holes(triangles: np.ndarray, vertices: np.ndarray) -> list[np.ndarray]:
    """The border loops of a triangle mesh but the longest one (the neck), each as its vertices in border order."""
    loops = border_loops(triangles)
    lengths = [np.linalg.norm(np.diff(vertices[np.append(p, p[0])], axis=0), axis=1).sum() for p in loops]
    return [p for i, p in enumerate(loops) if i != int(np.argmax(lengths))]


def border_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """Vertex loops along the edges of one triangle, in the direction of those triangles."""
    sides = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    seen = {(int(a), int(b)) for a, b in sides}
    following = {a: b for a, b in sorted(seen) if (b, a) not in seen}
    loops = []
    while following:
        start = min(following)
        loop = [start]
        while following[loop[-1]] != start:
            loop.append(following[loop[-1]])
        for vertex in loop:
            del following[vertex]
        loops.append(np.array(loop))
    return loops


def close_hole(loop: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Triangles of a strip from the loop's upper to its lower half, between its right and left ends: (len - 2, 3)."""
    loop = np.roll(loop, -int(vertices[loop, 0].argmin()))[::-1]
    end = int(vertices[loop, 0].argmax())
    one, other = list(loop[:end + 1]), [loop[0], *loop[:end - 1:-1]]
    triangles, i, j = [], 0, 0
    while i < len(one) - 1 or j < len(other) - 1:
        # Step along the side whose next vertex lies less far to the left; the ends belong to both sides.
        ahead = i < len(one) - 1 and (j == len(other) - 1 or vertices[one[i + 1], 0] <= vertices[other[j + 1], 0])
        triangles.append((one[i], one[i + 1], other[j]) if ahead else (one[i], other[j + 1], other[j]))
        i, j = i + ahead, j + (not ahead)
    return np.array([t for t in triangles if len(set(t)) == 3])


def angles(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (to either side, 0 in front) and elevation of points (..., 3) mm seen from CENTRE, in degrees."""
    x, y, z = np.moveaxis(points - CENTRE, -1, 0)
    return np.degrees(np.arctan2(np.abs(x), z)), np.degrees(np.arctan2(y, np.hypot(x, z)))


def inside_outline(vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A field (V,) that is positive within the front of the face: azimuth, hair's boundary, and the line of the jaw."""
    azimuth, elevation = angles(vertices)
    jaw_azimuth, jaw_elevation = angles(landmarks[8:16])
    bottom = np.interp(azimuth, jaw_azimuth, jaw_elevation) - BELOW_JAW
    height = (elevation - (TOP + bottom) / 2) / ((TOP - bottom) / 2)
    return 1 - ((azimuth / AZIMUTH)**6 + height**6)**(1 / 6)


def clip(triangles: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a mesh where `field` (V,) > 0, its largest piece: triangles (F, 3) over new points, and per new point
    two old vertices (P, 2) and their weights (P, 2)."""
    points: dict[tuple[int, int], int] = {}

    def point(a: int, b: int) -> int:
        return points.setdefault((min(a, b), max(a, b)), len(points))

    result = []
    for triangle in triangles[(field[triangles] > 0).any(1)].tolist():
        polygon = []
        for a, b in zip(triangle, triangle[1:] + triangle[:1]):
            if field[a] > 0:
                polygon.append(point(a, a))
            if (field[a] > 0) != (field[b] > 0):
                polygon.append(point(a, b))
        result += [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
    result, pairs = np.array(result), np.array(list(points))
    graph = sparse.coo_matrix((np.ones(len(result) * 2), result[:, [0, 1, 0, 2]].reshape(-1, 2).T), (len(pairs),) * 2)
    piece = connected_components(graph, directed=False)[1]
    result = result[piece[result[:, 0]] == np.bincount(piece).argmax()]
    used, result = np.unique(result, return_inverse=True)
    pairs = pairs[used]
    a, b = field[pairs].T
    fraction = np.where(pairs[:, 0] == pairs[:, 1], 1.0, b / np.where(a == b, 1, b - a))
    return result.reshape(-1, 3), pairs, np.stack([fraction, 1 - fraction], 1)


def flatten(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The disc `points` (P, 3) mm laid into the unit square, x right (subject's left), y up: (P, 2)."""
    loops = border_loops(triangles)
    if len(loops) != 1:
        raise ValueError(f"the cut face must have one outline, found {len(loops)}")
    outline = loops[0]
    square = np.zeros((len(points), 2))
    square[outline] = outline_to_square(points[outline])
    inner = np.setdiff1d(np.arange(len(points)), outline)
    weights = mean_value_weights(points, triangles)
    for round_ in range(ROUNDS + 1):
        laplacian = (sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()[inner]
        square[inner] = splu(laplacian[:, inner].tocsc()).solve(-(laplacian[:, outline] @ square[outline]))
        if round_ < ROUNDS:
            weights = weights @ sparse.diags(1 / stretch(points, square, triangles))
    return square


def outline_to_square(outline: np.ndarray) -> np.ndarray:
    """Border points (B, 3), counter-clockwise from outside, to the square's border by arc length: the highest
    point of the midline goes to the middle of the upper side."""
    # The upper outline runs from the subject's left to his right: the first point on his right follows the middle.
    before = np.roll(outline, 1, 0)
    top = int(np.flatnonzero((before[:, 0] > 0) & (outline[:, 0] <= 0) & (outline[:, 1] > outline[:, 1].mean()))[0])
    steps = np.linalg.norm(np.roll(outline, -1, 0) - outline, axis=1)
    late = steps[top - 1] * outline[top, 0] / (outline[top, 0] - before[top, 0])
    arc = np.append(late + np.append(0, np.cumsum(np.roll(steps, -top))[:-1]), steps.sum()) / steps.sum()
    # From the top's middle to the upper left corner, down, right, up, and back; a border point stands in each corner.
    turns = [int(np.abs(arc - c).argmin()) for c in (0.125, 0.375, 0.625, 0.875)]
    known = np.array([0, *arc[turns], 1])
    corners = np.array([[0.5, 1], [0, 1], [0, 0], [1, 0], [1, 1], [0.5, 1]])
    return np.roll(np.stack([np.interp(arc[:-1], known, c) for c in corners.T], 1), top, axis=0)


def mean_value_weights(points: np.ndarray, triangles: np.ndarray) -> sparse.csr_matrix:
    """Weights (P, P), row i: (tan(a/2) + tan(b/2)) / length over the two triangles at edge ij; angles at i."""
    total = sparse.csr_matrix((len(points),) * 2)
    for k in range(3):
        i, j, m = triangles[:, k], triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
        u, v = points[j] - points[i], points[m] - points[i]
        a, b = np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)
        # tan(t/2) = sin t / (1 + cos t)
        half = np.linalg.norm(np.cross(u, v), axis=1) / (a * b + np.einsum("ni,ni->n", u, v))
        total = total + sparse.csr_matrix((np.concatenate([half / a, half / b]),
                                           (np.concatenate([i, i]), np.concatenate([j, m]))), total.shape)
    return total


def stretch(points: np.ndarray, square: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Per vertex (P,) the area-weighted L2 stretch of the map from the square to the surface around it."""
    p, q = square[triangles], points[triangles]
    turn = np.roll(p, -1, 1) - np.roll(p, -2, 1)
    edge, other = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    twice = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    gradients = [np.einsum("nk,nki->ni", turn[..., c], q) / twice[:, None] for c in (1, 0)]
    squared = sum(np.einsum("ni,ni->n", g, g) for g in gradients) / 2
    area = np.linalg.norm(np.cross(q[:, 1] - q[:, 0], q[:, 2] - q[:, 0]), axis=1)
    corners, count = triangles.ravel(), len(points)
    total = np.bincount(corners, np.repeat(squared * area, 3), count)
    return np.sqrt(total / np.bincount(corners, np.repeat(area, 3), count))


def locate(wanted: np.ndarray, square: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point (N, 2) of a regular grid the triangle it lies in, (N,), and its weights there, (N, 3)."""
    best, found, fractions = np.full(len(wanted), -np.inf), np.zeros(len(wanted), int), np.zeros((len(wanted), 3))
    for number, (a, b, c) in enumerate(square[triangles]):
        low, high = np.minimum(np.minimum(a, b), c) - 1e-9, np.maximum(np.maximum(a, b), c) + 1e-9
        left, right = np.ceil(low[0] * (SIZE - 1)), np.floor(high[0] * (SIZE - 1))
        upper, lower = np.ceil((1 - high[1]) * (SIZE - 1)), np.floor((1 - low[1]) * (SIZE - 1))
        columns = np.arange(max(left, 0), min(right, SIZE - 1) + 1, dtype=int)
        rows = np.arange(max(upper, 0), min(lower, SIZE - 1) + 1, dtype=int)
        if not len(columns) or not len(rows):
            continue
        positions = (rows[:, None] * SIZE + columns).ravel()
        second, third = np.linalg.solve(np.stack([b - a, c - a], 1), (wanted[positions] - a).T)
        weights = np.stack([1 - second - third, second, third], 1)
        better = weights.min(1) > best[positions]
        best[positions[better]], found[positions[better]], fractions[positions[better]] = (
            weights.min(1)[better], number, weights[better])
    if best.min() < -1e-6:
        raise ValueError(f"each grid point must lie in a triangle, {int((best < -1e-6).sum())} do not")
    fractions = np.maximum(fractions, 0)
    return found, fractions / fractions.sum(1, keepdims=True)


def merge(cut: tuple[np.ndarray, np.ndarray, np.ndarray], found: np.ndarray, weights: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray]:
    """Points in the cut mesh's triangles as three old vertices (N, 3) and their weights (N, 3): each cut triangle lies
    within an old one."""
    triangles, pairs, fractions = cut
    positions, values = np.zeros((len(found), 3), int), np.zeros((len(found), 3))
    for n, (corners, weight) in enumerate(zip(triangles[found], weights)):
        total: dict[int, float] = {}
        for vertex, value in zip(pairs[corners].ravel().tolist(),
                                 (fractions[corners] * weight[:, None]).ravel().tolist()):
            total[vertex] = total.get(vertex, 0.0) + value
        heavy = sorted(total, key=lambda v: (-total[v], v))[:3]
        positions[n, :] = heavy + heavy[:1] * (3 - len(heavy))
        values[n, :len(heavy)] = [total[v] for v in heavy]
    return positions, values / values.sum(1, keepdims=True)


def nearest_position(points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Row and column (N, 2) of the point on the bilinear grid surface (128, 128, C) nearest to each point (N, C)."""
    fine = 8
    steps = np.linspace(0, SIZE - 1, (SIZE - 1) * fine + 1)
    base = np.minimum(steps.astype(int), SIZE - 2)
    part = (steps - base)[:, None]
    across = surface[base] * (1 - part[..., None]) + surface[base + 1] * part[..., None]
    across = across[:, base] * (1 - part) + across[:, base + 1] * part
    flat = across.reshape(-1, surface.shape[2])
    nearest = [int(((flat - p)**2).sum(1).argmin()) for p in points]
    return np.stack(np.divmod(nearest, len(steps)), 1) / fine

"""One level of Catmull-Clark subdivision as a constant sparse matrix (Catmull and Clark, CAD 10(6), 1978)."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Subdivision(NamedTuple):
    """What one level does to a quad mesh of V vertices, E edges and Q quads.

    matrix  (V + E + Q, V) float32 CSR, rows sum to 1: new vertices = matrix @ old vertices.
            Rows: the moved old vertices, then one per edge, then one per quad
    quads   (4Q, 4) int64; children 4q .. 4q + 3 of quad q, child k at the quad's corner k, same orientation.
            Corners of child k: old corner k, edge (k, k+1), quad's centre, edge (k-1, k)
    """

    matrix: sparse.csr_matrix
    quads: np.ndarray


def subdivision(quads: np.ndarray, vertex_count: int) -> Subdivision:
    """The Subdivision of quads (Q, 4) int over `vertex_count` vertices, each of them used by some quad.

    An edge of one quad is a border: its point is its middle, and its ends follow the cubic B-spline (1/8, 6/8, 1/8).
    Raises ValueError for a wrong shape, an index out of range, an unused vertex or an edge with more than two quads.
    """
    quads = np.asarray(quads)
    if quads.ndim != 2 or quads.shape[1] != 4 or not len(quads):
        raise ValueError(f"quads must be (Q, 4) with Q >= 1, received shape {quads.shape}")
    if quads.min() < 0 or quads.max() >= vertex_count:
        raise ValueError(f"quads must index {vertex_count} vertices, received {quads.min()} to {quads.max()}")
    count = len(quads)
    valence = np.bincount(quads.ravel(), minlength=vertex_count).astype(float)
    if (valence == 0).any():
        raise ValueError(f"each vertex must belong to a quad, received {int((valence == 0).sum())} that do not")
    sides = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    edges, edge_of_side, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
    edge_of_side = edge_of_side.reshape(count, 4)
    if uses.max() > 2:
        raise ValueError(f"an edge may have at most two quads, received one with {uses.max()}")

    def weights(rows, columns, values, shape):
        return sparse.csr_matrix((np.broadcast_to(values, rows.shape), (rows, columns)), shape=shape)

    centres = weights(np.repeat(np.arange(count), 4), quads.ravel(), 0.25, (count, vertex_count))
    ends = np.repeat(np.arange(len(edges)), 2)
    middles = weights(ends, edges.ravel(), 0.5, (len(edges), vertex_count))
    edge_quads = weights(edge_of_side.ravel(), np.repeat(np.arange(count), 4), 0.5, (len(edges), count))
    inner = (uses == 2).astype(float)
    edge_points = (sparse.diags(1 - 0.5 * inner) @ middles + sparse.diags(0.5 * inner) @ (edge_quads @ centres))

    border = np.zeros(vertex_count, bool)
    border[edges[uses == 1]] = True
    # Inner vertex of valence n: (mean of its quads' centres + 2 * mean of its edges' middles + (n - 3) * itself) / n.
    vertex_quads = weights(quads.ravel(), np.repeat(np.arange(count), 4), 1.0, (vertex_count, count))
    vertex_edges = weights(edges.ravel(), ends, 1.0, (vertex_count, len(edges)))
    smooth = (sparse.diags(1 / valence**2) @ (vertex_quads @ centres)
              + sparse.diags(2 / valence**2) @ (vertex_edges @ middles) + sparse.diags(1 - 3 / valence))
    boundary = edges[uses == 1]
    neighbours = weights(boundary.ravel(), boundary[:, ::-1].ravel(), 0.125, (vertex_count, vertex_count))
    along = neighbours + 0.75 * sparse.eye(vertex_count)
    vertex_points = sparse.diags((~border).astype(float)) @ smooth + sparse.diags(border.astype(float)) @ along

    matrix = sparse.vstack([vertex_points, edge_points, centres]).tocsr().astype(np.float32)
    matrix.eliminate_zeros()
    edge_index = vertex_count + edge_of_side
    centre_index = np.repeat(vertex_count + len(edges) + np.arange(count)[:, None], 4, axis=1)
    children = np.stack([quads, edge_index, centre_index, np.roll(edge_index, 1, axis=1)], axis=2)
    return Subdivision(matrix, children.reshape(-1, 4).astype(np.int64))


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Quads (Q, 4, ...) cut along corner 0 to corner 2: (2Q, 3, ...); quad q gives triangles 2q and 2q + 1."""
    return quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, *quads.shape[2:])

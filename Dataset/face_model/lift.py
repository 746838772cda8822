"""Displacements of the ordered grid -> displacements of all vertices of the built-in face, by least squares."""
from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from Dataset.face_model.model import FaceModel
from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.mesh import Mesh

STIFF = 0.1             # weight of the smooth continuation relative to a grid point; less turns the mouth's inside out
CHIN = 8                # landmark
AROUND = 64             # vertices of the skin that a separate part follows


class Lift:
    """A linear map from displacements of the ordered grid to those of the vertices, for a fixed set of trusted
    points."""

    def __init__(self, model: FaceModel, trusted: np.ndarray) -> None:
        count = len(model.mean)
        sides = np.concatenate([model.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        graph = sparse.coo_matrix((np.ones(len(sides)), sides.T), (count, count)).tocsr()
        graph = ((graph + graph.T) > 0).astype(float)
        _, part = connected_components(graph, directed=False)
        self._skin = np.flatnonzero(part == np.bincount(part).argmax())
        graph = graph[self._skin][:, self._skin]
        membrane = sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph
        self._rows = model.grid_matrix.astype(float)[np.flatnonzero(trusted)][:, self._skin].tocsr()
        system = self._rows.T @ self._rows + STIFF * (membrane + 0.05 * membrane @ membrane) \
            + 1e-9 * sparse.eye(len(self._skin))
        self._solve = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                           options={"SymmetricMode": True}).solve
        self._trusted, self._count = trusted, count
        self._follow = {kind: self._followers(model, part, kind) for kind in (False, True)}

    def _followers(self, model: FaceModel, part: np.ndarray, expression: bool) -> sparse.csr_matrix:
        """(V, skin): averages by which every vertex follows the skin. Vertices of the skin follow themselves, lashes
        the nearest vertex of the skin; eyeballs, teeth and tongue move as a whole with the skin around them, in an
        expression with the chin, or (eyeballs and upper teeth) not at all."""
        marks = model.landmarks(model.mean)
        near = cKDTree(model.mean[self._skin])
        rows, columns, values = [self._skin], [np.arange(len(self._skin))], [np.ones(len(self._skin))]
        for number in np.setdiff1d(np.unique(part), part[self._skin[:1]]):
            own = np.flatnonzero(part == number)
            name = model.region_names[model.regions[np.isin(model.triangles[:, 0], own)][0]]
            if expression and (name.startswith("eye") or name == "teeth_upper"):
                continue
            if name == "lashes":
                found = near.query(model.mean[own])[1][:, None]
            else:
                centre = marks[CHIN] if expression else model.mean[own].mean(0)
                found = np.tile(near.query(centre, AROUND)[1], (len(own), 1))
            rows.append(np.repeat(own, found.shape[1]))
            columns.append(found.ravel())
            values.append(np.full(found.size, 1 / found.shape[1]))
        return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
                                 (self._count, len(self._skin)))

    def __call__(self, moved: np.ndarray, expression: bool = False) -> np.ndarray:
        """(K, 16384, 3) -> (K, V, 3) float64; expression: skull and eyeballs stay."""
        if not len(moved):
            return np.zeros((0, self._count, 3))
        flat = moved[:, self._trusted].transpose(1, 0, 2).reshape(int(self._trusted.sum()), -1)
        whole = self._follow[expression] @ self._solve(self._rows.T @ flat)
        return whole.reshape(self._count, len(moved), 3).transpose(1, 0, 2)


def places_on(mesh: Mesh, points: np.ndarray) -> sparse.csr_matrix:
    """(N, V): the points of a mesh closest to points (N, 3), as weighted averages of its vertices."""
    found = ClosestPoints(mesh.vertices, mesh.triangles)(points)
    weights, corners = found.weights, mesh.triangles[found.triangle]
    return sparse.csr_matrix((weights.ravel(), (np.repeat(np.arange(len(points)), 3), corners.ravel())),
                             (len(points), len(mesh.vertices)))

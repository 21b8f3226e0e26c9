# SPDX-License-Identifier: Apache-2.0
"""The parent transform of a node as a matrix, or a sentence why it is none."""

import numpy as np
import slicer
import vtk

from ProstateXferLib.errors import ProstateXferError

# As in the library's check of images: above what rounding in a header causes, below any gantry tilt.
_SHEAR_TOLERANCE = 5e-3


def linearTransformToWorld(node, what: str) -> np.ndarray | None:
    """(4, 4) matrix from the node's own coordinates to the world, RAS mm; None for a node under no transform.

    `what` names the node's content in the error message, as in "T2w image".

    Raises:
        ProstateXferError: a transform on the way to the world is not linear.
    """
    transformNode = node.GetParentTransformNode()
    if transformNode is None:
        return None
    if not transformNode.IsTransformToWorldLinear():
        raise ProstateXferError(
            f"The {what} '{node.GetName()}' is under the non-linear transform '{transformNode.GetName()}'; harden the "
            "transform (right-click in the Data module) or take the node out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(transformNode, None, matrix)
    return arrayOfMatrix(matrix)


def axesAtRightAngles(steps: np.ndarray) -> bool:
    """Whether the columns of (3, 3), the steps along i, j and k, are finite, none is zero, and all are orthogonal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        axes = steps / np.linalg.norm(steps, axis=0)
    return bool(np.isfinite(axes).all() and np.abs(axes.T @ axes - np.eye(3)).max() <= _SHEAR_TOLERANCE)


def arrayOfMatrix(matrix) -> np.ndarray:
    """A vtkMatrix4x4 as (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrixOfArray(array: np.ndarray):
    """The (4, 4) array as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    for (row, column), value in np.ndenumerate(array):
        matrix.SetElement(row, column, float(value))
    return matrix

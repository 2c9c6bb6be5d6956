"""The same camera in DeepDRR's convention, so that one pose can be rendered, and compared, in both.

Here pixel centres lie at integers, the world is LPS mm, and a camera is an `intrinsic` (3, 3), whose first focal length
is negative in a mirrored view, with a `camera_from_world` (4, 4).
"""

from typing import Any

import numpy as np

HALF_PIXEL = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # to where the first pixel's centre is (0.5, 0.5)


def killeengeo_projection(intrinsic: np.ndarray, camera_from_world: np.ndarray, width: int, height: int) -> Any:
    """The camera as a `killeengeo.CameraProjection`, DeepDRR's; its world is LPS mm.

    Its indices put the first pixel's centre at (0.5, 0.5), where DeepDRR's kernel samples.
    """
    import killeengeo

    return killeengeo.CameraProjection(
        killeengeo.CameraIntrinsicTransform(HALF_PIXEL @ intrinsic, sensor_height=height, sensor_width=width),
        killeengeo.FrameTransform(np.asarray(camera_from_world, np.float64)),
    )


def unmirrored(intrinsic: np.ndarray, width: int) -> tuple[np.ndarray, bool]:
    """The intrinsic matrix with a positive focal length, and whether columns have to be reversed afterwards."""
    if intrinsic[0, 0] > 0:
        return intrinsic, False
    return np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ intrinsic, True

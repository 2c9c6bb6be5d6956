"""Where a ray may begin and end: the bricks of a volume that hold anything, and a ray cut back to them."""

from functools import cache
from typing import Any

import warp as wp

from . import ROW_OFFSET
from .rays import axis_crossing, box_span, pixel_ray, reciprocal, steps_left

BRICK = wp.constant(8)  # voxels a side


@wp.func
def first_occupied(
    occupied: wp.array(dtype=wp.uint8),
    bricks: wp.vec3i,
    low: wp.vec3i,
    high: wp.vec3i,
    start: wp.vec3,
    direction: wp.vec3,
    inverse: wp.vec3,
    length: float,
):
    """Distance at which the ray enters its first occupied brick, at least `length` when there is none.

    `low` and `high` (exclusive) bound the bricks to be walked.
    """
    size = float(BRICK)
    x = wp.clamp(int(wp.floor(start[0] / size)), low[0], high[0] - 1)
    y = wp.clamp(int(wp.floor(start[1] / size)), low[1], high[1] - 1)
    z = wp.clamp(int(wp.floor(start[2] / size)), low[2], high[2] - 1)
    step_x = wp.sign(direction[0])
    step_y = wp.sign(direction[1])
    step_z = wp.sign(direction[2])
    plane_x = (float(x) + wp.max(step_x, 0.0)) * size
    plane_y = (float(y) + wp.max(step_y, 0.0)) * size
    plane_z = (float(z) + wp.max(step_z, 0.0)) * size
    left_x = steps_left(x, low[0], high[0], direction[0])
    left_y = steps_left(y, low[1], high[1], direction[1])
    left_z = steps_left(z, low[2], high[2], direction[2])
    to_x = axis_crossing(plane_x, start[0], direction[0], inverse[0])
    to_y = axis_crossing(plane_y, start[1], direction[1], inverse[1])
    to_z = axis_crossing(plane_z, start[2], direction[2], inverse[2])
    jump_x = int(step_x)
    jump_y = int(step_y) * bricks[0]
    jump_z = int(step_z) * bricks[0] * bricks[1]
    brick = (z * bricks[1] + y) * bricks[0] + x
    at = float(0.0)
    while at < length and occupied[brick] == wp.uint8(0):
        at = wp.min(wp.min(to_x, to_y), to_z)
        if to_x <= at:
            left_x -= 1
            if left_x < 0:
                return length
            brick += jump_x
            plane_x += step_x * size
            to_x = (plane_x - start[0]) * inverse[0]
        elif to_y <= at:
            left_y -= 1
            if left_y < 0:
                return length
            brick += jump_y
            plane_y += step_y * size
            to_y = (plane_y - start[1]) * inverse[1]
        else:
            left_z -= 1
            if left_z < 0:
                return length
            brick += jump_z
            plane_z += step_z * size
            to_z = (plane_z - start[2]) * inverse[2]
    return at


@wp.func
def occupied_span(
    occupied: wp.array(dtype=wp.uint8),
    bricks: wp.vec3i,
    low: wp.vec3i,
    high: wp.vec3i,
    start: wp.vec3,
    direction: wp.vec3,
    inverse: wp.vec3,
    length: float,
):
    """Distances at which the ray enters its first occupied brick and leaves its last; end <= at when there is none.

    Looked for from either end, as what lies between, most of the ray, need not be looked at.
    """
    at = first_occupied(occupied, bricks, low, high, start, direction, inverse, length)
    if at >= length:
        return length, length
    end = start + length * direction
    return at, length - first_occupied(occupied, bricks, low, high, end, -direction, -inverse, length)


@wp.func
def trimmed_ray(
    rays: wp.array2d(dtype=wp.vec3d),
    view: int,
    row: int,
    column: int,
    shape: wp.vec3i,
    occupied: wp.array(dtype=wp.uint8),
    bricks: wp.vec3i,
    low: wp.vec3i,
    high: wp.vec3i,
):
    """A pixel's ray from where it enters the occupied box: start, direction, and its span; end <= at: it meets nothing.

    Clipped in double precision; what follows from its start can do with single.
    """
    source, ahead, slant = pixel_ray(rays, view, row, column)
    depth = slant * rays[view, 7]
    near, far = box_span(source, ahead, BRICK * low, wp.min(BRICK * high, shape), depth[0], depth[1])
    at = float(0.0)
    end = float(-1.0)
    start = wp.vec3(source + near * ahead)
    direction = wp.vec3(ahead)
    if far > near:
        at, end = occupied_span(occupied, bricks, low, high, start, direction, reciprocal(direction), float(far - near))
    return start, direction, at, end


@cache
def brick_kernel(labelled: bool, label_type: Any) -> wp.Kernel:
    """Kernel over bricks (z, y, x) that marks those holding any mass or, if `labelled`, any label asked for.

    `has_mass` says so for each row of the material table. What lies at most `reach` voxels beyond a brick counts too:
    interpolation brings it in. The other arguments are as in `projection_kernel`.
    """

    @wp.kernel(module="unique", enable_backward=False)
    def mark_bricks(
        rows: wp.array(dtype=wp.int16),
        labels: wp.array(dtype=label_type),
        slot_of_label: wp.array(dtype=wp.int32),
        has_mass: wp.array(dtype=wp.uint8),
        shape: wp.vec3i,
        bricks: wp.vec3i,
        reach: int,
        occupied: wp.array(dtype=wp.uint8),
    ):
        brick_z, brick_y, brick_x = wp.tid()
        brick = wp.vec3i(brick_x, brick_y, brick_z)
        margin = wp.vec3i(reach, reach, reach)
        low = wp.max(BRICK * brick - margin, wp.vec3i(0, 0, 0))
        high = wp.min(BRICK * (brick + wp.vec3i(1, 1, 1)) + margin, shape)
        found = wp.uint8(0)
        for z in range(low[2], high[2]):
            for y in range(low[1], high[1]):
                if found == wp.uint8(0):
                    for x in range(low[0], high[0]):
                        voxel = (z * shape[1] + y) * shape[0] + x
                        if wp.static(labelled):
                            if slot_of_label[int(labels[voxel])] > 0:
                                found = wp.uint8(1)
                        if has_mass[int(rows[voxel]) + ROW_OFFSET] > wp.uint8(0):
                            found = wp.uint8(1)
        occupied[(brick_z * bricks[1] + brick_y) * bricks[0] + brick_x] = found

    return mark_bricks

"""Rays in a grid of voxels: where a pixel's ray runs, where it meets boxes and planes.

Voxel coordinates have voxel i spanning [i, i + 1), in the order (x, y, z); distances along a ray are millimetres of the
world, so that the grid may be anisotropic, rotated or sheared. Arrays of voxels are flat, x fastest.

A view's `rays` (8, 3): source, direction of pixel (0, 0), its change per column and per row in voxels; the last three
of these again in mm, as long as one mm of depth; the depths in mm between which there is anything (two, and a 0).
"""

import warp as wp

TILE_ROWS = wp.constant(16)  # pixels that are launched together
TILE_COLUMNS = wp.constant(32)
NEVER = wp.constant(1.0e30)  # where a ray crosses the planes it runs along
PARALLEL = wp.constant(wp.float64(1.0e-9))  # voxels per mm; slower than that along an axis is standing still


@wp.func
def pixel_of(tile_row: int, tile_column: int, cell: int):
    """Row and column of a pixel by its place in a tile. Neighbours share cache lines: tiles are walked one by one."""
    return tile_row * TILE_ROWS + cell / TILE_COLUMNS, tile_column * TILE_COLUMNS + cell % TILE_COLUMNS


@wp.func
def pixel_ray(rays: wp.array2d(dtype=wp.vec3d), view: int, row: int, column: int):
    """Source and direction of a pixel's ray in voxels, the direction's length one mm, and mm of it per mm of depth."""
    u = wp.float64(column)
    v = wp.float64(row)
    direction = rays[view, 1] + u * rays[view, 2] + v * rays[view, 3]
    slant = wp.length(rays[view, 4] + u * rays[view, 5] + v * rays[view, 6])
    direction = direction / slant
    for axis in range(3):
        if wp.abs(direction[axis]) < PARALLEL:
            direction[axis] = wp.float64(0.0)
    return rays[view, 0], direction, slant


@wp.func
def box_span(
    source: wp.vec3d, direction: wp.vec3d, low: wp.vec3i, high: wp.vec3i, nearest: wp.float64, farthest: wp.float64
):
    """Distances between `nearest` and `farthest` at which the ray enters and leaves the box; far <= near: it misses."""
    near = nearest
    far = farthest
    for axis in range(3):
        to_low = wp.float64(low[axis]) - source[axis]
        to_high = wp.float64(high[axis]) - source[axis]
        if direction[axis] == wp.float64(0.0):
            if to_low > wp.float64(0.0) or to_high <= wp.float64(0.0):
                far = wp.float64(-1.0)
        else:
            one = to_low / direction[axis]
            other = to_high / direction[axis]
            near = wp.max(near, wp.min(one, other))
            far = wp.min(far, wp.max(one, other))
    return near, far


@wp.func
def reciprocal(direction: wp.vec3):
    """One over each component, 0 where it stands still."""
    return wp.vec3(
        wp.where(direction[0] == 0.0, 0.0, 1.0 / direction[0]),
        wp.where(direction[1] == 0.0, 0.0, 1.0 / direction[1]),
        wp.where(direction[2] == 0.0, 0.0, 1.0 / direction[2]),
    )


@wp.func
def axis_crossing(plane: float, start: float, direction: float, inverse: float):
    """Distance at which the ray crosses a grid plane."""
    if direction == 0.0:
        return NEVER
    return (plane - start) * inverse


@wp.func
def steps_left(cell: int, low: int, high: int, direction: float):
    """How many cells lie between this one and the box's border ahead."""
    if direction > 0.0:
        return high - 1 - cell
    return cell - low

"""One pass per ray: mass per area of every material, and which structures lie on the ray.

The exact radiological path of Siddon (Med Phys 12:252, 1985), walked voxel by voxel as in Amanatides and Woo
(Eurographics 1987). The ray is clipped to the box given, cut back to its first and last occupied brick, and walked
once. Each crossing is computed from its grid plane, never by adding steps, so that errors do not grow along the ray.

Voxel coordinates here have voxel i spanning [i, i + 1), in the order (x, y, z); distances along a ray are millimetres
of the world, so that the grid may be anisotropic, rotated or sheared. Arrays of voxels are flat, x fastest.
"""

from functools import cache
from typing import Any

import warp as wp

BRICK = wp.constant(8)  # voxels a side
ROW_OFFSET = wp.constant(1024)  # row of the material table = value of the voxel + ROW_OFFSET
MM_PER_CM = wp.constant(10.0)
NEVER = wp.constant(1.0e30)  # where a ray crosses the planes it runs along
PARALLEL = wp.constant(wp.float64(1.0e-9))  # voxels per mm; slower than that along an axis is standing still


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
    """Distances at which the ray enters its first occupied brick and leaves its last; (0, -1) when there is none.

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
    first = float(0.0)
    last = float(-1.0)
    while at < length:
        crossing = wp.min(wp.min(to_x, to_y), to_z)
        if occupied[brick] != wp.uint8(0):
            if last < 0.0:
                first = at
            last = wp.min(crossing, length)
        at = crossing
        if to_x <= crossing:
            left_x -= 1
            if left_x < 0:
                break
            brick += jump_x
            plane_x += step_x * size
            to_x = (plane_x - start[0]) * inverse[0]
        elif to_y <= crossing:
            left_y -= 1
            if left_y < 0:
                break
            brick += jump_y
            plane_y += step_y * size
            to_y = (plane_y - start[1]) * inverse[1]
        else:
            left_z -= 1
            if left_z < 0:
                break
            brick += jump_z
            plane_z += step_z * size
            to_z = (plane_z - start[2]) * inverse[2]
    return first, last


@cache
def brick_kernel(labelled: bool, label_type: Any) -> wp.Kernel:
    """Kernel over bricks (z, y, x) that marks those holding any mass or, if `labelled`, any label asked for.

    `has_mass` says so for each row of the material table; the other arguments are as in `projection_kernel`.
    """

    @wp.kernel(module="unique", enable_backward=False)
    def mark_bricks(
        rows: wp.array(dtype=wp.int16),
        labels: wp.array(dtype=label_type),
        slot_of_label: wp.array(dtype=wp.int32),
        has_mass: wp.array(dtype=wp.uint8),
        shape: wp.vec3i,
        bricks: wp.vec3i,
        occupied: wp.array(dtype=wp.uint8),
    ):
        brick_z, brick_y, brick_x = wp.tid()
        found = wp.uint8(0)
        for z in range(brick_z * BRICK, wp.min((brick_z + 1) * BRICK, shape[2])):
            for y in range(brick_y * BRICK, wp.min((brick_y + 1) * BRICK, shape[1])):
                if found == wp.uint8(0):
                    for x in range(brick_x * BRICK, wp.min((brick_x + 1) * BRICK, shape[0])):
                        voxel = (z * shape[1] + y) * shape[0] + x
                        if wp.static(labelled):
                            if slot_of_label[int(labels[voxel])] > 0:
                                found = wp.uint8(1)
                        if has_mass[int(rows[voxel]) + ROW_OFFSET] > wp.uint8(0):
                            found = wp.uint8(1)
        occupied[(brick_z * bricks[1] + brick_y) * bricks[0] + brick_x] = found

    return mark_bricks


@cache
def projection_kernel(materials: int, slots: int, label_type: Any) -> wp.Kernel:
    """Kernel over (view, row, column) for so many materials, at most `slots` - 1 labels, and labels of that type.

    With `slots` 0 labels are not looked at: the image alone. With `materials` 0 the voxels are not: labels alone. The
    kernel's arguments:

    - `rows` (voxels): each voxel's row in the material table, less `ROW_OFFSET`; `labels` (voxels); `shape` (x, y, z);
    - `slot_of_label`: label id -> slot in which its path is summed; 0 for labels nobody asked for;
    - `table`: density in g/cm3 of each material, a row for each kind of voxel;
    - `occupied` (bricks) and `bricks` (x, y, z); `low` and `high` bound the bricks that may be occupied;
    - `rays` (views, 8): source, direction of pixel (0, 0), its change per column and per row in voxels; the last three
      in mm, as long as one mm of depth; the depths in mm between which there is anything (two, and a 0);
    - `first_view` and `first_row` of the launch (tiles of rows may be launched apart), `width` of the image;
    - `member_start` (outputs + 1), `members`: the slots that make up each output, in compressed rows; `part_start`
      (labels asked for + 2), `part_of`: the other way round, the outputs that each slot is part of; `path_start` and
      `path_members` like the first two, for the sums written to `path_mm`;
    - `mass` (views, materials, pixels) g/cm2; `bits` (views, pixels, words): bit o % 32 of word o // 32 says that
      output o has a path of at least `min_path_mm`; `path_mm` (views, paths, pixels), or empty. All zero at first.
    """
    densities = wp.types.vector(length=max(materials, 1), dtype=wp.float32)
    lengths = wp.types.vector(length=max(slots, 1), dtype=wp.float32)

    @wp.func
    def sum_of_members(path: lengths, members: wp.array(dtype=wp.int32), first: int, last: int):
        through = float(0.0)
        for member in range(first, last):
            through += path[members[member]]
        return through

    @wp.kernel(module="unique", enable_backward=False)
    def project(
        rows: wp.array(dtype=wp.int16),
        labels: wp.array(dtype=label_type),
        shape: wp.vec3i,
        slot_of_label: wp.array(dtype=wp.int32),
        table: wp.array(dtype=densities),
        occupied: wp.array(dtype=wp.uint8),
        bricks: wp.vec3i,
        low: wp.vec3i,
        high: wp.vec3i,
        rays: wp.array2d(dtype=wp.vec3d),
        first_view: int,
        first_row: int,
        width: int,
        member_start: wp.array(dtype=wp.int32),
        members: wp.array(dtype=wp.int32),
        part_start: wp.array(dtype=wp.int32),
        part_of: wp.array(dtype=wp.int32),
        path_start: wp.array(dtype=wp.int32),
        path_members: wp.array(dtype=wp.int32),
        min_path_mm: float,
        mass: wp.array3d(dtype=wp.float32),
        bits: wp.array3d(dtype=wp.uint32),
        path_mm: wp.array3d(dtype=wp.float32),
    ):
        tile_view, tile_row, column = wp.tid()
        view = tile_view + first_view
        row = tile_row + first_row
        pixel = row * width + column

        # Clip in double precision, and go on in single precision from where the ray enters the box.
        source, ahead, slant = pixel_ray(rays, view, row, column)
        box_low = BRICK * low
        box_high = wp.min(BRICK * high, shape)
        depth = slant * rays[view, 7]
        near, far = box_span(source, ahead, box_low, box_high, depth[0], depth[1])
        if far <= near:
            return
        start = wp.vec3(source + near * ahead)
        direction = wp.vec3(ahead)
        inverse = reciprocal(direction)
        at, end = occupied_span(occupied, bricks, low, high, start, direction, inverse, float(far - near))
        if end <= at:
            return

        x = wp.clamp(int(wp.floor(start[0] + at * direction[0])), box_low[0], box_high[0] - 1)
        y = wp.clamp(int(wp.floor(start[1] + at * direction[1])), box_low[1], box_high[1] - 1)
        z = wp.clamp(int(wp.floor(start[2] + at * direction[2])), box_low[2], box_high[2] - 1)
        step_x = wp.sign(direction[0])
        step_y = wp.sign(direction[1])
        step_z = wp.sign(direction[2])
        plane_x = float(x) + wp.max(step_x, 0.0)
        plane_y = float(y) + wp.max(step_y, 0.0)
        plane_z = float(z) + wp.max(step_z, 0.0)
        left_x = steps_left(x, box_low[0], box_high[0], direction[0])
        left_y = steps_left(y, box_low[1], box_high[1], direction[1])
        left_z = steps_left(z, box_low[2], box_high[2], direction[2])
        to_x = axis_crossing(plane_x, start[0], direction[0], inverse[0])
        to_y = axis_crossing(plane_y, start[1], direction[1], inverse[1])
        to_z = axis_crossing(plane_z, start[2], direction[2], inverse[2])
        jump_x = int(step_x)
        jump_y = int(step_y) * shape[0]
        jump_z = int(step_z) * shape[0] * shape[1]
        voxel = (z * shape[1] + y) * shape[0] + x

        total = densities()  # changed in place, element by element: a vector as a whole would be copied at every step
        path = lengths()
        label = int(0)
        label_from = at
        while True:
            crossing = wp.min(wp.min(to_x, to_y), wp.min(to_z, end))
            if wp.static(materials > 0):
                density = table[int(rows[voxel]) + ROW_OFFSET]
                for material in range(wp.static(materials)):
                    total[material] += density[material] * (crossing - at)
            if wp.static(slots > 0):
                here = int(labels[voxel])
                if here != label:
                    path[slot_of_label[label]] += at - label_from
                    label = here
                    label_from = at
            at = crossing
            if crossing >= end:
                break
            if to_x <= crossing:
                left_x -= 1
                if left_x < 0:
                    break
                voxel += jump_x
                plane_x += step_x
                to_x = (plane_x - start[0]) * inverse[0]
            elif to_y <= crossing:
                left_y -= 1
                if left_y < 0:
                    break
                voxel += jump_y
                plane_y += step_y
                to_y = (plane_y - start[1]) * inverse[1]
            else:
                left_z -= 1
                if left_z < 0:
                    break
                voxel += jump_z
                plane_z += step_z
                to_z = (plane_z - start[2]) * inverse[2]

        for material in range(wp.static(materials)):
            mass[view, material, pixel] = total[material] / MM_PER_CM
        if wp.static(slots > 0):
            path[slot_of_label[label]] += at - label_from
            for slot in range(1, part_start.shape[0] - 1):
                if path[slot] > 0.0:
                    for part in range(part_start[slot], part_start[slot + 1]):
                        output = part_of[part]
                        through = path[slot]
                        if through < min_path_mm:  # alone too thin, but it may be one of many in a group
                            through = sum_of_members(path, members, member_start[output], member_start[output + 1])
                        if through >= min_path_mm:
                            word = output // 32
                            bit = wp.uint32(1) << wp.uint32(output % 32)
                            bits[view, pixel, word] = bits[view, pixel, word] | bit
            if path_mm.shape[2] > 0:
                for group in range(path_start.shape[0] - 1):
                    path_mm[view, group, pixel] = sum_of_members(
                        path, path_members, path_start[group], path_start[group + 1]
                    )

    return project

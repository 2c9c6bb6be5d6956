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
TILE_ROWS = wp.constant(16)  # pixels that are launched together
TILE_COLUMNS = wp.constant(32)
ROW_OFFSET = wp.constant(1024)  # row of the material table = value of the voxel + ROW_OFFSET
MM_PER_CM = wp.constant(10.0)
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


def padded(materials: int) -> int:
    """Floats in a row of the material table: rows are aligned, so that one vector instruction takes a row."""
    return materials if materials in (1, 2) else max(1, -(-materials // 4) * 4)


# The walk itself, in the C++ that Warp's own code is compiled as: written in Python it takes half as long again, as
# Warp merges the values of every variable after every branch, and these branches are taken once per voxel.
WALK = """
    wp::vec_t<{lanes} + {slots}, float> sums(0.0f);
    float total[{lanes}] = {{}};
    int label = 0, left_x = left[0], left_y = left[1], left_z = left[2];
    float label_from = at, plane_x = plane[0], plane_y = plane[1], plane_z = plane[2];
    float to_x = to_plane[0], to_y = to_plane[1], to_z = to_plane[2];
    while (true) {{
        const float crossing = wp::min(wp::min(to_x, to_y), wp::min(to_z, end));
        if ({materials} > 0) {{
            const auto& density = table.data[rows.data[voxel] + ROW_OFFSET];
            for (int lane = 0; lane < {lanes}; ++lane) total[lane] += density[lane] * (crossing - at);
        }}
        if ({slots} > 0) {{
            const int here = labels.data[voxel];
            if (here != label) {{
                sums[{lanes} + slot_of_label.data[label]] += at - label_from;
                label = here;
                label_from = at;
            }}
        }}
        at = crossing;
        if (crossing >= end) break;
        if (to_x <= crossing) {{
            if (--left_x < 0) break;
            voxel += jump[0];
            plane_x += step[0];
            to_x = (plane_x - start[0]) * inverse[0];
        }} else if (to_y <= crossing) {{
            if (--left_y < 0) break;
            voxel += jump[1];
            plane_y += step[1];
            to_y = (plane_y - start[1]) * inverse[1];
        }} else {{
            if (--left_z < 0) break;
            voxel += jump[2];
            plane_z += step[2];
            to_z = (plane_z - start[2]) * inverse[2];
        }}
    }}
    if ({slots} > 0) sums[{lanes} + slot_of_label.data[label]] += at - label_from;
    for (int lane = 0; lane < {lanes}; ++lane) sums[lane] = total[lane];
    return sums;
""".replace("ROW_OFFSET", str(int(ROW_OFFSET)))


@cache
def projection_kernel(materials: int, slots: int, label_type: Any) -> wp.Kernel:
    """Kernel over (view, tile row, tile column, pixel in it) for so many materials and at most `slots` - 1 labels.

    With `slots` 0 labels are not looked at: the image alone. With `materials` 0 the voxels are not: labels alone. The
    kernel's arguments:

    - `rows` (voxels): each voxel's row in the material table, less `ROW_OFFSET`; `labels` (voxels); `shape` (x, y, z);
    - `slot_of_label`: label id -> slot in which its path is summed; 0 for labels nobody asked for;
    - `table`: density in g/cm3 of each material, a row for each kind of voxel, `padded` with zeros;
    - `occupied` (bricks) and `bricks` (x, y, z); `low` and `high` bound the bricks that may be occupied;
    - `rays` (views, 8): source, direction of pixel (0, 0), its change per column and per row in voxels; the last three
      in mm, as long as one mm of depth; the depths in mm between which there is anything (two, and a 0);
    - `first_view` and `first_tile`, the first row of tiles, of the launch; `width` and `height` of the image;
    - `member_start` (outputs + 1), `members`: the slots that make up each output, in compressed rows; `part_start`
      (labels asked for + 2), `part_of`: the other way round, the outputs that each slot is part of; `path_start` and
      `path_members` like the first two, for the sums written to `path_mm`;
    - `mass` (views, materials, pixels) g/cm2; `bits` (views, pixels, words): bit o % 32 of word o // 32 says that
      output o has a path of at least `min_path_mm`; `path_mm` (views, paths, pixels), or empty. All zero at first.
    """
    lanes = padded(materials)
    densities = wp.types.vector(length=lanes, dtype=wp.float32)
    sums_type = wp.types.vector(length=lanes + slots, dtype=wp.float32)  # of density x mm, then of mm in each slot

    @wp.func_native(WALK.format(materials=materials, lanes=lanes, slots=slots))
    def walk(
        rows: wp.array(dtype=wp.int16),
        labels: wp.array(dtype=label_type),
        slot_of_label: wp.array(dtype=wp.int32),
        table: wp.array(dtype=densities),
        voxel: int,
        jump: wp.vec3i,
        left: wp.vec3i,
        step: wp.vec3,
        plane: wp.vec3,
        to_plane: wp.vec3,
        start: wp.vec3,
        inverse: wp.vec3,
        at: float,
        end: float,
    ) -> sums_type: ...

    @wp.func
    def sum_of_members(sums: sums_type, members: wp.array(dtype=wp.int32), first: int, last: int):
        through = float(0.0)
        for member in range(first, last):
            through += sums[wp.static(lanes) + members[member]]
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
        first_tile: int,
        width: int,
        height: int,
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
        some_view, tile_row, tile_column, cell = wp.tid()
        view = first_view + some_view
        row, column = pixel_of(first_tile + tile_row, tile_column, cell)
        if row >= height or column >= width:
            return
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
        step = wp.vec3(wp.sign(direction[0]), wp.sign(direction[1]), wp.sign(direction[2]))
        plane = wp.vec3(float(x), float(y), float(z)) + wp.max(step, wp.vec3(0.0, 0.0, 0.0))
        to_plane = wp.vec3(
            axis_crossing(plane[0], start[0], direction[0], inverse[0]),
            axis_crossing(plane[1], start[1], direction[1], inverse[1]),
            axis_crossing(plane[2], start[2], direction[2], inverse[2]),
        )
        left = wp.vec3i(
            steps_left(x, box_low[0], box_high[0], direction[0]),
            steps_left(y, box_low[1], box_high[1], direction[1]),
            steps_left(z, box_low[2], box_high[2], direction[2]),
        )
        jump = wp.vec3i(int(step[0]), int(step[1]) * shape[0], int(step[2]) * shape[0] * shape[1])
        voxel = (z * shape[1] + y) * shape[0] + x
        sums = walk(
            rows, labels, slot_of_label, table, voxel, jump, left, step, plane, to_plane, start, inverse, at, end
        )

        for material in range(wp.static(materials)):
            mass[view, material, pixel] = sums[material] / MM_PER_CM
        if wp.static(slots > 0):
            for slot in range(1, part_start.shape[0] - 1):
                path = sums[wp.static(lanes) + slot]
                if path > 0.0:
                    for part in range(part_start[slot], part_start[slot + 1]):
                        output = part_of[part]
                        through = path
                        if through < min_path_mm:  # alone too thin, but it may be one of many in a group
                            through = sum_of_members(sums, members, member_start[output], member_start[output + 1])
                        if through >= min_path_mm:
                            word = output // 32
                            bit = wp.uint32(1) << wp.uint32(output % 32)
                            bits[view, pixel, word] = bits[view, pixel, word] | bit
            if path_mm.shape[2] > 0:
                for group in range(path_start.shape[0] - 1):
                    path_mm[view, group, pixel] = sum_of_members(
                        sums, path_members, path_start[group], path_start[group + 1]
                    )

    return project

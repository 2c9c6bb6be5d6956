"""One pass per ray: mass per area of every material, and which structures lie on the ray.

The exact radiological path of Siddon (Med Phys 12:252, 1985), walked voxel by voxel as in Amanatides and Woo
(Eurographics 1987). The ray is clipped to the box given, cut back to its first and last occupied brick, and walked
once. Each crossing is computed from its grid plane, never by adding steps, so that errors do not grow along the ray.
"""

from functools import cache
from typing import Any

import warp as wp

from .bricks import BRICK, ROW_OFFSET, trimmed_ray
from .rays import axis_crossing, pixel_of, reciprocal, steps_left

MM_PER_CM = wp.constant(10.0)


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
    - `rays` (views, 8): see `rays.py`;
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

        start, direction, at, end = trimmed_ray(rays, view, row, column, shape, occupied, bricks, low, high)
        if end <= at:
            return

        inverse = reciprocal(direction)
        box_low = BRICK * low
        box_high = wp.min(BRICK * high, shape)
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

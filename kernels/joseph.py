"""The image by Joseph's method: where the ray meets each plane of voxel centres across it, interpolate between four.

Joseph, IEEE Trans Med Imaging 1:192 (1982). Smoother than voxels with edges, and the usual choice of reconstruction
toolkits; what it interpolates here is the density of each material. Beyond the outermost voxel centres the outermost
values continue to the border. Conventions and arguments are those of `siddon.py`.
"""

from functools import cache

import warp as wp

from .siddon import BRICK, MM_PER_CM, ROW_OFFSET, box_span, occupied_span, pixel_ray, reciprocal


@cache
def joseph_kernel(materials: int) -> wp.Kernel:
    """Kernel over (view, row, column) that writes `mass` as `siddon.projection_kernel` does."""
    densities = wp.types.vector(length=materials, dtype=wp.float32)

    @wp.kernel(module="unique", enable_backward=False)
    def project_joseph(
        rows: wp.array(dtype=wp.int16),
        shape: wp.vec3i,
        table: wp.array(dtype=densities),
        occupied: wp.array(dtype=wp.uint8),
        bricks: wp.vec3i,
        low: wp.vec3i,
        high: wp.vec3i,
        rays: wp.array2d(dtype=wp.vec3d),
        first_view: int,
        first_row: int,
        width: int,
        mass: wp.array3d(dtype=wp.float32),
    ):
        tile_view, tile_row, column = wp.tid()
        view = tile_view + first_view
        row = tile_row + first_row
        pixel = row * width + column
        source, ahead, slant = pixel_ray(rays, view, row, column)
        box_high = wp.min(BRICK * high, shape)
        depth = slant * rays[view, 7]
        near, far = box_span(source, ahead, BRICK * low, box_high, depth[0], depth[1])
        if far <= near:
            return
        start = wp.vec3(source + near * ahead)
        direction = wp.vec3(ahead)
        at, end = occupied_span(occupied, bricks, low, high, start, direction, reciprocal(direction), float(far - near))
        if end <= at:
            return

        # The axis the ray runs along fastest, and the two across it.
        along = int(0)
        if wp.abs(direction[1]) > wp.abs(direction[0]):
            along = 1
        if wp.abs(direction[2]) > wp.abs(direction[along]):
            along = 2
        first = (along + 1) % 3
        second = (along + 2) % 3
        jump = wp.vec3i(1, shape[0], shape[0] * shape[1])
        jump_along = jump[along]
        jump_first = wp.where(shape[first] > 1, jump[first], 0)
        jump_second = wp.where(shape[second] > 1, jump[second], 0)
        last_first = float(shape[first] - 1)
        last_second = float(shape[second] - 1)
        spacing = 1.0 / wp.abs(direction[along])  # mm between planes, on the ray

        # Planes whose crossing lies within the span: centres are at half voxels.
        enters = start[along] + at * direction[along] - 0.5
        leaves = start[along] + end * direction[along] - 0.5
        plane = wp.max(int(wp.ceil(wp.min(enters, leaves))), 0)
        last = wp.min(int(wp.floor(wp.max(enters, leaves))), shape[along] - 1)
        slope_first = direction[first] / direction[along]
        slope_second = direction[second] / direction[along]
        origin_first = start[first] - 0.5 + (0.5 - start[along]) * slope_first
        origin_second = start[second] - 0.5 + (0.5 - start[along]) * slope_second

        total = densities()
        while plane <= last:
            u = wp.clamp(origin_first + float(plane) * slope_first, 0.0, last_first)
            v = wp.clamp(origin_second + float(plane) * slope_second, 0.0, last_second)
            cell_u = wp.max(wp.min(int(u), shape[first] - 2), 0)
            cell_v = wp.max(wp.min(int(v), shape[second] - 2), 0)
            u -= float(cell_u)
            v -= float(cell_v)
            voxel = plane * jump_along + cell_u * jump_first + cell_v * jump_second
            a = table[int(rows[voxel]) + ROW_OFFSET]
            b = table[int(rows[voxel + jump_first]) + ROW_OFFSET]
            c = table[int(rows[voxel + jump_second]) + ROW_OFFSET]
            d = table[int(rows[voxel + jump_first + jump_second]) + ROW_OFFSET]
            for material in range(wp.static(materials)):
                nearer = a[material] + u * (b[material] - a[material])
                farther = c[material] + u * (d[material] - c[material])
                total[material] += nearer + v * (farther - nearer)
            plane += 1
        for material in range(wp.static(materials)):
            mass[view, material, pixel] = total[material] * (spacing / MM_PER_CM)

    return project_joseph

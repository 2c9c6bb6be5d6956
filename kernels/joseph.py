"""The image by Joseph's method: where the ray meets each plane of voxel centres across it, interpolate between four.

Joseph, IEEE Trans Med Imaging 1:192 (1982). Smoother than voxels with edges, and the usual choice of reconstruction
toolkits; what it interpolates here is the density of each material. Beyond the outermost voxel centres the outermost
values continue to the border. Conventions and arguments are those of `siddon.py`.
"""

from functools import cache

import warp as wp

from . import ROW_OFFSET
from .bricks import trimmed_ray
from .rays import pixel_of
from .siddon import MM_PER_CM, padded

# Sum over the planes, in C++ for the reason given in `siddon.py`. Of an axis one voxel wide, `most` is -1 and `jump` 0.
INTERPOLATE = """
    wp::vec_t<{lanes}, float> total(0.0f);
    float sum[{lanes}] = {{}};
    for (; plane <= last; ++plane) {{
        const float u = wp::min(wp::max(origin_first + plane * slope_first, 0.0f), most_first + 1.0f);
        const float v = wp::min(wp::max(origin_second + plane * slope_second, 0.0f), most_second + 1.0f);
        const int cell_u = wp::max(wp::min((int)u, most_first), 0), cell_v = wp::max(wp::min((int)v, most_second), 0);
        const float across = u - cell_u, down = v - cell_v;
        const short* row = rows.data + (plane * jump_along + cell_u * jump_first + cell_v * jump_second);
        const auto& a = table.data[row[0] + ROW_OFFSET];
        const auto& b = table.data[row[jump_first] + ROW_OFFSET];
        const auto& c = table.data[row[jump_second] + ROW_OFFSET];
        const auto& d = table.data[row[jump_first + jump_second] + ROW_OFFSET];
        const float of_d = across * down, of_b = across - of_d, of_c = down - of_d, of_a = 1.0f - across - of_c;
        for (int lane = 0; lane < {lanes}; ++lane)
            sum[lane] += of_a * a[lane] + of_b * b[lane] + of_c * c[lane] + of_d * d[lane];
    }}
    for (int lane = 0; lane < {lanes}; ++lane) total[lane] = sum[lane];
    return total;
""".replace("ROW_OFFSET", str(ROW_OFFSET))


@cache
def joseph_kernel(materials: int) -> wp.Kernel:
    """Kernel over (view, tile row, tile column, pixel in it) that writes `mass` as `siddon.projection_kernel` does."""
    densities = wp.types.vector(length=padded(materials), dtype=wp.float32)

    @wp.func_native(INTERPOLATE.format(lanes=padded(materials)))
    def interpolate(
        rows: wp.array(dtype=wp.int16),
        table: wp.array(dtype=densities),
        plane: int,
        last: int,
        jump_along: int,
        jump_first: int,
        jump_second: int,
        most_first: int,
        most_second: int,
        origin_first: float,
        origin_second: float,
        slope_first: float,
        slope_second: float,
    ) -> densities: ...

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
        first_tile: int,
        width: int,
        height: int,
        mass: wp.array3d(dtype=wp.float32),
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

        total = interpolate(
            rows,
            table,
            plane,
            last,
            jump_along,
            jump_first,
            jump_second,
            shape[first] - 2,
            shape[second] - 2,
            origin_first,
            origin_second,
            slope_first,
            slope_second,
        )
        for material in range(wp.static(materials)):
            mass[view, material, pixel] = total[material] * (spacing / MM_PER_CM)

    return project_joseph

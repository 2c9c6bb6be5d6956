"""Rays through closed triangle meshes: where each ray enters and leaves, what it meets inside, what that displaces.

Three steps over one list of crossings, none of which needs atomics, so that the bytes depend on neither threads nor
device scheduling. Triangles are rasterised twice, once to count their crossings and once to write each to its place;
the list is sorted; then one thread takes all crossings of a pixel. A crossing is one 63-bit number, most significant
first: pixel (24), distance along the ray (27), part (6), whether the ray leaves (1), sub-rays (5).

Watertight: corners are snapped to 1/4096 pixel and edges decided in integers, an edge that two triangles share counting
for exactly one of them (the top-left rule), so that every ray that enters a closed mesh also leaves it. Depth is
interpolated in 1/z, which is linear in the image.

Sub-rays: a pixel is looked at along its central ray, or along 2x2 or 4x4 rays spread over it, decided for each part.
All refer to a 4x4 grid of lanes: the central ray stands for all 16, one of 2x2 for 4 of them.
"""

from functools import cache

import warp as wp

from . import ROW_OFFSET
from .rays import axis_crossing, box_span, pixel_ray, reciprocal
from .siddon import MM_PER_CM, padded

SUBPIXEL = wp.constant(4096)  # steps per pixel to which corners are snapped
MAX_COORDINATE = 2**29  # of a snapped corner, so that products of two differences fit 64 bits
MAX_PIXELS = 2**24
MAX_PARTS = 64
DEPTH_STEPS = 2**27 - 1
LANES = wp.constant(16)

PIXEL_SHIFT = wp.constant(wp.int64(39))
DEPTH_SHIFT = wp.constant(wp.int64(12))
DEPTH_MASK = wp.constant(wp.int64(2**27 - 1))
PART_SHIFT = wp.constant(wp.int64(6))
PART_MASK = wp.constant(wp.int64(63))
LEAVES = wp.constant(wp.int64(32))
CODE_MASK = wp.constant(wp.int64(31))

Lanes = wp.types.vector(length=16, dtype=wp.int32)


# --- rasterising ------------------------------------------------------------------------------------------------------


@wp.func
def floor_divide(a: wp.int64, b: wp.int64):
    """For positive b."""
    quotient = a / b
    if quotient * b > a:
        quotient -= wp.int64(1)
    return quotient


@wp.func
def edge_span(a: wp.vec2l, b: wp.vec2l, y: wp.int64, low: wp.int64, high: wp.int64):
    """The x at height y, within low to high, that lie on the inner side of the edge from a to b."""
    dx = b[0] - a[0]
    dy = b[1] - a[1]
    least = wp.int64(1)  # of the edge function; 0 where the edge itself belongs to this triangle
    if dy < wp.int64(0) or (dy == wp.int64(0) and dx > wp.int64(0)):
        least = wp.int64(0)
    room = dx * (y - a[1]) - least
    if dy > wp.int64(0):
        high = wp.min(high, a[0] + floor_divide(room, dy))
    elif dy < wp.int64(0):
        low = wp.max(low, a[0] - floor_divide(room, -dy))
    elif room < wp.int64(0):
        high = low - wp.int64(1)
    return low, high


@wp.func
def edge_value(a: wp.vec2l, b: wp.vec2l, x: wp.int64, y: wp.int64):
    return wp.float64((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))


@wp.kernel(enable_backward=False)
def rasterise(
    triangles: wp.array(dtype=wp.vec3i),
    corners: wp.array(dtype=wp.vec2l),
    inverse_z: wp.array(dtype=wp.float64),
    part_of: wp.array(dtype=wp.int32),
    samples_of: wp.array(dtype=wp.int32),
    first_triangle: int,
    width: int,
    height: int,
    mirrored: int,
    pixel_ray: wp.mat33d,
    near: wp.float64,
    steps_per_mm: wp.float64,
    place: wp.array(dtype=wp.int64),
    counts: wp.array(dtype=wp.int32),
    keys: wp.array(dtype=wp.int64),
):
    """Over triangles: their crossings with the sub-rays, counted when `keys` is empty, else written from `place` on.

    `corners` (V) in 1/4096 pixel, `inverse_z` (V) per mm in the camera; `part_of` (T), `samples_of` (parts) 1, 2 or 4
    sub-rays a side; `mirrored` when the image is; `pixel_ray` from pixels to camera directions with z = 1.
    """
    triangle = wp.tid() + first_triangle
    corner = triangles[triangle]
    a = corners[corner[0]]
    b = corners[corner[1]]
    c = corners[corner[2]]
    za = inverse_z[corner[0]]
    zb = inverse_z[corner[1]]
    zc = inverse_z[corner[2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area == wp.int64(0):
        return
    leaves = (area > wp.int64(0)) != (mirrored != 0)
    if area < wp.int64(0):
        swapped = b
        b = c
        c = swapped
        z = zb
        zb = zc
        zc = z
        area = -area
    part = part_of[triangle]
    samples = samples_of[part]
    step = wp.int64(SUBPIXEL) / wp.int64(samples)
    first = step / wp.int64(2) - wp.int64(SUBPIXEL) / wp.int64(
        2
    )  # sub-ray i of a row or column lies at first + i * step
    left = wp.min(wp.min(a[0], b[0]), c[0])
    right = wp.max(wp.max(a[0], b[0]), c[0])
    top = wp.min(wp.min(a[1], b[1]), c[1])
    bottom = wp.max(wp.max(a[1], b[1]), c[1])
    left = wp.max(left, first)
    right = wp.min(right, first + wp.int64(width * samples - 1) * step)
    row_from = wp.max(-floor_divide(first - top, step), wp.int64(0))
    row_to = wp.min(floor_divide(bottom - first, step), wp.int64(height * samples - 1))
    writing = keys.shape[0] > 0
    slot = wp.int64(0)
    if writing:
        slot = place[triangle]
    found = int(0)
    for row in range(int(row_from), int(row_to) + 1):
        y = first + wp.int64(row) * step
        low, high = edge_span(a, b, y, left, right)
        low, high = edge_span(b, c, y, low, high)
        low, high = edge_span(c, a, y, low, high)
        if low <= high:
            column_from = int(-floor_divide(first - low, step))
            column_to = int(floor_divide(high - first, step))
            if not writing:
                found += wp.max(column_to - column_from + 1, 0)
            else:
                pixel_row = row / samples
                code_row = (row - pixel_row * samples) * samples
                v = wp.float64(y) / wp.float64(SUBPIXEL)
                for column in range(column_from, column_to + 1):
                    x = first + wp.int64(column) * step
                    pixel_column = column / samples
                    code = code_row + column - pixel_column * samples
                    if samples == 2:
                        code += 1
                    elif samples == 4:
                        code += 5
                    depth = edge_value(b, c, x, y) * za + edge_value(c, a, x, y) * zb + edge_value(a, b, x, y) * zc
                    u = wp.float64(x) / wp.float64(SUBPIXEL)
                    ray = pixel_ray * wp.vec3d(u, v, wp.float64(1.0))
                    mm = wp.length(ray) * wp.float64(area) / depth
                    at = wp.int64(wp.floor((mm - near) * steps_per_mm + wp.float64(0.5)))
                    at = wp.clamp(at, wp.int64(0), DEPTH_MASK)
                    key = wp.int64(pixel_row * width + pixel_column) << PIXEL_SHIFT
                    key = key | (at << DEPTH_SHIFT) | (wp.int64(part) << PART_SHIFT) | wp.int64(code)
                    if leaves:
                        key = key | LEAVES
                    keys[slot] = key
                    slot += wp.int64(1)
    if not writing:
        counts[triangle] = found


# --- along a ray ------------------------------------------------------------------------------------------------------


@wp.func
def cross(key: wp.int64, depth: Lanes):
    """How many meshes each lane is inside of behind a crossing of some lanes, from how many before it."""
    code = int(key & CODE_MASK)
    change = change_at(key)
    size = int(1)
    y = (code - 5) / 4
    x = code - 5 - y * 4
    if code < 5:
        size = int(2)
        y = (code - 1) / 2
        x = (code - 1 - y * 2) * 2
        y = y * 2
    for row in range(y, y + size):
        for column in range(x, x + size):
            depth[row * 4 + column] = depth[row * 4 + column] + change
    return depth


@wp.func
def change_at(key: wp.int64):
    if (key & LEAVES) != wp.int64(0):
        return int(-1)
    return int(1)


@wp.func
def lanes_inside(all_lanes: int, depth: Lanes, some: bool):
    """How many lanes are inside a mesh, `all_lanes` counting what all of them share; `some`: whether any differ."""
    inside = int(0)
    lanes = int(LANES)  # a variable, so that the loop is not unrolled
    if some:
        for lane in range(lanes):
            if all_lanes + depth[lane] > 0:
                inside += 1
    elif all_lanes > 0:
        inside = LANES
    return inside


@wp.func
def cell_end(cell: int, direction: float):
    """The plane through which a ray leaves a voxel."""
    if direction > 0.0:
        return float(cell + 1)
    return float(cell)


@cache
def collect_kernel(materials: int) -> wp.Kernel:
    """Kernel over the sorted crossings, one thread for each, of which the first of every pixel does the work.

    Arguments: `keys` sorted, `first` of the launch (of how many there are in `total`); `mm_per_step` and `near` of the
    distances; `part_density` g/cm3, `part_material`, `part_tool` (parts); the CT's `rows`, `shape` (x, y, z) and
    `table` and the `rays` (1, 8) as in `siddon.py`; `width`. Results, all zero at first: `mass` (tool materials,
    pixels) g/cm2, a tool's chord being the mean over its sub-rays; `hits` (pixels) bit t for tool t; `displaced`
    (materials, pixels) g/cm2 of tissue on the pixel's central ray, each stretch weighted by the share of lanes that are
    inside any tool there, so that where two tools overlap the tissue goes once, and never more of it than there is.
    """
    densities = wp.types.vector(length=padded(materials), dtype=wp.float32)

    @wp.func
    def add_tissue(
        total: densities,
        rows: wp.array(dtype=wp.int16),
        shape: wp.vec3i,
        table: wp.array(dtype=densities),
        start: wp.vec3,
        direction: wp.vec3,
        length: float,
        weight: float,
    ):
        """The total with the tissue on a stretch of a ray, in g/cm3 times mm."""
        inverse = reciprocal(direction)
        x = wp.clamp(int(wp.floor(start[0])), 0, shape[0] - 1)
        y = wp.clamp(int(wp.floor(start[1])), 0, shape[1] - 1)
        z = wp.clamp(int(wp.floor(start[2])), 0, shape[2] - 1)
        at = float(0.0)
        while at < length:
            to_x = axis_crossing(cell_end(x, direction[0]), start[0], direction[0], inverse[0])
            to_y = axis_crossing(cell_end(y, direction[1]), start[1], direction[1], inverse[1])
            to_z = axis_crossing(cell_end(z, direction[2]), start[2], direction[2], inverse[2])
            crossing = wp.min(wp.min(to_x, to_y), to_z)
            until = wp.clamp(crossing, at, length)
            density = table[int(rows[(z * shape[1] + y) * shape[0] + x]) + ROW_OFFSET]
            for material in range(wp.static(materials)):
                total[material] = total[material] + density[material] * ((until - at) * weight)
            at = until
            if to_x <= crossing:
                x += int(wp.sign(direction[0]))
                if x < 0 or x >= shape[0]:
                    break
            elif to_y <= crossing:
                y += int(wp.sign(direction[1]))
                if y < 0 or y >= shape[1]:
                    break
            else:
                z += int(wp.sign(direction[2]))
                if z < 0 or z >= shape[2]:
                    break
        return total

    @wp.kernel(module="unique", enable_backward=False)
    def collect(
        keys: wp.array(dtype=wp.int64),
        first: int,
        total: int,
        near: wp.float64,
        mm_per_step: wp.float64,
        part_density: wp.array(dtype=wp.float32),
        part_material: wp.array(dtype=wp.int32),
        part_tool: wp.array(dtype=wp.int32),
        rows: wp.array(dtype=wp.int16),
        shape: wp.vec3i,
        table: wp.array(dtype=densities),
        rays: wp.array2d(dtype=wp.vec3d),
        width: int,
        mass: wp.array2d(dtype=wp.float32),
        hits: wp.array(dtype=wp.uint32),
        displaced: wp.array2d(dtype=wp.float32),
    ):
        begin = wp.tid() + first
        where = keys[begin] >> PIXEL_SHIFT
        if begin > 0:
            if keys[begin - 1] >> PIXEL_SHIFT == where:
                return
        pixel = int(where)
        end = begin
        present = wp.uint64(0)
        some = bool(False)
        while end < total:
            if keys[end] >> PIXEL_SHIFT != where:
                break
            present = present | (wp.uint64(1) << wp.uint64((keys[end] >> PART_SHIFT) & PART_MASK))
            if keys[end] & CODE_MASK != wp.int64(0):
                some = bool(True)
            end += 1

        hit = wp.uint32(0)
        for part in range(part_density.shape[0]):
            if (present >> wp.uint64(part)) & wp.uint64(1) != wp.uint64(0):
                depth = Lanes()
                shared = int(0)
                inside = int(0)
                chord = wp.int64(0)
                last = wp.int64(0)
                for i in range(begin, end):
                    key = keys[i]
                    if int((key >> PART_SHIFT) & PART_MASK) == part:
                        at = (key >> DEPTH_SHIFT) & DEPTH_MASK
                        chord += wp.int64(inside) * (at - last)
                        last = at
                        if key & CODE_MASK == wp.int64(0):
                            shared += change_at(key)
                        else:
                            depth = cross(key, depth)
                        inside = lanes_inside(shared, depth, some)
                if chord > wp.int64(0):
                    mm = float(wp.float64(chord) * mm_per_step / wp.float64(LANES))
                    material = part_material[part]
                    mass[material, pixel] = mass[material, pixel] + part_density[part] * mm / MM_PER_CM
                    hit = hit | (wp.uint32(1) << wp.uint32(part_tool[part]))
        hits[pixel] = hit

        row = pixel / width
        source, ahead, slant = pixel_ray(rays, 0, row, pixel - row * width)
        depths = slant * rays[0, 7]
        enters, leaves = box_span(source, ahead, wp.vec3i(0, 0, 0), shape, depths[0], depths[1])
        direction = wp.vec3(ahead)
        sum = densities()
        depth = Lanes()
        shared = int(0)
        inside = int(0)
        from_mm = wp.float64(0.0)
        for i in range(begin, end):
            key = keys[i]
            to_mm = near + wp.float64((key >> DEPTH_SHIFT) & DEPTH_MASK) * mm_per_step
            if inside > 0:
                low = wp.max(from_mm, enters)
                high = wp.min(to_mm, leaves)
                if low < high:
                    weight = float(inside) / float(LANES)
                    start = wp.vec3(source + low * ahead)
                    sum = add_tissue(sum, rows, shape, table, start, direction, float(high - low), weight)
            if key & CODE_MASK == wp.int64(0):
                shared += change_at(key)
            else:
                depth = cross(key, depth)
            inside = lanes_inside(shared, depth, some)
            from_mm = to_mm
        for material in range(wp.static(materials)):
            displaced[material, pixel] = sum[material] / MM_PER_CM

    return collect

"""One pass per ray: mass per area of every material, and which structures lie on the ray.

The exact radiological path of Siddon (Med Phys 12:252, 1985), walked voxel by voxel as in Amanatides and Woo
(Eurographics 1987). The ray is clipped to the box given, cut back to its first and last occupied brick, and walked
once. Each crossing is computed from its grid plane, never by adding steps, so that errors do not grow along the ray.

On a CPU the rays of eight neighbouring pixels are walked together as lanes of its vector registers, so that no branch
decides which plane a ray meets next; on a GPU, whose threads are such lanes, each is walked by itself.
"""

from functools import cache
from typing import Any

import warp as wp

from . import ROW_OFFSET
from .bricks import BRICK, trimmed_ray
from .rays import NEVER, pixel_of, reciprocal, steps_left

MM_PER_CM = wp.constant(10.0)
PACKET = {"cpu": 8, "cuda": 1}  # rays walked together


def padded(materials: int) -> int:
    """Floats in a row of the material table: rows are aligned, so that one vector instruction takes a row."""
    return materials if materials in (1, 2) else max(1, -(-materials // 4) * 4)


# The walk, in the C++ that Warp's own code is compiled as. `Reals` and `Ints` hold a number for each ray: with one ray
# they are a float and an int, and the same lines hold for both. Rays that have ended stand still.
WALK = """
    constexpr int rays = {rays}, materials = {materials}, row = {row}, parts = {lanes} / row;
    constexpr int slots = {slots}, words = (slots + 31) / 32;
    {types}
    const Ints one = 1, none = 0;
    const Reals still = 0.0f;
    auto each = [](auto& of, int ray) -> decltype(auto) {{ return {component}; }};
    auto lowest_bit = [](unsigned int of) {{
#ifdef __CUDA_ARCH__
        return __ffs(of) - 1;
#else
        return __builtin_ctz(of);
#endif
    }};
    Reals at, end, to[3], plane[3], start[3], inverse[3], step[3];
    Ints voxel, jump[3], left[3];
    for (int ray = 0; ray < rays; ++ray) {{
        each(at, ray) = spans[ray];
        each(end, ray) = spans[rays + ray];
        each(voxel, ray) = voxels[ray];
        for (int axis = 0; axis < 3; ++axis) {{
            each(plane[axis], ray) = planes[axis * rays + ray];
            each(start[axis], ray) = starts[axis * rays + ray];
            each(inverse[axis], ray) = inverses[axis * rays + ray];
            each(step[axis], ray) = steps[axis * rays + ray];
            each(left[axis], ray) = lefts[axis * rays + ray];
            each(jump[axis], ray) = each(step[axis], ray) < 0.0f ? -strides[axis] : strides[axis];
        }}
    }}
    for (int axis = 0; axis < 3; ++axis) to[axis] = (plane[axis] - start[axis]) * inverse[axis];
    Row total[rays][parts] = {{}};
    float path[rays][slots + 1] = {{}};  // one more each, as no array may be empty
    unsigned int met[rays][words + 1] = {{}};  // which slots have a path
    int label[rays] = {{}};
    Reals label_from = at;
    auto end_of_label = [&](int ray) {{
        const int slot = slot_of_label.data[label[ray]];
        path[ray][slot] += each(at, ray) - each(label_from, ray);
        met[ray][slot / 32] |= 1u << (slot % 32);
    }};
    Ints walking = at < end;
    while (true) {{
        Reals crossing = to[0] < to[1] ? to[0] : to[1];
        crossing = to[2] < crossing ? to[2] : crossing;
        crossing = end < crossing ? end : crossing;
        crossing = walking ? crossing : at;
        Reals through = crossing - at;
        #pragma unroll
        for (int ray = 0; ray < rays; ++ray) {{
            if (materials > 0) {{
                const auto& densities = table.data[rows.data[each(voxel, ray)] + ROW_OFFSET];
                const Row* density = reinterpret_cast<const Row*>(&densities);
                for (int part = 0; part < parts; ++part) total[ray][part] += density[part] * each(through, ray);
            }}
            if (slots > 0) {{
                const int here = labels.data[each(voxel, ray)];
                if (__builtin_expect(here != label[ray], 0)) {{  // most steps stay in a structure
                    end_of_label(ray);
                    label[ray] = here;
                    each(label_from, ray) = each(at, ray);
                }}
            }}
        }}
        at = crossing;
        walking = walking & (crossing < end);
        const Ints along_x = walking & (to[0] <= crossing);
        const Ints along_y = walking & !along_x & (to[1] <= crossing);
        const Ints along_z = walking & !along_x & !along_y;
        left[0] -= along_x ? one : none;
        left[1] -= along_y ? one : none;
        left[2] -= along_z ? one : none;
        walking = walking & ((left[0] | left[1] | left[2]) >= none);
        int any = 0;
        for (int ray = 0; ray < rays; ++ray) any |= each(walking, ray);
        if (!any) break;
        voxel += walking ? (along_x ? jump[0] : (along_y ? jump[1] : jump[2])) : none;
        plane[0] += along_x ? step[0] : still;
        plane[1] += along_y ? step[1] : still;
        plane[2] += along_z ? step[2] : still;
        for (int axis = 0; axis < 3; ++axis) to[axis] = (plane[axis] - start[axis]) * inverse[axis];
    }}
    for (int ray = 0; ray < rays; ++ray) {{
        const int pixel = pixels[ray];
        if (pixel < 0) continue;
        const float* masses = reinterpret_cast<const float*>(total[ray]);
        for (int material = 0; material < materials; ++material)
            *wp::address(mass, view, material, pixel) = masses[material] / {mm_per_cm};
        if (slots == 0) continue;
        end_of_label(ray);
        auto through = [&](const wp::array_t<int>& starts_of, const wp::array_t<int>& slots_of, int group) {{
            float sum = 0.0f;
            for (int member = starts_of.data[group]; member < starts_of.data[group + 1]; ++member)
                sum += path[ray][slots_of.data[member]];
            return sum;
        }};
        met[ray][0] &= ~1u;  // what nobody asked for
        unsigned int* seen = wp::address(bits, view, pixel, 0);  // the words of a pixel lie together
        for (int word = 0; word < words; ++word) {{
            for (unsigned int rest = met[ray][word]; rest; rest &= rest - 1) {{
                const int slot = 32 * word + lowest_bit(rest);
                if (path[ray][slot] <= 0.0f) continue;
                for (int part = part_start.data[slot]; part < part_start.data[slot + 1]; ++part) {{
                    const int output = part_of.data[part];
                    // alone it may be too thin, and one of many in a group
                    if (path[ray][slot] >= min_path_mm || through(member_start, members, output) >= min_path_mm)
                        seen[output / 32] |= 1u << (output % 32);
                }}
            }}
        }}
        if (path_mm.shape[2] > 0)
            for (int group = 0; group < path_start.shape[0] - 1; ++group)
                *wp::address(path_mm, view, group, pixel) = through(path_start, path_members, group);
    }}
""".replace("ROW_OFFSET", str(ROW_OFFSET))
ALONE = {
    "types": "typedef float Reals, Row; typedef int Ints;",
    "component": "(of)",
}
TOGETHER = {
    "types": """typedef float Reals __attribute__((ext_vector_type(rays)));
    typedef int Ints __attribute__((ext_vector_type(rays)));
    typedef float Row __attribute__((ext_vector_type(row), aligned(4)));""",
    "component": "reinterpret_cast<decltype(+of[0])*>(&of)[ray]",
}


@cache
def projection_kernel(materials: int, slots: int, label_type: Any, packet: int) -> wp.Kernel:
    """Kernel over (view, tile row, tile column, packet of pixels in it).

    Compiled for so many materials, at most `slots` - 1 labels, and the `PACKET` of the device. With `slots` 0 labels
    are not looked at: the image alone. With `materials` 0 the voxels are not: labels alone. The kernel's arguments:

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
    # a number for each ray: one, two (where its span begins and ends) or three (along x, y and z) after each other
    ints, ints_xyz = (wp.types.vector(length=n * packet, dtype=wp.int32) for n in (1, 3))
    reals_span, reals_xyz = (wp.types.vector(length=n * packet, dtype=wp.float32) for n in (2, 3))

    @wp.func_native(
        WALK.format(
            rays=packet,
            materials=materials,
            lanes=lanes,
            slots=slots,
            mm_per_cm=f"{float(MM_PER_CM)}f",
            row=1 if packet == 1 else next(n for n in (8, 4, 2, 1) if lanes % n == 0),
            **(ALONE if packet == 1 else TOGETHER),
        )
    )
    def walk(
        rows: wp.array(dtype=wp.int16),
        labels: wp.array(dtype=label_type),
        slot_of_label: wp.array(dtype=wp.int32),
        table: wp.array(dtype=densities),
        spans: reals_span,
        voxels: ints,
        planes: reals_xyz,
        starts: reals_xyz,
        inverses: reals_xyz,
        steps: reals_xyz,
        lefts: ints_xyz,
        strides: wp.vec3i,
        view: int,
        pixels: ints,
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
    ): ...

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
        some_view, tile_row, tile_column, some_pixels = wp.tid()
        view = first_view + some_view
        box_low = BRICK * low
        box_high = wp.min(BRICK * high, shape)
        spans = reals_span()
        voxels = ints()
        pixels = ints()
        planes = reals_xyz()
        starts = reals_xyz()
        inverses = reals_xyz()
        steps = reals_xyz()
        lefts = ints_xyz()
        any_ray = bool(False)
        count = int(wp.static(packet))  # a variable, as Warp unrolls loops over constants
        for ray in range(count):
            pixels[ray] = -1
            row, column = pixel_of(first_tile + tile_row, tile_column, some_pixels * count + ray)
            if row < height and column < width:
                start, direction, at, end = trimmed_ray(rays, view, row, column, shape, occupied, bricks, low, high)
                if at < end:
                    any_ray = True
                    inverse = reciprocal(direction)
                    cell = wp.vec3i()
                    for axis in range(3):
                        place = int(wp.floor(start[axis] + at * direction[axis]))
                        cell[axis] = wp.clamp(place, box_low[axis], box_high[axis] - 1)
                        item = axis * count + ray
                        step = wp.sign(direction[axis])
                        steps[item] = step
                        planes[item] = float(cell[axis]) + wp.max(step, 0.0)
                        starts[item] = start[axis]
                        inverses[item] = inverse[axis]
                        lefts[item] = steps_left(cell[axis], box_low[axis], box_high[axis], direction[axis])
                        if direction[axis] == 0.0:  # it never meets a plane
                            planes[item] = NEVER
                            starts[item] = 0.0
                            inverses[item] = 1.0
                    spans[ray] = at
                    spans[count + ray] = end
                    voxels[ray] = (cell[2] * shape[1] + cell[1]) * shape[0] + cell[0]
                    pixels[ray] = row * width + column
        if any_ray:
            strides = wp.vec3i(1, shape[0], shape[0] * shape[1])
            walk(
                rows, labels, slot_of_label, table, spans, voxels, planes, starts, inverses, steps, lefts, strides,
                view, pixels, member_start, members, part_start, part_of, path_start, path_members, min_path_mm,
                mass, bits, path_mm,
            )  # fmt: skip

    return project

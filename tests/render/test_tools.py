import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm
from fluorosam_cli.render.physics import density_g_cm3
from fluorosam_cli.render.projector import Projector
from fluorosam_cli.render.tools import project_tools
from fluorosam_cli.tools.catalogue import Tool
from fluorosam_cli.tools.placement import PlacedPart, PlacedTool
from fluorosam_cli.tools.placement_pose import Where

SIZE = 128


def placed(*meshes, material="titanium", name="tool"):
    """A tool made of (vertices, triangles) in the world."""
    tool = Tool(name, name, "test", name, {"body": material}, {}, "clutter", (), False)
    return PlacedTool(tool, Where(None), tuple(PlacedPart(v, t, material) for v, t in meshes))


def surface(grid, closed=False):
    """The closed surface of a grid of points (rows, around, 3), its ends capped by a point each."""
    rows, around = grid.shape[:2]
    index = np.arange(rows * around).reshape(rows, around)
    below, above = (index, np.roll(index, -1, 0)) if closed else (index[:-1], index[1:])
    quads = below, np.roll(below, -1, 1), np.roll(above, -1, 1), above
    faces = [np.stack([quads[0], quads[1], quads[2]], -1), np.stack([quads[0], quads[2], quads[3]], -1)]
    faces = [face.reshape(-1, 3) for face in faces]
    points = grid.reshape(-1, 3)
    if not closed:
        first, last = np.full(around, len(points)), np.full(around, len(points) + 1)
        points = np.vstack([points, grid[0].mean(0), grid[-1].mean(0)])
        faces += [
            np.stack([np.roll(index[0], -1), index[0], first], -1),
            np.stack([index[-1], np.roll(index[-1], -1), last], -1),
        ]
    return points, np.concatenate(faces).astype(np.int32)


def sphere(radius, centre=(0, 0, 0), rows=160, around=320):
    u = np.linspace(0, np.pi, rows + 2)[1:-1, None]
    v = np.arange(around) * 2 * np.pi / around
    x, y, z = np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), -np.cos(u) * np.ones_like(v)
    return surface(radius * np.stack([x, y, z], -1) + centre)


def cylinder(radius, start, end, around=400):
    """Its circle's area is that of the polygon: the facets lie half inside, half outside."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    axis = (end - start) / np.linalg.norm(end - start)
    u = np.cross(axis, [0.3, 0.5, 0.8])
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angle = np.arange(around) * 2 * np.pi / around
    ring = radius * (np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v)
    return surface(np.stack([start + ring, end + ring]))


def torus(big, small, rows=400, around=200):
    u = (np.arange(rows) * 2 * np.pi / rows)[:, None]
    v = np.arange(around) * 2 * np.pi / around
    x, y = (big + small * np.cos(v)) * np.cos(u), (big + small * np.cos(v)) * np.sin(u)
    points, triangles = surface(np.stack([x, y, small * np.sin(v) * np.ones_like(u)], -1), closed=True)
    return points, np.ascontiguousarray(triangles[:, ::-1])


def carm(seen_from="source", size=SIZE, pixel=0.6, primary=25.0, secondary=-15.0):
    return CArm(
        source_to_detector_mm=1000, source_to_isocenter_mm=600, positioner_primary_angle_deg=primary,
        positioner_secondary_angle_deg=secondary, detector_width_px=size, detector_height_px=size,
        pixel_spacing_mm=pixel, isocenter_lps_mm=(1.3, -2.7, 0.9), seen_from=seen_from,
    )  # fmt: skip


def tissue_block(hu, threads=1):
    matrix = np.diag([1.0, 2.0, 1.5, 1.0])
    matrix[:3, 3] = -20, -30, -25
    table = np.zeros((4096, 2), np.float32)
    table[:, 0] = np.linspace(0.1, 2, 4096)
    table[:, 1] = np.linspace(1, 0, 4096) ** 2
    return Projector(hu, None, matrix, (), table, threads=threads)


def project(tools, view=None, tissue=None, **options):
    view, tissue = view or carm(), tissue or tissue_block(np.zeros((1, 1, 1), np.int16))
    size = view.detector_width_px, view.detector_height_px
    return project_tools(tools, view.intrinsic, view.camera_from_world, *size, tissue, **options)


def chord_mm(projection, material="titanium"):
    return projection.mass_g_cm2.sum(axis=0) * 10 / density_g_cm3(material)


def rays(view):
    """Source (3,) and unit directions (H, W, 3) of all pixels' rays in the world."""
    y, x = np.mgrid[: view.detector_height_px, : view.detector_width_px]
    ahead = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(view.intrinsic).T @ view.camera_from_world[:3, :3]
    source = -view.camera_from_world[:3, :3].T @ view.camera_from_world[:3, 3]
    return source, ahead / np.linalg.norm(ahead, axis=-1, keepdims=True)


@pytest.mark.parametrize("seen_from", ["source", "detector"])
def test_sphere(seen_from):
    view = carm(seen_from)
    source, ahead = rays(view)
    middle = np.array([3.0, -1.0, 2.0]) - source
    off2 = middle @ middle - (ahead @ middle) ** 2
    exact = 2 * np.sqrt(np.maximum(12.0**2 - off2, 0))
    projection = project([placed(sphere(12.0, (3, -1, 2)))], view)
    inner = off2 < (0.9 * 12) ** 2
    assert inner.sum() > 1000
    np.testing.assert_allclose(chord_mm(projection)[inner], exact[inner], rtol=1e-3)
    assert (projection.masks[0] == (chord_mm(projection) > 0)).all()
    assert (projection.masks[0] & (off2 > 12.0**2)).sum() == 0


def test_cylinder():
    view = carm()
    source, ahead = rays(view)
    axis = np.array([0.2, 0.3, 1.0]) / np.linalg.norm([0.2, 0.3, 1.0])
    across, offset = ahead - (ahead @ axis)[..., None] * axis, source - (source @ axis) * axis
    a, b, c = (across**2).sum(-1), across @ offset, offset @ offset - 8.0**2
    exact = 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a
    middle = exact > 0.45 * exact.max()  # off the rim
    projection = project([placed(cylinder(8.0, -150 * axis, 150 * axis))], view)
    assert middle.sum() > 1000
    np.testing.assert_allclose(chord_mm(projection)[middle], exact[middle], rtol=1e-3)


def test_torus_against_its_equation():
    view = carm()
    source, ahead = rays(view)
    mesh = torus(14.0, 4.0)
    got = chord_mm(project([placed(mesh)], view))
    rows, columns = np.nonzero(got > 5.5)
    chosen = np.random.default_rng(0).choice(len(rows), 60, replace=False)
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        t = np.linspace(560, 640, 400_001)
        x, y, z = (source + t[:, None] * ahead[row, column]).T
        inside = (np.hypot(x, y) - 14.0) ** 2 + z**2 < 4.0**2
        assert got[row, column] == pytest.approx(inside.mean() * 80, rel=1e-3)


def test_a_wire_is_a_continuous_line():
    from scipy.ndimage import label

    view = carm(size=512, pixel=0.3)
    for width in (1.6, 0.35, 0.05):
        projection = project([placed(cylinder(width / 2, (-35, -20, -33), (40, 10, 29), around=16))], view)
        _, count = label(projection.masks[0], structure=np.ones((3, 3)))
        assert count == 1, width
        columns = np.flatnonzero(projection.masks[0].any(axis=0))
        assert len(columns) == columns[-1] - columns[0] + 1
        assert len(columns) > 300


def test_thin_wire_keeps_its_mass():
    view = carm(size=256, pixel=0.6, primary=0, secondary=0)
    area = 0.5 * 16 * 0.1**2 * np.sin(2 * np.pi / 16)  # of the polygon
    projection = project([placed(cylinder(0.1, (-30, -2.7, -21), (30, -2.7, 17), around=16))], view)
    volume = chord_mm(projection).sum() * (0.6 * 600 / 1000) ** 2
    assert volume == pytest.approx(area * np.hypot(60, 38), rel=0.02)


def test_every_ray_that_enters_leaves():
    """Edges shared by triangles count once, also where they project onto the rays themselves, as this box's do."""
    view = carm(primary=0, secondary=0, size=101, pixel=1.0)
    view = CArm(**{**view.__dict__, "isocenter_lps_mm": (0.0, 0.0, 0.0)})
    points = np.array([[x, y, z] for x in (-12, 12) for y in (-10, 10) for z in (-12, 12)], float)
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    triangles = hull.simplices.copy()
    for i, (a, b, c) in enumerate(triangles):
        if np.cross(points[b] - points[a], points[c] - points[a]) @ hull.equations[i, :3] < 0:
            triangles[i] = [a, c, b]
    chord = chord_mm(project([placed((points, triangles.astype(np.int32)))], view))
    assert chord.max() < 20.1
    inner = chord[35:66, 35:66]
    assert (inner > 19.9).all()


def test_orientation_overlap_and_sums():
    one, two = sphere(9.0, rows=40, around=60), sphere(9.0, (6, 0, 0), rows=40, around=60)
    single = project([placed(one)])
    both = project([placed(one, material="titanium", name="a"), placed(two, material="gold", name="b")])
    assert both.materials == ("titanium", "gold")
    np.testing.assert_allclose(both.mass_g_cm2[0], single.mass_g_cm2[0], atol=1e-5)
    merged = np.vstack([one[0], one[0]]), np.vstack([one[1], one[1] + len(one[0])])
    np.testing.assert_array_equal(project([placed(merged)]).mass_g_cm2, single.mass_g_cm2)  # self-overlap counts once
    twice = project([placed(one, name="a"), placed(one, name="b")])
    np.testing.assert_allclose(twice.mass_g_cm2, 2 * single.mass_g_cm2, rtol=1e-6)
    assert (twice.masks[0] == twice.masks[1]).all()


def test_tissue_gives_way_once():
    hu = np.random.default_rng(1).integers(-1000, 2000, (34, 30, 40)).astype(np.int16)
    projector, view = tissue_block(hu), carm()
    whole = projector.project(view.intrinsic, view.camera_from_world, SIZE, SIZE).mass_g_cm2
    # a body around the whole block displaces all of it, and so do two
    for tools in ([placed(sphere(60.0))], [placed(sphere(60.0)), placed(sphere(70.0, (5, 0, 0)))]):
        gone = project(tools, view, tissue=projector).displaced_g_cm2
        np.testing.assert_allclose(gone, whole, rtol=2e-4, atol=2e-4)
    # never more than there is, and the same as a block of air where the tool was
    part = project([placed(sphere(9.0)), placed(cylinder(0.3, (-20, 0, -20), (20, 5, 20)))], view, tissue=projector)
    assert (part.displaced_g_cm2 <= whole + 1e-3).all()
    assert (part.displaced_g_cm2.sum(0)[part.masks[0] & (whole.sum(0) > 1)] > 0).mean() > 0.95


def test_displaced_mass_of_a_uniform_block():
    projector = tissue_block(np.full((34, 30, 40), 100, np.int16))
    table = np.linspace(0.1, 2, 4096)[1124]
    projection = project([placed(sphere(9.0)), placed(cylinder(4, (-12, 0, 0), (12, 0, 0)))], tissue=projector)
    ball = project([placed(sphere(9.0))], tissue=projector)
    np.testing.assert_allclose(ball.displaced_g_cm2[0], chord_mm(ball) * table / 10, rtol=1e-3, atol=1e-4)
    alone = projection.masks[0] & ~projection.masks[1]
    np.testing.assert_allclose(projection.displaced_g_cm2[0][alone], ball.displaced_g_cm2[0][alone], atol=1e-5)
    assert (projection.displaced_g_cm2[0] >= ball.displaced_g_cm2[0] - 1e-5).all()


def test_tissue_beyond_the_detector_is_not_in_the_image():
    projector = tissue_block(np.full((34, 30, 40), 100, np.int16))
    near, far = (project([placed(sphere(9.0))], tissue=projector, **depths).displaced_g_cm2
                 for depths in ({"depths_mm": (0.0, 600.0)}, {"depths_mm": (600.0, 1e30)}))  # fmt: skip
    both = project([placed(sphere(9.0))], tissue=projector).displaced_g_cm2
    assert near.sum() > 0.3 * both.sum()
    np.testing.assert_allclose(near + far, both, atol=1e-5)


def test_bytes_do_not_depend_on_threads():
    hu = np.random.default_rng(2).integers(-1000, 2000, (34, 30, 40)).astype(np.int16)
    tools = [placed(sphere(9.0)), placed(torus(14, 0.4), name="ring"), placed(cylinder(1, (-30, 0, 0), (30, 9, 9)))]
    first, *others = (project(tools, tissue=tissue_block(hu, threads)) for threads in (1, 2, 3))
    for other in others:
        assert first.mass_g_cm2.tobytes() == other.mass_g_cm2.tobytes()
        assert first.displaced_g_cm2.tobytes() == other.displaced_g_cm2.tobytes()
        assert first.masks.tobytes() == other.masks.tobytes()


def test_nothing_in_the_picture():
    for tools in ([], [placed(sphere(3.0, (400, 0, 0)))]):
        projection = project(tools)
        assert not projection.mass_g_cm2.any()
        assert projection.masks.shape == (len(tools), SIZE, SIZE)
        assert not projection.masks.any()


def test_a_tool_at_the_source_is_an_error():
    source, _ = rays(carm())
    with pytest.raises(FluoroError, match="clip: reaches the X-ray source"):
        project([placed(sphere(5.0)), placed(sphere(5.0, source), name="clip")])


def test_part_of_a_tool_outside_the_picture_changes_nothing_inside():
    view, small = carm(size=128), carm(size=64)
    mesh = placed(cylinder(2.0, (-80, -9, -60), (90, 0, 70), around=64))
    large, window = project([mesh], view), project([mesh], small)
    np.testing.assert_allclose(window.mass_g_cm2, large.mass_g_cm2[:, 32:96, 32:96], atol=1e-5)

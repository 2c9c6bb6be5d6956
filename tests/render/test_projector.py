"""The projector against what can be worked out by hand, and against a plain NumPy walk of the same rays."""

from dataclasses import replace

import numpy as np
import pytest

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.carm import CArm, project_points
from fluorosam_cli.render.projector import Projector
from tests.render.scenes import (
    AIR,
    BONE,
    ONE,
    SOFT,
    assert_together_as_alone,
    box_chords,
    carm,
    centred,
    project,
    random_body,
    rays,
    siddon_reference,
    slab,
    table,
)

# --- lengths and masses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("primary", "secondary"), [(180, 0), (0, 0), (90, 0), (0, 90), (33, -21), (-140, 50)])
def test_box_chords_are_exact_from_every_side(primary, secondary):
    hu, labels = slab()
    view = replace(carm(primary, secondary), isocenter_lps_mm=(1.0, 0.5, -0.7))
    seen = project(Projector(hu, labels, centred(hu.shape), ONE, table()), view)
    chords = box_chords(view, np.array([11.0, 5.0, 8.0]))
    assert chords.max() > 9
    assert np.allclose(seen.path_mm[0], chords, atol=1e-3)
    assert np.allclose(seen.mass_g_cm2[2], chords / 10, atol=1e-4)
    assert not seen.mass_g_cm2[[0, 1, 3]].any()
    assert not seen.mass_g_cm2[:, chords == 0].any()


def test_sphere_chords():
    radius, n = 20.0, 96
    grid = (np.arange(n) - (n - 1) / 2) * 0.5
    inside = grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid[None, None, :] ** 2 < radius**2
    hu = np.where(inside, BONE, AIR).astype(np.int16)
    projector = Projector(hu, inside.astype(np.uint8), centred(hu.shape, (0.5, 0.5, 0.5)), ONE, table())
    view = carm(25, 15, size=48, spacing=1.5)
    source, directions = rays(view)
    off_centre = np.linalg.norm(np.cross(source, directions), axis=-1)
    chords = 2 * np.sqrt(np.maximum(radius**2 - off_centre**2, 0))
    seen = project(projector, view)
    well_inside = off_centre < 0.9 * radius
    assert np.abs(seen.path_mm[0] - chords)[well_inside].max() < 1.0
    assert np.abs(seen.path_mm[0] - chords)[well_inside].mean() < 0.3
    assert np.abs(seen.mass_g_cm2[3] - 2 * chords / 10)[well_inside].mean() < 0.06
    volume = seen.path_mm[0].sum() * (view.pixel_spacing_mm * 700 / 1000) ** 2  # of nearly parallel rays
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)


def test_a_small_sphere_is_magnified_by_source_to_detector_over_source_to_object():
    radius, n = 6.0, 56
    grid = (np.arange(n) - (n - 1) / 2) * 0.25
    inside = grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid[None, None, :] ** 2 < radius**2
    hu = np.full(inside.shape, AIR, np.int16)
    affine = centred(inside.shape, (0.25, 0.25, 0.25))
    projector = Projector(hu, inside.astype(np.uint8), affine, ONE, table(), min_path_mm=0.1)
    for to_isocenter in (500, 800):
        view = replace(carm(size=96, spacing=0.4), source_to_isocenter_mm=to_isocenter)
        area = project(projector, view).mask(0).sum() * view.pixel_spacing_mm**2
        assert np.sqrt(area / np.pi) / radius == pytest.approx(1000 / to_isocenter, rel=0.01)


def test_a_uniform_slab_attenuates_by_beer_and_lambert():
    hu, labels = slab((10, 40, 40), (slice(None), slice(None), slice(None)))
    seen = project(Projector(hu, labels, centred(hu.shape, (4, 1, 4)), ONE, table()), carm(size=15))
    _, directions = rays(carm(size=15))
    obliquity = 1 / directions[..., 1]  # the beam of an AP view runs along y
    attenuation = 0.2 * seen.mass_g_cm2[2]
    assert np.allclose(np.exp(-attenuation), np.exp(-0.2 * 1.0 * 4.0 * obliquity), rtol=1e-5)


@pytest.mark.parametrize("view", [carm(17, 33, 20, 1.5), carm(-95, -10, 20, 1.5), carm(178, 1, 20, 1.5)])
def test_every_material_and_label_agrees_with_a_double_precision_walk(view):
    hu, labels = random_body()
    affine = centred(hu.shape, (0.9, 1.3, 1.1))
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    view = replace(view, isocenter_lps_mm=(0.31, -0.12, 0.23))  # no ray along a face, where either side would do
    seen = project(Projector(hu, labels, affine, outputs, table()), view)
    mass, path = siddon_reference(hu, labels, affine, view)
    assert np.allclose(seen.mass_g_cm2, mass, atol=2e-4)
    assert np.allclose(seen.path_mm, path[1:6], atol=2e-3)
    assert abs(seen.mass_g_cm2.sum() / mass.sum() - 1) < 1e-5


def test_rays_start_at_the_source_even_inside_the_body():
    hu, labels = slab((8, 40, 8), (slice(None), slice(None), slice(None)))
    view = replace(carm(size=1), source_to_isocenter_mm=5)  # 15 of the 40 mm lie behind the source
    seen = project(Projector(hu, labels, centred(hu.shape), ONE, table()), view)
    assert seen.path_mm[0, 0, 0] == pytest.approx(25)


# --- grids ------------------------------------------------------------------------------------------------------------


def test_the_same_object_on_a_finer_grid_gives_the_same_picture():
    hu, labels = random_body((6, 7, 8))
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    view = carm(28, -17, 24, 1.5)
    coarse = project(Projector(hu, labels, centred(hu.shape, (2, 2, 2)), outputs, table()), view)
    fine_hu, fine_labels = (a.repeat(2, axis=0).repeat(4, axis=2) for a in (hu, labels))
    fine = project(Projector(fine_hu, fine_labels, centred(fine_hu.shape, (0.5, 2, 1)), outputs, table()), view)
    assert np.allclose(coarse.mass_g_cm2, fine.mass_g_cm2, atol=1e-4)
    assert np.allclose(coarse.path_mm, fine.path_mm, atol=1e-3)


def test_storage_order_does_not_matter():
    """The same voxels with x flipped and y and z exchanged in memory, and an affine that says so."""
    hu, labels = random_body((9, 8, 7))
    affine = centred(hu.shape, (1.0, 1.4, 1.9))
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    turned_hu, turned_labels = (np.ascontiguousarray(a.transpose(1, 0, 2)[:, :, ::-1]) for a in (hu, labels))
    old_from_new = np.array([[-1, 0, 0, 6], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    view = carm(28, -17, 24, 1.0)
    one = project(Projector(hu, labels, affine, outputs, table()), view)
    other = project(Projector(turned_hu, turned_labels, affine @ old_from_new, outputs, table()), view)
    assert np.allclose(one.mass_g_cm2, other.mass_g_cm2, atol=1e-4)
    assert np.allclose(one.path_mm, other.path_mm, atol=1e-3)


def test_an_oblique_scan_seen_by_a_turned_camera_gives_the_same_picture():
    hu, labels = random_body()
    affine = centred(hu.shape, (0.9, 1.3, 1.1))
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    a, b = 0.4, -0.9
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    turn[:3, :3] = turn[:3, :3] @ [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    turn[:3, 3] = 40, -300, 1200
    view = carm(31, 12, 24, 1.5)
    straight = project(Projector(hu, labels, affine, outputs, table()), view)
    turned = Projector(hu, labels, turn @ affine, outputs, table()).project(
        view.intrinsic, view.camera_from_world @ np.linalg.inv(turn), 24, 24, paths=True
    )
    assert np.allclose(straight.mass_g_cm2, turned.mass_g_cm2, atol=2e-4)
    assert np.allclose(straight.path_mm, turned.path_mm, atol=2e-3)


@pytest.mark.parametrize(("primary", "secondary"), [(0, 0), (180, 0), (90, 0), (-90, 0), (0, 90), (0, -90)])
def test_a_ray_along_faces_and_edges_of_voxels(primary, secondary):
    """The central ray runs exactly along an edge that four columns of voxels share, or along the box's own edge."""
    hu, labels = slab((16, 16, 16), (slice(None), slice(None), slice(None)))
    projector = Projector(hu, labels, centred(hu.shape), ONE, table())
    view = carm(primary, secondary, size=3)
    middle = project(projector, view)
    assert middle.path_mm[0, 1, 1] == pytest.approx(16, abs=1e-3)
    assert np.isfinite(middle.mass_g_cm2).all()
    for shift in ((8, 8, 8), (-8, -8, -8)):
        edge = project(projector, replace(view, isocenter_lps_mm=shift))
        chord = edge.path_mm[0, 1, 1]
        assert chord == pytest.approx(0, abs=1e-3) or chord == pytest.approx(16, abs=1e-3)


def test_a_ray_along_the_face_between_two_materials_takes_one_of_them():
    hu = np.full((8, 8, 8), SOFT, np.int16)
    hu[:, :, 4:] = BONE
    labels = (hu == BONE).astype(np.uint8)
    seen = project(Projector(hu, labels, centred(hu.shape), ONE, table()), carm(size=3)).mass_g_cm2[:, 1, 1]
    assert np.allclose(seen, [0, 0, 0.8, 0], atol=1e-4) or np.allclose(seen, [0, 0, 0, 1.6], atol=1e-4)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks_are_where_the_path_is_long_enough():
    hu, labels = random_body((30, 30, 30), labels=20, seed=3)
    outputs = [(f"label {i}", (i,)) for i in range(1, 21)] + [
        ("many", tuple(range(1, 15))),
        ("all", tuple(range(1, 21))),
    ]
    seen = project(Projector(hu, labels, centred(hu.shape), outputs, table(), min_path_mm=2.5), carm(10, 5, 40))
    masks = np.stack([seen.mask(i) for i in range(len(outputs))])
    assert np.array_equal(masks, seen.path_mm >= np.float32(2.5))
    assert 0.01 < masks[0].mean() < 0.1 < masks[20].mean() < 0.9
    assert seen.outputs == tuple(name for name, _ in outputs)


def test_groups_sum_their_paths_before_the_threshold():
    """Two layers of 0.6 mm: neither is thick enough alone, both together are."""
    hu, labels = slab((10, 10, 10), (slice(None), slice(4, 6), slice(None)))
    labels[:, 5] *= 2
    outputs = [("one", (1,)), ("two", (2,)), ("both", (1, 2)), ("both and a stranger", (1, 2, 9))]
    seen = project(
        Projector(hu, labels, centred(hu.shape, (1, 0.6, 1)), outputs, table(), min_path_mm=1.0), carm(size=7)
    )
    middle = [seen.mask(i)[3, 3] for i in range(4)]
    assert middle == [False, False, True, True]
    assert [number for number in range(len(seen.outputs)) if seen.mask(number).any()] == [2, 3]


def test_more_outputs_than_128_and_ids_beyond_a_byte():
    count = 200
    labels = np.zeros((4, 4, count), np.uint16)
    ids = np.random.default_rng(0).permutation(60_000)[:count] + 1
    labels[:, :] = ids
    hu = np.full(labels.shape, AIR, np.int16)
    outputs = [(f"s{i}", (int(ids[i]),)) for i in range(count)] + [("evens", tuple(int(i) for i in ids[::2]))]
    view = replace(carm(size=count, spacing=1000 / 700), detector_height_px=1)
    seen = project(Projector(hu, labels, centred(hu.shape), outputs, table()), view)
    assert seen.bits.shape == (1, count, 7)
    for i in range(1, count - 1):  # each pixel looks at its own column of voxels, seen from straight above
        assert seen.path_mm[i, 0, i] > 1
    travel_of_evens = seen.path_mm[:count:2].sum(axis=0)
    assert np.allclose(seen.path_mm[count], travel_of_evens, atol=1e-4)
    masks = np.stack([seen.mask(i) for i in range(count + 1)])
    assert np.array_equal(masks, seen.path_mm >= np.float32(1.0))


def test_left_front_and_head_are_where_they_belong():
    """Three marks of one body: on its left, near its chest, near its head."""
    hu, labels = np.full((40, 40, 40), AIR, np.int16), np.zeros((40, 40, 40), np.uint8)
    labels[16:24, 16:24, 30:36] = 1  # +x
    labels[16:24, 4:10, 16:24] = 2  # -y
    labels[30:36, 16:24, 16:24] = 3  # +z
    projector = Projector(hu, labels, centred(hu.shape), [("left", (1,)), ("front", (2,)), ("head", (3,))], table())

    def centroids(view: CArm) -> np.ndarray:
        seen = project(projector, view)
        assert np.linalg.det(view.camera_from_world[:3, :3]) == pytest.approx(1)
        return np.array([np.argwhere(seen.mask(i)).mean(axis=0)[::-1] for i in range(3)]) - 31.5

    for view in (carm(180, 0, 64, 1.0), replace(carm(0, 0, 64, 1.0), seen_from="detector")):  # AP, PA
        left, _, head = centroids(view)
        assert left[0] > 10
        assert abs(left[1]) < 1
        assert head[1] < -10
        assert abs(head[0]) < 1
    _, front, head = centroids(replace(carm(90, 0, 64, 1.0), seen_from="detector"))  # left lateral
    assert front[0] < -10
    assert abs(front[1]) < 1
    assert head[1] < -10
    assert abs(head[0]) < 1


@pytest.mark.parametrize("seen_from", ["source", "detector"])
@pytest.mark.parametrize(("primary", "secondary"), [(180, 0), (0, 0), (90, 0), (-37, 24), (140, -33)])
def test_a_point_lands_where_the_matrices_say(primary, secondary, seen_from):
    labels = np.zeros((40, 50, 60), np.uint8)
    labels[8:11, 37:40, 11:14] = 1
    affine = centred(labels.shape, (1.0, 1.2, 0.8))
    view = replace(carm(primary, secondary, 256, 0.4), seen_from=seen_from, isocenter_lps_mm=(3, -4, 5))
    projector = Projector(np.full(labels.shape, AIR, np.int16), labels, affine, ONE, table(), min_path_mm=0.01)
    seen = project(projector, view).path_mm[0]
    y, x = np.mgrid[0:256, 0:256]
    centroid = np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum()
    expected = project_points(view.intrinsic, view.camera_from_world, (affine @ [12, 38, 9, 1])[None, :3])[0]
    assert np.linalg.norm(centroid - expected) < 0.3


# --- the machinery ----------------------------------------------------------------------------------------------------


def test_bytes_do_not_depend_on_the_number_of_threads():
    hu, labels = random_body((30, 30, 30))
    view = carm(28, -17, 77, 0.7)
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    first, *others = [
        project(Projector(hu, labels, centred(hu.shape), outputs, table(), threads=threads), view)
        for threads in (1, 2, 7)
    ]
    for other in others:
        assert first.mass_g_cm2.tobytes() == other.mass_g_cm2.tobytes()
        assert first.bits.tobytes() == other.bits.tobytes()


@pytest.mark.parametrize("size", [24, 19])  # 19 columns: the last packet of a row is not full
def test_a_ray_by_itself_as_on_a_gpu_is_the_same_ray(size, monkeypatch):
    from fluorosam_cli.kernels import siddon

    hu, labels = random_body()
    outputs = [(str(label), (label,)) for label in range(1, 6)] + [("some", (1, 2, 4))]
    view = carm(28, -17, size, 1.5)
    together = project(Projector(hu, labels, centred(hu.shape), outputs, table(), min_path_mm=2), view)
    monkeypatch.setitem(siddon.PACKET, "cpu", 1)
    alone = project(Projector(hu, labels, centred(hu.shape), outputs, table(), min_path_mm=2), view)
    assert np.array_equal(together.mass_g_cm2, alone.mass_g_cm2)
    assert np.array_equal(together.bits, alone.bits)
    assert np.array_equal(together.path_mm, alone.path_mm)
    assert alone.bits.any()


def test_the_image_alone_is_the_same_image():
    hu, labels = random_body()
    view = carm(28, -17)
    with_masks = project(Projector(hu, labels, centred(hu.shape), ONE, table()), view)
    alone = project(Projector(hu, None, centred(hu.shape), [], table()), view, paths=False)
    assert np.allclose(with_masks.mass_g_cm2, alone.mass_g_cm2, atol=1e-5)
    assert not alone.bits.any()


def test_several_views_in_one_call_are_the_same_views():
    hu, labels = random_body()
    projector = Projector(hu, labels, centred(hu.shape), [("a", (1, 2)), ("b", (3,))], table())
    assert_together_as_alone(projector, [carm(180), carm(40, 20), carm(-90, -10)])


def test_a_launch_holds_as_many_views_as_its_memory_and_at_least_one(monkeypatch):
    hu, labels = random_body()
    paths = [(str(number), (1,)) for number in range(200)]
    projector = Projector(hu, labels, centred(hu.shape), ONE, table(), paths=paths)
    bytes_each = 4 * (4 + 1 + 200) * 512**2  # masses, a word of masks, paths
    assert projector.views_per_launch(512, 512) == 8
    assert projector.views_per_launch(512, 512, paths=True) == 2**29 // bytes_each == 2
    assert projector.views_per_launch(2048, 2048, paths=True) == 1
    monkeypatch.setattr("fluorosam_cli.render.projector.LAUNCH_BYTES", 2 * bytes_each // 256)
    cameras = [(carm().intrinsic, carm().camera_from_world, (0.0, np.inf))] * 3
    assert len(projector.project_views(cameras[:2], 32, 32, paths=True)) == 2
    with pytest.raises(FluoroError, match="3 views of 32 x 32 pixels at once, at most 2 fit"):
        projector.project_views(cameras, 32, 32, paths=True)


def test_paths_are_sums_of_their_own():
    hu, labels = random_body()
    sums = [("together", (1, 3)), ("unmasked", (4,))]
    projector = Projector(hu, labels, centred(hu.shape), [("a", (1,)), ("b", (3,))], table(), paths=sums)
    every = Projector(hu, labels, centred(hu.shape), [(str(i), (i,)) for i in range(1, 6)], table())
    view = carm(30, 10)
    found, each = project(projector, view), project(every, view).path_mm
    assert projector.paths == ("together", "unmasked")
    assert np.allclose(found.path_mm, [each[0] + each[2], each[3]], atol=1e-4)
    assert np.array_equal(found.mask(0), each[0] >= np.float32(1))


def test_only_what_lies_between_the_depths_is_seen():
    """Depth is the camera's z, the same over the whole image: half of a box is left by a plane across the beam."""
    hu, labels = slab()
    projector = Projector(hu, labels, centred(hu.shape), ONE, table())
    view = carm(180)
    near_half = projector.project(view.intrinsic, view.camera_from_world, 32, 32, (0.0, 700.0), paths=True)
    far_half = projector.project(view.intrinsic, view.camera_from_world, 32, 32, (700.0, np.inf), paths=True)
    whole = project(projector, view)
    assert near_half.path_mm[0, 16, 16] == pytest.approx(5, abs=0.01)
    assert np.allclose(near_half.path_mm + far_half.path_mm, whole.path_mm, atol=1e-3)


def test_trimming_to_occupied_bricks_loses_nothing():
    """Small bodies far apart in much air, each in its own brick, one of them without any mass."""
    hu, labels = np.full((50, 61, 70), AIR, np.int16), np.zeros((50, 61, 70), np.uint8)
    rng = np.random.default_rng(5)
    for label in range(1, 6):
        z, y, x = (int(rng.integers(0, n - 3)) for n in hu.shape)
        labels[z : z + 3, y : y + 3, x : x + 3] = label
        hu[z : z + 3, y : y + 3, x : x + 3] = AIR if label == 3 else BONE
    outputs = [(str(label), (label,)) for label in range(1, 6)]
    view = replace(carm(20, 10, 24, 6.0), isocenter_lps_mm=(0.3, 0.1, 0.2))
    seen = project(Projector(hu, labels, centred(hu.shape), outputs, table()), view)
    mass, path = siddon_reference(hu, labels, centred(hu.shape), view)
    assert (path[1:6].max(axis=(1, 2)) > 0).any()
    assert np.allclose(seen.mass_g_cm2, mass, atol=2e-4)
    assert np.allclose(seen.path_mm, path[1:6], atol=2e-3)


def test_nothing_in_the_scan_gives_nothing():
    hu = np.full((9, 9, 9), AIR, np.int16)
    seen = project(Projector(hu, np.zeros(hu.shape, np.uint8), centred(hu.shape), ONE, table()), carm())
    assert not seen.mass_g_cm2.any()
    assert not seen.bits.any()


def test_hu_beyond_the_table_count_as_its_ends():
    hu, labels = slab()
    hu[hu == SOFT] = 30_000
    hu[hu == AIR] = -30_000
    seen = project(Projector(hu, labels, centred(hu.shape), ONE, table()), carm())
    assert seen.mass_g_cm2[3].max() == pytest.approx(2 * 1.0, rel=0.01)
    assert not seen.mass_g_cm2[:3].any()


def test_input_that_does_not_fit_is_refused():
    hu, labels = slab()
    affine = centred(hu.shape)
    with pytest.raises(FluoroError, match="labels have shape"):
        Projector(hu, labels[1:], affine, ONE, table())
    with pytest.raises(FluoroError, match="label ids 1 to 300 do not fit uint8"):
        Projector(hu, labels, affine, [("a", (1, 300))], table())
    with pytest.raises(FluoroError, match="the labels are int64, uint8 or uint16"):
        Projector(hu, labels.astype(np.int64), affine, ONE, table())
    with pytest.raises(FluoroError, match="int16 HU are needed"):
        Projector(hu.astype(np.float32), labels, affine, ONE, table())

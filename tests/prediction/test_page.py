"""The page's HTTP interface: what it answers, whom it answers, and what it leaves behind."""

import io
import re
import socket
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from fastapi.testclient import TestClient

from fluorosam_cli.contracts import Prediction
from fluorosam_cli.prediction.page import server, sessions
from fluorosam_cli.prediction.page.phrases import complete
from fluorosam_cli.prediction.page.server import Page, create_app
from fluorosam_cli.prediction.page.sessions import as_uint16, plain_name, stored_name
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.prediction.understanding import display_phrase
from tests.prediction.dicom_images import write_cine

OURS = "http://127.0.0.1:8765"


def png(shape=(60, 90), seed=0, bits=16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 2**bits, shape, np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(f"u{bits // 8}")).save(file, "PNG")
    return file.getvalue()


def prompt(text=None, points=(), labels=(), box=None) -> dict:
    return {"text": text, "points_xy": list(points), "point_labels": list(labels), "box_xyxy": box}


def open_image(client, data=None, name="img.png") -> dict:
    answer = client.post("/api/images", params={"name": name}, content=data or png())
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_problem(answer, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"}
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text


@pytest.fixture(scope="session")
def predictor(tiny_checkpoint) -> Predictor:
    return Predictor.from_checkpoint(tiny_checkpoint)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder in which the server makes its own."""
    monkeypatch.setattr(server.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def client(predictor, temporary):
    app = create_app(predictor, Page(command=("--model", "runs/small")))
    with TestClient(app, base_url=OURS, raise_server_exceptions=False) as found:
        yield found


# --- images and masks -------------------------------------------------------------------------------------------------


def test_the_browser_gets_the_16_bits_of_the_file(client):
    data = png((40, 70))
    opened = open_image(client, data)
    assert (opened["width"], opened["height"], opened["slope"], opened["intercept"]) == (70, 40, 1, 0)
    sent = client.get(f"/api/images/{opened['id']}/pixels").content
    np.testing.assert_array_equal(np.frombuffer(sent, "<u2").reshape(40, 70), np.asarray(Image.open(io.BytesIO(data))))


def test_a_mask_is_the_predictors(client, predictor):
    data = png((50, 80))
    opened = open_image(client, data)
    asked = prompt("heart", [(10, 20), (30, 40)], [1, 0], [5, 5, 60, 45])
    answer = client.post(f"/api/images/{opened['id']}/masks", json=asked).json()
    predictor.set_image(np.asarray(Image.open(io.BytesIO(data))))
    expected = predictor.predict("heart", [(10, 20), (30, 40)], [1, 0], [5, 5, 60, 45])
    decoded = coco.decode({**answer["rle"], "counts": answer["rle"]["counts"].encode()})
    np.testing.assert_array_equal(decoded == 1, expected.mask)
    assert answer["area_px"] == expected.mask.sum()
    assert answer["presence"] == pytest.approx(expected.presence)
    assert answer["instead"] == []


def test_a_click_encodes_nothing(client, monkeypatch):
    opened = open_image(client)
    monkeypatch.setattr(Predictor, "set_image", lambda *_: pytest.fail("the image is encoded again"))
    for asked in (prompt("heart"), prompt("heart", [(3, 4)], [1]), prompt(points=[(3, 4)], labels=[1])):
        assert client.post(f"/api/images/{opened['id']}/masks", json=asked).status_code == 200


def test_sessions_do_not_mix(client):
    images = [png((50, 60), seed) for seed in range(3)]
    alone = []
    for data in images:
        opened = open_image(client, data)
        alone.append(client.post(f"/api/images/{opened['id']}/masks", json=prompt("liver")).json())
    keys = [open_image(client, data)["id"] for data in images]
    together: dict[int, list] = {i: [] for i in range(3)}

    def ask(i):
        for _ in range(3):
            together[i].append(client.post(f"/api/images/{keys[i]}/masks", json=prompt("liver")).json())

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(answers == [alone[i]] * 3 for i, answers in together.items())


def test_downloads_are_what_predict_writes(client, monkeypatch):
    opened = open_image(client, name="chest.pa.png")
    wanted = {"kind": "masks", "prompts": [prompt("heart"), prompt("heart", [(3, 4)], [1])]}
    answer = client.post(f"/api/images/{opened['id']}/download", json=wanted)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert set(archive.namelist()) == {"heart.png", "heart-2.png", "overlay.png", "prediction.json"}
        header = Prediction.model_validate_json(archive.read("prediction.json"))
        pixels = np.asarray(Image.open(io.BytesIO(archive.read("heart.png"))))
    assert header.image == "chest.pa.png"
    assert pixels.shape == (60, 90)
    assert (pixels == 255).sum() == header.masks[0].area_px
    monkeypatch.setattr(server, "write_masks", lambda *_: pytest.fail("files are written that nobody asked for"))
    alone = client.post(f"/api/images/{opened['id']}/download", json={**wanted, "kind": "json"})
    assert Prediction.model_validate_json(alone.content) == header


def test_another_polarity_is_another_question(client):
    opened = open_image(client, png((50, 60)))
    scores = []
    for invert in (False, True):
        shown = client.post(f"/api/images/{opened['id']}/show", json={"frame": 1, "invert": invert}).json()
        assert (shown["bone_bright"], shown["polarity_from"]) == (not invert, "option")
        scores.append(client.post(f"/api/images/{opened['id']}/masks", json=prompt("heart")).json()["score"])
    assert scores[0] != scores[1]
    assert_problem(client.post(f"/api/images/{opened['id']}/show", json={"frame": 2}), 400)


def test_what_is_odd_about_a_file_is_told_the_page_and_not_the_terminal(client, tmp_path, caplog):
    write_cine(tmp_path / "run.dcm", frames=2, shape=(60, 90), PatientOrientation=["R", "F"])
    opened = open_image(client, (tmp_path / "run.dcm").read_bytes(), "run.dcm")
    (remark,) = opened["remarks"]
    assert remark.startswith("its right is the patient's right, so sides come out exchanged")
    shown = client.post(f"/api/images/{opened['id']}/show", json={"frame": 2}).json()
    assert shown["remarks"] == opened["remarks"]
    assert not caplog.records


def test_values_that_do_not_fit_16_bits_come_with_slope_and_intercept():
    for image in (
        np.linspace(-3.5, 900, 64).astype(np.float32).reshape(8, 8),
        np.arange(-500, 500, dtype=np.int16).reshape(20, 50),
        np.array([[0, 2**31]], np.uint32),
        np.full((3, 3), 7.0),
    ):
        pixels, slope, intercept = as_uint16(image)
        assert pixels.dtype == np.uint16
        np.testing.assert_allclose(pixels * slope + intercept, image, atol=float(np.ptp(image)) / 131000)


# --- words ------------------------------------------------------------------------------------------------------------


def phrases_for(typed, trained=("femur_left", "heart")):
    return [completion.phrase for completion in complete(typed, trained)]


def test_phrases_go_on_as_typed():
    assert phrases_for("left fem")[0] == "left femur"
    assert "left femur" in phrases_for("femur le")  # by words, in any order
    assert phrases_for("LEFT  Fémur")[0] == "left femur"
    assert complete("cardi", ["heart"])[0].words == "heart"  # a synonym
    assert "left femur" in phrases_for("lft femurr")  # misspelt
    assert phrases_for("qqqqqq") == []
    assert phrases_for("") == ["left femur", "heart"]  # what the model knows
    assert complete("pedicle screw", ())[0].kind == "tool"
    assert {"outline", "group"} <= {c.kind for c in complete("left lung", ())}
    found = complete("l", ())
    assert len({c.words for c in found}) == len(found)  # a name once


def test_odd_words_are_said(client):
    key = open_image(client)["id"]

    def said(text):
        answer = client.post(f"/api/images/{key}/masks", json=prompt(text)).json()
        return answer["note"], answer["instead"]

    assert said("Heart") == (None, [])
    assert "not been trained" in said("left femur")[0]  # tests/conftest.py names four structures
    assert said("haert") == ('Understood as "heart".', [])
    note, instead = said("forearm")
    assert note.startswith(f"May mean {' or '.join(instead)}; the likeliest")
    assert "Taken as" in note
    assert instead == [display_phrase("forearm_left"), display_phrase("forearm_right")]
    note, instead = said("blue bicycle")
    assert "No known name" in note
    assert len(instead) == 3
    assert set(instead) < {"heart", "liver", "whole left lung", "whole right lung"}


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[bad", "localhost.evil"]
)
def test_foreign_host_names_are_refused(client, host):
    for path in ("/", "/api/about"):
        assert_problem(client.get(path, headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8765", "192.168.1.5:80", socket.gethostname()])
def test_own_names_and_addresses_are_served(client, host):
    assert client.get("/api/about", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_forged_requests_are_refused(client, headers):
    key = open_image(client)["id"]
    assert_problem(client.post("/api/images", content=png(), headers=headers), 403)
    assert_problem(client.get(f"/api/images/{key}/pixels", headers=headers), 403)
    assert_problem(client.delete(f"/api/images/{key}", headers=headers), 403)
    assert client.get("/api/about", headers={"origin": OURS, "sec-fetch-site": "same-origin"}).status_code == 200


def test_the_token_is_asked_for(predictor, temporary):
    with TestClient(create_app(predictor, Page(token="a" * 32)), base_url=OURS) as client:
        assert client.get("/").status_code == 200  # the page itself is no secret
        for headers in ({}, {"authorization": "Bearer " + "b" * 32}, {"authorization": "a" * 32}):
            for path in ("/api/about", "/api/phrases", "/api/images/x/pixels"):
                assert_problem(client.get(path, headers=headers), 401)
            assert_problem(client.post("/api/images", content=png(), headers=headers), 401)
        assert client.get("/api/about", headers={"authorization": "Bearer " + "a" * 32}).status_code == 200
    assert list(temporary.iterdir()) == []


def test_every_answer_has_a_strict_policy(client):
    for answer in (
        client.get("/"),
        client.get("/page.js"),
        client.get("/api/about"),
        client.get("/api/images/x/pixels"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_holds_no_inline_script_and_no_foreign_address():
    folder = Path(server.__file__).parent / "static"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "innerHTML" not in text
        assert "eval(" not in text
        assert "http://www.w3.org/2000/svg" in text or "http" not in text.replace("https", "http")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert " style=" not in page
    assert re.search(r"<[^>]*\son\w+=", page) is None


# --- what names and files can do --------------------------------------------------------------------------------------

NAMES = [
    "../../x.png",
    "/etc/passwd.png",
    "..\\..\\x.png",
    "<img src=x onerror=alert(1)>.png",
    "a\0b\n.png",
    ".png",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_never_a_path(client, temporary, name):
    before = {path for path in temporary.parent.rglob("*") if temporary not in path.parents}
    opened = open_image(client, name=name)
    assert opened["name"] == plain_name(name)
    assert not set("/\\\0\n") & set(opened["name"])
    (folder,) = temporary.iterdir()
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {stored_name(name), "pixels"}
    assert stored_name(name) in ("image.png", "image")
    wanted = {"kind": "masks", "prompts": [prompt("../../heart")]}
    answer = client.post(f"/api/images/{opened['id']}/download", json=wanted)
    assert all("/" not in entry for entry in zipfile.ZipFile(io.BytesIO(answer.content)).namelist())
    assert {path for path in temporary.parent.rglob("*") if temporary not in path.parents} == before


@pytest.mark.parametrize(
    "path", ["/../server.py", "/..%2fserver.py", "/%2e%2e/guard.py", "//etc/passwd", "/static/../../x"]
)
def test_nothing_but_the_page_is_served(client, path):
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"no image", 400),
        (png()[:200], 400),
        (png((4, 4)), 400),
        (b"\0" * 128 + b"DICM" + b"\xff" * 50, 400),
    ],
)
def test_bad_files_are_explained_by_the_users_name(client, temporary, data, status):
    answer = client.post("/api/images", params={"name": "../<b>scan.png"}, content=data)
    assert_problem(answer, status)
    assert str(temporary) not in answer.text
    (folder,) = temporary.iterdir()
    assert list(folder.iterdir()) == []


def test_sizes_are_limited(client, temporary, monkeypatch):
    monkeypatch.setattr(server, "UPLOAD_MAX_BYTES", 20_000)
    assert_problem(client.post("/api/images", content=b"\0" * 20_001), 413)
    assert_problem(client.post("/api/images", content=(b"\0" * 1000 for _ in range(21))), 413)  # without a length
    monkeypatch.setattr(sessions, "PIXELS_MAX", 1000)
    assert_problem(client.post("/api/images", content=png()), 400)
    (folder,) = temporary.iterdir()
    assert list(folder.iterdir()) == []
    key = "x"
    assert_problem(client.post(f"/api/images/{key}/masks", content=b" " * 300_000), 413)
    assert_problem(client.post(f"/api/images/{key}/masks", content=(b"{" for _ in range(2))), 413)
    assert_problem(client.get("/api/phrases", params={"q": "x" * 301}), 422)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (prompt(), 400),
        (prompt("   "), 400),
        (prompt("x" * 301), 400),
        (prompt("heart and liver"), 400),  # two masks
        (prompt("!!!"), 400),
        (prompt(points=[(1, 1)] * 201, labels=[1] * 201), 400),
        (prompt(points=[(900, 1)], labels=[1]), 400),
        (prompt(points=[(1, 1)], labels=[1, 0]), 400),
        (prompt(points=[(1, 1)], labels=[2]), 422),
        (prompt(box=[5, 5, 5, 9]), 400),
        ({**prompt("heart"), "mask": "/etc/passwd"}, 400),
        ({**prompt("heart"), "extra": 1}, 422),
        ({}, 400),
        ([], 422),
        ("heart", 422),
    ],
)
def test_bad_prompts_are_explained(client, asked, status):
    key = open_image(client)["id"]
    assert_problem(client.post(f"/api/images/{key}/masks", json=asked), status)


def test_a_bug_is_no_traceback(client, monkeypatch):
    monkeypatch.setattr(server.phrases, "complete", lambda *_: 1 / 0)
    answer = client.get("/api/phrases", params={"q": "x"})
    assert_problem(answer, 500)
    assert "content-security-policy" in answer.headers


# --- sessions end -----------------------------------------------------------------------------------------------------


def test_images_are_deleted_when_closed_expired_replaced_and_at_the_end(predictor, temporary):
    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: now[0]))  # not the server's own clock
        with TestClient(create_app(predictor, Page(), sessions_max=2, idle_s=100), base_url=OURS) as client:
            (folder,) = temporary.iterdir()
            assert folder.stat().st_mode & 0o077 == 0
            keys = [open_image(client, png(seed=i))["id"] for i in range(2)]
            client.get(f"/api/images/{keys[0]}/pixels")
            keys.append(open_image(client, png(seed=2))["id"])  # the least recently used makes room
            assert {path.name for path in folder.iterdir()} == {keys[0], keys[2]}
            assert_problem(client.get(f"/api/images/{keys[1]}/pixels"), 404)
            assert client.delete(f"/api/images/{keys[0]}").status_code == 204
            assert {path.name for path in folder.iterdir()} == {keys[2]}
            now[0] = 101
            assert_problem(client.post(f"/api/images/{keys[2]}/masks", json=prompt("heart")), 404)
            assert list(folder.iterdir()) == []
            open_image(client)
    assert list(temporary.iterdir()) == []

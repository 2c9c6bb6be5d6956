"""The page in a real browser: clicks, drags, keys and downloads, at a small and at a large screen."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.prediction.dicom_images import write_cine

SIZES = [(1024, 768), (3840, 2160)]
TOKEN = "0123456789abcdef"
SHAPE = (300, 400)  # rows, columns


def program(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    return found or pytest.skip(f"no {names[0]} here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(tiny_checkpoint, folder):
    words = ["serve", "--model", str(tiny_checkpoint), "--port", "0", "--token", TOKEN]
    server = subprocess.Popen(
        [sys.executable, "-m", "fluorosam_cli", *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
        text=True,
    )
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.terminate()
    server.wait(20)
    assert not list(folder.iterdir())  # the images went with their server


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chrome(downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(program("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class User:
    """Somebody at the page."""

    def __init__(self, driver, address: str, size: tuple[int, int] = SIZES[0]) -> None:
        self.driver = driver
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get("about:blank")
        driver.get(address)

    def find(self, css: str):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def see(self, what, seconds: float = 20):
        return WebDriverWait(self.driver, seconds, 0.03).until(lambda _: what())

    def open(self, path: Path) -> None:
        self.find("#file").send_keys(str(path))
        self.see(lambda: path.name in self.find("#name").text and self.find("#phrase").is_enabled())

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def type_phrase(self, text: str) -> None:
        self.find("#phrase").send_keys(text, Keys.ENTER)
        self.answered()

    def answered(self) -> None:
        self.see(lambda: self.rows() and "…" not in self.find("#masks").text)

    def rows(self) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, "#masks li")

    def expire(self) -> None:
        """The server forgets the image."""
        status = self.driver.execute_async_script(
            "const done = arguments[0], headers = { Authorization: `Bearer ${sessionStorage.getItem('token')}` };"
            "const asked = performance.getEntriesByType('resource').map((entry) => entry.name);"
            "const image = asked.map((name) => name.match(/.*images\\/\\w+/)).findLast(Boolean)[0];"
            "fetch(image, { method: 'DELETE', headers }).then((answer) => done(answer.status));"
        )
        assert status == 204

    @property
    def command(self) -> str:
        return self.find("#command").get_attribute("value")

    def at(self, x: float, y: float) -> ActionChains:
        """The pointer over the image's pixel, as the image lies when it is fitted."""
        canvas = self.find("#canvas")
        width, height = canvas.size["width"], canvas.size["height"]
        scale = min(width / SHAPE[1], height / SHAPE[0])
        dx, dy = round((x + 0.5 - SHAPE[1] / 2) * scale), round((y + 0.5 - SHAPE[0] / 2) * scale)
        return ActionChains(self.driver, duration=30).move_to_element_with_offset(canvas, dx, dy)

    def picture(self) -> np.ndarray:
        """What the canvas shows, (h, w, 4)."""
        script = (
            "const done = arguments[0], c = document.getElementById('canvas');"
            "requestAnimationFrame(() => setTimeout(() => {"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "let s = ''; for (let i = 0; i < d.length; i += 997 * 4) s += String.fromCharCode(d[i]); done(btoa(s)); }))"
        )
        return np.frombuffer(self.driver.execute_async_script(script).encode(), np.uint8)

    def downloaded(self, folder: Path, name: str) -> Path:
        self.see(lambda: (folder / name).is_file())
        return folder / name


@pytest.fixture
def user(chrome, address):
    yield User(chrome, address)
    errors = [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in errors if "404" not in message] == []


@pytest.fixture
def image(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = 20000 + 15000 * np.sin(x / 30) * np.cos(y / 40) + rng.normal(0, 300, SHAPE)
    Image.fromarray(pixels.astype(np.uint16)).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def test_words_clicks_box_undo_downloads_and_the_same_command(user, image, downloads, fluoro, monkeypatch):
    user.open(image)
    user.find("#phrase").send_keys("left fem")
    user.see(lambda: user.find("#completions").text.startswith("left femur"))
    user.find("#completions li").click()
    user.answered()
    assert user.command.startswith('fluoro predict film.png "left femur" --model ')
    user.at(120, 90).click().perform()
    user.at(300, 200).context_click().perform()
    user.answered()
    user.at(50, 40).click_and_hold().move_by_offset(200, 150).release().perform()
    user.answered()
    asked = shlex.split(user.command)
    points = [tuple(map(int, asked[i + 1].split(","))) for i, word in enumerate(asked) if word == "--point"]
    np.testing.assert_allclose([p[:2] for p in points], [(120, 90), (300, 200)], atol=1)
    assert [p[2:] for p in points] == [(), (0,)]
    box = list(map(int, asked[asked.index("--box") + 1].split(",")))
    np.testing.assert_allclose(box[:2], (50, 40), atol=2)
    complete = user.command

    ActionChains(user.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    assert "--box" not in user.command
    user.find("#undo").click()
    user.find("#undo").click()
    assert "--point" not in user.command
    for _ in range(3):
        user.find("#redo").click()
    assert user.command == complete
    user.answered()

    user.find("#save-masks").click()
    with zipfile.ZipFile(user.downloaded(downloads, "film-masks.zip")) as archive:
        assert {"femur_left.png", "overlay.png", "prediction.json"} <= set(archive.namelist())
        by_page = json.loads(archive.read("prediction.json"))
    user.find("#save-json").click()
    assert json.loads(user.downloaded(downloads, "film-prediction.json").read_text()) == by_page
    user.find("#save-overlay").click()
    overlay = user.downloaded(downloads, "film-overlay.png")
    user.see(lambda: overlay.stat().st_size)
    assert Image.open(overlay).size == (SHAPE[1], SHAPE[0])

    monkeypatch.chdir(image.parent)
    code, _, err = fluoro(*asked[1:], "-o", "by_command")
    assert code == 0, err
    by_command = json.loads((image.parent / "by_command" / "prediction.json").read_text())
    assert by_command["masks"] == by_page["masks"]
    assert by_command["prompts"] == by_page["prompts"]


def test_window_zoom_and_drawing(user, image):
    user.open(image)
    numbers = user.find("#shown").text
    before = user.picture()
    user.driver.execute_cdp_cmd("Input.dispatchMouseEvent", mouse("mousePressed", 400, 400, "right"))
    user.driver.execute_cdp_cmd("Input.dispatchMouseEvent", mouse("mouseMoved", 300, 460, "right"))
    user.driver.execute_cdp_cmd("Input.dispatchMouseEvent", mouse("mouseReleased", 300, 460, "right"))
    user.see(lambda: user.find("#shown").text != numbers)
    assert not np.array_equal(user.picture(), before)
    assert not user.rows()  # a drag is no click
    user.find("#reset").click()
    user.see(lambda: user.find("#shown").text == numbers)
    np.testing.assert_array_equal(user.picture(), before)

    user.find("#canvas").click()  # a mask from a click alone
    user.answered()
    user.driver.execute_cdp_cmd(
        "Input.dispatchMouseEvent",
        {"type": "mouseWheel", "x": 300, "y": 300, "deltaX": 0, "deltaY": -400},
    )
    user.see(lambda: user.find("#shown").text != numbers)
    user.press("0")
    user.see(lambda: user.find("#shown").text == numbers)
    user.press("i")
    assert user.find("#invert").get_attribute("aria-pressed") == "true"
    assert abs(user.picture().astype(int) - before).mean() > 5
    user.press("f")
    assert user.find("input[name=style]:checked").get_attribute("value") == "fill"
    user.press("?")
    assert user.find("#help").is_displayed()
    user.press(Keys.ESCAPE)
    assert not user.find("#help").is_displayed()


def test_a_dropped_file_is_opened_and_the_command_is_copied(user, image, address):
    canvas = user.find("#canvas").rect
    at = {"x": canvas["x"] + canvas["width"] / 2, "y": canvas["y"] + canvas["height"] / 2}
    data = {"items": [], "files": [str(image)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        user.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
    user.see(lambda: "dropping" in user.find("#view").get_attribute("class"))
    user.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": "drop", **at, "data": data})
    user.see(lambda: image.name in user.find("#name").text and user.find("#phrase").is_enabled())
    assert "dropping" not in user.find("#view").get_attribute("class")
    assert not user.find("#copy").is_enabled()

    user.type_phrase("left femur")
    origin = address.split("/#")[0]
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": origin}
    user.driver.execute_cdp_cmd("Browser.grantPermissions", allowed)
    user.press(Keys.ESCAPE)
    user.find("#copy").click()
    user.see(lambda: user.find("#copy").text == "Copied")
    copied = user.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == user.command
    assert copied.startswith('fluoro predict film.png "left femur" --model ')


def mouse(kind: str, x: int, y: int, button: str, buttons: int = 2) -> dict:
    return {"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1}


def test_two_buttons_at_once_are_no_prompt(user, image):
    user.open(image)
    for kind, button, buttons in [("Pressed", "left", 1), ("Pressed", "right", 3)]:
        user.driver.execute_cdp_cmd("Input.dispatchMouseEvent", mouse(f"mouse{kind}", 300, 300, button, buttons))
    for kind, button, buttons in [("Moved", "none", 3), ("Released", "left", 2), ("Released", "right", 0)]:
        user.driver.execute_cdp_cmd("Input.dispatchMouseEvent", mouse(f"mouse{kind}", 400, 400, button, buttons))
    user.at(120, 90).click().perform()
    user.answered()
    assert "--point" in user.command
    assert "--box" not in user.command


def test_several_masks(user, image):
    user.open(image)
    user.type_phrase("heart")
    user.type_phrase("blue bicycle")
    user.type_phrase("lft femurr")
    assert user.command.count("fluoro predict") == 1
    assert user.command.startswith('fluoro predict film.png heart "blue bicycle" "lft femurr" ')
    notes = [row.find_element(By.CLASS_NAME, "about").get_attribute("textContent") for row in user.rows()]
    assert "No known name" not in notes[0]
    assert "No known name" in notes[1]
    assert 'Understood as "left femur"' in notes[2]
    user.type_phrase("forearm")
    user.find("#masks li.chosen .about button").click()
    user.answered()
    assert " forearm " not in user.command
    user.press(Keys.DELETE)
    colours = {field.get_attribute("value") for field in user.driver.find_elements(By.CSS_SELECTOR, "[type=color]")}
    assert len(colours) == 3
    user.find("#masks li .name").click()
    user.find("#masks li .name").send_keys(" of mine", Keys.TAB)
    assert user.find("#masks li .name").get_attribute("value") == "heart of mine"
    assert " heart " in user.command  # a name is not what is asked for
    user.find("#masks li [data-part=remove]").click()
    assert len(user.rows()) == 2
    user.find("#undo").click()
    assert len(user.rows()) == 3


def test_names_and_headers_are_only_text(user, image, tmp_path):
    harmful = tmp_path / "<img src=x onerror=document.title='harmed'>.png"
    shutil.copy(image, harmful)
    user.open(harmful)
    user.type_phrase("<img src=x onerror=document.title='harmed'>$(id)'`")
    assert user.driver.find_elements(By.TAG_NAME, "img") == []
    assert "harmed" not in user.driver.title.removeprefix(f"{harmful.name} ")
    words = shlex.split(user.command)
    assert words[2:4] == [harmful.name, "<img src=x onerror=document.title='harmed'>$(id)'`"]


def test_cine_frames_and_polarity(user, tmp_path):
    write_cine(tmp_path / "run.dcm", frames=3, shape=SHAPE)
    user.open(tmp_path / "run.dcm")
    assert user.find("#frame-number").text == "1 / 3"
    assert user.driver.find_elements(By.TAG_NAME, "img") == []
    user.type_phrase("heart")
    first = user.picture()
    slider = user.find("#frame")
    slider.send_keys(Keys.ARROW_RIGHT)
    user.see(lambda: user.find("#frame-number").text == "2 / 3")
    user.answered()
    assert "--frames 2" in user.command
    assert not np.array_equal(user.picture(), first)
    user.find("#polarity option[value=dark]").click()
    user.see(lambda: "bone dark" in user.find("#name").text)
    assert "--invert" in user.command


def test_frames_are_turned_one_at_a_time_to_the_last_that_is_wanted(user, tmp_path):
    write_cine(tmp_path / "run.dcm", frames=8, shape=SHAPE)
    user.open(tmp_path / "run.dcm")
    user.driver.execute_script(
        "const ask = window.fetch; let now = 0; window.most = 0;"
        "window.fetch = (path, options) => {"
        "if (!/show|pixels/.test(path)) return ask(path, options);"
        "window.most = Math.max(window.most, ++now);"
        "return ask(path, options).finally(() => now--); }"
    )
    user.find("#frame").send_keys(Keys.ARROW_RIGHT * 7)
    user.see(lambda: user.find("#frame-number").text == "8 / 8")
    assert user.driver.execute_script("return window.most") == 1


def test_a_turn_that_fails_leaves_the_controls_at_what_is_shown(user, tmp_path):
    write_cine(tmp_path / "run.dcm", frames=2, shape=SHAPE)
    user.open(tmp_path / "run.dcm")
    user.driver.execute_script(
        "const ask = window.fetch;"
        "window.fetch = async (path, ...rest) =>"
        "/show/.test(path) ? new Response('{}', { status: 500 }) : ask(path, ...rest)"
    )
    user.find("#polarity option[value=dark]").click()
    user.find("#frame").send_keys(Keys.ARROW_RIGHT)
    user.see(lambda: user.find("#message").is_displayed())
    user.see(lambda: user.find("#frame").get_attribute("value") == "1")
    assert user.find("#polarity").get_attribute("value") == ""


def test_the_window_means_the_same_in_every_frame(user, image, tmp_path):
    planes = np.stack([np.asarray(Image.open(image), "<f4") - 30000] * 2)
    planes[1, 0, 0] = 1e6
    header = f"NRRD0004\ntype: float\ndimension: 3\nsizes: {SHAPE[1]} {SHAPE[0]} 2\nencoding: raw\nendian: little\n\n"
    (tmp_path / "stack.nrrd").write_bytes(header.encode() + planes.tobytes())
    user.open(tmp_path / "stack.nrrd")
    numbers, before = user.find("#shown").text, user.picture().astype(int)
    user.find("#frame").send_keys(Keys.ARROW_RIGHT)
    user.see(lambda: user.find("#frame-number").text == "2 / 2")
    assert abs(user.picture() - before).mean() < 2  # a frame's 16 bits are spread over its own values
    assert user.find("#shown").text == numbers


def test_what_is_odd_about_a_file_is_said_beside_the_picture(user, image, tmp_path):
    write_cine(tmp_path / "run.dcm", frames=1, shape=SHAPE, PatientOrientation=["R", "F"])
    user.open(tmp_path / "run.dcm")
    assert user.find("#remarks").text.startswith("run.dcm: its right is the patient's right, so sides come out")
    assert not user.find(".side").is_displayed()
    user.open(image)
    assert user.find("#remarks").text == ""
    assert user.find(".side").is_displayed()


def test_an_expired_image_is_opened_again(user, tmp_path, downloads):
    write_cine(tmp_path / "run.dcm", frames=2, shape=SHAPE)
    user.open(tmp_path / "run.dcm")
    user.type_phrase("heart")
    user.expire()
    user.type_phrase("liver")
    user.see(lambda: [bool(re.search(r"IoU|empty", row.text)) for row in user.rows()] == [True, True])
    user.expire()
    user.find("#save-json").click()
    assert len(json.loads(user.downloaded(downloads, "run-prediction.json").read_text())["masks"]) == 2
    user.expire()
    user.find("#polarity option[value=dark]").click()
    user.see(lambda: "bone dark" in user.find("#name").text)
    user.answered()
    user.expire()
    user.find("#frame").send_keys(Keys.ARROW_RIGHT)
    user.see(lambda: user.find("#frame-number").text == "2 / 2")
    assert "bone dark" in user.find("#name").text
    assert user.command.startswith("fluoro predict run.dcm heart liver --frames 2 --invert")
    assert not user.find("#message").is_displayed()


def test_a_page_that_is_closed_takes_its_image_along(user, image, folder):
    user.open(image)
    user.see(lambda: len(list(folder.glob("*/*"))) == 1)
    user.driver.get("about:blank")
    user.see(lambda: not list(folder.glob("*/*")))


def test_a_broken_file_is_explained_and_the_page_goes_on(chrome, address, image, tmp_path):
    user = User(chrome, address)
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:500])
    user.find("#file").send_keys(str(tmp_path / "broken.png"))
    user.see(lambda: user.find("#message").is_displayed())
    assert user.find("#message").text.startswith("broken.png: not a readable PNG")
    user.open(image)
    assert not user.find("#message").is_displayed()
    chrome.get_log("browser")


def test_without_the_token_nothing_is_answered(chrome, address, image):
    assert address.endswith(f"/#token={TOKEN}")
    chrome.switch_to.new_window("tab")  # another has the token in its storage
    stranger = User(chrome, address.split("#")[0])
    stranger.see(lambda: "token" in stranger.find("#message").text)
    user = User(chrome, address)
    user.open(image)
    assert "token" not in chrome.current_url
    chrome.get_log("browser")  # where the refusal is noted
    chrome.close()
    chrome.switch_to.window(chrome.window_handles[0])


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_within_the_window(chrome, address, image, size, tmp_path):
    user = User(chrome, address, size)
    user.open(image)
    for phrase in ("heart", "left lung", "blue bicycle", "liver", "spleen", "skull"):
        user.type_phrase(phrase)
    for control in chrome.find_elements(By.CSS_SELECTOR, "header *, .bottom *, footer span, #masks, .side, #canvas"):
        if control.is_displayed() and control.tag_name != "option":
            x, y, w, h = (control.rect[key] for key in ("x", "y", "width", "height"))
            assert x >= 0, control.get_attribute("outerHTML")
            assert y >= 0
            assert x + w <= size[0] + 1, control.get_attribute("outerHTML")
            assert y + h <= size[1] + 1, control.get_attribute("outerHTML")
    canvas = user.find("#canvas").size
    assert canvas["width"] * canvas["height"] > 0.6 * size[0] * size[1]  # the picture has most of the room
    chrome.save_screenshot(str(tmp_path / "page.png"))
    assert Image.open(tmp_path / "page.png").size == size


def test_a_click_asks_for_its_mask_and_no_more(user, image):
    user.open(image)
    user.type_phrase("heart")
    user.driver.execute_script("performance.clearResourceTimings()")
    user.at(100, 100).click().perform()
    user.answered()
    asked = user.driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [path.rpartition("/")[2] for path in asked] == ["masks"]

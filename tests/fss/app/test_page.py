"""The page of `fss app` in a browser: a script clicks, and what it exports is imported with equal pixels."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from fss.collection import Collection, ImageReader
from fss.collection.mask_import import import_masks
from fss.models import save_checkpoint
from tests.helpers.app_photographs import small_segmenter

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("FSS_SHARED_DATA", ROOT.parent / "shared" / "data"))
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
TOKEN = "a word"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
Point = tuple[float, float]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(word)
    options.binary_location = str(CHROMIUM)
    (tmp_path / "downloads").mkdir()
    several = "profile.default_content_setting_values.automatic_downloads"  # without a question
    preferences = {"download.default_directory": str(tmp_path / "downloads"), several: 1}
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start `fss app` with some words and return its address."""
    servers: list[subprocess.Popen[str]] = []

    def start(*words: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        command = [sys.executable, "-m", "fss.cli", "app", "--port", str(port), "--token", TOKEN, *words]
        server = subprocess.Popen(
            command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        servers.append(server)
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("open "):
                break
        for _ in range(100):  # it listens right after that line
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.1)
        raise AssertionError("the page does not listen")

    yield start
    for server in servers:
        server.terminate()
        server.wait(30)


class Person:
    """Clicks on the page."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def wait(self, condition: Callable[[Any], Any], what: str) -> Any:
        wait = WebDriverWait(self.browser, 120, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(condition, what)

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def sees(self, pattern: str) -> None:
        self.wait(lambda _: re.search(pattern, self.text()), f"{pattern!r} does not appear")

    def click(self, words: str) -> None:
        button = f"//button[.//*[normalize-space()='{words}'] or @aria-label='{words}']"
        path = f"{button}|//div[@role='tab'][.='{words}']"
        self.wait(lambda _: self.browser.find_element(By.XPATH, path).is_enabled(), f"no button {words}")
        self.browser.find_element(By.XPATH, path).click()

    def choose(self, name: str) -> None:
        self.click(name)
        self.sees(re.escape(name) + r": \w")
        loaded = "const image = document.querySelector('.canvas img'); return image.complete && image.naturalWidth > 0"
        self.wait(lambda _: self.browser.execute_script(loaded), name)

    def drag(self, first: Point, last: Point) -> None:
        """Drag over the photograph, between points as shares of its sides."""
        picture = self.browser.find_element(By.CSS_SELECTOR, ".canvas img")
        width, height = picture.size["width"], picture.size["height"]
        actions = ActionChains(self.browser, duration=50)
        for number in range(4):
            share = number / 3
            x, y = (
                round((a + (b - a) * share - 0.5) * side)
                for a, b, side in zip(first, last, (width, height), strict=True)
            )
            actions.move_to_element_with_offset(picture, x, y)
            if not number:
                actions.click_and_hold()
        actions.release().perform()

    def masks(self) -> int:
        """The number of small photographs with a mask."""
        return len(self.browser.find_elements(By.CSS_SELECTOR, ".card img + img"))

    def overflows(self) -> bool:
        return bool(self.browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))


def find_and_export(person: Person, *, example: str, box: tuple[Point, Point], corrected: str, downloads: Path) -> None:
    """Mark an object, find it, correct an answer, search again, and take the masks."""
    person.choose(example)
    person.drag(*box)
    person.sees(f"{re.escape(example)}: example")
    person.click("Find")
    person.sees(r"\d+ found")
    person.choose(corrected)
    person.click("Paint")
    person.drag((0.02, 0.03), (0.1, 0.03))
    person.sees(f"{re.escape(corrected)}: corrected by hand")
    person.click("Add as example")
    person.sees(f"{re.escape(corrected)}: example")
    person.click("Find")
    person.wait(lambda _: "photographs\n" not in person.text() and re.search(r"\d+ found", person.text()), "no answer")
    person.click("COCO")
    person.click("PNG")
    person.click("Write")
    person.sees("The mask set corrected is written")
    person.wait(
        lambda _: {path.name for path in downloads.iterdir()} == {"instances.json", "masks.zip"}, "no downloads"
    )


def check_equal(folder: Path, masks: int) -> None:
    """Import the downloads and compare them with the mask set that the page wrote."""
    collection = Collection.open(str(folder / "collection"))
    with zipfile.ZipFile(folder / "downloads/masks.zip") as archive:
        archive.extractall(folder / "png")
    written = ImageReader(collection, collection.mask_set("corrected"))
    for name, source in (("coco", "downloads/instances.json"), ("png", "png")):
        report = import_masks(collection, name, str(folder / source))
        assert report.masks == masks and not report.unmatched and not report.problems
        imported = ImageReader(collection, report.mask_set)
        for image_ids in collection.image_ids().values():
            for image_id in image_ids:
                if image_id in {row["image_id"] for row in collection.quarantine().to_pylist()}:
                    continue
                first, second = written.read(image_id), imported.read(image_id)
                assert first.mask is not None and second.mask is not None
                assert (first.mask == second.mask).all() and first.classes == second.classes


def test_an_object_is_marked_found_corrected_and_exported(
    browser: webdriver.Chrome, serve: Callable[..., str], folder: str, tmp_path: Path
) -> None:
    save_checkpoint(small_segmenter(), tmp_path / "model")
    address = serve("--photographs", folder, "--collection", "collection", "--model", "model")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address)
    person = Person(browser)
    browser.get(f"{address}?token={TOKEN.replace(' ', '+')}")
    person.sees("Draw a box around the object")
    box = ((23 / 120, 13 / 96), (57 / 120, 47 / 96))
    find_and_export(person, example="a.jpg", box=box, corrected="b.jpg", downloads=tmp_path / "downloads")
    assert person.masks() >= 4 and "1 unusable" in person.text()
    check_equal(tmp_path, masks=5)
    person.choose("none.jpg")
    person.click("Not in this photograph")
    person.sees("none.jpg: corrected by hand")
    person.wait(lambda _: person.masks() == 4, "the mask of none.jpg is still there")

    person.choose("c.jpg")
    person.click("Click")
    person.drag((0.9, 0.1), (0.9, 0.1))
    person.sees("c.jpg: corrected by hand")
    person.click("Undo")
    person.sees("c.jpg: found")
    person.click("Not this")
    person.click("Stroke")
    person.drag((0.8, 0.8), (0.95, 0.9))
    person.wait(lambda _: len(browser.find_elements(By.CSS_SELECTOR, ".shot")) == 3, "no example of what is not meant")
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    person.wait(lambda _: "c.jpg: " not in person.text(), "the arrow key does not go on")
    person.click("broken.jpg")
    person.sees("broken.jpg cannot be used: ")

    browser.refresh()  # keeps the work
    person.sees("2 found|2 example|found")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".shot")) == 3
    for width in (1280, 1920):
        browser.set_window_size(width, 900)
        assert not person.overflows()
    browser.switch_to.new_window("tab")  # has work of its own
    browser.get(address)
    person.sees("Draw a box around the object")
    assert person.masks() == 0
    person.click("Compare mask sets")
    person.sees("Agreement is the share")
    assert "agreement 100%" in person.text()
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [message for message in severe if "404" not in message]  # the damaged photograph


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real photographs at {SHARED}; name them in FSS_SHARED_DATA")
def test_twenty_real_photographs(browser: webdriver.Chrome, serve: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    for path in sorted((SHARED / "coco200/images").iterdir())[:20]:
        shutil.copy(path, tmp_path / "photographs")
    weights = SHARED / "weights/mobilenet_v2_imagenet.pth"
    words = ("--photographs", "photographs", "--collection", "collection", "--backbone-weights", str(weights))
    browser.get(f"{serve(*words)}?token={TOKEN.replace(' ', '+')}")
    person, start = Person(browser), time.monotonic()
    find_and_export(
        person,
        example="000000000025.jpg",  # a giraffe
        box=((0.58, 0.12), (0.93, 0.85)),
        corrected="000000000072.jpg",  # two more
        downloads=tmp_path / "downloads",
    )
    print(f"marked, found, corrected and exported in {time.monotonic() - start:.0f} s")
    check_equal(tmp_path, masks=20)

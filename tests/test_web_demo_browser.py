"""The web demo in headless Chromium, as a person uses it. Screenshots lie in `outputs/web_demo*.png`."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the web demo needs gradio: pip install 'transformers-yoso[demo]'")
pytest.importorskip("selenium", reason="driving a browser needs selenium: pip install selenium")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from web_demo_server import PHOTO, ROOT, serve_web_demo

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no browser: apt-get install chromium chromium-driver"),
]


class Page:
    """The page of the web demo, by what it shows."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path):
        self.driver, self.downloads = driver, downloads

    def wait(self, condition: Callable[[], object]) -> object:
        return WebDriverWait(self.driver, SECONDS).until(lambda _: condition())

    def find(self, selector: str) -> WebElement:
        return self.wait(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None))

    def upload(self, path: Path) -> None:
        self.find("#photo input[type=file]").send_keys(str(path))

    def set_number(self, control: str, value: float) -> None:
        """Moves a slider, by its number field."""
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}));"
            "arguments[0].dispatchEvent(new Event('change', {bubbles: true}));",
            self.find(f"#{control} input[type=number]"),
            value,
        )

    @property
    def summary(self) -> str:
        return self.find("#summary").text

    @property
    def num_segments(self) -> int | None:
        """As the summary says; None while there is none."""
        found = re.match(r"Segments: (\d+),", self.summary)
        return None if found is None else int(found[1])

    @property
    def overlay_url(self) -> str:
        found = self.driver.find_elements(By.CSS_SELECTOR, "#overlay img")
        return found[0].get_attribute("src") if found else ""

    def new_overlay(self, old_url: str = "") -> tuple[str, np.ndarray]:
        """Address and pixels of the overlay, as soon as it is not `old_url`."""
        url = self.wait(lambda: self.overlay_url != old_url and self.overlay_url)
        self.wait(lambda: self.find("#overlay img").get_property("complete"))
        with urlopen(url, timeout=SECONDS) as answer:
            return url, np.asarray(Image.open(BytesIO(answer.read())).convert("RGB")).astype(int)

    def download(self, button: str, name: str) -> Path:
        self.find(f"#{button}").click()
        file = self.downloads / name
        self.wait(file.exists)
        return file

    def screenshot(self, name: str) -> None:
        (ROOT / "outputs").mkdir(exist_ok=True)
        time.sleep(1)  # animations
        assert self.driver.save_screenshot(str(ROOT / "outputs" / name))

    def requested_urls(self) -> set[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return {request["request"]["url"] for request in requests}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_web_demo() as address:
        yield address


@pytest.fixture
def page(url: str, tmp_path: Path) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1500", *camera]:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(url)
        yield Page(driver, tmp_path)
    finally:
        driver.quit()


def test_upload_overlay_threshold_subtask_and_downloads(page: Page, url: str) -> None:
    page.upload(PHOTO)
    overlay_url, overlay = page.new_overlay()
    assert overlay.shape == (512, 512, 3)
    assert np.abs(overlay - np.asarray(Image.open(PHOTO).convert("RGB"))).mean() > 5
    page.screenshot("web_demo.png")
    first = page.num_segments
    assert "facade" in page.find("#segments").text

    map_file = page.download("download-map", "facade_demo.png")
    panoptic = json.loads(page.download("download-json", "facade_demo_panoptic.json").read_text())
    segments = panoptic["annotations"][0]["segments_info"]
    ids = np.asarray(Image.open(map_file)).astype(int) @ [1, 256, 65536]
    assert len(segments) == first
    assert {segment["id"]: segment["area"] for segment in segments} == {
        segment_id: count for segment_id, count in zip(*np.unique(ids, return_counts=True), strict=True) if segment_id
    }

    page.set_number("threshold", 0.95)
    page.wait(lambda: page.num_segments is not None and page.num_segments < first)
    overlay_url, stricter = page.new_overlay(overlay_url)
    assert (stricter != overlay).any()
    page.screenshot("web_demo_threshold.png")

    page.find("#reset").click()
    page.wait(lambda: page.num_segments == first)
    overlay_url, again = page.new_overlay(overlay_url)
    assert (again == overlay).all()

    page.set_number("opacity", 0)
    overlay_url, transparent = page.new_overlay(overlay_url)
    assert (transparent != overlay).mean() > 0.3

    page.find("#subtask input[value=semantic]").click()
    page.wait(lambda: "on 100%" in page.summary)
    assert page.find("#threshold input[type=number]").get_property("disabled")
    outside = {request for request in page.requested_urls() if not request.startswith((url, "data:", "blob:"))}
    assert outside == set()


def test_a_photo_from_the_webcam(page: Page) -> None:
    page.find("#photo button[aria-label='Capture from camera']").click()
    page.find("#photo [title='grant webcam access'] button, #photo .access-wrap, #photo button.webcam").click()
    page.wait(
        lambda: page.driver.execute_script(
            "const v = document.querySelector('#photo video'); return v && v.readyState == 4"
        )
    )
    page.find("#photo button[aria-label*='apture photo']").click()
    page.wait(lambda: page.num_segments is not None)
    page.screenshot("web_demo_webcam.png")


@pytest.mark.parametrize("size", [0, 40, 9000])
def test_a_broken_upload_is_said_on_the_page_and_the_next_photo_works(page: Page, tmp_path: Path, size: int) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(PHOTO.read_bytes()[:size])
    page.upload(broken)
    page.wait(lambda: "broken.jpg: " in page.summary)
    assert page.overlay_url == ""
    page.find("#photo button[aria-label='Remove Image']").click()
    page.upload(PHOTO)
    page.wait(lambda: page.num_segments)

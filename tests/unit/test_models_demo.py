"""The local page: what it draws, and the page itself in a browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipelines import every_family

from randcond.jobs.errors import UserError
from randcond.models import demo
from randcond.settings.config import Config, read_config

WISH = {"prompt": "a tiger", "seed": 3, "steps": 2, "guidance_scale": 2.0}
CHROME = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900",
          "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
MINUTE = 60  # the longest that anything of the page is waited for


def config() -> Config:
    return read_config([Path("config/config.yaml")])


@every_family
def test_pictures_come_one_after_another(students: Path) -> None:
    first, second = demo.drawn(config(), ["mine/10"], WISH)
    assert [caption.split(":")[0] for _, caption in second] == ["teacher", "mine/10"]
    assert len(first) == 1 and first[0] == second[0]
    np.testing.assert_array_equal(*(np.asarray(image) for image, _ in second))  # the student is a copy
    assert second[0][0].size == (256, 256)


@pytest.mark.parametrize(
    ("names", "wish", "said"),
    [
        (["../../teacher"], {}, "no finished student"),
        ([], {"prompt": " "}, "draw: prompt: say what to draw"),
        ([], {"steps": 2.5}, "draw: steps: "),
        ([], {"seed": None}, "draw: seed: "),
    ],
)
def test_what_cannot_be_drawn_says_so(students: Path, names: list[str], wish: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(demo.drawn(config(), names, WISH | wish))


def test_where_memory_ends_pipelines_make_room() -> None:
    demo._load.cache_clear()
    with pytest.raises(UserError):
        demo._load(Path("nowhere"), Path("nowhere"), "no")
    known = demo._load.cache_info().misses
    assert demo._told(UserError("x: y")) == "x: y"
    assert demo._told(OSError("the file x")) == "the file x"
    assert demo._told(ValueError("a bug")) is None
    assert demo._load.cache_info().misses == known == 1
    said = demo._told(torch.OutOfMemoryError("CUDA out of memory"))
    assert said is not None and said.startswith("out of memory")
    assert demo._load.cache_info().misses == 0


def test_without_gradio_one_line_says_what_to_do(students: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(SystemExit, match="^error: demo: gradio is not installed; make demo installs it"):
        demo.main([])


@pytest.fixture
def address(students: Path) -> Iterator[str]:
    """The page, served."""
    pytest.importorskip("gradio", reason="gradio is not installed: make demo")
    blocks = demo.serve(config(), None)
    yield blocks.local_url
    blocks.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Chromium, driven by selenium."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: see .ci/run")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for flag in (*CHROME, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield found
    found.quit()


def requested(browser: Any, address: str) -> set[str]:
    """What the page has asked for; the browser's own new tab asks for other things."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = {one["request"]["url"] for one in asked if one["documentURL"].startswith(address)}
    return {url for url in urls if not url.startswith(("data:", "blob:"))}


def test_a_prompt_is_typed_and_pictures_are_shown(address: str, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    wait, everything = WebDriverWait(browser, MINUTE), (Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
    browser.get(address)
    prompt = wait.until(lambda page: page.find_element(By.TAG_NAME, "textarea"))
    prompt.send_keys(*everything, "a dog <b>on</b> red")
    wait.until(lambda page: page.find_element(By.XPATH, "//button[normalize-space()='Draw']")).click()
    captions = wait.until(
        lambda page: (found := page.find_elements(By.CSS_SELECTOR, ".caption-label")) and len(found) == 2 and found
    )
    assert [one.text.split(":")[0] for one in captions] == ["teacher", "mine/9"]
    assert all("million parameters" in one.text and one.text.endswith(" s") for one in captions)
    script = "return [...document.querySelectorAll('.thumbnail-item img')].map(one => one.naturalWidth)"
    assert wait.until(lambda page: page.execute_script(script) == [256, 256])
    urls = requested(browser, address)
    assert address in urls
    assert {url for url in urls if not url.startswith(address)} == set()

    prompt.send_keys(*everything)
    browser.find_element(By.XPATH, "//button[normalize-space()='Draw']").click()
    assert wait.until(lambda page: "say what to draw" in page.find_element(By.TAG_NAME, "body").text)

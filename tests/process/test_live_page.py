"""The page of `coalesced live`, driven in a browser."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

from coalesced.tools.runs import firmware
from helpers.live_page import (
    LIMIT,
    chromium,
    live,
    needs_browser,
    opened,
    paused,
    read_rgba,
    screen_equals,
    until,
)
from helpers.machine_code import needs_unicorn
from helpers.perfetto import perfetto_events
from helpers.vmm_cli import json_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser()

PICTURES = Path(__file__).parents[2] / "docs" / "pictures.py"
VARIANTS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium_of_all() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def browser(chromium_of_all: Browser) -> Iterator[Browser]:
    yield chromium_of_all
    for context in chromium_of_all.contexts:
        context.close()


def test_a_step_is_one_access_and_is_told(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused' && state.steps == 0")
        for count in (1, 2, 3):
            page.click("#step")
            state = until(page, f"state.mode == 'paused' && state.steps == {count}")
            assert state["writes"] + state["pending"] + state["exits_by"].get("load", 0) == count
        page.click("#step50")
        state = until(page, "state.mode == 'paused' && state.steps == 53")
        assert len(page.query_selector_all("#told li")) == len(state["told"]) == 40
        assert "(vga CR index)" in page.inner_text("#told")
        assert "an exit, because no zone contains it (rule 1)" in page.inner_text("#told")


@pytest.mark.heavy
def test_the_counts_at_the_end_are_those_of_a_run_without_a_page(
    browser: Browser, tmp_path: Path
) -> None:
    plain = json_of("demo", "vga", "--png", "none", cwd=tmp_path)["runs"][0]
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        page.click("#step50")
        until(page, "state.mode == 'paused' && state.steps == 50")
        page.click("#run")
        state = until(page, "state.mode == 'ended'")
        page.click("#quit")
        run = running.result()["runs"][0]
    assert {**dict.fromkeys(run["exits_by"], 0), **state["exits_by"]} == run["exits_by"]
    for name in ("writes", "coalesced", "exits", "exits_by", "state"):
        assert run[name] == plain[name]
        if name in state and name != "exits_by":
            assert state[name] == run[name]


@pytest.mark.heavy
def test_the_network_demonstration_is_held_and_ends_in_the_same_state(
    browser: Browser, tmp_path: Path
) -> None:
    plain = json_of("demo", "e1000", "--accel", "direct", cwd=tmp_path)["runs"][0]
    with live(tmp_path, "e1000") as running:
        page = opened(browser, running.turn)
        page.click("#step50")
        until(page, "state.mode == 'paused' && state.steps == 50")
        assert "(e1000-mmio MTA[17])" in page.inner_text("#told")
        page.click("#run")
        page.wait_for_selector("#mode[data-mode=ended]", timeout=LIMIT)
        page.click("#quit")
        run = running.result()["runs"][0]
    assert (run["state"], run["writes"]) == (plain["state"], plain["writes"])


@pytest.mark.heavy
def test_the_screen_on_the_page_is_the_screen_of_the_machine(
    browser: Browser, tmp_path: Path
) -> None:
    json_of("demo", "vga", "--png", "screen.png", cwd=tmp_path)
    with live(tmp_path, "--run") as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'ended'")
        screen_equals(page, tmp_path / "screen.png")
        with page.expect_download() as download:
            page.click("#png")
        assert read_rgba(download.value.path()) == read_rgba(tmp_path / "screen.png")


@pytest.mark.heavy
def test_a_region_is_taken_off_the_ring_and_put_back_while_the_guest_runs(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused'")
        page.uncheck("#regions input[name=vga-lowmem]")
        until(page, "!state.regions[0].on")
        page.select_option("#speed", "1000")
        state = until(page, "state.exits_by.no_zone > 20")
        assert (state["coalesced"], state["pending"]) == (0, 0)
        page.check("#regions input[name=vga-lowmem]")
        until(page, "state.pending > 20")
        state = paused(page, 1)
        assert state["letters"] == "a" * state["pending"]
        page.click("#drain")
        until(page, "state.pending == 0 && state.coalesced > 20")


@pytest.mark.heavy
def test_a_staleness_drains_while_the_guest_is_held(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "1000")
        until(page, "state.pending > 20")
        state = paused(page, 1)
        assert (state["staleness"], state["stale_drains"]) == (None, 0)
        page.select_option("#staleness", "10")
        later = until(page, "state.staleness == 10 && state.stale_drains && !state.pending")
        assert later["coalesced"] == state["coalesced"] + state["pending"]
        assert later["saved"] == pytest.approx(later["coalesced"] * state["price"], abs=1e-6)
        page.select_option("#staleness", "")
        until(page, "state.staleness === null")


@pytest.mark.heavy
def test_the_chosen_speed_stays_chosen_through_a_pause_and_steps(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "1000")
        page.evaluate("document.activeElement.blur()")
        pending = until(page, "state.pending > 20")["pending"]
        for _ in range(5):
            pending = paused(page, pending + 1)["pending"]
        assert page.input_value("#speed") == "1000"


@pytest.mark.heavy
def test_a_slot_is_decoded(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "--ring-pages", "16") as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "1000")
        until(page, "state.pending > 20")
        page.click("#pause")
        state = until(page, "state.mode == 'paused'")
        assert state["slots"] == 2730
        page.fill("#slot", str(state["first"]))
        until(page, "state.slot && state.slot.name")
        page.wait_for_function(
            "/^Slot 0: vga-lowmem.*1 byte, value/"
            ".test(document.getElementById('slot-text').innerText)"
        )
        page.fill("#slot", "2000")
        page.wait_for_function(
            "document.getElementById('slot-text').innerText === 'Slot 2000 is free.'"
        )


def test_a_device_s_own_ring_is_looked_at(browser: Browser, tmp_path: Path) -> None:
    """How full each ring is, the slots of the chosen one, and the sentence about it."""
    with live(tmp_path, "--rings", "device") as running:
        page = opened(browser, running.turn)
        page.select_option("#speed", "1000")
        vga = "state.own.find((each) => each.name === 'VGA')"
        until(page, f"{vga}.pending > 20")
        page.click("#pause")
        state = until(page, "state.mode == 'paused'")
        while not (own := next(each for each in state["own"] if each["name"] == "VGA"))["pending"]:
            page.click("#step")  # the pause came just behind a drain
            state = until(page, f"state.mode == 'paused' && state.steps > {state['steps']}")
        assert (state["pending"], own["letters"]) == (0, "a" * own["pending"])
        page.select_option("#which", "VGA")
        page.fill("#slot", str(own["first"]))
        page.wait_for_selector(f"#slot-text:has-text('Slot {own['first']}: vga-lowmem')")
        fills = [text.strip() for text in page.locator("#fills li").all_inner_texts()]
        assert (fills[0], fills[-1]) == ("vm: 0 of 169", f"VGA: {own['pending']} of 169")
        assert len(fills) == 1 + len(state["own"])
        assert any("of VGA's ring (rule 1)" in line for _, line in state["told"])


@pytest.mark.heavy
def test_two_browsers_and_a_reload_show_the_same_and_one_only_looks(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path) as running:
        one, other = opened(browser, running.turn), opened(browser, running.show)
        assert not other.is_enabled("#step")
        one.click("#step50")
        until(other, "state.mode == 'paused' && state.steps == 50")
        other.evaluate("send({do: 'step', count: 1})")
        other.wait_for_function("document.body.dataset.closed === '1008'")
        one.reload()
        one.wait_for_function("window.state")
        state = until(one, "state.mode == 'paused' && state.steps == 50")
        assert state["told"]


@pytest.mark.heavy
def test_the_guest_starts_again(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "--run") as running:
        page = opened(browser, running.turn)
        first = until(page, "state.mode == 'ended'")
        page.click("#again")
        second = until(page, f"state.mode == 'ended' && state.pid != {first['pid']}")
        assert second["exits_by"] == first["exits_by"]
        page.select_option("#pages", "16")
        page.select_option("#wait", "block")
        page.click("#again")
        third = until(page, f"state.mode == 'ended' && state.pid != {second['pid']}")
        assert (third["slots"], third["pages"], third["wait"]) == (2730, 16, "block")
        assert third["exits_by"].get("ring_full", 0) < first["exits_by"]["ring_full"]
        page.click("#quit")
        assert running.result()["runs"][0]["exits"] == third["exits"]


@pytest.mark.heavy
@needs_unicorn
@pytest.mark.skipif(firmware.find(firmware.BIOS) is None, reason="no SeaBIOS on this machine")
def test_machine_code_is_held_at_its_exits(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "boot:plasma") as running:
        page = opened(browser, running.turn)
        for count in (1, 2):
            state = until(page, f"state.mode == 'paused' && state.steps == {count - 1}")
            assert sum(state["exits_by"].values()) == count - 1
            page.click("text=To the next exit")
        state = until(page, "state.mode == 'paused' && state.steps == 2")
        assert len(state["told"]) >= 2
        page.select_option("#speed", "1000")
        until(page, "state.mode == 'slow' && state.steps > 20")
        page.click("#run")
        state = until(page, "state.mode == 'ended'")
        assert state["coalesced"] > 60_000  # the picture
        page.click("#quit")
        assert running.result()["runs"][0]["writes"] == state["writes"]


@pytest.mark.heavy
@needs_unicorn
def test_the_death_of_a_held_machine_code_guest_is_reported(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path, "boot:plasma") as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused'")
        running.processes()["guest"].kill()
        _, err = running.process.communicate(timeout=LIMIT / 1000)
        assert running.process.returncode == 1
        assert err == "coalesced: the guest process ended: killed by SIGKILL\n"


@pytest.mark.heavy
def test_a_typed_key_reaches_the_guest(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(
        "def main(vcpu):\n"
        "    while not vcpu.in8(0x64) & 1:\n"
        "        pass\n"
        "    print('the key', hex(vcpu.in8(0x60)))\n"
    )
    with live(tmp_path, "typed.py:main", "--run", "--exit") as running:
        page = opened(browser, running.turn)
        page.focus("#screen")
        page.keyboard.press("a")
        _, err = running.process.communicate(timeout=LIMIT / 1000)
        assert "the key 0x1c" in err  # scan code set 2
        assert running.process.returncode == 0


@pytest.mark.heavy
def test_when_the_server_is_killed_the_guest_goes_on_and_the_page_says_so(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path, "--exit") as running:
        page = opened(browser, running.turn)
        running.processes()["server"].kill()
        page.wait_for_selector("#alert:not([hidden])")
        assert "No connection" in page.inner_text("#alert")
        assert running.result()["runs"][0]["writes"] == 126338


@pytest.mark.heavy
def test_when_the_program_is_killed_nothing_is_left_and_the_page_says_so(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        page.click("#step")
        others = list(running.processes().values())
        running.process.kill()
        page.wait_for_selector("#alert:not([hidden])")
        assert "has ended" in page.inner_text("#alert")
        assert psutil.wait_procs(others, timeout=LIMIT / 1000)[1] == []


@pytest.mark.heavy
def test_ctrl_c_ends_a_held_guest_and_leaves_nothing(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused'")
        others = list(running.processes().values())
        running.process.send_signal(signal.SIGINT)
        _, err = running.process.communicate(timeout=LIMIT / 1000)
        assert running.process.returncode == 130
        assert err.startswith("coalesced: interrupted: 0 device writes")
        assert psutil.wait_procs(others, timeout=LIMIT / 1000)[1] == []


REQUESTS: list[tuple[str, dict[str, str], int]] = [
    ("right", {}, 200),
    ("wrong", {}, 403),
    ("right", {"Host": "example.org"}, 403),
    ("right", {"Origin": "http://example.org"}, 403),
]


def test_a_wrong_word_host_or_origin_is_refused(tmp_path: Path) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    with live(tmp_path) as running:
        place = urlsplit(running.turn)
        for word, headers, status in REQUESTS:
            path = place.path if word == "right" else "/wrong/"
            for part, more, wanted in (
                (path, {}, status),
                (f"{path}socket", upgrade, 101 if status == 200 else status),
            ):
                own = {"Origin": f"http://{place.netloc}"} if more else {}
                connection = http.client.HTTPConnection(place.netloc, timeout=LIMIT / 1000)
                connection.request("GET", part, headers={**own, **more, **headers})
                assert connection.getresponse().status == wanted, (word, headers, part)
                connection.close()


@pytest.mark.heavy
@pytest.mark.parametrize(("width", "scheme"), VARIANTS)
def test_axe_finds_no_violation_and_nothing_is_cut_off(
    browser: Browser, width: int, scheme: str, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with live(tmp_path) as running:
        page = opened(
            browser,
            running.turn,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
        )
        page.click("#step50")
        until(page, "state.mode == 'paused' && state.steps == 50")
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width


@pytest.mark.heavy
def test_the_knobs_are_reached_by_the_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused'")
        reached = []
        for _ in range(26):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.name")
            )
            if reached[-1] == "step" and reached.count("step") == 1:
                page.keyboard.press("Enter")
        until(page, "state.steps == 1")
        wanted = ["run", "pause", "step", "step50", "speed", "staleness", "drain", "quit", "again"]
        wanted += ["pages", "wait"]
        wanted += [
            "vga-lowmem",
            "rtc-index",
            "pci-conf-idx",
            "screen",
            "png",
            "slot",
            "keep",
            "trace",
            "perfetto",
            "log",
        ]
        assert [name for name in reached if name in wanted][: len(wanted)] == wanted


@pytest.mark.heavy
def test_the_page_needs_nothing_that_its_own_policy_forbids(
    browser: Browser, tmp_path: Path
) -> None:
    with live(tmp_path) as running:
        page = browser.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(running.turn)
        page.wait_for_selector("#mode[data-mode=paused]", timeout=LIMIT)
        assert said == []
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(running.turn).netloc}


@pytest.mark.heavy
def test_the_pictures_of_the_documents_are_made_by_a_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PICTURES, tmp_path], check=True, timeout=LIMIT / 100)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert made == {"live.png", "live-dark.png", *(f"lesson/{n}.png" for n in range(1, 8))}
    assert all((PICTURES.parent / name).exists() for name in made)


@pytest.mark.heavy
def test_looking_takes_at_most_a_twentieth_of_the_time_of_a_guest_at_full_speed(
    browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "busy.py").write_text(
        "def main(vcpu):\n    while True:\n        vcpu.fill(0xA0000, 0x10000, 5)\n"
    )
    with live(tmp_path, "busy.py:main", "--run") as running:
        page = opened(browser, running.turn)
        first = until(page, "state.writes > 1e6")
        last = until(page, f"state.time > {first['time']} + 5")
        assert last["writes"] > first["writes"]
        assert last["spent"] - first["spent"] <= 0.05 * (last["time"] - first["time"])


@pytest.mark.heavy
def test_the_kept_minute_is_a_trace_that_replay_reads(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path) as running:
        page = opened(browser, running.turn)
        until(page, "state.mode == 'paused'")
        page.check("#keep")
        until(page, "state.kept")
        page.click("#step50")
        until(page, "state.mode == 'paused' && state.steps == 50")
        page.click("#run")
        state = until(page, "state.mode == 'ended'")
        with page.expect_download() as download:
            page.click("#trace")
        download.value.save_as(tmp_path / "live.trace")
        with page.expect_download() as download:
            page.click("#perfetto")
        events = perfetto_events(download.value.path())
    replayed = json_of(
        "replay", "live.trace", "--device", "VGA,addr=02.0", "--png", "none", cwd=tmp_path
    )
    assert replayed["writes"] == state["writes"]
    assert replayed["reads_checked"] == replayed["reads_matching"] > 4000
    categories = Counter(category for _, categories, _ in events for category in categories)
    # Lines for Perfetto are longer: of so many accesses the first are left out.
    assert 0.8 * state["writes"] < categories.total() <= replayed["accesses"]
    assert 0 < categories["exit"] < sum(state["exits_by"].values())

"""The page in a browser: three widths, two themes, the keyboard, and no complaint."""

import io

import pytest
from PIL import Image

from quantbench.report import latency_page
from quantbench.report.page import build
from quantbench.runs.lab import Lab
from tests.report.chromium import chromium
from tests.report.reports import TABLE, every

WIDTHS = (400, 1000, 1600)

VISIBLE = """() => [...document.querySelectorAll('figure.chart')]
  .filter((f) => f.checkVisibility()).length"""

DRAWN = """() => [...document.querySelectorAll('figure.chart')]
  .filter((f) => f.checkVisibility() && f.querySelector('.plot svg')).length"""

ABSENT = """() => [...document.querySelectorAll('a[href^="#"]')]
  .map((a) => decodeURIComponent(a.getAttribute('href').slice(1)))
  .filter((id) => !document.getElementById(id))"""

RULES = ["color-contrast", "button-name", "link-name", "select-name", "label", "region"]
RULES += ["heading-order", "scrollable-region-focusable", "aria-valid-attr", "duplicate-id-aria"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    about = build.About("abc", "a machine")
    text = build.page(every(), Lab(folder), about, [TABLE])
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def opened(browser, address, width, theme="light"):
    """The page with every chart drawn, and what the browser complained about."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
    )
    page, said = context.new_page(), []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
    page.goto(address)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(f"({DRAWN})() === ({VISIBLE})()")
    return page, said


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_its_window_draws_everything_and_complains_of_nothing(browser, address, width):
    page, said = opened(browser, address, width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(DRAWN) > 8
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = """() => [...document.querySelectorAll('figure.chart .plot')]
      .filter((p) => p.scrollWidth > p.clientWidth + 1).map((p) => p.id)"""
    assert page.evaluate(wide) == []
    assert page.evaluate(ABSENT) == []
    assert said == []
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_picture_of_it_is_blank(browser, address, width):
    page, _ = opened(browser, address, width)
    whole = picture(page.screenshot(full_page=True))
    assert whole.width == width
    assert whole.height > 2 * 900  # of the window
    assert len(whole.getcolors(1 << 24)) > 100
    for figure in page.locator("figure.chart:visible .plot").all():
        drawn = picture(figure.screenshot()).getcolors(1 << 24)
        ground, _ = max(drawn)
        assert len(drawn) > 20
        assert ground < 0.995 * sum(count for count, _ in drawn), figure.get_attribute("id")
    page.context.close()


def picture(png):
    return Image.open(io.BytesIO(png)).convert("RGB")


TOLD = "#vg-tooltip-element.visible"


def test_a_mark_says_what_it_is_where_the_mouse_is(browser, address):
    page, said = opened(browser, address, 1000)
    bar = page.locator("figure.chart .plot svg g.mark-rect.role-mark path:visible").first
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    assert page.locator(TOLD).count() == 0
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(TOLD)
    words = page.locator(TOLD).inner_text()
    assert {"paper", "verdicts", "claims"} <= {*words.replace(":", " ").split()}
    page.mouse.move(1, 1)
    page.wait_for_selector(TOLD, state="detached")
    assert said == []
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_latencies_draws_its_rooflines(browser, tmp_path, width):
    TABLE.save(tmp_path / "latency")
    page, said = opened(browser, latency_page.write(tmp_path).as_uri(), width)
    assert page.evaluate(DRAWN) == 1
    assert page.get_by_role("heading", level=2).all_text_contents() == ["shapes/net, batch 1"]
    page.get_by_text("layer by layer").click()
    assert page.locator("details[open] tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert said == []
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_and_contrast_are_those_that_axe_asks_for(browser, address, theme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page, _ = opened(browser, address, 1000, theme)
    page.get_by_role("button", name="Open all").click()
    found = axe.Axe().run(page, options={"runOnly": {"type": "rule", "values": RULES}})
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_of_charts_has_the_colour_of_the_theme(browser, address, theme):
    page, _ = opened(browser, address, 1000, theme)
    colours = page.evaluate(
        """() => [...document.querySelectorAll('.plot svg text')]
          .map((t) => getComputedStyle(t).fill)"""
    )
    assert len(colours) > 50
    ground = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert all(contrast(colour, ground) >= 4.5 for colour in set(colours) - {"rgba(0, 0, 0, 0)"})
    page.context.close()


def test_what_is_printed_is_light_and_without_controls(browser, address):
    page, _ = opened(browser, address, 1000, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    read = "(name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    assert [page.evaluate(read, name) for name in ("--ground", "--good")] == ["#fff", "#1a7a3c"]
    assert not page.locator("nav").is_visible()
    assert not page.locator("select[data-signal=tier]").is_visible()
    page.context.close()


def contrast(one, other):
    """Contrast of two colours as WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(p) / 255 for p in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_keyboard_reaches_and_opens_a_claim(browser, address):
    page, _ = opened(browser, address, 1000)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    summary = page.locator(".claim summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".claim details").first.get_attribute("open") is not None
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON", "SELECT", "INPUT", "SUMMARY"} <= reached
    page.context.close()


def test_a_link_opens_its_claim_and_words_filter_the_table(browser, address):
    page, _ = opened(browser, address, 1000)
    page.goto(f"{address}#paper--shapes--resnet8--w4--here-beats")
    opened_ = page.locator("details:has(#paper--shapes--resnet8--w4--here-beats)")
    assert opened_.get_attribute("open") is not None
    page.fill("#find", "here-beats")
    assert page.locator("#index tbody tr:visible").count() == 1
    page.fill("#find", "")
    page.select_option("#word", "missed")
    assert page.locator("#index tbody tr:visible").count() == 3
    page.select_option("#word", "")
    page.get_by_role("button", name="ours (drop)").click()
    first = page.locator("#index tbody tr:visible td:nth-child(3)").all_text_contents()
    numbers = [float(text.split()[0]) for text in first if text.strip()]
    assert numbers == sorted(numbers)
    page.context.close()


SIGNALS = """(signal) => figures.filter((f) => f.dataset.signal === signal && !f.hidden)
  .map((f) => views.get(f.querySelector('.plot'))?.signal(signal))"""


def test_a_choice_moves_every_chart_that_it_names(browser, address):
    page, said = opened(browser, address, 1000)
    signals = page.evaluate("[...new Set(figures.map((f) => f.dataset.signal))].filter(Boolean)")
    several = 0
    for signal in signals:
        options = page.locator(f"select[data-signal={signal}]").first.locator("option")
        for choice in reversed(options.all_text_contents()):
            page.locator(f"select[data-signal={signal}]").first.select_option(choice)
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            page.wait_for_function(f"({DRAWN})() === ({VISIBLE})()")
            assert set(page.evaluate(SIGNALS, signal)) == {choice}
        several += options.count() > 1
    assert several
    assert said == []
    page.context.close()


def test_what_is_chosen_while_a_chart_is_being_drawn_is_what_it_shows(browser, address):
    page, said = opened(browser, address, 1000)
    shown = page.evaluate(
        """async () => {
          const figure = figures.find((f) => f.dataset.signal === 'tier');
          const plot = figure.querySelector('.plot');
          views.delete(plot);
          const drawn = draw(figure);  // waits, and the choice comes meanwhile
          choose('tier', 'embedded');
          await drawn;
          return views.get(plot).signal('tier');
        }"""
    )
    assert shown == "embedded"
    assert said == []
    page.context.close()

"""The server's page in a real headless Chromium: a person types a text, reads the answer and sees it counted."""

import pytest

from tests.chromium import installed, launched
from tests.serving import letter_deployment, serve_config, served

expect = pytest.importorskip("playwright.sync_api").expect
if installed() is None:
    pytest.skip("needs Chromium: none is installed, or none starts", allow_module_level=True)

TOKEN = "a-token-of-thirty-two-characters"


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_text_is_answered_shown_and_counted(tmp_path, token):
    config = None
    if token is not None:
        (tmp_path / "token").write_text(token)
        config = serve_config(token_file=str(tmp_path / "token"))
    failures = []
    with served(lambda config: letter_deployment(), config) as server, launched() as browser:
        page = browser.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        if token is not None:
            page.get_by_label("The server asks for its token").fill(token)
            page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("switcher-letters-small-base:v3")
        for text, answer in (("b<i>", "SAY: B<I> 0"), ("why?", "SAY: WHY? 1")):
            page.get_by_label("text").fill(text)
            page.get_by_role("button", name="Answer").click()
            expect(page.locator("#answer strong")).to_have_text(answer)
        expect(page.locator("#answer")).to_contain_text("answered by base-s0: the smallest model was uncertain")
        expect(page.get_by_label("uncertainty beside the threshold")).to_be_visible()
        expect(page.locator("#tiles")).to_contain_text("Answered2inputs", timeout=20_000)
        expect(page.locator("#tiles")).to_contain_text("Passed on50.0 %")
        expect(page.locator("#chart circle").first).to_be_visible()
        expect(page.locator("#chart")).to_contain_text("30 %")  # half of the axis' end, 60 %
        expect(page.locator("#state")).to_contain_text("The promise stands")
        page.get_by_label("text").fill("fails!")
        page.get_by_role("button", name="Answer").click()
        expect(page.locator("#answer strong")).to_have_count(0)
        expect(page.locator("#answer")).not_to_be_empty()
    assert failures == []

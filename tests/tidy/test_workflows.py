"""GitHub's workflows by their rules: what is there obeys, and each rule bites."""

import pytest

from tests.tidy import workflows
from tests.tidy.test_rules import Rule, fail_with
from tests.tidy.tree import Source, sources

PATH = ".github/workflows/a.yml"
SHA = "3d3c42e5aac5ba805825da76410c181273ba90b1"
GOOD = f"""\
on: {{push: {{branches: [main]}}}}
permissions: {{}}
jobs:
  a:
    timeout-minutes: 5
    permissions: {{contents: read}}
    steps:
      - uses: actions/checkout@{SHA} # v7.0.1
        with: {{persist-credentials: false}}
      - uses: ./.github/actions/own
      - env: {{NAME: "${{{{ github.ref_name }}}}"}}
        run: echo "$NAME"
"""
OWN = "- uses: ./.github/actions/own"


@pytest.mark.parametrize("rule", workflows.ALL, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule) -> None:
    found = [source for source in sources() if source.path.startswith(workflows.ACTIONS)]
    assert {source.parts[-1] for source in found if source.path.startswith(workflows.FOLDER)} == {
        "ci.yml",
        "release.yml",
    }
    fail_with([violation for source in found for violation in rule(source)])
    assert list(rule(Source(PATH, GOOD))) == []


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        pytest.param(workflows.pinned, f"{SHA} # v7.0.1", "v7", id="a tag"),
        pytest.param(workflows.pinned, f"{SHA} # v7.0.1", SHA, id="no version"),
        pytest.param(workflows.pinned, f"{SHA} # v7.0.1", f"{SHA[:12]} # v7.0.1", id="a short commit"),
        pytest.param(
            workflows.pinned, "./.github/actions/own", f"actions/checkout@{SHA[::-1]} # v7.0.2", id="two versions"
        ),
        pytest.param(workflows.pinned, OWN, "- {name: x, uses: evil/action@v1}", id="a tag in braces"),
        pytest.param(workflows.pinned, OWN, '- "uses": docker://evil/image', id="an image, the key in quotes"),
        pytest.param(workflows.pinned, OWN, "- uses: docker://evil/image:1.2.3 # v1.2.3", id="an image by its tag"),
        pytest.param(workflows.pinned, OWN, "- 'uses': 'evil/action@v1'", id="a tag in quotes"),
        pytest.param(workflows.pinned, OWN, "- ? uses\n        : evil/action@v1", id="a tag under a long key"),
        pytest.param(workflows.pinned, OWN, "- uses:\n          evil/action@v1", id="a tag on the next line"),
        pytest.param(
            workflows.pinned, "timeout-minutes: 5", "uses: evil/a/.github/workflows/b.yml@v1", id="a workflow"
        ),
        pytest.param(workflows.permissions, "permissions: {}\n", "", id="none given, so all"),
        pytest.param(workflows.permissions, "{contents: read}", "{contents: write}", id="a job that writes"),
        pytest.param(workflows.permissions, "{contents: read}", "write-all", id="all"),
        pytest.param(workflows.bounded, "timeout-minutes: 5", "runs-on: x", id="no end"),
        pytest.param(workflows.bounded, "timeout-minutes: 5", "timeout-minutes: 360", id="a late end"),
        pytest.param(workflows.no_text_as_code, '"$NAME"', "${{ github.ref_name }}", id="text as code"),
        pytest.param(workflows.no_text_as_code, "push: {branches: [main]}", "pull_request_target: {}", id="a trigger"),
        pytest.param(workflows.no_text_as_code, "{persist-credentials: false}", "{}", id="credentials stay"),
    ],
)
def test_bites(rule: Rule, good: str, bad: str) -> None:
    assert good in GOOD
    assert list(rule(Source(PATH, GOOD.replace(good, bad))))


@pytest.mark.parametrize(
    "written",
    [
        f"- {{name: x, uses: actions/checkout@{SHA}}} # v7.0.1",
        f'- "uses": "actions/checkout@{SHA}" # v7.0.1',
        f"- uses: docker://ghcr.io/ann/image:1.2@sha256:{'a1' * 32}",
    ],
)
def test_what_is_pinned_passes_however_it_is_written(written: str) -> None:
    assert OWN in GOOD
    assert list(workflows.pinned(Source(PATH, GOOD.replace(OWN, written)))) == []


def test_actions_of_our_own_pin_what_they_use() -> None:
    text = "runs: {using: composite, steps: [{uses: evil/action@v1}]}"
    assert len(list(workflows.pinned(Source(".github/actions/own/action.yaml", text)))) == 1


def test_a_job_that_may_write_checks_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workflows.WRITERS, ("a.yml", "a"), {"contents": "write"})
    written = GOOD.replace("{contents: read}", "{contents: write}")
    assert ["checks nothing out" in str(one) for one in workflows.permissions(Source(PATH, written))] == [True]

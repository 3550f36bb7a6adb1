"""Files that tools and people read before any code: they parse, and say what they are for."""

import re
from pathlib import Path

import pytest
import yaml

import quantbench

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
FORMS += [ROOT / ".github" / "ISSUE_TEMPLATE" / "claim.yml"]


def read(*parts):
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def test_ci_runs_what_a_contributor_runs():
    workflow = read(".github", "workflows", "ci.yml")
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key on as true
    assert set(workflow["jobs"]) == {"tests", "arm64"}
    job = workflow["jobs"]["tests"]
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    assert (ROOT / ".ci" / "run").is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_complete(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    for part in form["body"]:
        assert part["type"] in {"input", "textarea", "dropdown"}
        assert part["attributes"]["label"]
        assert part["type"] != "dropdown" or part["attributes"]["options"]


def test_issues_ask_for_what_a_claim_is_judged_by():
    asked = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["body"] for path in FORMS}
    ids = {stem: {part["id"] for part in body} for stem, body in asked.items()}
    assert {"claim", "command", "machine", "versions"} <= ids["claim"]
    assert {"paper", "table", "row", "column"} <= ids["number"]


def test_hooks_are_local_and_download_nothing():
    for repo in read(".pre-commit-config.yaml")["repos"]:
        assert repo["repo"] == "local"
        assert {hook["language"] for hook in repo["hooks"]} == {"system"}


def test_the_citation_is_of_this_version():
    about = read("CITATION.cff")
    assert about["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(about)
    assert (about["version"], about["license"]) == (quantbench.__version__, "MIT")


def test_the_changelog_begins_with_what_is_not_released():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *_ = re.findall(r"^## \[(.+?)\]", text, flags=re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert first == "Unreleased"
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

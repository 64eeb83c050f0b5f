"""House rules about alerts: each can fire, and each names a page that knows it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "alert-rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
# What the scraper adds, and what a histogram has.
GIVEN_LABELS = {"job", "instance", "le"}


def metrics() -> dict[str, set[str]]:
    """The labels of each metric, from the page that is printed from the code."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(headrace_\w+)` \| \w+ \| ([^|]*) \|", page, re.MULTILINE)
    return {name: {label for label in re.split(r",\s*", labels.strip()) if label} for name, labels in rows}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_looks_at_metrics_and_labels_that_there_are(rule: dict[str, Any]):
    known = metrics()
    expression = re.sub(r'"[^"]*"', '""', rule["expr"])
    used = set(re.findall(r"headrace_\w+", expression))
    assert used
    assert used <= set(known)
    labels = {label for part in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in re.split(r",\s*", part)}
    labels |= set(re.findall(r"(\w+)=~?", expression)) | set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert labels <= GIVEN_LABELS.union(*(known[name] for name in used))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_names_a_page_that_knows_it(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert f"`{rule['alert']}`" in (ROOT / rule["annotations"]["runbook_url"]).read_text()


def test_every_rule_file_is_read_by_prometheus_and_is_there_in_its_container():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    volumes = compose["services"]["prometheus"]["volumes"]
    assert config["rule_files"] == ["alert-rules.yml"]
    assert "./deploy/alert-rules.yml:/etc/prometheus/alert-rules.yml:ro" in volumes

"""House rules about the files that deploy Headrace."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
import yaml
from pydantic import BaseModel

from runtime.settings import Settings
from tests.support.checkout import PACKAGES, ROOT, modules, parsed

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
OTHERS_RUN_AS = {"kafka": "appuser", "prometheus": "nobody"}  # what these images switch to by themselves
NOT_SETTINGS = {"HEADRACE_CONFIG"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_container_runs_as_root_or_can_gain_rights(name: str):
    service = COMPOSE["services"][name]
    assert name in OURS or name in OTHERS_RUN_AS or service["user"] not in ("root", "0")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "USER 10001:10001" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", [name for name in COMPOSE["services"] if name != "migrate"])
def test_every_lasting_service_says_whether_it_is_healthy(name: str):
    service = COMPOSE["services"][name]
    assert "healthcheck" in service or service["environment"]["HEALTH_URL"].endswith("/healthz")


@pytest.mark.parametrize("name", OURS)
def test_every_setting_in_the_compose_file_exists(name: str):
    for variable in OURS[name]["environment"]:
        if variable.startswith("HEADRACE_"):
            _setting(variable)


def test_the_health_url_of_each_service_has_the_port_that_its_process_listens_on():
    settings = Settings.model_construct()
    for name in ("relay", "mirror", "worker", "gateway", "control"):
        port = getattr(settings, name).port
        assert OURS[name]["environment"]["HEALTH_URL"] == f"http://127.0.0.1:{port}/healthz"


def test_prometheus_scrapes_every_process_on_its_port():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    settings = Settings.model_construct()
    assert targets == {
        name: [f"{name}:{getattr(settings, name).port}"] for name in ("relay", "mirror", "worker", "gateway", "control")
    }


def test_secrets_come_from_the_environment_and_are_required():
    text = (ROOT / "docker-compose.yml").read_text()
    for line in text.splitlines():
        if re.search(r"(SECRET|PASSWORD):", line) and not line.lstrip().startswith("#"):
            assert ":?" in line, line


def test_the_image_and_the_wheel_hold_every_package():
    copied = re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert tuple(copied) == tuple(packages) == PACKAGES
    for package in PACKAGES:
        assert f"!{package}\n" in (ROOT / ".dockerignore").read_text()


def test_every_settings_name_in_the_code_exists():
    """A message that tells people to set something must name something."""
    for path in modules():
        strings = [
            node.value
            for node in ast.walk(parsed(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        for text in strings:
            for variable in re.findall(r"\bHEADRACE_[A-Z]+__[A-Z_]+[A-Z]\b", text):
                _setting(variable)


def _setting(variable: str) -> None:
    """Walk `HEADRACE_A__B` through the settings' classes."""
    if variable in NOT_SETTINGS:
        return
    where: type[BaseModel] = Settings
    *groups, name = variable.removeprefix("HEADRACE_").lower().split("__")
    for group in groups:
        found = where.model_fields[group].annotation
        assert isinstance(found, type)
        assert issubclass(found, BaseModel)
        where = found
    assert name in where.model_fields, f"{variable} is no setting"

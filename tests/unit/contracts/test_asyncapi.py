from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from contracts import schemas, yaml_text
from contracts.asyncapi import SOURCES, document
from contracts.codec import EVENTS

ROOT = Path(schemas.__file__).parents[1]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, held in value.items():
            if key == "$ref":
                yield str(held)
            else:
                yield from references(held)
    elif isinstance(value, list):
        for held in value:
            yield from references(held)


def test_the_document_in_docs_is_the_one_that_the_code_makes():
    assert (ROOT / "docs" / "asyncapi.yaml").read_text() == yaml_text.dump(document()), (
        "run: python -m contracts.asyncapi > docs/asyncapi.yaml"
    )


def test_the_text_is_yaml_for_the_same_data():
    assert yaml.safe_load(yaml_text.dump(document())) == document()


def test_every_reference_leads_somewhere():
    whole = document()
    for reference in references(whole):
        place: object = whole
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            assert step in place, reference
            place = place[step]


def test_every_schema_and_every_event_is_in_it():
    components = document()["components"]
    assert isinstance(components, dict)
    described = components["schemas"]
    assert isinstance(described, dict)
    assert {name.event for name in schemas.names()} | {"entry"} == set(described)
    used = set(references(components["messages"]))
    assert {f"#/components/schemas/{event}" for event in EVENTS} <= used
    assert all(event in EVENTS for events in SOURCES.values() for event in events)

"""The batch decoders of all topics, their events, and values that are fit or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from contracts import errors
from contracts.experiments import decode_experiment_samples
from contracts.names import Mode
from contracts.retrieval import decode_retrieval_samples
from contracts.sample_batch import Sample, SampleBatch
from contracts.schemas import SchemaName, sample_object
from contracts.voice import decode_audio_samples

MODES: tuple[Mode, Mode] = ("strict", "compat")


class Decode(Protocol):
    """A batch decoder."""

    def __call__(self, values: Sequence[bytes], *, mode: Mode) -> SampleBatch[Any]: ...


# Event, its decoder, and the field that holds its second key part.
TOPICS: dict[str, tuple[Decode, str]] = {
    "rag_retrieval": (decode_retrieval_samples, "index"),
    "ab_test_assignment": (decode_experiment_samples, "unit"),
    "ab_test_outcome": (decode_experiment_samples, "unit"),
    "audio_quality_report": (decode_audio_samples, "session_id"),
}


def value(event: str, /, **changes: object) -> bytes:
    fields = {**sample_object(SchemaName(event, "1")), **changes}
    return json.dumps({name: held for name, held in fields.items() if held is not ...}).encode()


def decoded(event: str, values: Sequence[bytes], mode: Mode) -> SampleBatch[Sample]:
    return TOPICS[event][0](values, mode=mode)


def refusal(event: str, mode: Mode, /, **changes: object) -> errors.ContractError:
    """Why the value is refused between two good neighbours, which are kept."""
    samples, indexes, bad = decoded(event, [value(event), value(event, **changes), value(event)], mode)
    assert list(indexes) == [0, 2]
    assert samples[0] == samples[1]
    [(index, error)] = bad
    assert index == 1
    assert str(decoded(event, [value(event, **changes)], mode).bad[0][1]) == str(error)
    return error

"""Many payloads of one topic decoded for tables: small samples, with the bad values set apart.

A value gives the same result alone as in any company: when one of them does not decode, or is not plainly right, all
are looked at one by one.

What every sample must keep to is checked on the few distinct values that a batch holds. Ids may all differ, so they
are judged by the bytes: JSON writes a control character with a backslash (only DEL may stand as it is), so that the
ids of a batch without both hold none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Annotated, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from contracts.document import read
from contracts.errors import ContractError, UnknownEvent, UnknownVersion, WrongType
from contracts.explain import explained
from contracts.fields import Id
from contracts.names import LOCAL_LIMITS, RESERVED_TENANT_PREFIX, Mode, TenantId
from contracts.text import has_control, problem_of_id
from contracts.times import EPOCH, epoch_ms, problem_of_moment

# Compat makes text of an integer.
IntegerId: TypeAlias = Annotated[int, msgspec.Meta(ge=LOCAL_LIMITS.int_min, le=LOCAL_LIMITS.int_max)]
LooseId: TypeAlias = Id | IntegerId

_MAJOR = "1"


class Sample(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What the samples of all events have. Times without offset count as UTC (compat mode)."""

    EVENT: ClassVar[str] = "?"
    IDS: ClassVar[Mapping[str, str]] = {}
    """Attributes that hold an id besides the tenant, and the fields of the event that they come from."""

    version: str
    ts: datetime
    raw_tenant: LooseId = msgspec.field(name="tenant_id")

    @property
    def tenant_id(self) -> TenantId:
        """Whose event it is."""
        return TenantId(str(self.raw_tenant))

    @property
    def ts_ms(self) -> int:
        """When it was, in milliseconds since the Unix epoch, rounded down; never negative."""
        return epoch_ms(self.ts)


S = TypeVar("S", bound=Sample)


class SampleBatch(NamedTuple, Generic[S]):
    """What a list of values holds: `samples[i]` is of `values[indexes[i]]`; `bad` has the places of the others."""

    samples: list[S]
    indexes: Sequence[int]
    bad: list[tuple[int, ContractError]]


@dataclass(frozen=True)
class BatchDecoder(Generic[S]):
    """Decodes the events of one topic into samples.

    Args:
        decoder: of one payload.
        events: the names of the events that it takes.
        loose: attributes of every sample that compat also takes as integers.
        disagreement: why the fields of one sample cannot all be right, in any mode.
    """

    decoder: msgspec.json.Decoder[S]
    events: tuple[str, ...]
    loose: tuple[str, ...]
    disagreement: Callable[[S], ContractError | None]

    def decode(self, values: Sequence[bytes], mode: Mode) -> SampleBatch[S]:
        """The samples in a list of payloads. Keys that a sample does not have are skipped, not checked."""
        try:
            samples = list(map(self.decoder.decode, values))
        except (ValueError, RecursionError):
            return self._one_by_one(values, mode)
        if samples and self._all_fit(samples, b"".join(values), mode):
            return SampleBatch(samples, range(len(samples)), [])
        return self._one_by_one(values, mode)

    def _all_fit(self, samples: Sequence[S], text: bytes, mode: Mode) -> bool:
        """Whether no sample has a problem; False also where only a closer look can tell."""
        if min({sample.ts.year for sample in samples}) <= EPOCH.year or any(map(self.disagreement, samples)):
            return False
        if any(problem_of_version(version) for version in {sample.version for sample in samples}):
            return False
        if any(problem_of_reserved(tenant) for tenant in {sample.raw_tenant for sample in samples}):
            return False
        if mode == "strict" and (any(s.ts.tzinfo is None for s in samples) or self._has_integers(samples)):
            return False
        return (b"\\" not in text and b"\x7f" not in text) or not has_control("".join(map(_id_text, samples)))

    def _has_integers(self, samples: Sequence[S]) -> bool:
        return any(int in set(map(type, map(attrgetter(name), samples))) for name in self.loose)

    def _one_by_one(self, values: Sequence[bytes], mode: Mode) -> SampleBatch[S]:
        samples: list[S] = []
        indexes: list[int] = []
        bad: list[tuple[int, ContractError]] = []
        for index, value in enumerate(values):
            decoded = self._one(value, mode)
            if isinstance(decoded, ContractError):
                bad.append((index, decoded))
            else:
                samples.append(decoded)
                indexes.append(index)
        return SampleBatch(samples, indexes, bad)

    def _one(self, value: bytes, mode: Mode) -> S | ContractError:
        try:
            sample = self.decoder.decode(value)
        except (ValueError, RecursionError) as error:
            return why(value, str(error), self.events)
        return _problem(sample, mode) or self.disagreement(sample) or sample


def why(value: bytes, complaint: str, events: tuple[str, ...]) -> ContractError:
    """The error for a value that a decoder of `events` refuses; the slow reader names the field."""
    try:
        document = read(value)
    except ContractError as error:
        return error
    name = document.get("event")
    if isinstance(name, str) and name not in events:
        return UnknownEvent(event=name, field="event", limit=f"must be {' or '.join(events)}", value=name)
    return explained(name if isinstance(name, str) else "?", complaint, document)


def _id_text(sample: Sample) -> str:
    held = (getattr(sample, name) for name in ("raw_tenant", *sample.IDS))
    return "".join(str(each) for each in held if each is not None)


def _problem(sample: Sample, mode: Mode) -> ContractError | None:
    """What makes one sample unfit."""
    event = sample.EVENT
    for name, field in (("raw_tenant", "tenant_id"), *sample.IDS.items()):
        held = getattr(sample, name)
        if isinstance(held, str):
            problem = problem_of_id(event, field, held)
            if problem is not None:
                return problem
        elif held is not None and mode == "strict":
            return WrongType(event=event, field=field, limit="must be a text", value=held)
    reserved = problem_of_reserved(sample.raw_tenant, event)
    if reserved is not None:
        return reserved
    if mode == "strict" and sample.ts.tzinfo is None:
        limit = "must be an RFC 3339 time with an offset"
        return WrongType(event=event, field="ts", limit=limit, value=sample.ts.isoformat())
    return problem_of_version(sample.version, event) or problem_of_moment(event, "ts", sample.ts)


def problem_of_reserved(tenant: str | int, event: str = "") -> ContractError | None:
    """What is wrong with a tenant that only we may name."""
    if isinstance(tenant, str) and tenant.startswith(RESERVED_TENANT_PREFIX):
        limit = f'must not begin with "{RESERVED_TENANT_PREFIX}"'
        return WrongType(event=event, field="tenant_id", limit=limit, value=tenant)
    return None


def problem_of_version(version: str, event: str = "") -> ContractError | None:
    """What is wrong with an event's version: readers take every minor of their major."""
    major, dot, minor = version.partition(".")
    if not (dot and _is_number(major) and _is_number(minor)):
        return WrongType(event=event, field="version", limit='must be "<major>.<minor>"', value=version)
    if major != _MAJOR:
        return UnknownVersion(event=event, field="version", limit=f"must have major {_MAJOR}", value=version)
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()

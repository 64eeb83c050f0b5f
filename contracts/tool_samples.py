"""Many tool events decoded for statistics: small samples, with the bad values set apart.

Nearly all producers write calls in one form, which is read with the fewest steps (`usual_calls`). All others are read
by `decode_tool_samples`, which gives the same for what both can read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec

from contracts.document import read
from contracts.errors import ContractError, MissingField, WrongType
from contracts.explain import explained
from contracts.fields import Id, LatencyMs
from contracts.names import Mode, TenantId
from contracts.sample_batch import IntegerId, problem_of_reserved, problem_of_version, why
from contracts.text import problem_of_id
from contracts.times import epoch_ms, problem_of_moment
from contracts.tools import ToolCall, ToolExecuted

_EVENTS = (ToolCall.EVENT, ToolExecuted.EVENT)
# The words for a failed call; compat mode lets any word pass, and all others mean success.
_FAILED = frozenset({"error", "failed", "failure", "timeout"})
_STATUSES = frozenset({None, "ok", "error"})
_FINE = frozenset({None, "ok"})
# Fewer values than this are quicker read one by one.
_FEW = 16
_NO_RAW = msgspec.Raw(b"null")
_NO_ERROR = frozenset({b"null", b"false", b'""', b"{}", b"[]"})


class _Call(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """What statistics need of every call. `ts` is text: reading a column of times is cheaper than reading each."""

    event: Literal["tool_call", "tool_executed"]
    version: str
    tool: Id
    latency_ms: LatencyMs
    ts: str
    tenant: str | IntegerId | None = msgspec.field(name="tenant_id", default=None)
    status: str | None = None
    error: msgspec.Raw = _NO_RAW


class ToolSample(_Call, gc=False, frozen=True, kw_only=True):
    """What statistics need of a `tool_call` or a `tool_executed`, and nothing else.

    Of its time `ToolSamples.at_ms` tells. An integer tenant is its decimal text.
    """

    error_class: str | None = None
    cache_hit: bool | None = None
    tool_version: Id | None = None

    @property
    def tenant_id(self) -> TenantId | None:
        """Whose call it was; None when the record does not say: then its headers do."""
        return TenantId(str(self.tenant)) if self.tenant not in (None, "") else None

    @property
    def latency_us(self) -> int:
        """How long it took, in whole microseconds."""
        return round(self.latency_ms * 1000)

    @property
    def failed(self) -> bool:
        """Whether the call failed: by its status, else by an `error` that is neither null, false nor empty.

        chat_tool_v1 has no status; products add one of the two.
        """
        if self.status is not None:
            return self.status in _FAILED
        return bytes(self.error) not in _NO_ERROR


class UsualCall(msgspec.Struct, gc=False, frozen=True):
    """A call as nearly all producers write it: fields as in ToolSample, with fewer values that they may have."""

    event: Literal["tool_call", "tool_executed"]
    version: Literal["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.9"]
    tool: Id
    latency_ms: LatencyMs
    ts: str
    tenant: str | None = msgspec.field(name="tenant_id", default=None)
    status: Literal["ok", "error"] | None = None
    error: None = None
    error_class: str | None = None
    cache_hit: bool | None = None
    tool_version: Id | None = None


class _GivenCall(_Call, gc=False, frozen=True, kw_only=True):
    """What statistics need of a `tool_call` whose further keys are not what ours mean by those names.

    chat_tool_v1 leaves them free: they must not make the call a bad one.
    """

    event: Literal["tool_call"]


_usual_decoder = msgspec.json.Decoder(UsualCall)
_decoder = msgspec.json.Decoder(ToolSample)
_given_decoder = msgspec.json.Decoder(_GivenCall)
_names = attrgetter("tenant", "tool", "tool_version")
_tenant, _status, _version, _ts = (attrgetter(name) for name in ("tenant", "status", "version", "ts"))
# Reads a column of RFC 3339 times to milliseconds; None when one of them is not in the form that it knows.
TimeColumn = Callable[[Sequence[str]], Sequence[int] | None]


class ToolSamples(NamedTuple):
    """What a list of values holds: `samples[i]` is of `values[indexes[i]]`; `bad` has the places of the others.

    `at_ms[i]` is when sample i ended, in milliseconds since the Unix epoch, rounded down; a time without offset counts
    as UTC (compat mode).
    """

    samples: list[ToolSample]
    indexes: Sequence[int]
    bad: list[tuple[int, ContractError]]
    at_ms: Sequence[int]


def usual_calls(values: Sequence[bytes]) -> list[UsualCall] | None:
    """The calls in a list of payloads, if all are UsualCalls; else None: read them with `decode_tool_samples`.

    What it gives is what that gives, with this left to the caller: names (`problem_of_names`), in strict mode calls
    without a tenant, and times.
    """
    try:
        return list(map(_usual_decoder.decode, values))
    except (ValueError, RecursionError):
        return None


def problem_of_names(
    mode: Mode, tenant: str | int | None, tool: str, version: str | None, event: str = ""
) -> ContractError | None:
    """What is wrong with the names in a call; whether it must have a tenant is left aside."""
    return (
        problem_of_id(event, "tool", tool)
        or (None if version is None else problem_of_id(event, "tool_version", version))
        or _problem_of_tenant(tenant, mode, event)
    )


def decode_tool_samples(
    values: Sequence[bytes], *, mode: Mode, time_column: TimeColumn = lambda _texts: None
) -> ToolSamples:
    """The samples in a list of payloads, at half a microsecond each, with the bad ones set apart.

    A value gives the same result alone as in any company. Keys that a sample does not have are skipped, not checked:
    the relay has checked the whole payload. `time_column` speeds up the reading of times; what it does not know is read
    one by one.
    """
    if len(values) < _FEW:
        return _one_by_one(values, mode)
    try:
        samples = list(map(_decoder.decode, values))
    except (ValueError, RecursionError):
        return _one_by_one(values, mode)
    if _all_fit(samples, mode):
        at_ms = time_column(list(map(_ts, samples)))
        if at_ms is not None:
            return ToolSamples(samples, range(len(samples)), [], at_ms)
    return _one_by_one(values, mode)


def failures(samples: Sequence[ToolSample]) -> list[int]:
    """The places of failed calls; most samples are told by a look at two fields."""
    return [
        place
        for place, sample in enumerate(samples)
        if (sample.status not in _FINE or sample.error is not _NO_RAW) and sample.failed
    ]


def _all_fit(samples: Sequence[ToolSample], mode: Mode) -> bool:
    """Whether no sample has a problem, told from the few distinct values of its fields; times are not looked at."""
    if mode == "strict" and (None in map(_tenant, samples) or not set(map(_status, samples)) <= _STATUSES):
        return False
    return not (
        any(problem_of_names(mode, *names) for names in set(map(_names, samples)))
        or any(problem_of_version(version) for version in set(map(_version, samples)))
    )


def _one_by_one(values: Sequence[bytes], mode: Mode) -> ToolSamples:
    samples: list[ToolSample] = []
    indexes: list[int] = []
    at_ms: list[int] = []
    bad: list[tuple[int, ContractError]] = []
    for index, value in enumerate(values):
        try:
            sample, moment = _one(value, mode)
        except ContractError as error:
            bad.append((index, error))
        else:
            samples.append(sample)
            indexes.append(index)
            at_ms.append(epoch_ms(moment))
    return ToolSamples(samples, indexes, bad, at_ms)


def _one(value: bytes, mode: Mode) -> tuple[ToolSample, datetime]:
    try:
        sample = _decoder.decode(value)
    except (ValueError, RecursionError) as error:
        given = _given(value)
        if given is None:
            raise why(value, str(error), _EVENTS) from None
        sample = given
    try:
        moment = msgspec.convert(sample.ts, datetime)
    except ValueError as error:
        raise explained(sample.event, f"{error} - at `$.ts`", read(value)) from None
    problem = _problem(sample, moment, mode)
    if problem is not None:
        raise problem
    return sample, moment


def _given(value: bytes) -> ToolSample | None:
    """A call as chat_tool_v1 has it, its free keys left out; None when it is none."""
    try:
        given = _given_decoder.decode(value)
    except (ValueError, RecursionError):
        return None
    return ToolSample(**msgspec.structs.asdict(given))


def _problem(sample: ToolSample, moment: datetime, mode: Mode) -> ContractError | None:
    """What makes one sample unfit."""
    event = sample.event
    if mode == "strict":
        if sample.tenant is None and event == ToolExecuted.EVENT:
            return MissingField(event=event, field="tenant_id", limit="is required", value="nothing")
        if sample.status not in _STATUSES:
            return WrongType(event=event, field="status", limit="must be ok or error", value=sample.status)
        if moment.tzinfo is None:
            limit = "must be an RFC 3339 time with an offset"
            return WrongType(event=event, field="ts", limit=limit, value=sample.ts)
    return (
        problem_of_version(sample.version, event)
        or problem_of_moment(event, "ts", moment)
        or problem_of_names(mode, sample.tenant, sample.tool, sample.tool_version, event)
    )


def _problem_of_tenant(tenant: str | int | None, mode: Mode, event: str = "") -> ContractError | None:
    if tenant is None or (tenant == "" and mode == "compat"):
        return None
    if isinstance(tenant, int):
        strict = mode == "strict"
        return WrongType(event=event, field="tenant_id", limit="must be a text", value=tenant) if strict else None
    return problem_of_reserved(tenant, event) or problem_of_id(event, "tenant_id", tenant)

"""Which Kafka partition an event goes to: records with the same key stay in order, and one worker owns their row.

topic        key                          topic             key
orders       tenant, order                experiments       tenant, unit
tools        tenant, tool                 voice             tenant, session
rag          tenant, index                prompts, alerts   tenant, name
push, push-latest: tenant alone, so that one offset orders all that a client sees
"""

from __future__ import annotations

from contracts.alerts import AlertRaised, AlertResolved
from contracts.codec import Event, tenant_of
from contracts.derived import AbTestResult, AudioQualityWindow, RetrievalQualityWindow, ToolLatencyWindow
from contracts.envelope import Envelope
from contracts.experiments import AbTestAssignment, AbTestOutcome
from contracts.names import KEY_SEPARATOR, UNKNOWN_TENANT, TenantId
from contracts.orders import OrderStatus
from contracts.retrieval import RagRetrieval
from contracts.tools import ToolCall, ToolExecuted
from contracts.voice import AudioQualityReport


def partition_key(envelope: Envelope, event: Event) -> bytes:
    """The key of an event on its source topic: tenant and subject, told apart by U+001F, which no id may hold.

    The envelope's tenant counts, unless it names none.
    """
    tenant_id = envelope.tenant_id if envelope.tenant_id != UNKNOWN_TENANT else tenant_of(event)
    return subject_key(tenant_id, subject_of(event))


def subject_key(tenant_id: TenantId, subject: str) -> bytes:
    """The key on a source topic of whatever has this subject within its tenant."""
    return f"{tenant_id}{KEY_SEPARATOR}{subject}".encode()


def tenant_key(tenant_id: TenantId) -> bytes:
    """The key on the push topics."""
    return tenant_id.encode()


def subject_of(event: Event) -> str:
    """What an event is about, within its tenant."""
    subject: str
    match event:
        case OrderStatus():
            subject = event.order_id
        case ToolCall() | ToolExecuted() | ToolLatencyWindow():
            subject = event.tool
        case RagRetrieval() | RetrievalQualityWindow():
            subject = event.index
        case AbTestAssignment() | AbTestOutcome():
            subject = event.unit
        case AbTestResult():
            subject = event.experiment
        case AudioQualityReport() | AudioQualityWindow():
            subject = event.session_id
        case AlertRaised() | AlertResolved():
            subject = event.name
    return subject

"""Answers as pages for people: no script, everything escaped, charts drawn here (`tables.charts`). Pure.

All links are relative, so that the pages work under /tables/ on a worker and under /v1/tables/ on the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from tables.answers import Answer, TableState, subject_path, value_text
from tables.html_charts import SCROLLED, figures, overview
from tables.page_style import CSS
from tables.query import RANGE, duration_text
from tables.recovery import Progress
from tables.rows import Subject
from tables.shares import Line, Missing, line_names

CONTENT_TYPE = "text/html; charset=utf-8"
# Rows in the list of a page; its charts show all that were asked for.
SHOWN_ROWS = 200
DATA = ("csv", "json")
HINTS = {
    "from": "-15m, or a time",
    "to": "now, or a time",
    "size": "10s, 1m, 5m, 1h",
    "step": "less than size: sliding",
    "limit": "rows",
}


@dataclass(frozen=True)
class Where:
    """Where a page stands: `root` leads from it to the index; `params` are those of its address, as they were typed."""

    root: str
    path: Subject = ()
    params: Mapping[str, str] | None = None

    def of_subject(self, table: str, names: Sequence[str], subject: Subject) -> str:
        """A link to one subject, keeping the time range. Parts that a path cannot hold become filters."""
        kept = {name: value for name, value in (self.params or {}).items() if name in (*RANGE, "format")}
        if any(piece in (".", "..") for part in subject for piece in part.replace("\\", "/").split("/")):
            return f"{self.root}{quote(table)}/?{urlencode(dict(zip(names, subject, strict=True)) | kept)}"
        query = f"?{urlencode(kept)}" if kept else ""
        return f"{self.root}{quote(table)}/{subject_path(subject)}{query}"


def index(tables: Sequence[TableState]) -> bytes:
    """All tables of this worker."""
    lines = [
        f'<tr><th scope="row"><a href="./{quote(table.served.kind.name)}/">{escape(table.served.kind.name)}</a></th>'
        f'<td class="text">{escape(table.served.kind.describe)}</td>'
        f"<td>{escape(', '.join(table.served.kind.parts)) or 'none'}</td>"
        f"<td>{duration_text(table.served.kind.size_ms) if table.served.kind.size_ms else 'none'}</td>"
        f'<td class="num">{len(table.served.local.active)} of {table.partitions}</td>'
        f"<td>{escape(_state_text(table))}</td></tr>"
        for table in tables
    ]
    body = (
        '<section><div class="scroll"><table><thead><tr><th scope="col">Table</th><th scope="col">What it says</th>'
        '<th scope="col">Key, after the tenant</th><th scope="col">Window</th>'
        '<th scope="col" class="num">Partitions here</th><th scope="col">State</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )
    return document("Tables", "What this worker keeps of your tenant's events.", body, Where("./"))


def page(answer: Answer, where: Where) -> bytes:
    """A table's rows: the question, charts or an overview of subjects, the newest rows."""
    kind = answer.query.kind
    subjects = list(dict.fromkeys(subject for _, subject in answer.places))
    body = [_form(answer, where), _note(answer.missing)]
    if not answer.lines:
        body.append('<section><p class="empty">No rows in this time. Try a longer one.</p></section>')
    elif answer.query.size_ms:
        body.append(figures(answer, subjects))
    if answer.lines and len(where.path) < len(kind.parts):
        body.append(overview(answer, lambda subject: where.of_subject(kind.name, kind.parts, subject)))
    if answer.compared:
        body.append(_compared(answer.compared))
    if answer.lines:
        body.append(_rows(answer, where))
    title = " / ".join((kind.name, *(where.path or ())))
    return document(title, kind.describe, "".join(body), where)


def refusal(status: int, title: str, detail: str, where: Where, progress: Progress | None = None) -> bytes:
    """A page for an error; with progress, while a table is being restored. The browser asks again by Refresh."""
    told = f"<p>{escape(detail)}</p>"
    if progress is not None and progress.left:
        whole = progress.read + progress.left
        told += (
            f'<p><progress max="{whole}" value="{progress.read}"></progress> '
            f"{progress.read:,} of {whole:,} changelog records replayed</p>"
        )
    return document(title, f"Status {status}", f'<section class="note">{told}</section>', where)


def document(title: str, subtitle: str, body: str, where: Where) -> bytes:
    """A whole page around a body that is HTML already."""
    home = "" if where.root == "./" and title == "Tables" else f'<p><a href="{where.root}">all tables</a></p>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} | Headrace</title><style>{CSS}</style></head><body>"
        '<a class="skip" href="#main">Skip to the rows</a>'
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>{home}</header>"
        f'<main id="main">{body}</main></body></html>'
    ).encode()


def _state_text(table: TableState) -> str:
    done = table.progress
    if table.state != "restoring":
        return table.state
    return f"restoring: {done.read:,} of {done.read + done.left:,} records"


def _form(answer: Answer, where: Where) -> str:
    query, params = answer.query, where.params or {}
    fields = list(query.kind.parts[len(where.path) :])
    fields += [*(RANGE if query.size_ms else ()), "limit"]
    inputs = "".join(_input(name, params.get(name, "")) for name in fields)
    hidden = '<input type="hidden" name="format" value="html">' if params.get("format") == "html" else ""
    asked = urlencode({name: value for name, value in params.items() if name != "format"})
    others = " or ".join(
        f'<a href="?{escape(f"{asked}&format={form}".lstrip("&"))}">{form}</a>' for form in ("csv", "json")
    )
    return (
        f'<form method="get" aria-label="Choose rows">{inputs}{hidden}<button type="submit">Show</button>'
        f"<span>Same rows as {others}</span></form>"
    )


def _input(name: str, value: str) -> str:
    form = ' class="when"' if name in ("from", "to") else ""
    hint = f' placeholder="{escape(HINTS[name])}"' if name in HINTS else ' placeholder="all"'
    return f'<label>{escape(name)}<input name="{escape(name)}"{form}{hint} value="{escape(value)}"></label>'


def _note(missing: Sequence[Missing]) -> str:
    if not missing:
        return ""
    told = "; ".join(f"partition {partition}: {why}" for partition, why in missing)
    return f'<section class="note" role="status"><p>Rows may be missing. {escape(told)}</p></section>'


def _rows(answer: Answer, where: Where) -> str:
    kind = answer.query.kind
    left_out = {"tenant_id", "window_end", *kind.parts[: len(where.path)]}  # the title says these
    names = [name for name in line_names(kind) if name not in left_out]
    texts = {"window_start", *kind.parts}
    described = {column.name: column.describe for column in kind.columns}
    shown = answer.lines[: -SHOWN_ROWS - 1 : -1]
    head = "".join(
        f'<th scope="col"{_class(name not in texts)} title="{escape(described.get(name, ""))}">{escape(name)}</th>'
        for name in names
    )
    lines = "".join(f"<tr>{''.join(_cells(_short(name, line[name]) for name in names))}</tr>" for line in shown)
    said = f"{len(answer.lines):,} rows, the newest first" + (", times in UTC" if answer.query.size_ms else "")
    said += f"; {SHOWN_ROWS} of them are listed" if len(answer.lines) > SHOWN_ROWS else ""
    following = answer.next_link
    more = f'<nav class="pages"><a href="{escape(following)}">Later rows</a></nav>' if following else ""
    return (
        f"<section>{SCROLLED.format('Rows')}<table><caption>{said}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>{more}</section>"
    )


def _compared(lines: Sequence[Line]) -> str:
    numbers = [any(isinstance(line[name], int | float) for line in lines) for name in lines[0]]
    names = zip(lines[0], numbers, strict=True)
    head = "".join(f'<th scope="col"{_class(number)}>{escape(name)}</th>' for name, number in names)
    body = "".join(f"<tr>{''.join(_cells(line.values()))}</tr>" for line in lines)
    return (
        f"<section><h2>Compared with the control arm</h2>{SCROLLED.format('Comparison')}<table><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table></div></section>"
    )


def _cells(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        yield f"<td{_class(number)}>{escape(value_text(value))}</td>"


def _short(name: str, value: object) -> object:
    """A time without what is the same in all of them."""
    if name != "window_start" or not isinstance(value, str):
        return value
    return value.replace("T", " ").removesuffix("Z").removesuffix(".000")


def _class(number: bool) -> str:  # noqa: FBT001 - read as _class(is it a number)
    return ' class="num"' if number else ""

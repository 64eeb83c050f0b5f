"""The pages of the quality tables name each column as the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tables import audio_quality, retrieval_quality
from tables.fold import Column

DOCS = Path(__file__).parents[3] / "docs" / "tables"


@pytest.mark.parametrize(
    ("page", "columns"),
    [("audio_quality.md", audio_quality.COLUMNS), ("retrieval_quality.md", retrieval_quality.COLUMNS)],
)
def test_a_tables_page_lists_its_columns_in_order(page: str, columns: tuple[Column, ...]):
    printed = "\n".join(f"| `{column.name}` | {column.describe} |" for column in columns)
    assert f"|---|---|\n{printed}\n\n" in (DOCS / page).read_text()

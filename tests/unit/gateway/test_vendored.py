from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from gateway.pages import read_files

STATIC = files("gateway").joinpath("static")


def test_vendored_files_are_those_of_the_table():
    rows = re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", STATIC.joinpath("VENDORED.md").read_text(), re.MULTILINE)
    assert len(rows) == 3
    for name, digest in rows:
        assert hashlib.sha256(STATIC.joinpath(name).read_bytes()).hexdigest() == digest


def test_the_page_needs_nothing_inline_and_nothing_from_elsewhere():
    served = read_files()
    page = served["/"].body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon\w+=", page)
    for path in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert path in served or path == "/v1/tables/"  # the workers' pages, handed on by gateway.rest
    for path, file in served.items():
        if path.endswith(".js") and "uPlot" not in path:
            source = file.body.decode()
            assert all(f"/static/{name}" in served for name in re.findall(r'from "\./([^"]+)"', source))
            assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", source)

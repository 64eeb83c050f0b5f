"""The style sheet of the worker's pages, which look like the gateway's; and the policy that allows it and no more."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root{--page:#f2f4f6;--panel:#fff;--line:#d9dfe5;--grid:#e8ecf0;--text:#17212b;--muted:#55636f;--accent:#0f5c6e;
--warn:#8a5300;--warn-soft:#fdf0d8;--bad:#b3261e;--s0:#2b8a6e;--s1:#2563b8;--s2:#a8540a;--s3:#7a3fb0;--s4:#b3261e;
--s5:#55636f;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--page:#0e1419;--panel:#161e25;--line:#2a353f;--grid:#222c35;--text:#e3e9ee;
--muted:#9dabb7;--accent:#6fc3d6;--warn:#f2bb62;--warn-soft:#35260c;--bad:#ff8f85;--s0:#5fd0ae;--s1:#74aef7;
--s2:#f0a45a;--s3:#c79bf2;--s4:#ff8f85;--s5:#9dabb7}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","DejaVu Sans",sans-serif}
a{color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:1px}
.skip{position:absolute;left:-999px}
.skip:focus{left:8px;top:8px;padding:6px 10px;background:var(--panel)}
header{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;padding:10px 18px;background:var(--panel);
border-bottom:1px solid var(--line)}
h1{font-size:17px;font-weight:650;margin:0;overflow-wrap:anywhere}
h2{font-size:13px;font-weight:650;margin:0 0 6px}
header p{margin:0;color:var(--muted)}
main{padding:12px;display:grid;gap:12px;grid-template-columns:minmax(0,1fr)}
section,form{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px 14px;min-width:0}
form{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:end}
label{display:grid;gap:2px;color:var(--muted);font-size:12px}
input,button{font:inherit;color:inherit;padding:5px 9px;border:1px solid var(--line);border-radius:6px;
background:var(--page);min-width:0}
input{width:21ch}
input.when{width:25ch}
button{background:var(--panel);cursor:pointer}
.note{background:var(--warn-soft);color:var(--warn);border-color:var(--warn)}
.note p{margin:0}
.charts{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
figure{margin:0}
figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 14px;font-weight:600}
.key{color:var(--muted);font-weight:400;font-size:12px}
.key svg{width:22px;height:8px;margin-right:4px;vertical-align:middle}
.chart{width:100%;height:auto;display:block}
.chart .grid{stroke:var(--grid)}
.axis{fill:var(--muted);font-size:13px}
.line,.spark polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}
.spark{width:120px;height:24px;display:block}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}
.s5{stroke:var(--s5)}
.line.s1{stroke-dasharray:7 2}.line.s2{stroke-dasharray:2 2}.line.s3{stroke-dasharray:9 3 2 3}
.line.s4{stroke-dasharray:4 4}.line.s5{stroke-dasharray:1 3}
.point{fill:var(--panel);stroke-width:1.2}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{padding:3px 10px;text-align:left;font-weight:400;white-space:nowrap;border-top:1px solid var(--grid)}
thead th{color:var(--muted);font-size:12px;border-top:0;border-bottom:1px solid var(--line)}
.num{text-align:right;font-variant-numeric:tabular-nums}
td.text{white-space:normal}
.empty{color:var(--muted);margin:6px 0}
nav.pages{display:flex;gap:16px;margin-top:8px}
caption{text-align:left;color:var(--muted);padding-bottom:6px}
@media (max-width:600px){main{padding:8px}header{padding:8px 12px}input,input.when{width:100%}label{width:46%}}
""".strip()

_HASH = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

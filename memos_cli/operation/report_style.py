"""How the page of an audit looks: in light and in dark, on paper and on a telephone."""

from __future__ import annotations

STYLE = """
:root{--page:#f6f7f9;--card:#fff;--ink:#1c2330;--soft:#5b6576;--line:#e3e7ed;--bar:#3867d6;--old:#b9c8ee;--good:#1a7f4e;
--fair:#9a6400;--bad:#c0362c;--goodbg:#e6f5ec;--fairbg:#fdf3dc;--badbg:#fce9e7;--track:#eef1f5}
@media (prefers-color-scheme:dark){:root{--page:#12151b;--card:#1b2029;--ink:#e7eaf0;--soft:#9aa5b8;--line:#2d3441;
--bar:#7ea2ff;--old:#39496f;--good:#5fd39a;--fair:#f0b64d;--bad:#ff8b80;--goodbg:#16301f;--fairbg:#35290f;--badbg:#3b1b19;
--track:#262c37}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif}
main{max-width:1020px;margin:0 auto;padding:32px 20px 48px}
header{margin:0 0 20px}
h1{margin:0;font-size:32px;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{margin:0 0 14px;font-size:18px}
h3{margin:18px 0 8px;font-size:13px;color:var(--soft);font-weight:600}
.over{margin:0;color:var(--soft);font-size:13px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 24px;margin:0 0 16px}
.verdict{display:inline-block;margin:12px 0 0;padding:6px 14px;border-radius:999px}
.verdict span{opacity:.85}
.verdict.good{background:var(--goodbg);color:var(--good)}
.verdict.fair{background:var(--fairbg);color:var(--fair)}
.verdict.bad{background:var(--badbg);color:var(--bad)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:12px;padding:18px 24px}
.figures b{display:block;font-size:24px;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figures span{color:var(--soft);font-size:13px}
dl{display:grid;grid-template-columns:minmax(110px,max-content) 1fr;gap:5px 20px;margin:0}
svg+dl{margin-top:16px}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;overflow:visible;font:13px system-ui,"DejaVu Sans",sans-serif}
svg text{fill:var(--ink)}
svg .label,svg .tag{fill:var(--soft);font-size:12px}
svg .value{font-size:12px;font-variant-numeric:tabular-nums}
.bar{fill:var(--bar)}.bar.old{fill:var(--old)}.bar.bad{fill:var(--bad)}
.track{fill:var(--track)}.hit{fill:transparent}
.axis{stroke:var(--line);stroke-width:1}
.mark{stroke:var(--ink);stroke-width:2}
.dot{fill:var(--card);stroke:var(--soft);stroke-width:2}.dot.now{fill:var(--bar);stroke:var(--bar)}
.arc{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:4 3}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin-top:8px}
th{text-align:left;color:var(--soft);font-weight:600;font-size:13px;padding:6px 14px 6px 0;
border-bottom:1px solid var(--line)}
td{padding:8px 14px 8px 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
td.number{font-variant-numeric:tabular-nums;white-space:nowrap}
.place{color:var(--soft);font-size:13px}
code{font:13px ui-monospace,"SF Mono",Menlo,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.pill{display:inline-block;padding:1px 9px;border-radius:999px;
background:var(--track);font-size:12px;white-space:nowrap}
.pill.damage{background:var(--badbg);color:var(--bad)}.pill.warning{background:var(--fairbg);color:var(--fair)}
.note,.none{color:var(--soft);font-size:13px;margin:8px 0 0}
.heat{width:120px;height:10px;border-radius:5px;background:var(--track);margin-top:7px}
.heat i{display:block;height:10px;border-radius:5px;background:var(--bar)}
footer{color:var(--soft);font-size:13px;margin-top:20px}
@media print{body{background:none}section{break-inside:avoid}}
"""

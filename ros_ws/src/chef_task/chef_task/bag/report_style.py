# SPDX-License-Identifier: Apache-2.0
"""The look of the report, light and dark; `--c0` to `--c6` are the colours of its charts."""

STYLE = """
:root{--bg:#fff;--ink:#1f2328;--soft:#656d76;--line:#d8dee4;--tile:#f6f8fa;--bad:#b3261e;--good:#2f7d4f;
--c0:#3b6ea5;--c1:#c8762b;--c2:#3f8f5f;--c3:#a8506f;--c4:#7d6ba8;--c5:#3c8f9e;--c6:#8a8a8a}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e3e6ea;--soft:#97a0aa;--line:#30363d;--tile:#1d2228;
--bad:#ef7d74;--good:#6cc08b;--c0:#74a7dd;--c1:#e2a063;--c2:#74c293;--c3:#d98aa6;
--c4:#ab9bd6;--c5:#6fc3d1;--c6:#9a9a9a}}
*{box-sizing:border-box}body{margin:0 auto;padding:24px 28px 60px;max-width:1240px;background:var(--bg);
color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:38px 0 4px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:13px;font-weight:600;margin:0 0 2px}p{margin:2px 0 10px;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin-top:18px}
.tile{background:var(--tile);border-radius:8px;padding:10px 14px}.tile b{display:block;font-size:22px;font-weight:600}
.tile span{color:var(--soft);font-size:12px}.bad{color:var(--bad)}.good{color:var(--good)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:14px 22px}
.wide{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:14px 30px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}svg .g{stroke:var(--line)}
svg polyline{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}svg circle{fill:var(--c)}
svg rect{fill:var(--c0)}svg line.m{stroke:var(--bad);stroke-dasharray:4 3}svg text.m{fill:var(--bad)}
.key{display:flex;flex-wrap:wrap;gap:4px 16px;margin:2px 0 8px;font-size:12px}
.key i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.scroll{overflow-x:auto;margin-bottom:14px}table{border-collapse:collapse;font-size:13px;min-width:60%}
th{font-weight:600;text-align:left;color:var(--soft);border-bottom:1px solid var(--line);white-space:nowrap}
th,td{padding:4px 14px 4px 0;vertical-align:top}td{border-bottom:1px solid var(--line)}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td code{font-size:12px;overflow-wrap:anywhere}.bar{display:block;height:8px;border-radius:2px;
background:var(--c0);margin-top:6px}
figure{margin:0 0 16px}figure img{display:block;width:100%;border-radius:6px}figcaption{color:var(--soft);
font-size:12px;margin-top:4px;overflow-wrap:anywhere}
"""

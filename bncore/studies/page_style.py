"""How a report looks: on a screen light or dark, as its reader has it, and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #57606a; --paper: #ffffff; --card: #f6f7f9; --line: #d5d9de;
  --link: #0060a0; --holds: #00704f; --does_not_hold: #b34700; --contradicted: #99356b; --inconclusive: #00609a; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --faint: #a8adb5; --paper: #14171c; --card: #1c2027; --line: #343a43; --link: #7cc0f0;
    --holds: #2fcf9d; --does_not_hold: #ffa05c; --contradicted: #e79ac0; --inconclusive: #6fc0f2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 58rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; line-height: 1.4; margin: 0 0 .35rem; }
p { margin: .35rem 0 .7rem; }
a { color: var(--link); }
.faint, caption, figcaption { color: var(--faint); font-size: .875rem; }
.over { color: var(--faint); font-size: .875rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; }
.card { margin: 1rem 0; padding: .95rem 1.15rem; background: var(--card); border-left: .3rem solid var(--faint);
  border-radius: .25rem; break-inside: avoid-page; }
.card > :last-child { margin-bottom: 0; }
.standing { display: inline-block; font-weight: 650; white-space: nowrap; }
.holds { color: var(--holds); } .card.is-holds { border-color: var(--holds); }
.does_not_hold { color: var(--does_not_hold); } .card.is-does_not_hold { border-color: var(--does_not_hold); }
.contradicted { color: var(--contradicted); } .card.is-contradicted { border-color: var(--contradicted); }
.inconclusive { color: var(--inconclusive); } .card.is-inconclusive { border-color: var(--inconclusive); }
.wide { overflow-x: auto; margin: .8rem 0 1rem; }
table { border-collapse: collapse; font-size: .875rem; min-width: 60%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .35rem; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; } td.number { white-space: nowrap; }
figure { margin: 1rem 0; break-inside: avoid; }
.figures { columns: 2 25rem; column-gap: 2rem; margin-top: 1.4rem; }
.figures figure { margin: 0 0 1.4rem; }
figure svg { max-width: 100%; height: auto; display: block; }
.card figure { margin: .8rem 0 .4rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 550; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--card); border-radius: .25rem; font-size: .8rem;
  line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-size: .9em; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; margin: .35rem 0 .8rem; }
li { margin: .2rem 0; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
@media print {
  body { font-size: 10.5pt; max-width: none; padding: 0; }
  .wide { overflow: visible; }
  .card details::details-content { content-visibility: visible; display: block; }
  .card summary { list-style: none; }
  a { color: inherit; text-decoration: none; }
}
"""
"""Colours of words have a contrast of 4.5 and more with both grounds they stand on (WCAG 2.2, 1.4.3)."""

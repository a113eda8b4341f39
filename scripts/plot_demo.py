"""Draws docs/images/demo.svg from the last ./demo: accuracy by epoch, the kill, and one worker alone.

    python3 scripts/plot_demo.py [.demo/last] [docs/images/demo.svg]
"""

import json
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 820, 360, 60, 56, 24, 48
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 16px; font-weight: 600 } .curve { fill: none; stroke: #1a7f37; stroke-width: 2.5 }
  .grid { stroke: #d0d7de; stroke-width: 1 } .alone { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 6 4 }
  .kill { stroke: #cf222e; stroke-width: 1.5 } .back { fill: #cf222e; opacity: .08 }
  @media (prefers-color-scheme: dark) { text { fill: #9da7b3 } .grid { stroke: #30363d } .curve { stroke: #3fb950 } }
"""


def draw(facts, epochs):
    last = max(entry["epoch"] for entry in epochs)
    x = lambda epoch: LEFT + (WIDTH - LEFT - RIGHT) * epoch / last
    y = lambda accuracy: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (accuracy - 0.3) / 0.65
    text = lambda at_x, at_y, said, **more: (
        f'<text x="{at_x:.1f}" y="{at_y:.1f}"' + "".join(f' {k.rstrip("_").replace("_", "-")}="{v}"' for k, v in more.items())
        + f">{escape(said)}</text>")
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', f"<style>{STYLE}</style>"]
    parts.append(text(LEFT, 26, f"{facts['workers']} workers with five classes each, averaging: {facts['accuracy']:.1%} on the test images",
                      class_="title"))
    for percent in range(30, 100, 10):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(percent / 100):.1f}" y2="{y(percent / 100):.1f}"/>')
        parts.append(text(LEFT - 8, y(percent / 100) + 4, f"{percent} %", text_anchor="end"))
    for epoch in range(0, last + 1, max(1, last // 8)):
        parts.append(text(x(epoch), HEIGHT - BOTTOM + 20, str(epoch), text_anchor="middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "epoch (one averaging round each)", text_anchor="middle"))
    if facts.get("killed_at_epoch") is not None:
        killed, back = facts["killed_at_epoch"], facts.get("back_at_epoch")
        if back is not None:
            parts.append(f'<rect class="back" x="{x(killed):.1f}" y="{TOP}" width="{x(back) - x(killed):.1f}" height="{HEIGHT - TOP - BOTTOM}"/>')
        parts.append(f'<line class="kill" x1="{x(killed):.1f}" x2="{x(killed):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(text(x(killed) + 6, HEIGHT - BOTTOM - 40, "kill -9 of a worker;"))
        parts.append(text(x(killed) + 6, HEIGHT - BOTTOM - 24, f"averaging again after {facts['recovered_after_s']:.1f} s"))
    alone = facts.get("accuracy_alone")
    if alone:
        parts.append(f'<line class="alone" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(alone):.1f}" y2="{y(alone):.1f}"/>')
        parts.append(text(LEFT + 8, y(alone) - 8, f"one worker alone, same number of samples: {alone:.1%}"))
    points = " ".join(f"{x(entry['epoch']):.1f},{y(max(0.3, entry['accuracy'])):.1f}" for entry in epochs)
    parts += [f'<polyline class="curve" points="{points}"/>', "</svg>"]
    return "\n".join(parts) + "\n"


def main():
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".demo" / "last"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images" / "demo.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(json.loads((source / "result.json").read_text()), json.loads((source / "epochs.json").read_text())))
    print(target)


if __name__ == "__main__":
    main()

"""Draws a run's curve.csv (held-out accuracy per type and the loss) as a PNG, with Pillow alone.

    python plot.py runs/decoder/curve.csv ../assets/model/curves.png
"""
import csv
import sys

from PIL import Image, ImageDraw

SHOWN = {"exists": "#d62728", "color": "#e0a000", "where": "#2ca02c", "left_of": "#17becf", "above": "#1f77b4", "count": "#9467bd",
         "background": "#7f7f7f", "at": "#8c564b", "describe_words": "#e377c2"}


def main(source, out, width=900, height=460):
    with open(source) as file:
        rows = list(csv.DictReader(file))
    left, right, top, bottom = 50, 130, 20, 40
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    last = max(int(r["pictures"]) for r in rows)

    def point(pictures, value):
        return left + (width - left - right) * pictures / last, top + (height - top - bottom) * (1 - value)

    for i in range(6):
        y = point(0, i / 5)[1]
        draw.line([(left, y), (width - right, y)], fill="#dddddd")
        draw.text((left - 30, y - 6), f"{i / 5:.1f}", fill="black")
    for i in range(6):
        x = point(last * i / 5, 0)[0]
        draw.text((x - 10, height - bottom + 6), f"{last * i / 5000:.0f}k", fill="black")
    draw.text((width // 2 - 120, height - 18), "pictures seen; held-out accuracy, and the training loss", fill="black")
    loss = [point(int(r["pictures"]), min(1, float(r["loss"]))) for r in rows]
    draw.line(loss, fill="#bbbbbb", width=1)
    labels = [("loss", "#999999", loss[-1][1])]
    for name, color in SHOWN.items():
        points = [point(int(r["pictures"]), float(r[name])) for r in rows]
        draw.line(points, fill=color, width=2)
        labels.append((name, color, points[-1][1]))
    y = 0
    for name, color, at in sorted(labels, key=lambda label: label[2]):
        y = max(at - 6, y + 13)
        draw.text((width - right + 8, y), name, fill=color)
    image.save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Line and bar charts as SVG, enough for the plots of a run: axes that may be logarithmic, curves, a legend."""

import html
import math

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 90, 45, 50, 60
# Told apart also by people who do not tell red from green (Okabe and Ito).
COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#8c8c8c"]
FONT = 'font-family="sans-serif" font-size="14"'


def number(value):
    """Short: 1, 2.5, 40, 1,000, 2M."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def microseconds(us):
    for limit, divisor, unit in ((1_000, 1, "us"), (1_000_000, 1_000, "ms")):
        if us < limit:
            return f"{us / divisor:g} {unit}"
    return f"{us / 1_000_000:g} s"


class Axis:
    """Logarithmic, over whole powers of ten around all values."""

    def __init__(self, values, begin, end, label, label_of, limits=None):
        low, high = limits or (min(values), max(values))
        self.low = math.floor(math.log10(low))
        self.high = max(math.ceil(math.log10(high)), self.low + 1)
        self.begin, self.end, self.label, self.label_of = begin, end, label, label_of

    def at(self, value):
        share = (math.log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return self.begin + min(share, 1) * (self.end - self.begin)

    def ticks(self):
        """(position, label); those between the powers of ten have none."""
        for power in range(self.low, self.high):
            for step in range(1, 10):
                value = step * 10.0**power
                yield self.at(value), self.label_of(value) if step == 1 else ""
        yield self.at(10.0**self.high), self.label_of(10.0**self.high)


class Shares:
    """From 0, in tenths."""

    def __init__(self, values, begin, end, label):
        self.most, self.begin, self.end, self.label = math.ceil(10 * max(values)), begin, end, label

    def at(self, value):
        return self.begin + 10 * value / self.most * (self.end - self.begin)

    def ticks(self):
        return [(self.at(tenth / 10), f"{tenth / 10:.1f}") for tenth in range(self.most + 1)]


class Places:
    """One place for each name, in order."""

    def __init__(self, names, begin, end, label):
        self.names, self.begin, self.end, self.label = names, begin, end, label

    def at(self, index):
        return self.begin + (index + 0.5) / len(self.names) * (self.end - self.begin)

    def ticks(self):
        return [(self.at(index), name) for index, name in enumerate(self.names)]


def text(x, y, content, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT} {more}>{html.escape(content)}</text>'


def line(x1, y1, x2, y2, color, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def frame(title, content):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
                      f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(WIDTH / 2, 28, title), *content, "</svg>", ""])


def grid(x_axis, y_axis):
    for i, (x, label) in enumerate(x_axis.ticks()):
        yield line(x, TOP, x, HEIGHT - BOTTOM, "#bbb" if label else "#eee")
        # Names that stand close have two lines.
        yield text(x, HEIGHT - BOTTOM + 20 + (16 * (i % 2) if isinstance(x_axis, Places) else 0), label)
    for y, label in y_axis.ticks():
        yield line(LEFT, y, WIDTH - RIGHT, y, "#bbb" if label else "#eee")
        yield text(LEFT - 8, y + 5, label, "end")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_axis.label)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield text(18, middle, y_axis.label, more=f'transform="rotate(-90 18 {middle})"')


def legend(names, colors, left, top):
    for i, name in enumerate(names):
        y = top + 20 + 20 * i
        yield line(left, y - 5, left + 24, y - 5, colors[name], 3)
        yield text(left + 32, y, name, "start")


def curves(title, series, colors, x_label, y_label, x_name=number, y_name=microseconds, x_limits=None, has_points=False):
    """`series`: {name: [(x, y)]}, all above 0; both axes logarithmic. `colors`: {name: color}."""
    points = [point for curve in series.values() for point in curve]
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, x_label, x_name, x_limits)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, y_label, y_name)
    return drawn(title, series, colors, x_axis, y_axis, has_points)


def steps(title, series, colors, names):
    """`series`: {name: [(index of a name, ratio)]}: one place for each of `names`."""
    y_axis = Shares([ratio for curve in series.values() for _, ratio in curve], HEIGHT - BOTTOM, TOP, "")
    # What falls does so on the left.
    corner = (LEFT + 0.55 * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - 20 * len(series) - 20)
    return drawn(title, series, colors, Places(names, LEFT, WIDTH - RIGHT, ""), y_axis, True, corner)


def drawn(title, series, colors, x_axis, y_axis, has_points, corner=(LEFT + 12, TOP)):
    content = list(grid(x_axis, y_axis))
    for name, curve in series.items():
        color = colors[name]
        placed = [(x_axis.at(x), y_axis.at(y)) for x, y in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        content.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        if has_points:
            content += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in placed]
    return frame(title, content + list(legend(series, colors, *corner)))


def bars(title, figures, colors, unit):
    """`figures`: {name: value}, from 0."""
    largest = max(figures.values()) or 1
    room = (HEIGHT - TOP - BOTTOM) / len(figures)
    content = []
    for i, (name, value) in enumerate(figures.items()):
        y, width = TOP + i * room, value / largest * (WIDTH - 3 * LEFT - RIGHT - 100)
        content.append(f'<rect x="{3 * LEFT}" y="{y + room * 0.15:.1f}" width="{width:.1f}" height="{room * 0.7:.1f}" '
                       f'fill="{colors[name]}"/>')
        content.append(text(3 * LEFT - 8, y + room / 2 + 5, name, "end"))
        content.append(text(3 * LEFT + width + 8, y + room / 2 + 5, f"{value:.3g} {unit}", "start"))
    return frame(title, content)

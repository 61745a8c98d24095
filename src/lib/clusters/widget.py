"""The cluster explorer in JupyterLab: the map, sliders and a cluster's texts.

Texts reach the page escaped: by `html.escape`, by pandas, and in hovers by `lib.style.hover_text`.
The class `mathjax_ignore` keeps JupyterLab from reading `$` in them as a formula.
"""

from __future__ import annotations

import html
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.callbacks import Points

from lib import LABELS
from lib.clusters import explorer, figures
from lib.clusters.explorer import KINDS, Explorer
from lib.clusters.filter import facts

MAP_SIZE = 540  # pixels: two columns fit into a notebook on a laptop
SHOWN = 20  # texts of a cluster or of a search
WIDE = {"width": "98%"}
COLUMN = {"flex": "1 1 20em", "min_width": "0", "overflow": "auto"}
SLIDER = {"min": 0.0, "max": 1.0, "step": 0.01, "readout_format": ".2f", "layout": WIDE}
RING = {"size": 10, "symbol": "circle-open", "color": "black", "line": {"width": 1.5}}


class ExplorerWidget(widgets.VBox):
    """Shows a run's clusters; display it as the last value of a cell.

    Attributes:
        run: the data.
        purity, confidence: the sliders; cluster: number of the chosen cluster.
        query: the search; list: clusters that hold its texts; kind: which texts; figure: the map.
    """

    def __init__(self, run: Explorer) -> None:
        self.run = run
        begin = {"purity ≥": run.params.min_purity, "confidence ≥": run.params.min_confidence}
        self.purity, self.confidence = (
            widgets.FloatSlider(value, description=name, **SLIDER) for name, value in begin.items()
        )
        first, last = int(run.by_purity()[0]), len(run.table) - 1
        self.cluster = widgets.BoundedIntText(first, min=0, max=last, description="cluster")
        self.query = widgets.Text(description="words", continuous_update=False)
        self.list = widgets.Select(rows=14, layout=WIDE)  # the purest first
        self.kind = widgets.ToggleButtons(options={title: name for name, title in KINDS.items()})
        self.kept, self.found, self.card, self.texts = (widgets.HTML(layout=WIDE) for _ in range(4))
        self.figure = self._figure()
        for act, *parts in (
            (self._show_kept, self.purity, self.confidence),
            (self._search, self.query),
            (self._show_cluster, self.cluster),
            (self._show_texts, self.kind),
            (self._choose_from_list, self.list),
        ):
            for part in parts:
                part.observe(lambda _, act=act: act(), "value")
        self._search()
        self._show_kept()
        self._show_cluster()
        # the figure's own `layout` is plotly's, so it gets a box around it
        figure, kept = widgets.VBox([self.figure]), widgets.VBox([self.kept], layout=COLUMN)
        sliders = widgets.VBox([self.purity, self.confidence], layout=COLUMN)
        choice = widgets.VBox([self.cluster, self.query, self.list], layout=COLUMN)
        rows = [[sliders, kept], [figure, choice]]
        boxes = [widgets.Box(row, layout={"flex_flow": "row wrap"}) for row in rows]
        super().__init__([*boxes, self.found, self.card, self.kind, self.texts])

    def _figure(self) -> go.FigureWidget:
        frame = self.run.texts.iloc[self.run.map_rows]
        purity = self.run.table["purity"].to_numpy()[frame["cluster"]]
        frame = frame.assign(text=self.run.read(self.run.map_rows), purity=purity)
        title = f"UMAP of {len(frame):,} texts: click a point"
        figure = go.FigureWidget(figures.umap_view(self.run.map_points, frame, title))
        for trace in figure.data:
            trace.unselected = {"marker": {"opacity": 0.06}}
            trace.on_click(self._clicked)
        figure.update_layout(width=MAP_SIZE, height=MAP_SIZE)  # it does not follow its column
        ring = {"mode": "markers", "name": "chosen cluster", "marker": RING, "hoverinfo": "skip"}
        figure.add_scattergl(x=[], y=[], **ring)
        return figure

    def _clicked(self, trace: go.Scattergl, points: Points, _: object) -> None:
        for point in points.point_inds[:1]:
            self.cluster.value = int(trace.customdata[point][0])

    def _choose_from_list(self) -> None:
        if self.list.value is not None:
            self.cluster.value = self.list.value

    def _search(self) -> None:
        """Show the texts found, and in the list the clusters that hold them, or all."""
        words = self.query.value.strip()
        rows = self.run.search(words) if words else np.arange(len(self.run.texts))
        note = f"{len(rows):,} texts found; the first {SHOWN}:"
        self.found.value = note + self._text_list(rows[:SHOWN]) if words else ""
        found = self.run.texts["cluster"].iloc[rows].value_counts()
        table = self.run.table.loc[self.run.by_purity()]
        table = table[table.index.isin(found.index)]
        about = "{0.purity:.2f} {1}, {2:,} texts, #{0.Index}".format
        self.list.options = [
            (about(row, LABELS[row.dominant], found[row.Index]), row.Index)
            for row in table.itertuples()
        ]
        self._mark_in_list()

    def _mark_in_list(self) -> None:
        names = {name for _, name in self.list.options}
        self.list.value = self.cluster.value if self.cluster.value in names else None

    def _show_kept(self) -> None:
        passing = self.run.passing(round(self.purity.value, 2), round(self.confidence.value, 2))
        self.kept.value = kept_html(self.run.texts, passing)
        frame = self.run.texts["predicted"].iloc[self.run.map_rows]
        shown = passing[self.run.map_rows]
        with self.figure.batch_update():
            for label, trace in enumerate(self.figure.data[: len(LABELS)]):
                trace.selectedpoints = np.flatnonzero(shown[frame == label]).tolist()

    def _show_cluster(self) -> None:
        cluster, ring = self.cluster.value, self.figure.data[-1]
        here = self.run.texts["cluster"].to_numpy()[self.run.map_rows] == cluster
        with self.figure.batch_update():
            ring.x, ring.y = self.run.map_points[here].T
        self.card.value = cluster_html(self.run, cluster)
        self._mark_in_list()
        self._show_texts()

    def _show_texts(self) -> None:
        rows = self.run.examples(self.cluster.value, self.kind.value, SHOWN)
        self.texts.value = self._text_list(rows)

    def _text_list(self, rows: np.ndarray) -> str:
        items = (
            f"<li style='white-space: pre-wrap'>{html.escape(text)}<br><small>"
            f"{LABELS[row.predicted]} {row.confidence:.2f} · {html.escape(str(row.source))} · "
            f"cluster {row.cluster}</small></li>"
            for text, row in zip(
                self.run.read(rows), self.run.texts.iloc[rows].itertuples(), strict=True
            )
        )
        return f"<ol class='mathjax_ignore'>{''.join(items)}</ol>"


def explore(run_dir: Path | str) -> ExplorerWidget:
    """The explorer of a run; raises UserError as `lib.clusters.explorer.load` does."""
    return ExplorerWidget(explorer.load(run_dir))


def kept_html(texts: pd.DataFrame, kept: np.ndarray) -> str:
    """What is kept of the texts, bool [n], as HTML: how many, how right, of which sources."""
    known = facts(texts, kept)
    text = "<b>{kept:,} texts kept ({kept_share:.1%})</b><br>".format(**known)
    if known["kept"]:
        text += "expected precision (mean confidence) {expected_precision:.3f}".format(**known)
    if known["audited"]:
        measured = "; measured {measured_precision:.3f} [{low:.3f}, {high:.3f}] on {audited:,} "
        text += measured.format(**known) + "audit texts"
    counts = pd.crosstab(texts["source"][kept], texts["predicted"][kept], margins=True)
    counts = counts.rename(columns=dict(enumerate(LABELS)))
    return text + counts.to_html(border=0, classes="mathjax_ignore")


def cluster_html(run: Explorer, cluster: int) -> str:
    """Facts of a cluster as HTML: size, purity, classes, words, sources, neighbours."""
    row = run.table.loc[cluster]
    head = f"<h3>Cluster {cluster}</h3>"
    if not row["size"]:
        return f"{head}No text is in this cluster."
    lists = {
        "Classes": [f"{name} {row[name] / row['size']:.1%}" for name in LABELS],
        "Words": run.words[cluster],
        "Sources": [f"{name} {n:,}" for name, n in run.sources(cluster).items()],
        "Nearest clusters (distance of centres)": [
            f"{name} ({distance:.2f})" for name, distance in run.nearest(cluster).items()
        ],
    }
    about = f"{row['size']:,.0f} texts, purity {row['purity']:.3f} (95% lower bound "
    about += f"{row['purity_lower_bound']:.3f}), mean confidence {row['mean_confidence']:.3f}"
    lines = (f"<br><b>{name}:</b> {html.escape(', '.join(of))}" for name, of in lists.items())
    return f"<div class='mathjax_ignore'>{head}{about}{''.join(lines)}</div>"

"""The cluster explorer in JupyterLab: the map, sliders and a cluster's texts.

Texts reach the page escaped: by `html.escape`, by pandas, and in hovers by `lib.style.hover_text`.
The class `mathjax_ignore` keeps JupyterLab from reading `$` in them as a formula.
"""

from __future__ import annotations

import html
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from lib import LABELS
from lib.clusters import explorer, figures
from lib.clusters.explorer import KINDS, Explorer
from lib.clusters.thresholds import Kept, steps
from lib.errors import UserError

FADED = 0.06
MAP_SIZE = 540  # pixels: two columns fit into a notebook on a laptop
HITS = 30  # texts that a search shows
LISTED = 2_000  # entries of the list of clusters
ORDERS = {"purest first": False, "most mixed first": True}
WIDE = {"width": "98%"}
SLIDER = {"min": 0.0, "max": 1.0, "step": 0.01, "readout_format": ".2f", "layout": WIDE}
RING = {"size": 10, "symbol": "circle-open", "color": "black", "line": {"width": 1.5}}


class ExplorerWidget(widgets.VBox):
    """Shows a run's clusters; display it as the last value of a cell.

    Attributes:
        run: the data.
        purity, confidence: the sliders; cluster: number of the chosen cluster.
        query: the search; texts_shown: texts per list; figure: the map.
    """

    def __init__(self, run: Explorer) -> None:
        self.run = run
        begin = steps(np.array([run.params.min_purity, run.params.min_confidence])) / 100
        self.purity = widgets.FloatSlider(begin[0], description="purity ≥", **SLIDER)
        self.confidence = widgets.FloatSlider(begin[1], description="confidence ≥", **SLIDER)
        first, last = int(run.by_purity()[0]), len(run.table) - 1
        self.cluster = widgets.BoundedIntText(first, min=0, max=last, description="cluster")
        self.order = widgets.Dropdown(options=ORDERS, description="list")
        self.query = widgets.Text(description="words", continuous_update=False)
        self.list = widgets.Select(rows=12, layout=WIDE)
        self.kind = widgets.ToggleButtons(options={title: name for name, title in KINDS.items()})
        self.texts_shown = widgets.BoundedIntText(10, min=1, max=500, description="texts")
        self.kept, self.found, self.card, self.texts, self.exported = (
            widgets.HTML(layout=WIDE) for _ in range(5)
        )
        self.export_cluster, self.export_kept = (
            widgets.Button(description=f"Export the {what} (CSV)", layout={"width": "16em"})
            for what in ("cluster", "kept texts")
        )
        self.figure = self._figure()
        self._connect()
        sliders = widgets.VBox([self.purity, self.confidence, self.export_kept])
        choice = widgets.VBox([self.cluster, self.order, self.query, self.list])
        # the figure's own `layout` is plotly's, so it gets a box around it
        rows = [[sliders, self.kept], [widgets.VBox([self.figure]), choice]]
        for part in (sliders, self.kept, choice):
            part.layout.flex, part.layout.min_width, part.layout.overflow = "1 1 20em", "0", "auto"
        rows.append([self.kind, self.texts_shown, self.export_cluster])
        top, middle, controls = (widgets.Box(row, layout={"flex_flow": "row wrap"}) for row in rows)
        super().__init__([top, middle, self.exported, self.found, self.card, controls, self.texts])

    def choose(self, cluster: int | None) -> None:
        """Show a cluster; None: nothing has been chosen."""
        if cluster is not None:
            self.cluster.value = int(cluster)

    def _figure(self) -> go.FigureWidget:
        run = self.run
        frame = run.texts.iloc[run.map_rows]
        purity = run.table["purity"].to_numpy()[frame["cluster"]]
        frame = frame.assign(text=run.read(run.map_rows), purity=purity)
        title = f"UMAP of {len(frame):,} texts: click a point"
        figure = go.FigureWidget(figures.umap_view(run.map_points, frame, title))
        self._on_map = frame["cluster"].to_numpy()
        self._places = [np.flatnonzero(frame["predicted"] == i) for i in range(len(LABELS))]
        for trace, places in zip(figure.data, self._places, strict=True):
            trace.unselected = {"marker": {"opacity": FADED}}
            of = self._on_map[places]
            trace.on_click(lambda _, points, __, of=of: self._clicked(of[points.point_inds]))
        figure.update_layout(width=MAP_SIZE, height=MAP_SIZE)  # it does not follow its column
        ring = {"mode": "markers", "name": "chosen cluster", "marker": RING, "hoverinfo": "skip"}
        figure.add_scattergl(x=[], y=[], **ring)
        return figure

    def _connect(self) -> None:
        for part, act in (
            (self.purity, self._show_kept),
            (self.confidence, self._show_kept),
            (self.order, self._fill_list),
            (self.query, self._search),
            (self.cluster, self._show_cluster),
            (self.kind, self._show_texts),
            (self.texts_shown, self._show_texts),
            (self.list, lambda: self.choose(self.list.value)),
        ):
            part.observe(lambda _, act=act: act(), "value")
        self.export_cluster.on_click(lambda _: self._export_cluster())
        self.export_kept.on_click(lambda _: self._export_kept())
        self._search()
        self._show_kept()
        self._show_cluster()

    def _clicked(self, clusters: np.ndarray) -> None:
        if len(clusters):
            self.choose(clusters[0])

    def _search(self) -> None:
        words = self.query.value.strip()
        rows = self.run.search(words) if words else np.arange(len(self.run.texts))
        self._found = self.run.texts["cluster"].iloc[rows].value_counts()
        note = f"{len(rows):,} texts found; the first {HITS}:"
        self.found.value = note + self._text_list(rows[:HITS]) if words else ""
        self._fill_list()

    def _fill_list(self) -> None:
        """The clusters that hold texts found by the search, or all."""
        names = self.run.by_purity(ascending=self.order.value)
        names = names[np.isin(names, self._found.index)][:LISTED]
        columns = (self.run.table.loc[names, name] for name in ("purity", "dominant"))
        self.list.options = [
            (f"{purity:.2f} {LABELS[dominant]}, {self._found[name]:,} texts, #{name}", name)
            for name, purity, dominant in zip(names.tolist(), *columns, strict=True)
        ]
        self._mark_in_list()

    def _mark_in_list(self) -> None:
        names = {name for _, name in self.list.options}
        self.list.value = self.cluster.value if self.cluster.value in names else None

    def _show_kept(self) -> None:
        hundredths = [round(slider.value * 100) for slider in (self.purity, self.confidence)]
        self.kept.value = kept_html(self.run.thresholds.kept(*hundredths))
        shown = self.run.passing(*(n / 100 for n in hundredths))[self.run.map_rows]
        with self.figure.batch_update():
            for trace, places in zip(self.figure.data, self._places, strict=False):
                trace.selectedpoints = np.flatnonzero(shown[places]).tolist()

    def _show_cluster(self) -> None:
        ring, places = self.figure.data[-1], np.flatnonzero(self._on_map == self.cluster.value)
        with self.figure.batch_update():
            ring.x, ring.y = self.run.map_points[places].T
        self.card.value = cluster_html(self.run, self.cluster.value)
        self._mark_in_list()
        self._show_texts()

    def _show_texts(self) -> None:
        rows = self.run.examples(self.cluster.value, self.kind.value, self.texts_shown.value)
        self.texts.value = self._text_list(rows)

    def _text_list(self, rows: np.ndarray) -> str:
        names = ("predicted", "confidence", "source", "cluster")
        columns = (self.run.texts[name].iloc[rows] for name in names)
        items = (
            f"<li style='white-space: pre-wrap'>{html.escape(text)}<br><small>"
            f"{LABELS[predicted]} {confidence:.2f} · {html.escape(str(source))} · "
            f"cluster {cluster}</small></li>"
            for text, predicted, confidence, source, cluster in zip(
                self.run.read(rows), *columns, strict=True
            )
        )
        return f"<ol class='mathjax_ignore'>{''.join(items)}</ol>"

    def _export_cluster(self) -> None:
        cluster = self.cluster.value
        self._export(self.run.members(cluster), f"cluster_{cluster}.csv")

    def _export_kept(self) -> None:
        purity, confidence = round(self.purity.value, 2), round(self.confidence.value, 2)
        rows = np.flatnonzero(self.run.passing(purity, confidence))
        self._export(rows, f"kept_purity_{purity:.2f}_confidence_{confidence:.2f}.csv")

    def _export(self, rows: np.ndarray, name: str) -> None:
        path = self.run.run_dir / "explorer" / name
        try:
            said = f"{self.run.export(rows, path):,} texts written to {path}"
        except (OSError, UserError) as error:
            said = f"not written: {error}"
        self.exported.value = html.escape(said)


def explore(run_dir: Path | str) -> ExplorerWidget:
    """The explorer of a run; raises UserError as `lib.clusters.explorer.load` does."""
    return ExplorerWidget(explorer.load(run_dir))


def kept_html(kept: Kept) -> str:
    """What a pair of thresholds keeps, as HTML."""
    text = f"<b>{kept.texts:,} texts kept ({kept.share:.1%})</b><br>"
    if kept.texts:
        text += f"expected precision (mean confidence) {kept.expected_precision:.3f}"
    if kept.audited:
        text += f"; measured {kept.measured_precision:.3f} [{kept.low:.3f}, {kept.high:.3f}] "
        text += f"on {kept.audited:,} audit texts"
    counts = kept.counts.assign(all=kept.counts.sum(axis=1))
    counts.loc["all"] = counts.sum()
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
    facts = f"{row['size']:,.0f} texts, purity {row['purity']:.3f} (95% lower bound "
    facts += f"{row['purity_lower_bound']:.3f}), mean confidence {row['mean_confidence']:.3f}"
    lines = (f"<br><b>{name}:</b> {html.escape(', '.join(of))}" for name, of in lists.items())
    return f"<div class='mathjax_ignore'>{head}{facts}{''.join(lines)}</div>"

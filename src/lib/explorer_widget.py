"""The cluster explorer in JupyterLab: the UMAP view, sliders and a cluster's texts.

Texts reach the page through `html.escape` and plotly hovers, which `lib.plots.hover_text` escapes.
"""

from __future__ import annotations

import html
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go

from lib import LABELS, cluster_plots, explorer
from lib.errors import UserError
from lib.explorer import KINDS, Explorer
from lib.plots import COLORS
from lib.threshold_counts import Kept, steps

FADED = 0.06
MAP_SIZE = 540  # pixels: two columns fit into a notebook on a laptop
HITS = 30  # texts that a search shows
LISTED = 2_000  # entries of the list of clusters
ORDERS = {"purest first": False, "most mixed first": True}
WIDE = {"width": "98%"}


class ExplorerWidget(widgets.VBox):
    """Shows a run's clusters; display it as the last value of a cell.

    Attributes:
        run: the data.
        purity, confidence: the sliders; cluster: number of the chosen cluster.
        query: the search; texts_shown: texts per list; figure: the UMAP view.
    """

    def __init__(self, run: Explorer) -> None:
        self.run = run
        slider = {"min": 0.0, "max": 1.0, "step": 0.01, "readout_format": ".2f", "layout": WIDE}
        style = {"description_width": "10em"}
        values = run.params.min_purity, run.params.min_confidence
        self.purity, self.confidence = (
            widgets.FloatSlider(_hundredth(value) / 100, description=name, style=style, **slider)
            for name, value in zip(("purity at least", "confidence at least"), values, strict=True)
        )
        self.kept = widgets.HTML(layout=WIDE)
        last = len(run.table) - 1
        self.cluster = widgets.BoundedIntText(
            int(run.by_purity()[0]), min=0, max=last, description="cluster"
        )
        self.order = widgets.Dropdown(options=ORDERS, description="list")
        self.list = widgets.Select(rows=8, layout=WIDE)
        self.query = widgets.Text(placeholder="words in a text", continuous_update=False)
        self.hits = widgets.Select(rows=5, layout=WIDE)
        self.found = widgets.HTML(layout=WIDE)
        self.card = widgets.HTML(layout=WIDE)
        self.kind = widgets.ToggleButtons(options={title: name for name, title in KINDS.items()})
        self.texts_shown = widgets.BoundedIntText(10, min=1, max=500, description="texts")
        self.texts = widgets.HTML(layout=WIDE)
        self.export_cluster = widgets.Button(description="Export the cluster (CSV)")
        self.export_kept = widgets.Button(description="Export the kept texts (CSV)")
        for button in (self.export_cluster, self.export_kept):
            button.layout.width = "16em"
        self.exported = widgets.HTML()
        self.figure = self._figure()
        self._connect()
        thresholds = widgets.VBox([self.purity, self.confidence, self.export_kept])
        choice = [self.cluster, self.order, self.list]
        choice += [widgets.HBox([widgets.Label("search"), self.query]), self.hits, self.found]
        # the figure's own `layout` is plotly's, so it gets a box around it
        rows = [(thresholds, self.kept), (widgets.VBox([self.figure]), widgets.VBox(choice))]
        for part in (part for row in rows for part in row):
            part.layout.flex, part.layout.min_width, part.layout.overflow = "1 1 20em", "0", "auto"
        rows[1][0].layout.flex = "0 0 auto"
        row_layout = widgets.Layout(flex_flow="row wrap")
        controls = [self.kind, self.texts_shown, self.export_cluster]
        super().__init__(
            [
                *(widgets.Box(row, layout=row_layout) for row in rows),
                self.exported,
                self.card,
                widgets.Box(controls, layout=row_layout),
                self.texts,
            ]
        )

    def choose(self, cluster: int) -> None:
        """Show a cluster."""
        self.cluster.value = int(cluster)

    def _figure(self) -> go.FigureWidget:
        run = self.run
        frame = run.texts.iloc[run.map_rows]
        frame = frame.assign(
            text=run.read(run.map_rows), purity=run.table["purity"].to_numpy()[frame["cluster"]]
        )
        title = f"UMAP of {len(frame):,} texts: click a point"
        figure = go.FigureWidget(cluster_plots.umap_view(run.map_points, frame, title))
        self._places = [np.flatnonzero(frame["predicted"] == i) for i in range(len(LABELS))]
        for trace, places in zip(figure.data, self._places, strict=True):
            trace.unselected = {"marker": {"opacity": FADED}}
            clusters = frame["cluster"].to_numpy()[places]
            trace.on_click(lambda _, points, __, of=clusters: self._clicked(of, points.point_inds))
        ring = {"size": 10, "symbol": "circle-open", "color": "black", "line": {"width": 1.5}}
        figure.update_layout(width=MAP_SIZE, height=MAP_SIZE)  # it does not follow its column
        figure.add_scattergl(
            x=[], y=[], mode="markers", name="chosen cluster", marker=ring, hoverinfo="skip"
        )
        self._on_map = frame["cluster"].to_numpy()
        return figure

    def _connect(self) -> None:
        for slider in (self.purity, self.confidence):
            slider.observe(lambda _: self._show_kept(), "value")
        self.order.observe(lambda _: self._fill_list(), "value")
        self.list.observe(lambda change: self._picked(change["new"]), "value")
        self.hits.observe(lambda change: self._picked(change["new"]), "value")
        self.query.observe(lambda _: self._search(), "value")
        self.cluster.observe(lambda _: self._show_cluster(), "value")
        for part in (self.kind, self.texts_shown):
            part.observe(lambda _: self._show_texts(), "value")
        self.export_cluster.on_click(lambda _: self._export_cluster())
        self.export_kept.on_click(lambda _: self._export_kept())
        self._fill_list()
        self._show_kept()
        self._show_cluster()

    def _clicked(self, clusters: np.ndarray, points: list[int]) -> None:
        if points:
            self.choose(clusters[points[0]])

    def _picked(self, cluster: int | None) -> None:
        if cluster is not None:
            self.choose(cluster)

    def _fill_list(self) -> None:
        table = self.run.table
        names = self.run.by_purity(ascending=self.order.value)[:LISTED]
        described = zip(names, self.run.purity[names], table["size"][names], strict=True)
        self.list.options = [
            (f"{purity:.2f} {LABELS[table['dominant'][name]]}, {size:,} texts, #{name}", int(name))
            for name, purity, size in described
        ]
        self._mark_in_list()

    def _mark_in_list(self) -> None:
        names = {name for _, name in self.list.options}
        self.list.value = self.cluster.value if self.cluster.value in names else None

    def _search(self) -> None:
        words = self.query.value.strip()
        rows = self.run.search(words) if words else np.empty(0, dtype=np.int64)
        counts = self.run.texts["cluster"].iloc[rows].value_counts()
        self.hits.options = [(f"cluster {name}: {n:,} texts", name) for name, n in counts.items()]
        self.hits.value = None
        note = f"{len(rows):,} texts found; the first {HITS}:" if words else ""
        self.found.value = note + self._text_list(rows[:HITS]) if words else ""

    def _show_kept(self) -> None:
        purity, confidence = round(self.purity.value * 100), round(self.confidence.value * 100)
        self.kept.value = kept_html(self.run.thresholds.kept(purity, confidence))
        passing = np.zeros(len(self.run.texts), dtype=bool)
        passing[self.run.kept_rows(purity / 100, confidence / 100)] = True
        shown = passing[self.run.map_rows]
        with self.figure.batch_update():
            for trace, places in zip(self.figure.data[: len(LABELS)], self._places, strict=True):
                trace.selectedpoints = np.flatnonzero(shown[places]).tolist()

    def _show_cluster(self) -> None:
        cluster = self.cluster.value
        places = np.flatnonzero(self._on_map == cluster)
        with self.figure.batch_update():
            ring = self.figure.data[len(LABELS)]
            ring.x, ring.y = self.run.map_points[places].T
        self.card.value = cluster_html(self.run, cluster)
        self._mark_in_list()
        self._show_texts()

    def _show_texts(self) -> None:
        rows = self.run.examples(self.cluster.value, self.kind.value, self.texts_shown.value)
        self.texts.value = self._text_list(rows)

    def _text_list(self, rows: np.ndarray) -> str:
        known = self.run.texts.iloc[rows]
        items = (
            f"<li style='white-space: pre-wrap'>{html.escape(text)}<br><small>"
            f"{LABELS[row.predicted]} {row.confidence:.2f} · {html.escape(str(row.source))} · "
            f"cluster {row.cluster}</small></li>"
            for text, row in zip(self.run.read(rows), known.itertuples(), strict=True)
        )
        return f"<ol>{''.join(items)}</ol>"

    def _export_cluster(self) -> None:
        cluster = self.cluster.value
        self._export(self.run.members(cluster), f"cluster_{cluster}.csv")

    def _export_kept(self) -> None:
        purity, confidence = self.purity.value, self.confidence.value
        rows = self.run.kept_rows(round(purity, 2), round(confidence, 2))
        self._export(rows, f"kept_purity_{purity:.2f}_confidence_{confidence:.2f}.csv")

    def _export(self, rows: np.ndarray, name: str) -> None:
        path = self.run.run_dir / "explorer" / name
        try:
            count = self.run.export(rows, path)
            self.exported.value = f"{count:,} texts written to {html.escape(str(path))}"
        except (OSError, UserError) as error:
            self.exported.value = f"not written: {html.escape(str(error))}"


def explore(run_dir: Path | str) -> ExplorerWidget:
    """The explorer of a run.

    Raises:
        UserError: see `lib.explorer.load`.
    """
    return ExplorerWidget(explorer.load(run_dir))


def kept_html(kept: Kept) -> str:
    """What a pair of thresholds keeps, as HTML."""
    text = f"<b>{kept.texts:,} texts kept ({kept.share:.1%})</b><br>"
    if kept.texts:
        text += f"expected precision (mean confidence) {kept.expected_precision:.3f}"
    if kept.audited:
        text += (
            f"; measured {kept.measured_precision:.3f} [{kept.low:.3f}, {kept.high:.3f}] "
            f"on {kept.audited:,} audit texts"
        )
    counts = kept.counts.assign(all=kept.counts.sum(axis=1))
    counts.loc["all"] = counts.sum()
    return text + counts.to_html(border=0)


def cluster_html(run: Explorer, cluster: int) -> str:
    """Facts of a cluster as HTML: size, purity, class shares, sources, neighbours, words."""
    row = run.table.loc[cluster]
    size = int(row["size"])
    if not size:
        return f"<h3>Cluster {cluster}</h3>No text is in this cluster."
    shares = "".join(
        f"<span style='background: {COLORS[name]}; color: white; padding: 0 .5em; width: "
        f"{row[name] / size:.1%}; display: inline-block; overflow: hidden; box-sizing: border-box; "
        f"white-space: nowrap' title='{name}'>{name} {row[name] / size:.1%}</span>"
        for name in LABELS
        if row[name]
    )
    sources = ", ".join(
        f"{html.escape(str(name))} {n:,}" for name, n in run.sources(cluster).items()
    )
    nearest = ", ".join(f"{name} ({d:.2f})" for name, d in run.nearest(cluster).items())
    words = html.escape(", ".join(run.words[cluster])) or "none"
    return (
        f"<h3>Cluster {cluster}</h3>{size:,} texts, purity {row['purity']:.3f} (95% lower bound "
        f"{row['purity_lower_bound']:.3f}), mean confidence {row['mean_confidence']:.3f}"
        f"<div>{shares}</div><b>Words:</b> {words}<br><b>Sources:</b> {sources}<br>"
        f"<b>Nearest clusters</b> (distance of centres): {nearest}"
    )


def _hundredth(value: float) -> int:
    return int(steps(np.array([value]))[0])

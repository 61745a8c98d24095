"""What a run shows to people: HTML that opens from disk and asks nothing of the network.

    page           templates, the way values are written, plotly's script
    chapters       what a run holds of each chapter, whether it belongs together, notebooks as HTML
    front          what a run sums up to: its figures, and what it does differently
    report         the front page and all the others, as a folder or as one file
    explorer_page  the clusters of step 04, to point at without a kernel
    compare        several runs side by side

All HTML comes from `templates/`, by Jinja with autoescape: texts of the data stay texts.
"""

"use strict";
// What a page of the report does: draw its figures, switch between light and dark, unfold code.
// Nothing is asked of the network; the chosen theme is kept by the browser, if it keeps things.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = {
    get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("theme", theme); } catch { /* not kept */ } },
  };
  const PRINT_WIDTH = 680;  // CSS pixels between the margins of an upright A4 page

  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

  // The plot area stays light in the dark: the colours of the points mean what they mean on paper.
  function colours(layout, dark) {
    const changes = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: dark ? "#e6e6e6" : "#ffffff",
      "font.color": dark ? "#e4e4e2" : "#1c1c1c",
    };
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(name)) {
        changes[`${name}.gridcolor`] = changes[`${name}.zerolinecolor`] = dark ? "#fafafa" : "#e9e9e9";
      }
    }
    (layout.updatemenus || []).forEach((_, i) => {
      changes[`updatemenus[${i}].bgcolor`] = dark ? "#dcdcda" : "#f4f4f1";
      changes[`updatemenus[${i}].font.color`] = "#1c1c1c";
    });
    return changes;
  }

  const figures = () => [...document.querySelectorAll(".plotly-graph-div")].filter((div) => div.layout);

  function draw(script) {
    const div = document.getElementById(script.dataset.figure);
    const { data, layout } = JSON.parse(script.textContent);
    script.textContent = "";  // may be many megabytes
    Plotly.newPlot(div, data, layout, { responsive: true, displaylogo: false })
      .then(() => Plotly.relayout(div, colours(layout, isDark())));
  }

  function show(dark) {
    root.toggleAttribute("data-dark", dark);
    document.getElementById("theme-toggle").textContent = dark ? "Light" : "Dark";
    figures().forEach((div) => Plotly.relayout(div, colours(div.layout, dark)));
  }

  function print(begins) {
    figures().forEach((div) => Plotly.relayout(div, {
      ...colours(div.layout, !begins && isDark()),
      width: begins ? PRINT_WIDTH : null,
      autosize: !begins,
    }));
  }

  const theme = kept.get();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  addEventListener("DOMContentLoaded", () => {
    const themeToggle = document.getElementById("theme-toggle");
    themeToggle.hidden = false;
    themeToggle.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      kept.set(root.dataset.theme);
      show(isDark());
    });
    system.addEventListener("change", () => show(isDark()));

    const codeToggle = document.getElementById("code-toggle");
    const cells = [...document.querySelectorAll("details.code")];
    codeToggle.hidden = cells.length === 0;
    codeToggle.addEventListener("click", () => {
      const open = codeToggle.textContent === "Show code";
      cells.forEach((cell) => { cell.open = open; });
      codeToggle.textContent = open ? "Hide code" : "Show code";
    });

    show(isDark());
    document.querySelectorAll("script[data-figure]").forEach(draw);
  });
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();

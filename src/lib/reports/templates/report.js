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
  const figures = () => [...document.querySelectorAll(".plotly-graph-div")].filter((div) => div.layout);

  // The plot area stays light in the dark: the colours of the points mean what they mean on paper.
  function paint(layout, dark) {
    const grid = dark ? "#fafafa" : "#e9e9e9";
    layout.paper_bgcolor = "rgba(0,0,0,0)";
    layout.plot_bgcolor = dark ? "#e6e6e6" : "#ffffff";
    layout.legend = { ...layout.legend, bgcolor: layout.plot_bgcolor, font: { color: "#1c1c1c" } };
    layout.font = { ...layout.font, color: dark ? "#e4e4e2" : "#1c1c1c" };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      layout[name] = { ...layout[name], gridcolor: grid, zerolinecolor: grid };
    }
    for (const menu of layout.updatemenus || []) {
      menu.bgcolor = dark ? "#dcdcda" : "#f4f4f1";
      menu.font = { ...menu.font, color: "#1c1c1c" };
    }
    return layout;
  }

  function draw(script) {
    const div = script.previousElementSibling;
    const { data, layout } = JSON.parse(script.textContent);
    script.textContent = "";  // may be many megabytes
    Plotly.newPlot(div, data, paint(layout, isDark()), { responsive: true, displaylogo: false });
  }

  function redraw(dark, change = () => {}) {
    for (const div of figures()) {
      change(paint(div.layout, dark));
      Plotly.redraw(div);
    }
  }

  function show(dark) {
    root.toggleAttribute("data-dark", dark);
    document.getElementById("theme-toggle").textContent = dark ? "Light" : "Dark";
    redraw(dark);
  }

  const theme = kept.get();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  window.reportPaint = (layout) => paint(layout, isDark());  // for pages with scripts of their own

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
    document.querySelectorAll("script.figure").forEach(draw);
  });
  addEventListener("beforeprint", () => redraw(false, (layout) => {
    layout.width = PRINT_WIDTH;
    layout.autosize = false;
  }));
  addEventListener("afterprint", () => {
    redraw(isDark(), (layout) => {
      delete layout.width;
      layout.autosize = true;
    });
    figures().forEach((div) => Plotly.Plots.resize(div));
  });
})();

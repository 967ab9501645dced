"use strict";
(() => {
  const rows = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const HUES = {
    light: ["#1b1f24", "#0072b2", "#d55e00", "#009e73", "#c2569a", "#a87900", "#3aa6e0", "#6b4fa3"],
    dark: ["#e8ebef", "#4fa8e8", "#ff8a4c", "#2fc99b", "#f09ccb", "#e6c24a", "#9bd8f8", "#b39cf0"],
  };
  const hidden = new Set();
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const hue = (at) => { const all = dark.matches ? HUES.dark : HUES.light; return all[at % all.length]; };
  const shown = () => rows.map((row, at) => [row, at]).filter(([, at]) => !hidden.has(at));
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function draw(id, traces, x, y, more) {
    const axis = { gridcolor: ink("--line"), zerolinecolor: ink("--line"), linecolor: ink("--line"), automargin: true };
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("--soft") },
      margin: { l: 44, r: 14, t: 12, b: 40 }, hovermode: "closest", hoverlabel: { namelength: -1 },
      xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y }, ...more,
    };
    Plotly.react(id, traces, layout, { responsive: true, displaylogo: false });
  }

  const line = (row, at, x, y, dash) => ({ x, y, type: "scatter", mode: "lines", name: escaped(row.name),
    line: { color: hue(at), width: 2, dash: dash || (row.bound ? "dash" : "solid") } });
  const places = (values) => values.map((_, at) => at + 1);

  function rates() {
    const traces = shown().reverse().map(([row, at]) => ({
      x: [row.rate], y: [escaped(row.name)], type: "scatter", mode: "markers", name: escaped(row.name),
      marker: { color: hue(at), size: 10, symbol: row.bound ? "circle-open" : "circle" },
      error_x: row.interval ? { type: "data", symmetric: false, array: [row.interval[1] - row.rate],
        arrayminus: [row.rate - row.interval[0]], color: hue(at) } : undefined,
      hovertemplate: `%{x:.3~g} per second, ${escaped(row.gain)}<extra></extra>`,
    }));
    draw("chart-rate", traces, { title: { text: "groups per second" }, rangemode: "tozero" }, { type: "category" });
  }

  function bySteps(key, title, form) {
    const traces = shown().map(([row, at]) => line(row, at, places(row.steps[key]), row.steps[key]));
    draw(`chart-${key}`, traces, { title: { text: "step" } }, { title: { text: title }, rangemode: "tozero", tickformat: form });
  }

  function success() {
    const traces = shown().map(([row, at]) => {
      let time = 0;
      const times = row.steps.seconds.map((seconds) => { const now = time; time += seconds; return now; });
      return line(row, at, times, row.steps.success);
    });
    draw("chart-success", traces, { title: { text: "time, s" } }, { tickformat: ".0%" });
  }

  function tokens() {
    const parts = ["trained", "carried", "discarded"], colours = ["--use", "--accent", "--keep"];
    const traces = parts.map((part, place) => ({
      type: "bar", orientation: "h", name: part, marker: { color: ink(colours[place]) },
      y: shown().reverse().map(([row]) => escaped(row.name)),
      x: shown().reverse().map(([row]) => {
        const all = row.tokens.reduce((sum, one) => sum + Math.max(one, 0), 0);
        return all ? Math.max(row.tokens[place], 0) / all : 0;
      }),
      hovertemplate: `%{x:.1%} ${part}<extra>%{y}</extra>`,
    }));
    draw("chart-tokens", traces, { tickformat: ".0%", range: [0, 1] }, { type: "category" },
      { barmode: "stack", showlegend: true, legend: { orientation: "h", y: 1.1 } });
  }

  function lengths() {
    const traces = [];
    for (const [row, at] of shown()) {
      for (const kind of ["offered", "trained"]) {
        const values = row.lengths[kind];
        traces.push(line(row, at, values, values.map((_, place) => place / (values.length - 1)),
          kind === "offered" ? "dot" : undefined));
      }
    }
    draw("chart-lengths", traces, { type: "log", title: { text: "sampled tokens (log)" } }, { tickformat: ".0%", range: [0, 1.02] });
  }

  function drawAll() {
    rates();
    bySteps("seconds", "seconds");
    success();
    tokens();
    lengths();
    bySteps("stale", "", ".0%");
    bySteps("busy", "", ".0%");
  }

  function legend() {
    document.getElementById("legend").replaceChildren(...rows.map((row, at) => {
      const button = document.createElement("button"), swatch = document.createElement("i"), text = document.createElement("span");
      swatch.style.borderTopColor = hue(at);
      swatch.style.borderTopStyle = row.bound ? "dashed" : "solid";
      text.textContent = row.name;
      button.type = "button";
      button.append(swatch, text);
      button.setAttribute("aria-pressed", String(!hidden.has(at)));
      button.addEventListener("click", () => {
        if (!hidden.delete(at)) hidden.add(at);
        button.setAttribute("aria-pressed", String(!hidden.has(at)));
        drawAll();
      });
      return button;
    }));
  }

  dark.addEventListener("change", () => { legend(); drawAll(); });
  legend();
  drawAll();
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Hues that stay apart under the common colour-vision deficiencies, in two lightnesses; stock
  // takes the ink's colour, dashes tell what only the simulator runs, markers repeat the recipe.
  const HUES = {
    light: ["#0072b2", "#d55e00", "#009e73", "#c2569a", "#a87900", "#3aa6e0", "#6b4fa3"],
    dark: ["#4fa8e8", "#ff8a4c", "#2fc99b", "#f09ccb", "#e6c24a", "#9bd8f8", "#b39cf0"],
  };
  const MARKS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon"];
  const hidden = new Set();
  const select = document.getElementById("load");
  const narrow = () => innerWidth < 700;

  let hue = 0;
  const places = data.recipes.map((recipe) => (recipe.stock ? -1 : hue++));
  function look(index) {
    const recipe = data.recipes[index];
    const hues = dark.matches ? HUES.dark : HUES.light;
    const place = places[index];
    const again = Math.floor(Math.max(place, 0) / hues.length);
    const dash = recipe.deployable ? ["solid", "dashdot", "longdashdot"] : ["dash", "dot", "longdash"];
    return {
      color: place < 0 ? ink("--ink") : hues[place % hues.length],
      dash: dash[Math.min(again, dash.length - 1)],
      width: recipe.stock ? 3 : 2,
      symbol: MARKS[(place + 1) % MARKS.length],
    };
  }
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (run) => !hidden.has(run.recipe);
  const atLoad = () => data.runs.filter((run) => run.load === Number(select.value) && shown(run));

  function seconds(value) {
    if (value === 0) return "0";
    return value < 0.9995 ? `${+(value * 1e3).toPrecision(3)} ms` : `${+value.toPrecision(3)} s`;
  }

  function layout(x, y, more) {
    const axis = {
      gridcolor: ink("--line"), zerolinecolor: ink("--line"), linecolor: ink("--line"),
      automargin: true, fixedrange: narrow(),
    };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("--soft") },
      margin: { l: 44, r: 14, t: 12, b: 40 }, showlegend: false, hovermode: "closest",
      hoverlabel: { namelength: -1 },
      // Labels may push only the margin of their own side, else narrow charts never settle.
      xaxis: { ...axis, automargin: "height", ...x }, yaxis: { ...axis, automargin: "width", ...y }, ...more,
    };
  }

  function draw(id, traces, plan) {
    const config = { responsive: true, displaylogo: false, displayModeBar: narrow() ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    return Plotly.react(id, traces, plan, config);
  }

  function line(run, x, y, hover) {
    const { color, dash, width } = look(run.recipe);
    return { x, y, type: "scatter", mode: "lines", name: named(run),
      line: { color, dash, width }, hovertemplate: hover };
  }

  function decades(low, high) {
    const wide = Math.log10(high / low);
    const steps = wide > 2.5 ? [1] : wide > 1.2 ? [1, 3] : [1, 2, 3, 5, 7];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of steps) ticks.push(Number(`${step}e${power}`));
    }
    return { tickvals: ticks, ticktext: ticks.map(seconds) };
  }

  function cumulative(measure, title) {
    const traces = [];
    let low = Infinity, high = 0;
    for (const run of atLoad()) {
      const values = run.curves[measure];
      const last = Math.max(1, values.length - 1);
      const pairs = values.map((value, place) => [value, place / last]).filter(([value]) => value > 0);
      if (!pairs.length) continue;
      low = Math.min(low, pairs[0][0]);
      high = Math.max(high, pairs[pairs.length - 1][0]);
      const texts = pairs.map(([value, part]) =>
        `${(100 * part).toFixed(1)} % within ${seconds(value)}`);
      traces.push({ ...line(run, pairs.map((pair) => pair[0]), pairs.map((pair) => pair[1])),
        text: texts, hovertemplate: "%{text}<extra>%{fullData.name}</extra>" });
    }
    const bounds = data.bounds.filter((one) => one[measure] > 0);
    for (const one of bounds) { low = Math.min(low, one[measure]); high = Math.max(high, one[measure]); }
    if (!(high > 0)) { low = 0.01; high = 1; }
    const shapes = bounds.map((one) => ({ type: "line", x0: one[measure], x1: one[measure],
      yref: "paper", y0: 0, y1: 1, line: { color: ink("--soft"), width: 1.5, dash: "dot" } }));
    const annotations = bounds.map((one, place) => ({ x: Math.log10(one[measure]), yref: "paper",
      y: 0.02 + 0.09 * place, text: escaped(one.name), showarrow: false, xanchor: "right",
      yanchor: "bottom", xshift: -3, font: { size: 11, color: ink("--ink") }, bgcolor: ink("--card"),
      opacity: 0.85 }));
    const pad = Math.max(0.04, 0.03 * Math.log10(high / low));
    draw(`chart-${measure}`, traces, layout(
      { type: "log", title: { text: title }, range: [Math.log10(low) - pad, Math.log10(high) + pad],
        ...decades(low, high) },
      { range: [0, 1.02], tickformat: ".0%" }, { shapes, annotations }));
  }

  // Plotly reads a little HTML in texts; names are to be shown as they are.
  function escaped(text) {
    return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function overTime(key, options) {
    const traces = atLoad().map((run) => line(run, run[key].map((_, place) => (place + 0.5) * run.bin),
      run[key], `%{y:${options.form}} at %{x:.4~g} s<extra>%{fullData.name}</extra>`));
    for (const trace of traces) trace.line.width = Math.max(1.3, trace.line.width - 0.8);
    draw(`chart-${key}`, traces, layout({ title: { text: "time, s" }, rangemode: "tozero" },
      { rangemode: "tozero", tickformat: options.ticks, range: options.range,
        title: options.title ? { text: options.title } : undefined }));
  }

  function goodput() {
    const numbers = data.runs.every((run) => run.at !== null) && data.loads.length > 1;
    const traces = [];
    if (!numbers) {
      const runs = data.runs.filter((run) => shown(run) && run.goodput !== null).reverse();
      for (const run of runs) traces.push(point(run, [run.goodput], [label(run)], "error_x"));
      const offered = data.loads.length > 1 ? [] : data.runs.slice(0, 1).map((run) => run.offered);
      const shapes = offered.filter((rate) => rate > 0).map((rate) => ({ type: "line", x0: rate, x1: rate,
        yref: "paper", y0: 0, y1: 1, line: { color: ink("--soft"), width: 1.5, dash: "dot" } }));
      const plan = layout({ title: { text: "goodput, req/s" }, rangemode: "tozero" },
        { type: "category" }, { shapes });
      return draw("chart-goodput", traces, plan);
    }
    const spots = [...new Set(data.runs.map((run) => run.at))].sort((a, b) => a - b);
    const dodge = 0.012 * (spots[spots.length - 1] - spots[0]);
    const middle = (data.recipes.length - 1) / 2;
    const offered = spots.map((at) => Math.max(...data.runs.filter((run) => run.at === at)
      .map((run) => run.offered || 0)));
    traces.push({ x: spots, y: offered, mode: "lines", type: "scatter", name: "offered",
      line: { color: ink("--soft"), dash: "dot", width: 1.5 },
      hovertemplate: "%{y:.3~g} req/s offered<extra></extra>" });
    data.recipes.forEach((recipe, index) => {
      const runs = data.runs.filter((run) => run.recipe === index && shown(run) && run.goodput !== null)
        .sort((a, b) => a.at - b.at);
      if (!runs.length) return;
      const trace = point(runs[0], runs.map((run) => run.at + dodge * (index - middle) / 2),
        runs.map((run) => run.goodput), "error_y", runs);
      traces.push({ ...trace, mode: "lines+markers" });
    });
    draw("chart-goodput", traces, layout(
      { title: { text: data.loadTitle }, tickvals: spots },
      { title: { text: "goodput, req/s" }, rangemode: "tozero" }));
  }

  const named = (run) => escaped(data.recipes[run.recipe].name);
  const label = (run) => named(run) +
    (data.loads.length > 1 ? ` ${data.at[run.load]}` : "");

  function point(first, x, y, bars, runs = [first]) {
    const { color, dash, width, symbol } = look(first.recipe);
    const up = runs.map((run) => (run.interval ? run.interval[1] - run.goodput : 0));
    const down = runs.map((run) => (run.interval ? run.goodput - run.interval[0] : 0));
    const texts = runs.map((run) => `${+run.goodput.toPrecision(3)} req/s` + (run.interval
      ? ` [${run.interval.map((end) => +end.toPrecision(3)).join(", ")}]` : ""));
    return { x, y, type: "scatter", mode: "markers", name: named(first),
      line: { color, dash, width }, marker: { color, symbol, size: 9 }, text: texts,
      hovertemplate: "%{text}<extra>%{fullData.name}</extra>",
      [bars]: { type: "data", symmetric: false, array: up, arrayminus: down, color, thickness: 1.5, width: 4 } };
  }

  function drawAll() {
    goodput();
    cumulative("ttft", "TTFT (log)");
    cumulative("tpot", "TPOT (log)");
    cumulative("e2e", "E2E (log)");
    overTime("waiting", { form: ".3~g", title: "requests" });
    overTime("kv", { form: ".1%", ticks: ".0%", range: [0, 1.02] });
    overTime("running", { form: ".3~g", title: "requests" });
    for (const part of document.querySelectorAll(".by-load")) {
      part.hidden = part.dataset.load !== select.value;
    }
    for (const mark of document.querySelectorAll(".at-load")) {
      mark.textContent = data.at[select.value];
    }
  }

  function drawLegend() {
    const legend = document.getElementById("legend");
    legend.replaceChildren(...data.recipes.map((recipe, index) => {
      const button = document.createElement("button");
      const swatch = document.createElement("i");
      swatch.style.borderTopColor = look(index).color;
      swatch.style.borderTopStyle = recipe.deployable ? "solid" : "dashed";
      button.type = "button";
      const text = document.createElement("span");
      text.textContent = recipe.name + (recipe.stock ? " (stock)" : "");
      button.append(swatch, text);
      button.title = recipe.deployable ? recipe.name : `${recipe.name}, simulator only`;
      button.setAttribute("aria-pressed", String(!hidden.has(index)));
      button.addEventListener("click", () => {
        if (!hidden.delete(index)) hidden.add(index);
        button.setAttribute("aria-pressed", String(!hidden.has(index)));
        drawAll();
      });
      return button;
    }));
  }

  function sortBy(head) {
    const table = head.closest("table");
    const place = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [row.cells[place].dataset.key, row]);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return down ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  }

  for (const head of document.querySelectorAll(".sortable thead tr:last-child th")) {
    head.querySelector("button").addEventListener("click", () => sortBy(head));
  }
  select.addEventListener("change", drawAll);
  dark.addEventListener("change", () => { drawLegend(); drawAll(); });
  if (data.runs.length) { drawLegend(); drawAll(); }
})();

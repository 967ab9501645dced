"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const select = byId("load"), stage = byId("fleet-stage"), tip = byId("fleet-tip");
  const under = byId("fleet-lanes"), over = byId("fleet-top");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const NOBODY = 255, LEVELS = 250, STRIP = 84, AXIS = 26, GROUP = 22, LINK = 8, RIGHT = 58, PLAY_SECONDS = 14;
  // Lightness changes steadily along each scale, so it also reads without hues.
  const SCALES = {
    light: ["#e9f1f4", "#bfe0d6", "#74c0bb", "#3391ad", "#2f5f9b", "#42307d", "#3a1046"],
    dark: ["#1c232b", "#14434f", "#157481", "#3da781", "#8fcf62", "#e3e365", "#fffbd0"],
  };
  const MEASURES = {
    kv: { name: "KV use", share: true, words: "of KV blocks in use" },
    waiting: { name: "Waiting", words: "waiting" },
    running: { name: "Seated", words: "in steps" },
    busy: { name: "Busy", share: true, words: "of the time busy" },
  };
  const MOVES = { migration: "Migrations", handover: "Hand-overs", fetch: "Prefix fetches", failed: "Given up" };
  const WORDS = { handover: "hand-over", fetch: "prefix fetch" };
  const state = { run: -1, measure: "kv", span: null, off: new Set(), at: null, drag: null, play: null };
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const fleet = () => data.fleets[state.run];
  let plan = null;

  function codes(one, measure) {
    const heat = one.heat[measure];
    if (!heat.bytes) heat.bytes = Uint8Array.from(atob(heat.codes), (sign) => sign.charCodeAt(0));
    return heat.bytes;
  }

  function value(lane, time, measure) {
    const one = fleet(), bin = Math.floor(time / one.bin);
    if (bin < 0 || bin >= one.bins) return null;
    const code = codes(one, measure)[lane * one.bins + bin];
    return code === NOBODY ? null : code / LEVELS * one.heat[measure].most;
  }

  // One scale for all runs at a load, so that colours compare.
  function most(measure) {
    if (MEASURES[measure].share) return 1;
    return Math.max(...here().map((index) => data.fleets[index].heat[measure].most));
  }
  const here = () => data.runs.map((_, index) => index).filter((index) =>
    data.fleets[index] && data.runs[index].load === Number(select.value));
  const bent = (measure) => (MEASURES[measure].share ? (part) => part : Math.sqrt);

  function palette() {
    const stops = (dark.matches ? SCALES.dark : SCALES.light).map((text) =>
      [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16)));
    return (part) => {
      const at = Math.min(Math.max(part, 0), 1) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      return stops[low].map((from, place) => Math.round(from + (at - low) * (stops[low + 1][place] - from)));
    };
  }

  function seconds(time) {
    if (time === 0) return "0 s";
    if (time < 0.9995) return `${+(time * 1e3).toPrecision(3)} ms`;
    if (time < 1000) return `${+time.toPrecision(3)} s`;
    return time < 7200 ? `${(time / 60).toFixed(1)} min` : `${(time / 3600).toFixed(2)} h`;
  }
  const moment = (time) => `${+time.toFixed(time < 10 ? 3 : time < 1000 ? 2 : 1)} s`;
  // Three digits, trailing zeros too, as in the tables.
  function money(sum) {
    if (!sum) return "$0";
    const [unit, sign] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([one]) =>
      sum >= 9999.5 && sum >= 0.9995 * one) || [1, ""];
    const part = Number((sum / unit).toPrecision(3));
    return `$${(sum / unit).toFixed(Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(part)))))}${sign}`;
  }
  const whole = () => [0, fleet().bin * fleet().bins];

  function measureUp() {
    const one = fleet(), width = stage.clientWidth, left = width < 600 ? 44 : 76;
    const groups = new Set(one.lanes.map((lane) => lane[3])).size;
    const high = Math.max(5, Math.min(26, Math.floor(620 / one.lanes.length)));
    const rows = [], links = [];
    let y = 2, before = null;
    for (const _ of one.links) { y += GROUP; links.push(y); y += LINK + 2; }
    for (const lane of one.lanes) {
      if (lane[3] !== before) { y += GROUP; before = lane[3]; }
      rows.push(y);
      y += high;
    }
    plan = { width, left, right: RIGHT, high, rows, links, bottom: y, strip: y + 26,
      height: y + 26 + STRIP + AXIS, groups, gap: high > 9 ? 2 : high > 6 ? 1 : 0 };
  }

  const x = (time) => plan.left + (time - state.span[0]) / (state.span[1] - state.span[0]) *
    (plan.width - plan.left - plan.right);
  const timeAt = (place) => state.span[0] + (place - plan.left) /
    (plan.width - plan.left - plan.right) * (state.span[1] - state.span[0]);
  const middle = (lane) => plan.rows[lane] + (plan.high - plan.gap) / 2;

  function sized(canvas) {
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(plan.width * scale);
    canvas.height = Math.round(plan.height * scale);
    canvas.style.height = `${plan.height}px`;
    const brush = canvas.getContext("2d");
    brush.setTransform(scale, 0, 0, scale, 0, 0);
    brush.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    brush.textBaseline = "middle";
    return brush;
  }

  function hatch(brush, colour) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 1.4;
    for (const shift of [-6, 0, 6]) { pen.moveTo(shift, 6); pen.lineTo(shift + 6, 0); }
    pen.stroke();
    return brush.createPattern(tile, "repeat");
  }

  function within(brush, paint) {
    brush.save();
    brush.beginPath();
    brush.rect(plan.left, 0, plan.width - plan.left - plan.right, plan.height);
    brush.clip();
    paint();
    brush.restore();
  }

  function paintLanes(brush) {
    const one = fleet(), bytes = codes(one, state.measure), colour = palette();
    const curve = bent(state.measure), part = one.heat[state.measure].most / most(state.measure);
    const table = Array.from({ length: LEVELS + 1 }, (_, code) => colour(curve(code / LEVELS * part)));
    const picture = new ImageData(one.bins, one.lanes.length);
    bytes.forEach((code, place) => {
      if (code !== NOBODY) picture.data.set([...table[code], 255], 4 * place);
    });
    const small = document.createElement("canvas");
    small.width = one.bins;
    small.height = one.lanes.length;
    small.getContext("2d").putImageData(picture, 0, 0);
    brush.imageSmoothingEnabled = false;
    const tall = plan.high - plan.gap, end = whole()[1];
    const starting = hatch(brush, ink("--soft")), draining = hatch(brush, ink("--card"));
    within(brush, () => one.lanes.forEach(([, , , , , asked, up, drain, ended], lane) => {
      const y = plan.rows[lane];
      brush.fillStyle = ink("--line");
      brush.fillRect(plan.left, middle(lane) - 0.5, plan.width, 1);
      brush.fillStyle = ink("--card");
      brush.fillRect(x(asked), y, x(ended) - x(asked), tall);
      brush.fillStyle = starting;
      brush.fillRect(x(asked), y, x(up ?? ended) - x(asked), tall);
      if (up !== null) {
        brush.save();
        brush.beginPath();
        brush.rect(x(up), y, x(ended) - x(up), tall);
        brush.clip();
        brush.drawImage(small, 0, lane, one.bins, 1, x(0), y, x(end) - x(0), tall);
        brush.restore();
      }
      if (drain !== null) { brush.fillStyle = draining; brush.fillRect(x(drain), y, x(ended) - x(drain), tall); }
      if (ended < 0.999 * end) { brush.fillStyle = ink("--ink"); brush.fillRect(x(ended) - 1, y - 1, 2, tall + 2); }
    }));
  }

  function paintNames(brush) {
    const one = fleet();
    let before = null;
    one.lanes.forEach(([first, last, count, group, role], lane) => {
      if (group !== before) {
        const mine = one.lanes.filter((other) => other[3] === group);
        const number = mine.reduce((sum, other) => sum + other[2], 0);
        brush.textAlign = "left";
        brush.fillStyle = ink("--ink");
        brush.font = brush.font.replace("11px", "600 12px");
        const words = role === "mixed" || role === group ? group : `${group}, ${role}`;
        brush.fillText(`${words} · ${number} ${number === 1 ? "replica" : "replicas"}` +
          (count > 1 ? `, ${count} in each row` : ""), plan.left, plan.rows[lane] - 9);
        brush.font = brush.font.replace("600 12px", "11px");
        before = group;
      }
      const each = Math.max(1, Math.ceil(12 / plan.high));
      if (lane % each === 0) {
        brush.textAlign = "right";
        brush.fillStyle = ink("--soft");
        brush.fillText(count > 1 ? `${first}–${last}` : `${first}`, plan.left - 7, middle(lane));
      }
    });
  }

  const cutSpan = ([began, ended]) => [x(began), Math.max(x(ended ?? whole()[1]), x(began) + 3)];

  function paintLinks(brush) {
    const one = fleet();
    brush.textAlign = "left";
    one.links.forEach((name, row) => {
      const y = plan.links[row];
      brush.fillStyle = ink("--ink");
      brush.font = brush.font.replace("11px", "600 12px");
      brush.fillText(name ? `link of ${name} · cut` : "other links · cut", plan.left, y - 9);
      brush.font = brush.font.replace("600 12px", "11px");
      within(brush, () => {
        brush.fillStyle = ink("--line");
        brush.fillRect(plan.left, y + LINK / 2 - 0.5, plan.width, 1);
        brush.fillStyle = ink("--failed");
        for (const cut of one.cuts.filter((cut) => cut[2] === row)) {
          const [from, to] = cutSpan(cut);
          brush.fillRect(from, y, to - from, LINK);
        }
      });
    });
  }

  const kindOf = (arc) => { const [kind, , done] = fleet().outcomes[arc[4]]; return done ? kind : "failed"; };
  const arcsShown = () => fleet().arcs.filter((arc) => !state.off.has(kindOf(arc)) &&
    arc[1] >= state.span[0] && arc[0] <= state.span[1]);

  // Four points of a curve from where and when a move began to where and when it ended.
  function curve([began, ended, source, target]) {
    const [x0, y0, x1, y1] = [x(began), middle(source), x(ended), middle(target)];
    const bow = source === target ? 26 : Math.min(46, 8 + 0.16 * Math.abs(y1 - y0));
    const lift = source === target ? 14 : (y1 - y0) * 0.18;
    return [[x0, y0], [x0 + bow, y0 + lift], [x1 + bow * 0.6, y1 - lift], [x1, y1]];
  }

  function along([a, b, c, d], part) {
    const rest = 1 - part, ways = [rest ** 3, 3 * rest * rest * part, 3 * rest * part * part, part ** 3];
    return [0, 1].map((axis) => ways[0] * a[axis] + ways[1] * b[axis] + ways[2] * c[axis] + ways[3] * d[axis]);
  }

  function paintArcs(brush) {
    const arcs = arcsShown(), counts = {};
    for (const arc of arcs) counts[kindOf(arc)] = (counts[kindOf(arc)] || 0) + 1;
    const clear = (kind) => Math.min(0.95, Math.max(kind === "handover" ? 0.06 : 0.22, 110 / counts[kind]));
    within(brush, () => {
      for (const halo of arcs.length < 200 ? [true, false] : [false]) {
        for (const arc of arcs) {
          const kind = kindOf(arc), [a, b, c, d] = curve(arc);
          brush.globalAlpha = halo ? 0.5 : clear(kind);
          brush.strokeStyle = brush.fillStyle = halo ? ink("--card") : ink(`--${kind}`);
          brush.lineWidth = halo ? 3.4 : kind === "handover" ? 1 : 1.6;
          brush.setLineDash(kind === "failed" ? [4, 3] : []);
          brush.beginPath();
          brush.moveTo(...a);
          brush.bezierCurveTo(...b, ...c, ...d);
          brush.stroke();
          brush.beginPath();
          brush.arc(...d, (halo ? 1 : 0) + (arcs.length > 300 ? 1.4 : 2.3), 0, 7);
          brush.fill();
        }
      }
    });
    brush.globalAlpha = 1;
    brush.setLineDash([]);
  }

  const sign = (what) => (what.startsWith("crash") || what === "spot" ? "✕" : what === "spot notice" ? "!" :
    what.startsWith("steps") ? (what.includes("usual") ? "○" : "◐") : what.startsWith("role") ? "⇄" : "•");

  function paintMarks(brush) {
    const size = Math.max(6, Math.min(9, plan.high / 2.2));
    within(brush, () => fleet().marks.forEach(([time, lane, , what]) => {
      const [place, y] = [x(time), middle(lane)];
      brush.fillStyle = what.startsWith("role") ? ink("--accent") : ink("--failed");
      brush.strokeStyle = ink("--card");
      brush.lineWidth = 1.5;
      brush.beginPath();
      brush.arc(place, y, size, 0, 7);
      brush.fill();
      brush.stroke();
      brush.fillStyle = ink("--card");
      brush.font = brush.font.replace(/[\d.]+px/, `${(size * 1.35).toFixed(1)}px`);
      brush.textAlign = "center";
      brush.fillText(sign(what), place, y + 0.5);
      brush.font = brush.font.replace(/[\d.]+px/, "11px");
    }));
  }

  function stepPath(brush, values, top, height, high, base = null) {
    const one = fleet(), level = (number) => top + height - height * number / high;
    brush.beginPath();
    values.forEach((number, bin) => {
      const low = base ? base[bin] : 0;
      brush.lineTo(x(bin * one.bin), level(number + low));
      brush.lineTo(x((bin + 1) * one.bin), level(number + low));
    });
    for (let bin = values.length - 1; bin >= 0; bin--) {
      brush.lineTo(x((bin + 1) * one.bin), level(base ? base[bin] : 0));
      brush.lineTo(x(bin * one.bin), level(base ? base[bin] : 0));
    }
    brush.closePath();
  }

  function paintStrip(brush) {
    const one = fleet(), top = plan.strip, spent = one.dollars[one.dollars.length - 1] || 0;
    const high = Math.max(1, ...one.up.map((up, bin) => up + one.starting[bin]));
    const edge = plan.width - plan.right;
    brush.fillStyle = ink("--soft");
    brush.textAlign = "right";
    brush.fillText(`${+high.toPrecision(3)} up`, plan.left - 7, top + 4);
    brush.fillText("0", plan.left - 7, top + STRIP);
    within(brush, () => {
      stepPath(brush, one.up, top, STRIP, high);
      brush.fillStyle = ink("--line");
      brush.fill();
      stepPath(brush, one.starting, top, STRIP, high, one.up);
      brush.fillStyle = hatch(brush, ink("--soft"));
      brush.fill();
      if (!spent) return;
      brush.strokeStyle = ink("--use");
      brush.lineWidth = 2.5;
      brush.beginPath();
      brush.moveTo(x(0), top + STRIP);
      one.dollars.forEach((sum, bin) => brush.lineTo(x((bin + 1) * one.bin), top + STRIP * (1 - sum / spent)));
      brush.stroke();
    });
    brush.textAlign = "left";
    if (spent) {
      brush.fillStyle = ink("--use");
      brush.font = brush.font.replace("11px", "600 12px");
      brush.fillText(money(spent), edge + 7, top + 4);
      brush.font = brush.font.replace("600 12px", "11px");
    }
    brush.fillStyle = ink("--soft");
    brush.fillText(spent ? "replicas up, and what they have cost" : "replicas up", plan.left, top - 10);
    const wide = state.span[1] - state.span[0], rough = wide / Math.max(3, (edge - plan.left) / 110);
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
    brush.textAlign = "center";
    for (let tick = Math.ceil(state.span[0] / step) * step; tick <= state.span[1] + 1e-9; tick += step) {
      brush.fillStyle = ink("--line");
      brush.fillRect(x(tick), top + STRIP, 1, 5);
      brush.fillStyle = ink("--soft");
      brush.fillText(`${+tick.toPrecision(6)} s`, x(tick), top + STRIP + 15);
    }
  }

  function paint() {
    if (!fleet()) return;
    measureUp();
    const brush = sized(under);
    brush.clearRect(0, 0, plan.width, plan.height);
    paintLinks(brush);
    paintLanes(brush);
    paintNames(brush);
    paintArcs(brush);
    paintMarks(brush);
    paintStrip(brush);
    paintTop();
  }

  function paintTop() {
    const brush = sized(over), edge = plan.width - plan.right;
    const time = state.play === null ? state.at && state.at.time : state.play;
    if (state.drag && state.at) {
      brush.fillStyle = ink("--accent");
      brush.globalAlpha = 0.2;
      brush.fillRect(x(state.drag), 0, x(state.at.time) - x(state.drag), plan.height - AXIS);
      brush.globalAlpha = 1;
    }
    if (time === null || time === undefined || time < state.span[0] || time > state.span[1]) return;
    if (state.play !== null) playing(brush, time, edge);
    brush.fillStyle = ink("--ink");
    brush.fillRect(x(time) - 0.5, 0, state.play === null ? 1 : 2, plan.strip + STRIP);
    if (state.play === null) return;
    const one = fleet(), bin = Math.min(one.bins - 1, Math.floor(time / one.bin));
    const words = [moment(time), `${Math.round(one.up[bin])} up`, ...(one.dollars[one.bins - 1] ? [money(one.dollars[bin])] : [])];
    const text = words.join("  ·  "), wide = brush.measureText(text).width + 16;
    const at = Math.min(x(time) + 6, edge - wide);
    brush.fillRect(at, plan.strip - 20, wide, 18);
    brush.fillStyle = ink("--card");
    brush.textAlign = "left";
    brush.fillText(text, at + 8, plan.strip - 10.5);
  }

  // What is to come lies under a veil; moves under way travel along their arcs, losses ring.
  function playing(brush, time, edge) {
    brush.globalAlpha = 0.82;
    brush.fillStyle = ink("--card");
    brush.fillRect(x(time), 0, edge - x(time) + 1, plan.strip + STRIP);
    brush.globalAlpha = 1;
    const least = 0.035 * (state.span[1] - state.span[0]);
    within(brush, () => {
      for (const arc of arcsShown()) {
        const part = (time - arc[0]) / Math.max(arc[1] - arc[0], least);
        if (part < 0 || part > 1) continue;
        brush.fillStyle = ink(`--${kindOf(arc)}`);
        brush.strokeStyle = ink("--card");
        brush.lineWidth = 1.5;
        brush.beginPath();
        brush.arc(...along(curve(arc), part), 5, 0, 7);
        brush.fill();
        brush.stroke();
      }
      for (const [when, lane] of fleet().marks) {
        const part = (time - when) / least;
        if (part < 0 || part > 1) continue;
        brush.strokeStyle = ink("--failed");
        brush.globalAlpha = 1 - part;
        brush.lineWidth = 3;
        brush.beginPath();
        brush.arc(x(when), middle(lane), 6 + 34 * part, 0, 7);
        brush.stroke();
      }
    });
    brush.globalAlpha = 1;
  }

  const called = (lane) => {
    const [first, last, count] = fleet().lanes[lane];
    return count > 1 ? `${first}–${last}` : first;
  };

  function describe({ time, place, y }) {
    const one = fleet();
    if (y >= plan.strip - 6) {
      const bin = Math.min(one.bins - 1, Math.max(0, Math.floor(time / one.bin)));
      const lines = [`at ${moment(time)}`, `${+one.up[bin].toPrecision(3)} replicas up`];
      if (one.starting[bin]) lines.push(`${+one.starting[bin].toPrecision(3)} starting`);
      if (one.dollars[one.bins - 1]) lines.push(`${money(one.dollars[bin])} spent so far`);
      return lines.join("\n");
    }
    const cut = one.cuts.find((cut) => {
      const [from, to] = cutSpan(cut), top = plan.links[cut[2]];
      return place >= from - 3 && place <= to + 3 && y >= top - 6 && y <= top + LINK + 4;
    });
    if (cut) {
      const [began, ended, , between] = cut;
      return `${between} were parted\nfrom ${moment(began)} ` +
        (ended === null ? "to the end of the run" : `for ${seconds(ended - began)}`);
    }
    const mark = one.marks.find(([when, lane]) => Math.hypot(x(when) - place, middle(lane) - y) < 9);
    if (mark) return `replica ${mark[2]}: ${mark[3]}\nat ${moment(mark[0])}`;
    const near = (arc) => Math.min(...[0, 0.2, 0.4, 0.6, 0.8, 1].map((part) => {
      const [ax, ay] = along(curve(arc), part);
      return Math.hypot(ax - place, ay - y);
    }));
    // Among very many arcs there is always one near, so the lane is told until one has zoomed in.
    const arcs = arcsShown().length > 300 ? [] : arcsShown();
    const arc = arcs.map((one) => [near(one), one]).sort(([a], [b]) => a - b)[0];
    if (arc && arc[0] < 5) {
      const [began, ended, source, target, kind] = arc[1], [name, outcome] = one.outcomes[kind];
      return `${WORDS[name] || name} ${called(source)} → ${called(target)}\n` +
        `${outcome}, ${seconds(ended - began)}\nbegun at ${moment(began)}`;
    }
    const lane = plan.rows.findIndex((top) => y >= top && y < top + plan.high);
    return lane < 0 ? null : describeLane(one, lane, time);
  }

  function describeLane(one, lane, time) {
    const [first, last, count, group, role, asked, up, drain, ended] = one.lanes[lane];
    const name = count > 1 ? `replicas ${first}–${last} of ${group} (mean)` : `replica ${first} of ${group}, ${role}`;
    const lines = [name, `at ${moment(time)}`];
    if (time < asked) lines.push("not asked for yet");
    else if (time > ended) lines.push("gone");
    else if (up === null || time < up) lines.push("starting");
    else {
      for (const [measure, { share, words }] of Object.entries(MEASURES)) {
        const found = value(lane, time, measure);
        if (found !== null) lines.push(`${share ? `${(100 * found).toFixed(0)} %` : +found.toPrecision(2)} ${words}`);
      }
      if (drain !== null && time >= drain) lines.push("draining");
    }
    return lines.join("\n");
  }

  function point(event) {
    const box = over.getBoundingClientRect(), place = event.clientX - box.left, y = event.clientY - box.top;
    const inside = Math.min(plan.width - plan.right, Math.max(plan.left, place));
    state.at = { time: timeAt(inside), place: inside, y };
    const text = state.play === null && !state.drag && place === inside ? describe(state.at) : null;
    tip.hidden = !text;
    if (text) {
      tip.textContent = text;
      tip.style.left = `${Math.min(place + 14, plan.width - tip.offsetWidth - 2)}px`;
      tip.style.top = `${Math.max(0, Math.min(y + 14, plan.height - tip.offsetHeight))}px`;
    }
    paintTop();
  }

  function zoom(span) {
    const [low, high] = whole();
    state.span = span || [low, high];
    byId("fleet-reset").hidden = !span;
    paint();
  }

  over.addEventListener("pointermove", point);
  over.addEventListener("pointerleave", () => { state.at = state.drag = null; tip.hidden = true; paintTop(); });
  over.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") { point(event); state.drag = state.at.time; } });
  over.addEventListener("pointerup", () => {
    if (state.drag === null || !state.at) return;
    const ends = [state.drag, state.at.time].sort((a, b) => a - b);
    state.drag = null;
    if (x(ends[1]) - x(ends[0]) > 8) zoom(ends);
  });
  over.addEventListener("dblclick", () => zoom(null));
  byId("fleet-reset").addEventListener("click", () => zoom(null));

  function play() {
    const button = byId("fleet-play");
    if (state.play !== null) { state.play = null; button.textContent = "▶ Play"; paintTop(); return; }
    button.textContent = "■ Stop";
    tip.hidden = true;
    let before = null;
    state.play = state.span[0];
    requestAnimationFrame(function frame(now) {
      if (state.play === null) return;
      if (before !== null) state.play += (now - before) / 1000 / PLAY_SECONDS * (state.span[1] - state.span[0]);
      before = now;
      if (state.play > state.span[1]) return play();
      paintTop();
      requestAnimationFrame(frame);
    });
  }
  byId("fleet-play").addEventListener("click", play);

  function segments(id, entries, pressed, chosen) {
    byId(id).replaceChildren(...entries.map(([key, name, colour]) => {
      const button = document.createElement("button");
      button.type = "button";
      if (colour) { const swatch = document.createElement("i"); if (colour !== "--handover") swatch.style.borderTopColor = ink(colour); button.append(swatch); }
      button.append(name);
      button.setAttribute("aria-pressed", String(pressed(key)));
      button.addEventListener("click", () => { chosen(key); controls(); paint(); });
      return button;
    }));
  }

  function controls() {
    const runs = here(), one = fleet();
    const names = runs.map((index) => [index, data.recipes[data.runs[index].recipe].name]);
    segments("fleet-runs", names.length > 1 ? names : [], (key) => key === state.run, show);
    segments("fleet-measures", Object.entries(MEASURES).map(([key, { name }]) => [key, name]),
      (key) => key === state.measure, (key) => { state.measure = key; });
    const kinds = Object.keys(MOVES).filter((kind) => one.arcs.some((arc) => kindOf(arc) === kind));
    segments("fleet-arcs", kinds.map((kind) => [kind, MOVES[kind], `--${kind}`]), (key) => !state.off.has(key),
      (key) => { if (!state.off.delete(key)) state.off.add(key); });
    byId("fleet-facts").replaceChildren(...one.facts.map(([name, text]) => {
      const box = document.createElement("div"), term = document.createElement("dt"), told = document.createElement("dd");
      term.textContent = name;
      told.textContent = text;
      box.append(term, told);
      return box;
    }));
    key(one);
  }

  function key(one) {
    const bar = document.createElement("canvas"), colour = palette(), curve = bent(state.measure);
    bar.width = 150;
    bar.height = 1;
    const brush = bar.getContext("2d");
    for (let at = 0; at < 150; at++) { brush.fillStyle = `rgb(${colour(curve(at / 149))})`; brush.fillRect(at, 0, 1, 1); }
    const scale = document.createElement("span"), { share, words } = MEASURES[state.measure], high = most(state.measure);
    scale.append("0", bar, `${share ? "100 %" : +high.toPrecision(3)} ${words}`);
    const told = { "✕": "lost", "!": "loss announced", "◐": "slowed", "○": "at full speed again", "⇄": "new role", "•": "other" };
    const signs = [...new Set(one.marks.map(([, , , what]) => sign(what)))].map((mark) => {
      const span = document.createElement("span"), strong = document.createElement("b");
      strong.textContent = mark;
      span.append(strong, told[mark]);
      return span;
    });
    const some = document.createElement("span");
    some.textContent = one.arcs.length < one.moves ? `${one.arcs.length} of ${one.moves} moves drawn` : "";
    if (one.cuts.length) {
      const span = document.createElement("span");
      span.append(document.createElement("i"), "link cut");
      signs.push(span);
    }
    byId("fleet-key").replaceChildren(scale, ...signs, some);
  }

  function show(index) {
    state.run = index;
    state.play = state.drag = state.at = null;
    byId("fleet-play").textContent = "▶ Play";
    state.span = whole();
    byId("fleet-reset").hidden = true;
  }

  function begin() {
    const runs = here();
    byId("fleet").hidden = !runs.length;
    if (!runs.length) { state.run = -1; return; }
    const name = state.run < 0 ? -1 : data.runs[state.run].recipe;
    show(runs.find((index) => data.runs[index].recipe === name) ?? runs[0]);
    controls();
    paint();
  }

  select.addEventListener("change", begin);
  dark.addEventListener("change", () => { if (fleet()) { controls(); paint(); } });
  new ResizeObserver(() => { if (fleet() && plan && stage.clientWidth !== plan.width) paint(); }).observe(stage);
  begin();
})();

"use strict";
/* A run's page: curves with exact values, and the images of every epoch, parsed only when their epoch is shown.
   Everything from the run is put in with textContent: nothing in it is ever read as HTML. */
(() => {
  const REST = 120;       // ms a slider must rest before its image is loaded (Ronkainen 2017, 3.9)
  const at = id => document.getElementById(id);
  const run = JSON.parse(at("run").textContent);
  const svgNode = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const add = (parent, name, text, className) => {
    const node = parent.appendChild(document.createElement(name));
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const rows = run.history, column = name => rows.map(row => row[run.columns.indexOf(name)]);
  const epochs = run.columns.includes("epoch") ? column("epoch") : rows.map((_, i) => i + 1);

  for (const [name, value] of run.summary) {
    const cell = add(at("summary"), "div");
    add(cell, "dt", name);
    add(cell, "dd", value);
  }
  at("notes").textContent = run.notes.join(" ");

  const ticks = (low, high, log) => {
    if (log) {
      const all = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const m of [1, 2, 5]) all.push([m, m * 10 ** e]);
      const found = all.filter(([, v]) => v >= low && v <= high);
      if (found.length > 1) return found.filter(([m]) => m === 1 || found.length < 9).map(([, v]) => v);
    }
    const raw = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find(m => m * power >= raw * .999) * power, start = Math.ceil(low / step) * step;
    return [0, 1, 2, 3, 4, 5].map(i => start + i * step).filter(v => v <= high + step * 1e-9);
  };

  /* One chart; returns mark(index or -1): a line at that epoch and its exact values below. */
  const chart = (svg, values, series, log) => {
    const width = 560, height = 240, box = { l: 62, r: 10, t: 8, b: 24 };
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const all = series.flatMap(s => s.values).filter(v => v !== null && (!log || v > 0));
    if (!all.length) {
      svg.append(svgNode("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no finished epoch yet"));
      values.textContent = "";
      return { mark: () => {}, nearest: () => -1 };
    }
    let low = Math.min(...all), high = Math.max(...all);
    if (low === high) { low -= Math.abs(low) * .05 || 1; high += Math.abs(high) * .05 || 1; }
    const f = log && low > 0 ? Math.log10 : v => v;
    const first = Math.min(...epochs), last = Math.max(...epochs, first + 1);
    const x = e => box.l + (e - first) / (last - first) * (width - box.l - box.r);
    const y = v => height - box.b - (f(v) - f(low)) / (f(high) - f(low)) * (height - box.t - box.b);
    for (const v of ticks(low, high, log && low > 0)) {
      svg.append(svgNode("line", { class: "grid", x1: box.l, x2: width - box.r, y1: y(v), y2: y(v) }),
                 svgNode("text", { x: box.l - 6, y: y(v) + 4, "text-anchor": "end" }, String(Number(v.toPrecision(3)))));
    }
    const whole = ticks(first, last, false).filter(Number.isInteger);
    for (const e of whole) svg.append(svgNode("text", { x: x(e), y: height - 6, "text-anchor": "middle" }, e));
    series.forEach((s, k) => {
      let path = "", pen = "M";
      s.values.forEach((v, i) => {
        if (v === null || (log && v <= 0)) { pen = "M"; return; }
        path += `${pen}${x(epochs[i]).toFixed(2)} ${y(v).toFixed(2)}`;
        pen = "L";
        if (s.values.length < 40) svg.append(svgNode("circle", { class: `s${k}`, cx: x(epochs[i]), cy: y(v), r: 2.5 }));
      });
      svg.append(svgNode("path", { class: `s${k}`, d: path }));
    });
    const cursor = svg.appendChild(svgNode("line", { class: "cursor", y1: box.t, y2: height - box.b, visibility: "hidden" }));
    const mark = index => {
      values.replaceChildren();
      cursor.setAttribute("visibility", index < 0 ? "hidden" : "visible");
      if (index >= 0) {
        cursor.setAttribute("x1", x(epochs[index]));
        cursor.setAttribute("x2", x(epochs[index]));
      }
      add(values, "span", index < 0 ? "" : `epoch ${epochs[index]}: `);
      series.forEach((s, k) => {
        add(values, "span", index < 0 ? s.name : `${s.name} ${s.values[index] === null ? "none" : s.values[index]}`, `k${k}`);
        if (k + 1 < series.length) add(values, "span", ", ");
      });
    };
    const nearest = event => {
      const area = svg.getBoundingClientRect(), wanted = (event.clientX - area.left) / area.width * width;
      let best = 0;
      epochs.forEach((e, i) => { if (Math.abs(x(e) - wanted) < Math.abs(x(epochs[best]) - wanted)) best = i; });
      return best;
    };
    return { mark, nearest };
  };

  const charts = { loss: null, metric: null };
  let number = null;      // of the epoch whose image is shown
  const rest = () => epochs.indexOf(number);
  const named = new Map([["loss", "training"], ["val_loss", "validation"]]);
  const draw = () => {
    const curves = names => names.map(name => ({ name: named.get(name) || name, values: column(name) }));
    const losses = ["loss", "val_loss"].filter(name => run.columns.includes(name));
    charts.loss = chart(at("loss"), at("loss-values"), curves(losses), at("log").checked);
    charts.metric = chart(at("metric"), at("metric-values"), curves([at("column").value].filter(Boolean)), false);
    for (const key in charts) charts[key].mark(rest());
  };
  const others = run.columns.filter(name => !["epoch", "loss", "val_loss"].includes(name));
  for (const name of others) add(at("column"), "option", name);
  const metric = others.includes(run.metric) ? run.metric : others.find(name => name.startsWith("val_"));
  if (metric) at("column").value = metric;
  at("column").addEventListener("change", draw);
  at("log").addEventListener("change", draw);
  for (const key in charts) {
    const svg = at(key);
    svg.addEventListener("pointermove", event => charts[key].mark(charts[key].nearest(event)));
    svg.addEventListener("pointerleave", () => charts[key].mark(rest()));
    svg.addEventListener("click", event => {
      const index = run.epochs.indexOf(epochs[charts[key].nearest(event)]);
      if (index >= 0) show(index, at("sample").value);
    });
  }

  /* The images. */
  const epoch = at("epoch"), sample = at("sample"), pictures = run.epochs.length > 0 && run.names.length > 0;
  let timer = 0;
  const load = () => {
    const name = run.names[sample.value], those = JSON.parse(at(`epoch-${epoch.value}`).textContent);
    const found = Object.hasOwn(those, name) ? those[name] : "";
    if (found) at("picture").src = "data:image/jpeg;base64," + found;
    else at("picture").removeAttribute("src");
    at("picture").alt = `${name} after epoch ${number}`;
    at("caption").textContent = found ? at("picture").alt : `no image ${name} after epoch ${number}`;
  };
  const show = (e, s, wait = 0) => {
    if (!pictures) return;
    const within = (v, count) => Math.min(Math.max(Number(v), 0), count - 1);
    epoch.value = within(e, run.epochs.length);
    sample.value = within(s, run.names.length);
    number = run.epochs[epoch.value];
    at("epoch-label").textContent = number;
    at("sample-label").textContent = run.names[sample.value];
    for (const key in charts) charts[key].mark(rest());
    clearTimeout(timer);
    timer = setTimeout(load, wait);
  };
  const step = (e, s) => show(Number(epoch.value) + e, Number(sample.value) + s);
  draw();
  if (pictures) {
    epoch.max = run.epochs.length - 1;
    sample.max = run.names.length - 1;
    for (const slider of [epoch, sample]) {
      slider.addEventListener("input", () => show(epoch.value, sample.value, REST));
      slider.addEventListener("change", () => show(epoch.value, sample.value));
    }
    show(run.epochs.length - 1, 0);
  } else {
    at("pictures").replaceChildren();
    add(at("pictures"), "p", "This run has no images of its epochs (RUN/epochs/NNNN/NAME.jpg).", "hint");
  }
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-1e9, 0], End: [1e9, 0] };
  document.addEventListener("keydown", event => {
    const move = moves[event.key], sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (!move || event.ctrlKey || event.altKey || event.metaKey || /INPUT|SELECT/.test(event.target.tagName)) return;
    if (!sideways && event.target !== at("pictures")) return;       // elsewhere they scroll the page
    event.preventDefault();
    step(...move);
  });
  let playing = 0;
  const stop = () => { clearInterval(playing); playing = 0; at("play").textContent = "Play"; };
  if (pictures) at("play").addEventListener("click", () => {
    if (playing) { stop(); return; }
    if (Number(epoch.value) === run.epochs.length - 1) show(0, sample.value);
    at("play").textContent = "Stop";
    playing = setInterval(() => Number(epoch.value) < run.epochs.length - 1 ? step(1, 0) : stop(), 250);
  });
  if (pictures) at("keep").addEventListener("click", () => {
    const keep = at("kept").hidden;
    at("kept").hidden = !keep;
    at("keep").setAttribute("aria-pressed", keep);
    at("keep").textContent = keep ? "Forget the one kept" : "Keep to compare";
    if (keep && at("picture").src) at("kept-picture").src = at("picture").src;
    at("kept-picture").alt = at("kept-caption").textContent = `kept: ${at("caption").textContent}`;
  });

  /* Folded tables: filled when they are opened. */
  const tabulate = (parent, value) => {
    if (value === null || typeof value !== "object") { parent.append(String(value)); return; }
    if (Array.isArray(value) && value.every(v => v === null || typeof v !== "object")) {
      parent.append(value.join(", "));
      return;
    }
    const table = add(parent, "table");
    for (const key in value) {
      const row = add(table, "tr");
      add(row, "th", key);
      tabulate(add(row, "td"), value[key]);
    }
  };
  const once = (node, fill) => node.closest("details").addEventListener("toggle", fill, { once: true });
  once(at("parameters"), () => tabulate(at("parameters"), run.config));
  once(at("numbers"), () => {
    const head = add(at("numbers"), "tr");
    for (const name of run.columns) add(head, "th", name);
    for (const row of rows) {
      const line = add(at("numbers"), "tr");
      for (const value of row) add(line, "td", value === null ? "" : value);
    }
  });
})();

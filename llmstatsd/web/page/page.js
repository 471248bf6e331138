"use strict";
{
  // Everything that comes from outside is put in as text, never as markup; the policy of the page
  // (require-trusted-types-for) refuses the other way.

  const VERSION = 1; // of the documents, docs/reference/api.md
  const REOPEN_MS = 250; // after a stream that ended as it should
  const RETRY_MS = { lost: [1000, 10000], full: [5000, 30000] }; // first wait, longest wait
  const SILENT_MS = 4000; // without an update, after which the page says so
  const DEAD_MS = 9000; // and after which it opens another stream
  const HIDDEN_MS = 5000; // a page that nobody sees gives its stream back after so long
  const RELOAD_MS = 10000; // the whole series is asked for again at most this often
  const MODEL_LENGTH_LIMIT = 128;
  const TINTS = 7; // error types with a colour of their own
  const ENOUGH = 10; // calls of a model, below which it is not called slow or failing
  const WINDOWS = { "5m": "5 minutes", "1h": "hour" };
  const BRIEFLY = { "5m": "in 5 minutes", "1h": "in the hour" };

  const $ = (id) => document.getElementById(id);
  const state = { window: "5m", model: "", points: [], step: 1, bounds: [], cursor: null };
  const order = { key: "requests", up: false };

  // ---- Words and numbers

  const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
  const tenths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
  const small = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
  const large = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 4 });
  const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const unit = (name) =>
    new Intl.NumberFormat(undefined, { style: "unit", unit: name, unitDisplay: "short", maximumSignificantDigits: 3 });
  const digits = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
  const units = Object.fromEntries(["day", "hour", "minute", "second"].map((each) => [each, unit(each)]));
  const words = new Intl.ListFormat(undefined, { type: "conjunction" });

  const at = (seconds) => clock.format(seconds * 1000);
  const count = (n) => (Math.abs(n) >= 1e6 ? large : Math.abs(n) < 100 ? tenths : number).format(n);
  const rate = (n) => (n !== 0 && Math.abs(n) < 1 ? small.format(n) : count(n));
  const beside = (n) => (Math.abs(n) >= 1e4 ? large.format(n) : rate(n)); // an axis
  const share = (n) => (n === null ? "–" : percent.format(n));
  const duration = (s) => (s === null ? "–" : s < 1 ? `${digits.format(s * 1000)} ms` : `${digits.format(s)} s`);

  function elapsed(seconds) {
    const sizes = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
    const first = Math.max(0, sizes.findIndex(([, size]) => seconds >= size));
    let left = Math.floor(seconds);
    return sizes
      .slice(first, first + 2)
      .map(([name, size]) => [name, Math.floor(left / size), (left %= size)])
      .map(([name, n]) => units[name].format(n))
      .join(" ");
  }

  function size(n) {
    const names = ["B", "KiB", "MiB", "GiB"];
    const power = n ? Math.min(3, Math.floor(Math.log2(n) / 10)) : 0;
    return `${digits.format(n / 1024 ** power)} ${names[power]}`;
  }

  // Controls, and what turns the direction of text or takes no room, are made visible.
  const visible = (text) =>
    text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (each) =>
      `‹U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);

  // ---- Elements

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, text] of Object.entries(attributes ?? {})) made.setAttribute(name, text);
    made.append(...children);
    return made;
  }

  const foreign = (text, tag = "bdi") => el(tag, { dir: "auto", class: "cut", title: visible(text) }, visible(text));
  const short = (text) => el("bdi", { dir: "auto", title: visible(text) }, visible(text.length > 40 ? `${text.slice(0, 39)}…` : text));
  const code = (text) => el("code", null, text);
  const jump = (id, text) => el("a", { href: `#${id}` }, text);

  const filled = new WeakMap();

  // Fills anew only what has changed, so that focus and selection stay.
  function fill(node, data, make) {
    const key = JSON.stringify(data);
    if (filled.get(node) === key) return;
    filled.set(node, key);
    node.replaceChildren(...make());
  }

  function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function bar(className, part, label, text) {
    const inner = el("i");
    inner.style.setProperty("--part", Math.min(1, part));
    const attributes = { class: className, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1,
      "aria-valuenow": Math.min(1, part).toFixed(3), "aria-valuetext": text };
    return el("span", attributes, inner);
  }

  const limited = (held, limit, label) => [
    `${count(held)} of ${count(limit)}`,
    bar(held >= limit ? "meter full" : "meter", limit ? held / limit : 0, label, `${count(held)} of ${count(limit)}`),
  ];

  // ---- The stream

  let source = null;
  let timer = 0;
  let failures = 0;
  let hadAny = false;
  let heard = 0;
  let reloaded = -Infinity;
  let reloading = 0;

  function tell(kind, text) {
    $("state").dataset.state = kind;
    say($("state"), text);
  }

  const query = () => new URLSearchParams({ window: state.window, ...(state.model && { model: state.model }) });

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function open() {
    close();
    hadAny = false;
    heard = performance.now();
    source = new EventSource(`api/v1/stream?${query()}`);
    for (const name of Object.keys(receive)) {
      source.addEventListener(name, (event) => {
        hadAny = true;
        failures = 0;
        heard = performance.now();
        if (take(name, JSON.parse(event.data))) tell("live", "Live");
        else tell("lost", "The daemon speaks another version than this page: load it anew");
      });
    }
    source.onerror = fail;
  }

  function take(name, document) {
    if (document.version !== VERSION) return false;
    receive[name](document);
    later();
    return true;
  }

  function fail() {
    const ended = hadAny;
    close();
    if (ended) timer = setTimeout(open, REOPEN_MS);
    else explain();
  }

  // A browser does not tell why it got no stream; a plain request does, and brings figures.
  async function explain() {
    const asked = source;
    let kind = "lost";
    let text = "The daemon does not answer";
    try {
      const answer = await fetch(`api/v1/summary?window=${state.window}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (answer.ok) {
        kind = "full";
        text = "Too many live pages are open (http.streams), so this one is updated seldom";
        take("summary", await answer.json());
      } else {
        text = `The daemon answers ${answer.status} ${answer.statusText}`;
      }
    } catch {
      // As it was: nobody answers.
    }
    if (source !== asked || document.hidden) return;
    const [first, longest] = RETRY_MS[kind];
    const wait = Math.min(longest, first * 2 ** Math.min(failures, 10)) * (0.8 + 0.4 * Math.random());
    failures += 1;
    const old = kind === "lost" && state.summary ? ` The figures are those of ${at(state.summary.time)}.` : "";
    tell(kind, `${text}.${old} Trying again.`);
    clearTimeout(timer);
    timer = setTimeout(open, wait);
  }

  function watch() {
    const silent = performance.now() - heard;
    if (!source) return;
    if (silent > DEAD_MS) fail();
    else if (silent > SILENT_MS) tell("waiting", "Waiting for the next update …");
  }

  async function reload() {
    clearTimeout(reloading);
    const wait = reloaded + RELOAD_MS - performance.now();
    if (wait > 0) {
      reloading = setTimeout(reload, wait);
      return;
    }
    reloaded = performance.now();
    const asked = query().toString();
    try {
      const answer = await fetch(`api/v1/series?${asked}`, { cache: "no-store" });
      if (answer.ok && asked === query().toString()) take("series", await answer.json());
    } catch {
      // The stream tells when the daemon is gone.
    }
  }

  const receive = {
    series(series) {
      Object.assign(state, { points: series.points, step: series.step_seconds, bounds: series.bounds });
    },
    settings: (settings) => { state.settings = settings; },
    summary: (summary) => { state.summary = summary; },
    cardinality: (cardinality) => { state.cardinality = cardinality; },
    refused: (refused) => { state.refused = refused; },
    point(series) {
      const { points, step } = state;
      const [point] = series.points;
      const last = points.at(-1);
      if (!last) return;
      const steps = Math.round((point.time - last.time) / step);
      if (series.bounds.join() !== state.bounds.join() || steps < 0 || steps > points.length) {
        reload();
      } else if (steps === 0) {
        points[points.length - 1] = point;
      } else {
        for (let missed = 1; missed < steps; missed += 1) {
          points.push({ ...NOTHING, time: last.time + missed * step });
        }
        points.push(point);
        points.splice(0, steps);
        if (steps > 1) reload();
      }
    },
  };

  const NOTHING = { requests: 0, errors: {}, tokens: 0, counts: [], p50_seconds: null, p95_seconds: null, p99_seconds: null };

  // ---- What is chosen; the address keeps it, behind a # that no server sees

  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const model = asked.get("model") ?? "";
    state.window = asked.get("window") === "1h" ? "1h" : "5m";
    state.model = model.length <= MODEL_LENGTH_LIMIT ? model : "";
    document.querySelector(`input[value="${state.window}"]`).checked = true;
  }

  function choose(change) {
    Object.assign(state, change, { points: [], cursor: null });
    failures = 0;
    history.replaceState(null, "", `#${query()}`);
    tell("waiting", "Loading …");
    open();
    later();
  }

  // ---- Drawing

  let due = false;
  function later() {
    if (due || document.hidden) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  }

  function draw() {
    const { summary, settings, cardinality, refused } = state;
    if (summary) {
      drawAbout(summary);
      drawFirst(summary);
      drawTiles(summary);
      drawModels(summary);
      drawLadder(summary.ladder);
    }
    if (settings) drawSettings(settings);
    if (cardinality) drawCardinality(cardinality);
    if (refused) drawRefused(refused);
    if (summary && cardinality && refused) drawFindings(summary, cardinality, refused);
    drawCharts();
  }

  function chosen(summary) {
    if (!state.model) return summary.figures;
    return summary.models.find((each) => each.model === state.model)?.figures ?? NO_FIGURES;
  }

  const NO_FIGURES = { requests: 0, requests_per_second: 0, errors: 0, errors_by_type: {}, error_share: null, rate_limited: 0,
    fallbacks: 0, tokens: 0, tokens_per_second: 0, mean_seconds: null, p50_seconds: null, p95_seconds: null, p99_seconds: null };

  function drawAbout({ about, figures, time }) {
    const ours = document.documentElement.dataset.version;
    const newer = about.version === ours ? "" : ` (this page is of ${ours}: load it anew)`;
    say($("about"), `${about.version}${newer} · ${about.is_ready ? "ready" : "not ready"} · ${about.lane} lane · up ${elapsed(about.uptime_seconds)}`);
    document.title = `${rate(figures.requests_per_second)}/s · llmstatsd`;
    say($("updated"), `As of ${at(time)}`);
    say($("scope"), `last ${WINDOWS[state.window]}${state.model ? ", one model" : ", all models"}`);
    say($("models-title"), `Models in the last ${WINDOWS[state.window]}`);
  }

  function address(summary) {
    const setting = state.settings?.settings.find((each) => each.option === "statsd.udp");
    const text = summary.about.statsd_udp ?? setting?.value.replaceAll('"', "") ?? "127.0.0.1:8125";
    const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(text) ?? [null, "127.0.0.1", "8125"];
    return { host: ["", "0.0.0.0", "::"].includes(host) ? "127.0.0.1" : host, port };
  }

  function drawFirst(summary) {
    const nothing = summary.ladder.lines === 0;
    $("first").hidden = !nothing;
    if (!nothing) return;
    const { host, port } = address(summary);
    say($("first-command"), `echo -n '{"model":"my-model","operation":"chat","duration_seconds":1.5,"tokens":120}' > /dev/udp/${host}/${port}`);
    say($("first-where"), `In bash. Applications send the same to UDP port ${port}: one datagram per LLM call, as JSON, StatsD or DogStatsD.`);
  }

  function drawTiles(summary) {
    const figures = chosen(summary);
    const { ladder } = summary;
    const inWindow = BRIEFLY[state.window];
    const { total: lost, perSecond: losing } = drops(ladder);
    const tiles = [
      ["requests", "Requests / s", rate(figures.requests_per_second), `${count(figures.requests)} ${inWindow}`],
      ["errors", "Errors", share(figures.error_share), `${count(figures.errors)} ${inWindow}`, figures.errors ? "bad" : ""],
      ["tokens", "Tokens / s", rate(figures.tokens_per_second), `${count(figures.tokens)} ${inWindow}`],
      ["p50", "Latency p50", duration(figures.p50_seconds), `mean ${duration(figures.mean_seconds)}`],
      ["p95", "Latency p95", duration(figures.p95_seconds), `${share(0.05)} took longer`],
      ["p99", "Latency p99", duration(figures.p99_seconds), `${share(0.01)} took longer`],
      ["limited", "Rate limited", count(figures.rate_limited), state.model ? inWindow : `${count(figures.fallbacks)} fallbacks`],
      ["lost", "Lost datagrams", lost === null ? "–" : count(lost), `${rate(losing)} / s now`, lost ? "bad" : ""],
    ];
    fill($("tiles"), tiles, () => tiles.map(([id, name, figure, under, look]) =>
      el("div", { id: `tile-${id}` }, el("dt", null, name),
        el("dd", { class: `figure ${look ?? ""}` }, figure), el("dd", { class: "under" }, under))));
  }

  // What is lost before it is read: in the kernel, which not every one tells, and behind it.
  function drops(ladder) {
    const { kernel_dropped_datagrams: kernel, queue_dropped_datagrams: queue } = ladder;
    return { total: kernel === null && !queue ? null : kernel + queue, perSecond: ladder.kernel_dropped_per_second + ladder.queue_dropped_per_second };
  }

  // ---- Models

  const COLUMNS = [
    ["model", "Model", (row) => row.model ?? "", null],
    ["requests", "Requests", (row) => row.figures.requests, count],
    ["rate", "Per second", (row) => row.figures.requests_per_second, rate],
    ["errors", "Errors", (row) => row.figures.errors, count],
    ["share", "Error share", (row) => row.figures.error_share, share],
    ["limited", "Rate limited", (row) => row.figures.rate_limited, count],
    ["tokens", "Tokens per second", (row) => row.figures.tokens_per_second, rate],
    ["p50", "p50", (row) => row.figures.p50_seconds, duration],
    ["p95", "p95", (row) => row.figures.p95_seconds, duration],
    ["p99", "p99", (row) => row.figures.p99_seconds, duration],
  ];

  function headModels() {
    const cells = COLUMNS.map(([key, name, , format]) => {
      const button = el("button", { type: "button" }, name);
      const cell = el("th", { scope: "col", class: format ? "number" : "" }, button);
      button.addEventListener("click", () => {
        order.up = order.key === key ? !order.up : key === "model";
        order.key = key;
        later();
      });
      cell.dataset.key = key;
      return cell;
    });
    $("models").tHead.replaceChildren(el("tr", null, ...cells));
  }

  function sorted(rows) {
    const [, , read] = COLUMNS.find(([key]) => key === order.key);
    const direction = order.up ? 1 : -1;
    const compare = (a, b) => {
      const [x, y] = [read(a), read(b)];
      if (x === y) return 0;
      if (x === null || y === null) return x === null ? 1 : -1; // without a figure: last, either way
      return direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
    };
    return [...rows].sort(compare);
  }

  const modelRows = new Map();

  function modelRow(model) {
    let row = modelRows.get(model);
    if (row) return row;
    const cells = COLUMNS.map(([, , , format]) => el("td", { class: format ? "number" : "" }));
    const name = el("th", { scope: "row" });
    if (model === null) {
      name.append(el("span", { class: "quiet", title: "Of no model, or of one beyond those that are followed one by one" }, "not told apart"));
    } else {
      const button = el("button", { type: "button", class: "choose" }, foreign(model, "bdi"));
      button.addEventListener("click", () => choose({ model: state.model === model ? "" : model }));
      name.append(button);
    }
    name.append(el("span", { class: "share" }));
    row = el("tr", null, name, ...cells.slice(1));
    modelRows.set(model, row);
    return row;
  }

  function drawModels({ models }) {
    const body = $("models").tBodies[0];
    const most = Math.max(1, ...models.map((each) => each.figures.requests));
    const rows = sorted(models).map((each) => {
      const row = modelRow(each.model);
      COLUMNS.forEach(([key, , read, format], column) => {
        if (!format) return;
        const cell = row.cells[column];
        say(cell, format(read(each)));
        cell.classList.toggle("bad", (key === "errors" || key === "share") && read(each) > 0);
      });
      const isChosen = each.model !== null && each.model === state.model;
      row.classList.toggle("chosen", isChosen);
      row.querySelector("button")?.setAttribute("aria-pressed", isChosen);
      row.querySelector(".share").style.setProperty("--part", each.figures.requests / most);
      return row;
    });
    const has = document.activeElement;
    rows.forEach((row, place) => {
      if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    });
    while (body.rows.length > rows.length) body.lastChild.remove();
    for (const [model, row] of modelRows) if (!row.isConnected) modelRows.delete(model);
    if (has !== document.activeElement && has?.isConnected) has.focus({ preventScroll: true });
    for (const cell of $("models").tHead.rows[0].cells) {
      if (cell.dataset.key === order.key) cell.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    $("models-empty").hidden = models.length > 0;
    $("models").hidden = models.length === 0;
    drawPicker(models);
  }

  function drawPicker(models) {
    const names = models.map((each) => each.model).filter((each) => each !== null);
    if (state.model && !names.includes(state.model)) names.push(state.model);
    names.sort((a, b) => a.localeCompare(b));
    const picker = $("model");
    if (document.activeElement !== picker) {
      fill(picker, names, () => [
        el("option", { value: "" }, "All models"),
        ...names.map((each) => el("option", { value: each, dir: "auto" }, visible(each))),
      ]);
    }
    picker.value = state.model;
  }

  // ---- Ladder, refusals, cardinality, settings

  const TURNED_AWAY = { foreign: "from no network that may send", limit: "as many as may be were open" };
  const UNREAD = { too_long: "too long", cut: "cut off by the end of their connection" };

  function drawLadder(ladder) {
    const aside = Object.values(ladder.set_aside_lines).reduce((sum, each) => sum + each, 0);
    const kinds = Object.entries(ladder.set_aside_lines).filter(([, n]) => n).map(([kind, n]) => `${count(n)} ${kind}`);
    const { refused_datagrams: refused, tcp_refused_connections: turnedAway, tcp_refused_lines: unread } = ladder;
    const some = (...steps) => steps.filter(([, , total]) => total);
    const steps = [
      ["dropped", "dropped by the kernel: its buffer was full", ladder.kernel_dropped_datagrams, ladder.kernel_dropped_per_second, true],
      ["datagrams", "Datagrams", ladder.datagrams, ladder.datagrams_per_second],
      ...some(["queue", "dropped behind the socket: the daemon hung", ladder.queue_dropped_datagrams, ladder.queue_dropped_per_second, true]),
      ["foreign", "refused: from no network that may send", refused.foreign, null, true],
      ["too_long", "refused: too long", refused.too_long, null, true],
      ...some(["tcp", "TCP connections open", ladder.tcp_open_connections, null],
        ...Object.entries(turnedAway).map(([why, n]) => [`tcp-${why}`, `refused: ${TURNED_AWAY[why] ?? why}`, n, null, true]),
        ["tcp-lines", "Lines over TCP", ladder.tcp_lines, null],
        ...Object.entries(unread).map(([why, n]) => [`tcp-${why}`, `not read: ${UNREAD[why] ?? why}`, n, null, true])),
      ["lines", "Lines", ladder.lines, ladder.lines_per_second],
      ["refused", "refused", ladder.refused_lines, ladder.refused_lines_per_second, true],
      ["aside", kinds.length ? `set aside: ${words.format(kinds)}` : "set aside: events and service checks", aside, null, true],
      ["accepted", "Accepted lines", ladder.accepted_lines, null],
      ["samples", "Samples", ladder.samples, null],
    ];
    fill($("ladder"), steps, () => steps.map(([id, name, total, perSecond, isLost]) =>
      el("li", { id: `step-${id}`, class: isLost ? `lost ${total ? "some" : ""}` : "" },
        el("span", null, name),
        el("span", { class: `amount ${isLost && total && id !== "aside" ? "bad" : ""}` },
          el("span", { class: "total" }, total === null ? "–" : number.format(total)),
          ...(perSecond === null ? [] : [el("span", { class: "rate" }, ` ${rate(perSecond)}/s`)])))));
    const { receive_queue_bytes: queued, receive_buffer_bytes: has, asked_receive_buffer_bytes: asked } = ladder;
    const facts = [
      ["Receive buffer", has < asked ? `${size(has)} of the ${size(asked)} asked for` : size(has)],
      ["Waiting in it", queued === null ? "–" : size(queued)],
    ];
    fill($("buffer"), facts, () => facts.flatMap(([name, text]) => [el("dt", null, name), el("dd", null, text)]));
  }

  function drawRefused({ reasons, notes }) {
    $("refused-empty").hidden = reasons.length > 0;
    fill($("refused"), reasons, () => reasons.map((each) =>
      el("li", null,
        el("div", { class: "head" }, el("b", null, code(each.reason)), el("span", { class: "bad" }, number.format(each.lines))),
        el("p", { class: "quiet" }, each.meaning),
        ...(each.last_line === null ? [] : [
          el("code", { class: "line", dir: "ltr", tabindex: "0", role: "note", "aria-label": `The last line refused as ${each.reason}` },
            el("bdi", null, visible(each.last_line)))]))));
    const odd = Object.entries(notes);
    $("notes-part").hidden = odd.length === 0;
    fill($("notes"), odd, () => odd.map(([note, n]) => el("li", null, code(note), ` ${number.format(n)}`)));
  }

  function drawCardinality(cardinality) {
    const budgets = [
      ["Lines of all series", cardinality.exposition_lines, cardinality.exposition_lines_limit],
      ["Names that are not declared", cardinality.undeclared_names, cardinality.undeclared_names_limit],
    ];
    fill($("budgets"), budgets, () => budgets.map(([name, held, limit]) =>
      el("div", null, el("span", { class: "quiet" }, name), " ", ...limited(held, limit, name))));
    fill($("cardinality").tBodies[0], cardinality.series, () => cardinality.series.flatMap(seriesRows));
  }

  function seriesRows(series) {
    const folded = Object.entries(series.folded_samples).filter(([, n]) => n);
    const span = Math.max(1, series.labels.length);
    const name = el("th", { scope: "rowgroup", rowspan: span }, foreign(series.series), el("span", { class: "quiet small" }, series.type),
      ...folded.map(([why, n]) => el("span", { class: "cut warn small" }, `${count(n)} samples folded: ${why.replaceAll("_", " ")}`)));
    const sets = el("td", { rowspan: span }, ...limited(series.label_sets, series.label_sets_limit, `Label sets of ${series.series}`));
    const rows = series.labels.map((label) => el("tr", null,
      el("td", null, foreign(label.label)),
      el("td", null, ...limited(label.values, label.values_limit, `Values of ${label.label}`)),
      el("td", { class: "number" }, label.estimate === null ? "–" : count(label.estimate)),
      el("td", null, label.heaviest.length ? el("ul", { class: "heavy" }, ...label.heaviest.map((each) =>
        el("li", null, foreign(each.value), el("span", { class: "quiet" }, count(each.samples))))) : "–")));
    if (!rows.length) rows.push(el("tr", null, ...["", "", "number", ""].map((look) => el("td", { class: look }, "–"))));
    rows[0].prepend(name, sets);
    return rows;
  }

  function drawSettings({ settings, entries, entries_total: total }) {
    const changed = settings.filter((each) => !each.is_default);
    const others = settings.filter((each) => each.is_default);
    $("settings-none").hidden = changed.length > 0;
    $("settings-changed").hidden = changed.length === 0;
    const row = (each, ...names) => el("tr", null, el("th", { scope: "row" }, code(each.option)),
      ...names.map((name) => el("td", null, el("code", null, foreign(each[name])))));
    fill($("settings-changed").tBodies[0], changed, () => changed.map((each) => row(each, "value", "default")));
    fill($("settings-default").tBodies[0], others, () => others.map((each) => row(each, "value")));
    $("entries-part").hidden = total === 0;
    fill($("settings-entries").tBodies[0], entries, () => entries.map(({ entry, value }) => el("tr", null,
      el("th", { scope: "row" }, el("code", null, foreign(entry))), el("td", { class: "long" }, el("code", null, el("bdi", null, visible(value)))))));
    $("entries-more").hidden = total === entries.length;
    say($("entries-more"), `The first ${number.format(entries.length)} of ${number.format(total)}.`);
  }

  // ---- What stands out, in words

  function drawFindings(summary, cardinality, refused) {
    const found = [...findings(summary, cardinality, refused)];
    $("standing").hidden = found.length === 0;
    fill($("findings"), found.map((each) => each.map((part) => part.textContent ?? part)), () =>
      found.map((parts) => el("li", null, ...parts)));
  }

  function* findings(summary, cardinality, refused) {
    const { about, ladder, figures } = summary;
    if (!about.is_ready) yield ["The daemon is not ready: it starts or stops."];
    if (ladder.kernel_dropped_per_second > 0) {
      yield [`The kernel drops ${rate(ladder.kernel_dropped_per_second)} datagrams a second: `, jump("ladder-title", "more comes than is read"), "."];
    }
    if (ladder.queue_dropped_per_second > 0) {
      yield [`The daemon hangs, and drops ${rate(ladder.queue_dropped_per_second)} datagrams a second behind the socket: `, jump("ladder-title", "see its log for what holds it up"), "."];
    }
    if (ladder.receive_buffer_bytes < ladder.asked_receive_buffer_bytes) {
      yield [`The receive buffer is smaller than asked for. Allow more, then restart the daemon: `,
        code(`sysctl -w net.core.rmem_max=${ladder.asked_of_one_socket_bytes}`)];
    }
    if (ladder.refused_lines_per_second > 0) {
      const [worst] = refused.reasons;
      yield [`Lines are refused, ${rate(ladder.refused_lines_per_second)} a second`,
        ...(worst ? [", most of all since the start as ", code(worst.reason)] : []), ": ", jump("refused-title", "see the last one"), "."];
    }
    if (ladder.lines_per_second > 0 && !figures.requests) {
      yield ["Lines arrive, but no call of an LLM is among them: a call counts in ", code("llm_request_total"), " or is a JSON event with a ", code("model"), "."];
    }
    yield* troubledModels(summary.models);
    yield* folding(cardinality);
  }

  function* troubledModels(models) {
    const busy = models.filter((each) => each.model !== null && each.figures.requests >= ENOUGH);
    const failing = busy.filter((each) => each.figures.error_share >= 0.05).sort((a, b) => b.figures.error_share - a.figures.error_share);
    for (const { model, figures } of failing.slice(0, 3)) {
      const [[type]] = Object.entries(figures.errors_by_type).sort(([, a], [, b]) => b - a);
      yield [short(model), ` fails in ${share(figures.error_share)} of ${count(figures.requests)} requests, most often by `, code(type), "."];
    }
    const timed = busy.filter((each) => each.figures.p95_seconds !== null).sort((a, b) => a.figures.p95_seconds - b.figures.p95_seconds);
    const usual = timed[(timed.length - 1) >> 1];
    const slowest = timed.at(-1);
    if (timed.length > 1 && slowest.figures.p95_seconds >= 2 * usual.figures.p95_seconds) {
      yield [short(slowest.model), ` is the slowest: ${share(0.05)} of its requests take longer than ${duration(slowest.figures.p95_seconds)}.`];
    }
  }

  function* folding(cardinality) {
    if (cardinality.exposition_lines >= cardinality.exposition_lines_limit) {
      yield ["The budget of lines of all series is used up: ", jump("cardinality-title", "new label sets fold"), " into ", code("other"), "."];
    }
    const worst = new Map();
    for (const { labels } of cardinality.series) {
      for (const label of labels) {
        if (label.estimate !== null && label.estimate > (worst.get(label.label)?.estimate ?? 0)) worst.set(label.label, label);
      }
    }
    for (const { label, estimate, values_limit: limit, heaviest } of [...worst.values()].slice(0, 3)) {
      yield ["The label ", short(label), ` has about ${count(estimate)} values and a limit of ${count(limit)}, so some fold into `, code("other"),
        ...(heaviest.length ? ["; the heaviest is ", short(heaviest[0].value)] : []), ". ", jump("cardinality-title", "Pin, alias or remove them"), "."];
    }
  }

  // ---- Charts

  let colours = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ink", "quiet", "grid", "accent", "heat", "p50", "p95", "p99", "rule", ...Array.from({ length: TINTS + 1 }, (_, n) => `e${n}`)];
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  const LEFT = 46;
  const RIGHT = 6;
  const TOP = 6;
  const BOTTOM = 18;

  function surface(figure) {
    const canvas = figure.querySelector("canvas");
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    const n = state.points.length || 1;
    const inner = { width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    return { pen, width, height, inner, bottom: height - BOTTOM, x: (place) => LEFT + (place / n) * inner.width };
  }

  // Nothing is known of the time before the daemon's start, which is not the same as no calls.
  const isKnown = (point) => point.time > state.summary.about.started - state.step;
  const begun = () => {
    const place = state.points.findIndex(isKnown);
    return place < 0 ? state.points.length : place;
  };

  function veil({ pen, inner, x }) {
    const wide = x(begun()) - LEFT;
    pen.fillStyle = colours.grid;
    pen.fillRect(LEFT, TOP, wide, inner.height);
    const text = "before the start";
    if (pen.measureText(text).width + 12 > wide) return;
    pen.fillStyle = colours.quiet;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, LEFT + wide / 2, TOP + inner.height / 2);
  }

  // The next 1, 2, 2.5 or 5 times a power of ten, so that half of it is a round number too.
  function nice(most) {
    if (!(most > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 4, 5, 10].map((each) => each * power).find((each) => each >= most * 0.999);
  }

  function scale({ pen, inner, bottom, width }, most) {
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const part of [0, 0.5, 1]) {
      const y = bottom - part * inner.height;
      pen.fillStyle = colours.grid;
      pen.fillRect(LEFT, Math.round(y), width - LEFT - RIGHT, 1);
      pen.fillStyle = colours.quiet;
      pen.fillText(beside(most * part), LEFT - 6, y + (part === 1 ? 4 : 0));
    }
    return (value) => bottom - (value / most) * inner.height;
  }

  function times({ pen, x, bottom, width, inner }) {
    const { points, step } = state;
    const every = (state.window === "5m" ? 60 : 600) * (inner.width < 320 ? 2 : 1);
    pen.fillStyle = colours.quiet;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    points.forEach((point, place) => {
      if (Math.floor((point.time + step / 2) / every) === Math.floor((point.time - step / 2) / every)) return;
      const middle = x(place + 0.5);
      if (middle > LEFT + 16 && middle < width - 18) pen.fillText(minute.format(point.time * 1000), middle, bottom + 5);
    });
  }

  function crosshair({ pen, x, bottom }) {
    const place = cursorPlace();
    if (place < 0) return;
    pen.fillStyle = colours.quiet;
    pen.fillRect(Math.round(x(place + 0.5)), TOP, 1, bottom - TOP);
  }

  function overlay(on) {
    veil(on);
    times(on);
    crosshair(on);
  }

  const cursorPlace = () =>
    state.cursor === null ? -1 : state.points.findIndex((each) => Math.abs(each.time - state.cursor) < state.step / 2);

  // The newest step of ten seconds is not over, and would look like a fall.
  const whole = () => (state.step > 1 ? state.points.slice(0, -1) : state.points);

  // Over fewer where no more is known: at the left edge, and after the start.
  function means(values, first) {
    const reach = Math.max(1, state.summary.rate_seconds / state.step);
    let sum = 0;
    return values.map((value, place) => {
      sum += value - (place >= reach ? values[place - reach] : 0);
      const known = Math.min(reach, place + 1 - Math.min(first, place));
      return Math.max(0, sum) / (known * state.step);
    });
  }

  function drawFlow(id, read, now, name) {
    const figure = $(id);
    const on = surface(figure);
    const values = whole().map(read);
    const first = begun();
    const line = means(values, first);
    const y = scale(on, nice(Math.max(...line, 0)));
    const { pen, x, bottom } = on;
    pen.beginPath();
    pen.moveTo(x(first + 0.5), bottom);
    line.slice(first).forEach((value, place) => pen.lineTo(x(first + place + 0.5), y(value)));
    pen.lineTo(x(Math.max(first, line.length - 1) + 0.5), bottom);
    pen.fillStyle = `rgba(${colours.heat}, .16)`;
    pen.fill();
    trace(pen, line.map((value, place) => (place < first ? null : value)), x, y, colours.accent, []);
    overlay(on);
    const most = line.reduce((best, value, place) => (value > line[best] ? place : best), 0);
    const highest = line.length ? `Highest ${rate(line[most])} at ${at(state.points[most].time)}.` : "";
    caption(figure, rate(now), () => rate(line[cursorPlace()] ?? values.at(-1) / state.step),
      `${name} over the last ${WINDOWS[state.window]}. Now ${rate(now)}. ${highest}`);
  }

  function trace(pen, values, x, y, colour, dash, width = 1.5) {
    pen.beginPath();
    let isDown = false;
    values.forEach((value, place) => {
      if (value === null) isDown = false;
      else if (isDown) pen.lineTo(x(place + 0.5), y(value));
      else {
        pen.moveTo(x(place + 0.5), y(value));
        pen.lineTo(x(place + 0.5) + 0.5, y(value));
        isDown = true;
      }
    });
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.setLineDash(dash);
    pen.stroke();
    pen.setLineDash([]);
  }

  function caption(figure, now, then, label) {
    const place = cursorPlace();
    const text = place < 0 ? `now ${now}` : `${at(state.points[place].time)}: ${place < begun() ? "before the start" : then()}`;
    say(figure.querySelector(".readout"), text);
    figure.querySelector("canvas").setAttribute("aria-label", label);
  }

  // Steps side by side, put together by absolute time, so that they do not shimmer as time goes on.
  function bins(length) {
    const made = [];
    let last = null;
    state.points.forEach((point, place) => {
      const id = Math.floor(Math.round(point.time / state.step) / length);
      if (!last || last.id !== id) made.push((last = { id, place, points: [] }));
      last.points.push(point);
    });
    return made;
  }

  function together(errors, into = {}) {
    for (const [type, n] of Object.entries(errors)) into[type] = (into[type] ?? 0) + n;
    return into;
  }

  function drawErrors(summary) {
    const figure = $("chart-errors");
    const on = surface(figure);
    const { pen, x } = on;
    const stacks = bins(state.step === 1 ? 5 : 6).map((bin) => ({ ...bin, errors: bin.points.reduce((sum, each) => together(each.errors, sum), {}) }));
    const totals = stacks.reduce((sum, each) => together(each.errors, sum), {});
    const types = Object.entries(totals).sort(([a, n], [b, m]) => m - n || a.localeCompare(b)).map(([type]) => type);
    const tint = (type) => colours[`e${Math.min(TINTS, types.indexOf(type))}`];
    const heights = stacks.map(({ errors, points }) => Object.values(errors).reduce((sum, n) => sum + n, 0) / (points.length * state.step));
    const y = scale(on, nice(Math.max(...heights, 0)));
    for (const { errors, place, points } of stacks) {
      let base = 0;
      for (const type of types) {
        if (!errors[type]) continue;
        const top = base + errors[type] / (points.length * state.step);
        pen.fillStyle = tint(type);
        pen.fillRect(x(place) + 0.5, y(top), Math.max(1, x(place + points.length) - x(place) - 1), Math.max(1, y(base) - y(top)));
        base = top;
      }
    }
    overlay(on);
    const legend = types.map((type) => [type, totals[type], tint(type)]);
    fill($("error-legend"), legend, () => (legend.length ? legend : [["none in this window", null, colours.rule]]).map(([type, n, colour]) => {
      const mark = el("i");
      mark.style.setProperty("--tint", colour);
      return el("li", null, mark, n === null ? type : `${type} ${count(n)}`);
    }));
    const place = cursorPlace();
    const then = () => listing(state.points[place].errors, "none");
    const listed = listing(Object.fromEntries(legend), "none");
    caption(figure, share(chosen(summary).error_share ?? 0), then, `Errors by type over the last ${WINDOWS[state.window]}: ${listed}.`);
    if (place < 0) say(figure.querySelector(".readout"), `${share(chosen(summary).error_share)} of requests`);
  }

  const QUANTILES = [["p99_seconds", "p99", [2, 3], 2.2], ["p95_seconds", "p95", [6, 3], 1.7], ["p50_seconds", "p50", [], 1.5]];

  function drawLatency(summary) {
    const figure = $("chart-latency");
    const on = surface(figure);
    const { pen, x, bottom, inner } = on;
    const { points, bounds } = state;
    const columns = bins(2).map((bin) => ({ ...bin, counts: bin.points.reduce(summed, []) }));
    const used = columns.flatMap(({ counts }) => counts.flatMap((n, row) => (n ? [row] : [])));
    const low = used.length ? Math.max(0, Math.min(...used) - 1) : 4;
    const high = Math.max(low + 6, used.length ? Math.max(...used) + 1 : 11);
    const rows = Math.min(high, bounds.length) - low + 1;
    const tall = inner.height / rows;
    const y = (row) => bottom - (row - low) * tall;
    const most = Math.max(1, ...columns.flatMap(({ counts }) => counts));
    for (const { counts, place, points: { length } } of columns) {
      counts.forEach((n, row) => {
        if (!n) return;
        pen.fillStyle = `rgba(${colours.heat}, ${(0.1 + 0.8 * Math.sqrt(n / most)).toFixed(3)})`;
        pen.fillRect(x(place), y(row + 1) + 0.5, x(place + length) - x(place) + 0.2, tall - 1);
      });
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const skip = Math.ceil(13 / tall);
    for (let row = low; row < low + rows; row += 1) {
      const isTop = row === bounds.length;
      pen.fillStyle = colours.grid;
      if (!isTop) pen.fillRect(LEFT, Math.round(y(row + 1)), inner.width, 1);
      pen.fillStyle = colours.quiet;
      if (!isTop && (row - low) % skip === 0 && y(row + 1) > TOP + 2) pen.fillText(brief(bounds[row]), LEFT - 6, y(row + 1));
    }
    const height = (value) => {
      let row = bounds.findIndex((bound) => value <= bound);
      if (row < 0) row = bounds.length;
      const start = row ? bounds[row - 1] : 0;
      const end = bounds[row] ?? start;
      return y(Math.min(low + rows, Math.max(low, row + (end > start ? (value - start) / (end - start) : 0))));
    };
    for (const [key, name, dash, width] of QUANTILES) trace(pen, points.map((each) => each[key]), x, height, colours[name], dash, width);
    overlay(on);
    const figures = chosen(summary);
    const all = (from) => `p50 ${duration(from.p50_seconds)}, p95 ${duration(from.p95_seconds)}, p99 ${duration(from.p99_seconds)}`;
    caption(figure, "", () => all(points[cursorPlace()]), `Heatmap of request durations over the last ${WINDOWS[state.window]}. ${all(figures)}.`);
    if (cursorPlace() < 0) say(figure.querySelector(".readout"), `in the window ${all(figures)}`);
  }

  const summed = (sum, { counts }) => counts.map((n, row) => n + (sum[row] ?? 0)).concat(sum.slice(counts.length));
  const brief = (seconds) => (seconds < 1 ? `${+(seconds * 1000).toPrecision(3)} ms` : `${seconds} s`);

  function drawValues() {
    const table = $("values").querySelector("table");
    if (!$("values").open) return;
    const names = ["Time", "Requests", "Errors", "Tokens", "p50", "p95", "p99"];
    const texts = ["Errors by type", "Requests by duration"];
    const heads = [...names, ...texts];
    fill(table.tHead, heads, () => [el("tr", null, ...heads.map((name, column) =>
      el("th", { scope: "col", class: column && column < names.length ? "number" : "" }, name)))]);
    const total = (points, read) => count(points.reduce((sum, each) => sum + read(each), 0));
    const failed = (each) => Object.values(each.errors).reduce((sum, n) => sum + n, 0);
    const length = state.step === 1 ? 10 : 6;
    const rows = bins(length).filter(({ points }) => isKnown(points.at(-1))).reverse().map(({ id, points }) => [
      at(id * length * state.step), total(points, (each) => each.requests), total(points, failed), total(points, (each) => each.tokens),
      ...["p50_seconds", "p95_seconds", "p99_seconds"].map((key) => duration(points.at(-1)[key])),
      listing(points.reduce((sum, each) => together(each.errors, sum), {}), "–"), durations(points.reduce(summed, [])),
    ]);
    fill(table.tBodies[0], rows, () => rows.map(([time, ...figures]) =>
      el("tr", null, el("th", { scope: "row" }, time), ...figures.map((each, column) =>
        el("td", { class: column < names.length - 1 ? "number" : "long" }, each)))));
  }

  const listing = (errors, none) => Object.entries(errors).map(([type, n]) => `${type} ${count(n)}`).join(", ") || none;
  const durations = (counts) => counts.flatMap((n, row) => (n ? [`${limit(row)} ${count(n)}`] : [])).join(", ") || "–";
  const limit = (row) => (row < state.bounds.length ? `≤ ${brief(state.bounds[row])}:` : `> ${brief(state.bounds.at(-1))}:`);

  function drawCharts() {
    if (!state.summary || !state.points.length) return;
    const figures = chosen(state.summary);
    drawFlow("chart-requests", (each) => each.requests, figures.requests_per_second, "Requests per second");
    drawErrors(state.summary);
    drawLatency(state.summary);
    drawFlow("chart-tokens", (each) => each.tokens, figures.tokens_per_second, "Tokens per second");
    drawValues();
  }

  // ---- Reading a moment

  function pointAt(event) {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    const place = Math.floor(((event.clientX - left - LEFT) / (width - LEFT - RIGHT)) * state.points.length);
    moveTo(place);
  }

  function moveTo(place) {
    const { points } = state;
    if (points.length) state.cursor = points[Math.max(0, Math.min(points.length - 1, place))].time;
    later();
  }

  function leave() {
    state.cursor = null;
    later();
  }

  function press(event) {
    const now = cursorPlace() < 0 ? state.points.length - 1 : cursorPlace();
    const far = event.shiftKey ? 10 : 1;
    const places = { ArrowLeft: now - far, ArrowRight: now + far, Home: 0, End: state.points.length - 1 };
    if (event.key === "Escape") leave();
    else if (event.key in places) {
      event.preventDefault();
      event.currentTarget.closest("figure").querySelector(".readout").setAttribute("aria-live", "polite");
      moveTo(places[event.key]);
    }
  }

  // ---- Start

  for (const canvas of document.querySelectorAll("canvas")) {
    canvas.addEventListener("pointermove", pointAt);
    canvas.addEventListener("pointerdown", pointAt);
    canvas.addEventListener("pointerleave", leave);
    canvas.addEventListener("keydown", press);
    canvas.addEventListener("blur", () => {
      canvas.closest("figure").querySelector(".readout").removeAttribute("aria-live");
      leave();
    });
  }
  for (const input of document.querySelectorAll("input[name=window]")) {
    input.addEventListener("change", () => choose({ window: input.value }));
  }
  $("model").addEventListener("change", () => choose({ model: $("model").value }));
  $("values").addEventListener("toggle", later);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  // A jump within the page leaves the address as it is, which keeps what is chosen.
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.('a[href^="#"]');
    if (!target) return;
    event.preventDefault();
    const goal = $(target.hash.slice(1));
    goal.tabIndex = -1;
    goal.focus();
  });
  window.addEventListener("hashchange", () => {
    const before = query().toString();
    readAddress();
    if (query().toString() !== before) choose({});
  });
  new ResizeObserver(later).observe($("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    later();
  });

  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, HIDDEN_MS);
    else if (source) later();
    else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });

  readAddress();
  readColours();
  headModels();
  open();
  setInterval(watch, 1000);
}

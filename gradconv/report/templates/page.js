"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // ---- light and dark ----
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = byId("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tell = () => toggle.setAttribute("aria-pressed", String(dark()));
  const remembered = (theme) => {
    try { // a page opened from a file may have no storage
      if (theme) localStorage.setItem("gradconv-theme", theme);
      return localStorage.getItem("gradconv-theme");
    } catch { return null; }
  };
  const kept = remembered();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remembered(root.dataset.theme);
    tell();
  });
  system.addEventListener("change", tell);
  tell();

  // ---- commands to copy ----
  if (navigator.clipboard) {
    for (const line of document.querySelectorAll(".again")) {
      const text = line.querySelector("code").textContent;
      const button = make("button", { type: "button", class: "copy", "aria-label": `Copy: ${text}` }, "Copy");
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(text).then(
          () => { button.textContent = "Copied"; },
          () => { button.textContent = "Not allowed"; },
        );
      });
      line.append(button);
    }
  }

  // ---- folded parts: open in print, and where a link leads into one ----
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
  const unfold = () => {
    const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded && !folded.open) { folded.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", unfold);
  unfold();

  // ---- where the reader is ----
  const links = new Map();
  for (const link of document.querySelectorAll(".contents a")) links.set(link.hash.slice(1), link);
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const id of links.keys()) watch.observe(byId(id));

  // ---- the matrix of the atlas ----
  const unpacked = (text) => { // gzip in base64: a third of the JSON
    const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  };
  const source = byId("atlas-data");
  if (source) unpacked(source.textContent).then(matrix);

  function matrix(data) {
    const { choices, kernels, noises, records, texts, methods, quantities } = data;
    const SIGNS = {
      converges: "↓", vanishes: "↓", stalls: "→", bounded: "→", diverges: "↑", grows: "↑",
      exact: "=", undecided: "?", absent: "·",
    };
    const CHOICES = ["kernel", "noise", "setting", "restriction", "target", "dim"];
    const KERNEL = 6, NOISE = 7, FIRST = 8; // places in a row of data.cells
    const columns = [];
    choices.setting.forEach((setting, s) => choices.dim.forEach((dim, d) =>
      choices.restriction.forEach((restriction, r) => columns.push([s, d, r]))));
    const lines = [];
    kernels.forEach((kernel, k) => noises.forEach((noise, n) => lines.push([k, n])));
    const key = (k, n, s, r, t, d) => [k, n, s, r, t, d].join(" ");
    const found = new Map(data.cells.map((c) => [key(c[KERNEL], c[NOISE], c[2], c[3], c[4], c[5]), c]));

    const number = (value) => String(value).replaceAll("-", "−").replace(/e\+?(.+)/, "·10^$1");
    const signed = (value) => (value > 0 ? "+" : "") +
      (Math.abs(value) < 100 ? value.toFixed(2).replace("-", "−") : number(value));
    const derivedOrder = (value) => (value > 0 ? "+" : "") + number(value);
    const record = (cell, quantity) => {
      const [status, reason, order, log, constant, verdict, fitted, low, high, size, seen, method] =
        records[cell[FIRST + quantity]];
      return {
        status: texts.status[status], reason: texts.reason[reason].replaceAll("`", ""),
        law: verdict === null ? null : { order, log, constant, verdict: texts.verdict[verdict] },
        measured: { order: fitted, low, high, constant: size, verdict: texts.verdict[seen], method: methods[method] },
      };
    };
    const power = (constant, order, log) =>
      `${number(constant)}·h^${number(order)}${log ? ` · log(1/h)${log > 1 ? "^" + log : ""}` : ""}`;
    const law = (own) => {
      if (own === null) return "none derived";
      if (own.order === null) return `${own.verdict}: zero, or smaller than any power of h`;
      return `order ${derivedOrder(own.order)}, constant ${number(own.constant)}: ${power(own.constant, own.order, own.log)}; ${own.verdict}`;
    };
    const measurement = (own) => {
      if (own.order === null) return `${own.verdict}, no order fitted`;
      const interval = own.low === null ? "" : ` [${signed(own.low)}, ${signed(own.high)}]`;
      return `order ${signed(own.order)}${interval}, constant ${number(own.constant)}; ${own.verdict}`;
    };
    const raised = (text) => { // h^2 with its power raised
      const parts = text.split(/\^([−+]?[\d.]+)/);
      return parts.map((part, place) => (place % 2 ? make("sup", {}, part) : part));
    };

    const table = byId("atlas-matrix"), panel = byId("atlas-cell");
    const target = byId("atlas-target"), quantity = byId("atlas-quantity");
    choices.target.forEach((name, place) => target.append(make("option", { value: place }, name)));
    quantities.forEach((name, place) => quantity.append(make("option", { value: place }, name)));
    quantity.value = String(Math.max(0, quantities.indexOf("mean gap")));

    const squares = []; // by line, by column
    let active = [0, 0];
    const cellAt = (line, column) => {
      const [k, n] = lines[line], [s, d, r] = columns[column];
      return found.get(key(k, n, s, r, Number(target.value), d));
    };
    const build = () => {
      const across = choices.restriction.length, wide = across * choices.dim.length;
      const heads = [make("tr", {}, make("td", { colspan: 2, rowspan: 3 })), make("tr"), make("tr")];
      choices.setting.forEach((setting, s) => {
        heads[0].append(make("th", { scope: "colgroup", colspan: wide, class: s ? "group" : "" }, setting));
        choices.dim.forEach((dim, d) => {
          const edge = s || d ? "group" : "";
          heads[1].append(make("th", { scope: "colgroup", colspan: across, class: edge }, `d = ${dim}`));
          choices.restriction.forEach((name, r) => heads[2].append(
            make("th", { scope: "col", class: edge && !r ? "group" : "" }, name.replaceAll("_", " "))));
        });
      });
      table.append(make("thead", {}, ...heads));
      let line = 0;
      for (const kernel of kernels) {
        const body = make("tbody");
        noises.forEach((noise, n) => {
          const row = make("tr");
          if (!n) row.append(make("th", { scope: "rowgroup", rowspan: noises.length }, kernel));
          row.append(make("th", { scope: "row" }, noise));
          squares.push(columns.map(([s, d, r], column) => {
            const square = make("td", { tabindex: "-1", "data-line": line, "data-column": column });
            square.edge = (s || d) && !r ? " group" : "";
            row.append(square);
            return square;
          }));
          body.append(row);
          line += 1;
        });
        table.append(body);
      }
    };
    const fill = () => {
      const q = Number(quantity.value), counts = new Map();
      squares.forEach((row, line) => row.forEach((square, column) => {
        const cell = cellAt(line, column);
        const own = cell && record(cell, q);
        const verdict = own ? (own.law || own.measured).verdict : "absent";
        const filled = own && own.law ? "derived" : "measured";
        counts.set(verdict, (counts.get(verdict) || 0) + 1);
        square.textContent = SIGNS[verdict];
        square.className = `sign ${verdict} ${filled}${own && own.status === "disagrees" ? " disagrees" : ""}${square.edge}`;
        square.setAttribute("aria-label", own
          ? `${verdict}, ${own.law ? "derived" : "measured only"}` : "not in the atlas");
      }));
      byId("atlas-caption").textContent =
        `Verdict on the ${quantities[q]}, target ${choices.target[Number(target.value)]}: a row a noise, in groups of kernels; a column a restriction, in groups of setting and dimension.`;
      const names = Object.keys(SIGNS).filter((name) => counts.get(name));
      byId("atlas-key").replaceChildren(...names.map((name) => make("li", {},
        make("span", { class: `sign ${name} derived`, "aria-hidden": "true" }, SIGNS[name]),
        `${name === "absent" ? "not in the atlas" : name}: ${counts.get(name)}`)));
    };
    const show = (line, column) => {
      const [k, n] = lines[line], [s, d, r] = columns[column];
      const cell = cellAt(line, column), q = Number(quantity.value);
      const name = `${kernels[k]}, noise ${noises[n]}, ${choices.setting[s]}, ${choices.restriction[r].replaceAll("_", " ")}, d = ${choices.dim[d]}, target ${choices.target[Number(target.value)]}: ${quantities[q]}`;
      const content = [make("p", { class: "which" }, name)];
      if (cell) {
        const own = record(cell, q);
        const rows = [["Law", law(own.law)], ["Measured", measurement(own.measured)],
          ["Status", own.status + (own.reason ? `: ${own.reason}` : "")]];
        const list = make("dl");
        for (const [term, text] of rows) list.append(make("dt", {}, term), make("dd", {}, ...raised(text)));
        if (own.measured.method) {
          list.children[3].append(make("span", { class: "method" }, ` (${own.measured.method})`));
        }
        const flags = CHOICES.map((choice, place) => `--${choice} ${choices[choice][cell[place]]}`);
        content.push(list, make("p", {}, make("code", {}, `gradconv atlas ${flags.join(" ")}`)));
      } else {
        content.push(make("p", {}, "This combination is not in the atlas."));
      }
      panel.replaceChildren(...content);
      table.querySelector(".shown")?.classList.remove("shown");
      squares[line][column].classList.add("shown");
    };
    const place = (square) => [Number(square.dataset.line), Number(square.dataset.column)];
    const activate = (line, column) => {
      const before = squares[active[0]][active[1]], now = squares[line][column];
      before.tabIndex = -1;
      before.removeAttribute("aria-describedby");
      active = [line, column];
      show(line, column); // before the focus: it is what describes the cell
      now.tabIndex = 0;
      now.setAttribute("aria-describedby", "atlas-cell");
    };

    const MOVES = {
      ArrowUp: ([l, c]) => [l - 1, c], ArrowDown: ([l, c]) => [l + 1, c],
      ArrowLeft: ([l, c]) => [l, c - 1], ArrowRight: ([l, c]) => [l, c + 1],
      Home: ([l], all) => [all ? 0 : l, 0],
      End: ([l], all) => [all ? lines.length - 1 : l, columns.length - 1],
      PageUp: ([l, c]) => [Math.max(0, l - noises.length), c],
      PageDown: ([l, c]) => [Math.min(lines.length - 1, l + noises.length), c],
    };
    table.addEventListener("keydown", (event) => {
      const square = event.target.closest("td.sign");
      const move = MOVES[event.key];
      if (!square || !move || event.altKey || event.metaKey) return;
      event.preventDefault();
      const [line, column] = move(place(square), event.ctrlKey);
      if (!squares[line] || !squares[line][column]) return;
      activate(line, column);
      squares[line][column].focus();
    });
    table.addEventListener("focusin", (event) => {
      const square = event.target.closest("td.sign");
      if (square) activate(...place(square));
    });
    table.addEventListener("mouseover", (event) => {
      const square = event.target.closest("td.sign");
      if (square) show(...place(square));
    });
    table.addEventListener("mouseleave", () => show(...active));
    const again = () => { fill(); show(...active); };
    target.addEventListener("change", again);
    quantity.addEventListener("change", again);

    build();
    fill();
    activate(0, 0);
    byId("atlas-view").hidden = false;
  }
})();

// Sorting and filtering of tables that are complete without it. State lives in the part of the address after "#".
(() => {
  "use strict";
  const boards = [...document.querySelectorAll("section.board")].map((section) => {
    const body = section.querySelector("table.rows > tbody");
    return {
      section,
      body,
      headers: [...section.querySelectorAll("table.rows > thead th")],
      rows: [...body.rows],
      column: "rank",
      direction: "ascending",
    };
  });
  const form = document.querySelector(".filter");
  if (!form || !boards.length) return;
  const output = document.querySelector(".shown");
  const datasets = [...document.querySelectorAll(".data-sets input")];
  const overview = document.getElementById("overview");
  const boxes = [...document.querySelectorAll(".columns input")];
  const tabs = [...document.querySelectorAll(".tabs > input")];
  const fields = [...form.elements].filter((field) => field.name);
  const opposite = { ascending: "descending", descending: "ascending" };
  const marks = new Map();
  for (const mark of document.querySelectorAll("svg [data-row]")) {
    if (!marks.has(mark.dataset.row)) marks.set(mark.dataset.row, []);
    marks.get(mark.dataset.row).push(mark);
  }
  const fronts = [...document.querySelectorAll("svg.pareto")].map((plot) => ({
    line: plot.querySelector(".front"),
    points: [...plot.querySelectorAll(".point")]
      .map((point) => ({ row: point.dataset.row, x: Number(point.dataset.x), y: Number(point.dataset.y) }))
      .sort((a, b) => a.x - b.x || a.y - b.y),
  }));

  const all = "*";
  const chosen = () => (datasets.find((input) => input.checked) || { value: all }).value;
  const choose = (name) => {
    for (const input of datasets) input.checked = name ? input.value === name : input.defaultChecked;
    if (datasets.length && !datasets.some((input) => input.checked)) datasets[0].checked = true;
  };

  const valueOf = (row, index, numeric, position) => {
    const cell = row.cells[index];
    if (cell.dataset.value === undefined) return null;
    if (cell.classList.contains("in-rank")) return position; // the order of the page, by rank and mean
    return numeric ? Number(cell.dataset.value) : cell.textContent;
  };

  const sort = (board) => {
    const index = board.headers.findIndex((header) => header.dataset.key === board.column);
    const ranked = board.column === "rank" && board.direction === "ascending";
    board.body.parentElement.classList.toggle("unordered", !ranked); // ties are bars beside neighbours
    const numeric = board.headers[index].classList.contains("number");
    const sign = board.direction === "ascending" ? 1 : -1;
    const keyed = board.rows.map((row, position) => [valueOf(row, index, numeric, position), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
    board.body.append(...keyed.map(([, row]) => row));
    for (const header of board.headers) {
      if (header.dataset.key === board.column) header.setAttribute("aria-sort", board.direction);
      else header.removeAttribute("aria-sort");
    }
  };

  const filter = () => {
    const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const words = wanted.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const equal = (data, names) => names.every((name) => !wanted[name] || data[name] === wanted[name]);
    const matches = (board, row) =>
      equal(board, ["pair", "recipe"]) &&
      equal(row, ["family", "evidence"]) &&
      (!wanted.size || Number(row.parameters) <= Number(wanted.size)) &&
      row.finished >= wanted.since &&
      words.every((word) => row.search.includes(word) || board.search.includes(word));
    const limit = Number(wanted.rows) || Infinity;
    const dataset = chosen();
    const hidden = new Set();
    const shown = new Set();
    const found = new Map();
    let [total, filtered, beyond, elsewhere] = [0, 0, 0, 0];
    for (const board of boards) {
      let here = 0;
      const name = board.section.dataset.dataset;
      for (const row of board.body.rows) {
        const fits = matches(board.section.dataset, row.dataset);
        here += fits;
        row.hidden = !fits || here > limit;
        filtered += !fits;
        beyond += fits && here > limit;
        for (const mark of marks.get(row.dataset.row) || []) mark.classList.toggle("dimmed", !fits);
        if (!fits) hidden.add(row.dataset.row);
        if (!row.hidden) shown.add(row.dataset.row);
        elsewhere += !row.hidden && dataset !== all && dataset !== name;
        for (const tab of [name, all]) found.set(tab, (found.get(tab) || 0) + !row.hidden);
      }
      board.section.hidden = here === 0;
      total += board.rows.length;
    }
    for (const { line, points } of fronts) redraw(line, points.filter((point) => !hidden.has(point.row)));
    for (const input of datasets) input.parentElement.querySelector(".note").textContent = found.get(input.value);
    if (overview) survey(shown);
    const why = [
      filtered && `${filtered} do not match`,
      beyond && `${beyond} are beyond the rows a board`,
      elsewhere && `${elsewhere} are of other data sets`,
    ];
    const reasons = why.filter(Boolean).join(", ");
    output.textContent = `showing ${total - filtered - beyond - elsewhere} of ${total} rows${reasons && `; hidden: ${reasons}`}`;
  };

  // The overview keeps the rows and columns of which some cell belongs to a row that is shown.
  const survey = (shown) => {
    const table = overview.querySelector("table");
    const columns = new Set();
    for (const row of table.tBodies[0].rows) {
      let some = false;
      for (const cell of row.cells) {
        const fits = shown.has(cell.dataset.row);
        cell.classList.toggle("filtered", !fits && cell.dataset.row !== undefined);
        if (fits) columns.add(cell.cellIndex);
        some = some || fits;
      }
      row.hidden = !some;
    }
    for (const row of table.rows) {
      for (const cell of row.cells) cell.hidden = cell.cellIndex > 0 && !columns.has(cell.cellIndex);
    }
    overview.hidden = columns.size === 0;
  };

  const redraw = (line, points) => {
    let top = Infinity;
    const best = points.filter((point) => point.y < top && ((top = point.y), true));
    line.setAttribute("points", best.map((point) => `${point.x},${point.y}`).join(" "));
  };

  const remember = () => {
    const state = new URLSearchParams();
    for (const field of fields) if (field.value) state.set(field.name, field.value);
    for (const input of datasets) if (input.checked && !input.defaultChecked) state.set("dataset", input.value);
    for (const board of boards) {
      if (board.column !== "rank" || board.direction !== "ascending") {
        state.append("sort", `${board.section.id}.${board.column}.${board.direction}`);
      }
    }
    for (const box of boxes) {
      if (box.checked !== box.defaultChecked) state.append(box.checked ? "show" : "hide", box.id.slice("show-".length));
    }
    for (const tab of tabs) if (tab.checked && !tab.defaultChecked) state.append("plot", tab.id);
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };

  const restore = () => {
    const hash = location.hash.slice(1);
    const target = hash && document.getElementById(hash);
    if (target) return reveal(target); // a link to a section, not a state
    const state = new URLSearchParams(hash);
    for (const field of fields) field.value = state.get(field.name) || "";
    choose(state.get("dataset"));
    const sorts = new Map(state.getAll("sort").map((text) => [text.split(".")[0], text.split(".").slice(1)]));
    for (const board of boards) {
      const [column, direction] = sorts.get(board.section.id) || [];
      const known = board.headers.some((header) => header.dataset.key === column) && direction in opposite;
      board.column = known ? column : "rank";
      board.direction = known ? direction : "ascending";
      sort(board);
    }
    const [show, hide, plots] = ["show", "hide", "plot"].map((name) => new Set(state.getAll(name)));
    for (const box of boxes) {
      const key = box.id.slice("show-".length);
      box.checked = show.has(key) || (box.defaultChecked && !hide.has(key));
    }
    for (const tab of tabs) tab.checked = tab.defaultChecked;
    for (const tab of tabs) if (plots.has(tab.id)) tab.checked = true;
    filter();
  };

  const reveal = (target) => {
    const name = target.dataset.dataset;
    if (datasets.length && name && chosen() !== all && chosen() !== name) choose(name);
    filter();
    target.scrollIntoView();
  };

  const press = (board, header) => {
    const again = board.column === header.dataset.key;
    board.direction = again ? opposite[board.direction] : header.dataset.first;
    board.column = header.dataset.key;
    sort(board);
    filter();
    remember();
  };

  for (const board of boards) {
    for (const header of board.headers) {
      if (!header.dataset.key) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => press(board, header));
      header.append(button);
    }
  }
  const changed = () => {
    filter();
    remember();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", changed);
  form.addEventListener("reset", () => setTimeout(changed));
  for (const input of datasets) input.addEventListener("change", changed);
  for (const code of document.querySelectorAll(".in-records pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // an address that may not write: the keyboard can
        button.textContent = "Selected";
      }
    });
    code.after(button);
  }
  for (const control of [...boxes, ...tabs]) control.addEventListener("change", remember);
  window.addEventListener("hashchange", restore);
  for (const preset of document.querySelectorAll(".presets button")) {
    preset.addEventListener("click", () => {
      const wanted = new Set(preset.dataset.show.split(" "));
      for (const box of boxes) box.checked = wanted.has(box.id.slice("show-".length));
      remember();
    });
  }
  if (matchMedia("(max-width: 40rem)").matches) form.querySelector("details").open = false;
  for (const presets of document.querySelectorAll(".presets")) presets.hidden = false;
  document.documentElement.classList.add("scripted");
  form.hidden = false;
  output.hidden = false;
  for (const board of boards) sort(board);
  filter();
  restore();
})();

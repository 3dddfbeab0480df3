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
  const input = form.querySelector("input");
  const shown = form.querySelector("output");
  const opposite = { ascending: "descending", descending: "ascending" };

  const valueOf = (row, index, numeric) => {
    const cell = row.cells[index];
    if (cell.dataset.value === undefined) return null;
    return numeric ? Number(cell.dataset.value) : cell.textContent;
  };

  const sort = (board) => {
    const index = board.headers.findIndex((header) => header.dataset.key === board.column);
    const numeric = board.headers[index].classList.contains("number");
    const sign = board.direction === "ascending" ? 1 : -1;
    const keyed = board.rows.map((row) => [valueOf(row, index, numeric), row]);
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
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    let total = 0;
    for (const board of boards) {
      let here = 0;
      for (const row of board.rows) {
        const matches = words.every((word) => row.dataset.search.includes(word));
        row.hidden = !matches;
        const line = board.section.querySelector(`svg [data-row="${row.dataset.row}"]`);
        if (line) line.classList.toggle("dimmed", !matches);
        here += matches;
      }
      board.section.hidden = here === 0;
      visible += here;
      total += board.rows.length;
    }
    shown.textContent = `showing ${visible} of ${total} rows`;
  };

  const remember = () => {
    const state = new URLSearchParams();
    if (input.value) state.set("filter", input.value);
    for (const board of boards) {
      if (board.column !== "rank" || board.direction !== "ascending") {
        state.append("sort", `${board.section.id}.${board.column}.${board.direction}`);
      }
    }
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };

  const restore = () => {
    const hash = location.hash.slice(1);
    if (hash && document.getElementById(hash)) return; // a link to a section, not a state
    const state = new URLSearchParams(hash);
    input.value = state.get("filter") || "";
    const sorts = new Map(state.getAll("sort").map((text) => [text.split(".")[0], text.split(".").slice(1)]));
    for (const board of boards) {
      const [column, direction] = sorts.get(board.section.id) || [];
      const known = board.headers.some((header) => header.dataset.key === column) && direction in opposite;
      board.column = known ? column : "rank";
      board.direction = known ? direction : "ascending";
      sort(board);
    }
    filter();
  };

  const press = (board, header) => {
    const again = board.column === header.dataset.key;
    board.direction = again ? opposite[board.direction] : header.dataset.first;
    board.column = header.dataset.key;
    sort(board);
    remember();
  };

  for (const board of boards) {
    for (const header of board.headers) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => press(board, header));
      header.append(button);
    }
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => {
    filter();
    remember();
  });
  window.addEventListener("hashchange", restore);
  form.hidden = false;
  restore();
  filter();
})();

// Tables that sort and fold, and a contents list that tells where the reader is. Without it the page is whole.
"use strict";

const SHOWN_ROWS = 15;

/** The value by which a cell sorts: a number where it has one, else its text; null where it is empty. */
function valueOf(row, column) {
  const cell = row.cells[column];
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.textContent.trim() || null;
}

/** Numbers before texts, empty cells last whatever the direction. */
function compare(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return direction * (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));
}

function fold(table, open) {
  let seen = 0;
  for (const body of table.tBodies) {
    for (const row of body.rows) row.classList.toggle("folded", !open && ++seen > SHOWN_ROWS);
  }
}

/** Sort inside of each group of rows; the third click brings back the first order. */
function makeSortable(table, refold) {
  const headings = [...(table.tHead?.rows[0]?.cells ?? [])];
  const original = [...table.tBodies].map((body) => [...body.rows]);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    if (!heading.textContent.trim()) return;
    const name = document.createElement("span");
    name.append(...heading.childNodes);
    button.append(name);
    heading.append(button);
    button.addEventListener("click", () => {
      const first = heading.classList.contains("number") ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      const order = { [first]: second, [second]: null }[heading.getAttribute("aria-sort")];
      const next = order === undefined ? first : order;
      for (const other of headings) other.removeAttribute("aria-sort");
      if (next) heading.setAttribute("aria-sort", next);
      const direction = next === "descending" ? -1 : 1;
      [...table.tBodies].forEach((body, group) => {
        const rows = original[group].map((row) => [valueOf(row, column), row]);
        if (next) rows.sort(([one], [other]) => compare(one, other, direction));
        body.append(...rows.map(([, row]) => row));
      });
      refold();
    });
  });
}

function makeFoldable(table) {
  const rows = [...table.tBodies].reduce((count, body) => count + body.rows.length, 0);
  if (rows <= SHOWN_ROWS) return () => {};
  const button = document.createElement("button");
  button.type = "button";
  button.className = "control fold screen-only";
  let open = false;
  const refold = () => fold(table, open);
  const show = () => {
    button.textContent = open ? `show the first ${SHOWN_ROWS} rows` : `show all ${rows.toLocaleString("en")} rows`;
    button.setAttribute("aria-expanded", String(open));
    refold();
  };
  button.addEventListener("click", () => {
    open = !open;
    show();
  });
  table.closest(".wide").after(button);
  show();
  return refold;
}

/** Mark the section at the top of the window in the contents. */
function followSections() {
  const contents = document.querySelector(".contents");
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...document.querySelectorAll("main section[id]")].filter((section) => links.has(section.id));
  let waiting = false;
  const mark = () => {
    waiting = false;
    const above = sections.filter((section) => section.getBoundingClientRect().top < window.innerHeight / 3);
    const current = links.get((above.at(-1) ?? sections[0])?.id);
    if (!current || current.hasAttribute("aria-current")) return;
    for (const link of links.values()) link.removeAttribute("aria-current");
    current.setAttribute("aria-current", "true");
    // Not scrollIntoView, which would move the page too.
    contents.scrollLeft = current.offsetLeft - contents.clientWidth / 3;
    contents.scrollTop = current.offsetTop - contents.clientHeight / 2;
  };
  addEventListener(
    "scroll",
    () => {
      if (!waiting) requestAnimationFrame(mark);
      waiting = true;
    },
    { passive: true },
  );
  mark();
}

for (const table of document.querySelectorAll("main table")) makeSortable(table, makeFoldable(table));
if (document.querySelector(".contents")) followSections();

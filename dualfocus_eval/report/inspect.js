// The inspector's page: filters, pages of cards, links and keys.
"use strict";

dualfocus.onIndex((data) => {
  const PAGE = 20;
  const { make, visible, words } = cards;
  const byId = (id) => document.getElementById(id);
  const questions = new Questions(data);
  const outcomeTone = { gained: "good", both_right: "good", right: "good", kept: "good", b_better: "good", lost: "bad", both_wrong: "bad", wrong: "bad", missed: "bad", failed: "bad", b_worse: "bad" };
  let selected = new Uint32Array(0);
  let page = 0;
  let rendering = 0; // which of several renderings is the last
  let current = -1; // the place of the card that keys act on

  const controls = filterControls(data, questions, () => update());

  /** Select anew and show the first page, or the one with the card at a place. */
  function update(place = -1) {
    const found = questions.select(controls.wanted);
    selected = found.places;
    controls.showCounts(found.counts);
    page = place < 0 ? 0 : Math.floor(Math.max(0, selected.indexOf(place)) / PAGE);
    return render(place);
  }

  // --- cards ---

  const pages = () => Math.max(1, Math.ceil(selected.length / PAGE));

  async function render(place = -1) {
    const own = ++rendering;
    const shown = selected.subarray(page * PAGE, (page + 1) * PAGE);
    byId("status").textContent = `${selected.length.toLocaleString("en")} of ${data.count.toLocaleString("en")} questions`;
    byId("page").textContent = `page ${(page + 1).toLocaleString("en")} of ${pages().toLocaleString("en")}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page + 1 >= pages();
    const found = await Promise.all(Array.from(shown, (one) => cardOf(one)));
    if (own !== rendering) return;
    if (!found.length) found.push(make("p", "", "No question passes all filters."));
    byId("cards").replaceChildren(...found);
    current = -1;
    if (place >= 0) focusCard(place);
  }

  async function cardOf(place) {
    const element = make("article", "card");
    const key = questions.key(place);
    element.id = `card-${place}`;
    element.tabIndex = -1;
    element.dataset.place = place;
    const link = make("a", "", key);
    link.href = `#${linkOf(place)}`;
    const heading = make("h2", "", link);
    heading.dir = "auto";
    element.append(make("header", "", heading));
    try {
      fill(element, place, await questions.card(place));
    } catch (error) {
      element.append(make("p", "warn", `The card cannot be shown: ${error.message}.`));
    }
    return element;
  }

  function fill(element, place, card) {
    element.querySelector("header").append(...(card.categories ?? []).map((name) => make("span", "chip", name)));
    element.append(...cards.questionOf(card));
    const sides = card.sides.map((side, at) => cards.sideOf(card, side, data.runs[at], data, chipsOf(place, at)));
    element.append(make("div", "sides", ...sides));
    const buttons = make("p", "buttons controls", copier("Copy as JSON", () => JSON.stringify(card, null, 1)));
    data.runs.forEach((run, at) => {
      const command = run.ask && asking.command(card, run, data);
      if (command) buttons.append(copier(run.name ? `Copy the command that asks ${run.name} again` : "Copy the command that asks this again", () => command));
      if (command && at === 0) buttons.append(details("command", command));
    });
    element.append(buttons);
  }

  const details = (title, text) => make("details", "", make("summary", "", title), words(text, "pre", ""));

  /** The outcome of a side; in a page of two runs the change between them stands on the second. */
  function chipsOf(place, side) {
    return data.facets
      .filter(({ name }) => name === (data.runs.length > 1 ? `outcome ${data.runs[side].name}` : "outcome") || (name === "change" && side === 1))
      .flatMap((facet) => facet.sets[facet.codes[place]].map((value) => facet.values[value]))
      .map(({ value, label }) => ({ label, classes: outcomeTone[value] ?? "" }));
  }

  function copier(label, text) {
    const button = make("button", "control", label);
    button.type = "button";
    button.addEventListener("click", async () => {
      const done = await asking.copy(text());
      button.textContent = done ? "Copied" : "Cannot copy here";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
    return button;
  }

  // --- links and keys ---

  function linkOf(place) {
    return `${encodeURIComponent(data.tasks[data.task[place]])}/${data.doc[place]}`;
  }

  function focusCard(place) {
    const element = byId(`card-${place}`);
    if (!element) return;
    current = place;
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "start", behavior: "instant" });
  }

  function turn(step) {
    const next = page + step;
    if (next < 0 || next >= pages()) return;
    page = next;
    render(selected[page * PAGE]);
  }

  /** To the card that is so many after the current one; from one page to the next where need be. */
  function move(step) {
    const at = current < 0 ? page * PAGE - (step > 0 ? 1 : 0) : selected.indexOf(current);
    const next = at + step;
    if (next < 0 || next >= selected.length) return;
    const place = selected[next];
    history.replaceState(null, "", `#${linkOf(place)}`);
    if (Math.floor(next / PAGE) === page) return focusCard(place);
    page = Math.floor(next / PAGE);
    render(place);
  }

  /** Show the card that the address names, whatever the filters. */
  function follow() {
    const link = location.hash.slice(1);
    if (!link || link === "cards") return false;
    let key = link;
    try {
      key = decodeURIComponent(link);
    } catch { /* not one of our links: nothing is found */ }
    const place = questions.placeOf(key);
    if (place < 0) {
      byId("status").textContent = `There is no question ${visible(key).slice(0, 120)}.`;
      return false;
    }
    if (!selected.includes(place)) controls.clear();
    update(place);
    return true;
  }

  const keys = { j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1), n: () => turn(1), p: () => turn(-1), "/": () => byId("query").focus(), "?": () => byId("help").showModal() };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const field = event.target.closest?.("input, select, textarea");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    if (!(event.key in keys)) return;
    const frame = event.key.startsWith("Arrow") && event.target.closest?.(".wide");
    if (frame && frame.scrollWidth > frame.clientWidth) return; // there the arrows scroll
    event.preventDefault();
    keys[event.key]();
  });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("cards").addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) current = Number(card.dataset.place);
  });
  window.addEventListener("hashchange", follow);

  // --- start ---

  byId("filtering").open = !matchMedia("(max-width: 760px)").matches;
  document.title = byId("title").textContent = visible(data.title);
  byId("about").append(...data.about.map((text) => make("p", "note", text)));
  if (data.report) {
    const link = make("a", "", "The report: scores, tables and figures");
    link.href = data.report;
    byId("about").append(make("p", "note screen-only", link));
  }
  if (data.notes.length) {
    byId("notes").className = "faults";
    byId("notes").hidden = false;
    byId("notes").append(make("ul", "", ...data.notes.map((note) => make("li", "", note))));
  }
  selected = questions.select(controls.wanted).places;
  const missing = location.hash.length > 1 && !follow();
  const told = byId("status").textContent;
  if (!location.hash || missing) update().then(() => { if (missing && told) byId("status").textContent = told; });
});

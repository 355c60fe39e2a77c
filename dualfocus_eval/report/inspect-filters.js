// The controls of the inspector: lists, ranges, search and order.
"use strict";

/** Make the controls; `changed` is called whenever other cards are wanted. */
function filterControls(data, questions, changed) {
  const { make, visible } = cards;
  const byId = (id) => document.getElementById(id);
  const short = (label) => visible(label).slice(0, 80);

  /** What is chosen of a facet when the page opens. Where no question has such a value, none is shown. */
  function first({ wanted: { values, label } }) {
    return new Set(label && !values.length ? [-1] : values);
  }

  const wanted = {
    facets: data.facets.map(first),
    ranges: data.ranges.map(() => [null, null]),
    query: "",
    order: "run",
    seed: 0,
  };

  const facetSelects = data.facets.map((facet, at) => {
    const select = make("select", "control");
    select.append(new Option("any", ""));
    facet.values.forEach(({ label }, value) => select.append(new Option(short(label), value)));
    if (facet.wanted.label) select.append(new Option(facet.wanted.label, "wanted", false, true));
    select.addEventListener("change", () => {
      const { value } = select;
      wanted.facets[at] = value === "wanted" ? first(facet) : new Set(value === "" ? [] : [Number(value)]);
      changed();
    });
    if (facet.values.length > 1 || facet.name !== "task") {
      const label = make("label", "", facet.label);
      label.htmlFor = select.id = `facet-${at}`;
      byId("facets").append(make("span", "range", label, " ", select));
    }
    if (!facet.values.length) select.disabled = true;
    return select;
  });

  const bounds = data.ranges.map((range, at) => ["from", "to"].map((end, side) => {
    const input = make("input", "control bound");
    Object.assign(input, { type: "number", step: "any", min: "0", placeholder: end });
    input.setAttribute("aria-label", `${range.label}, ${end}`);
    input.addEventListener("input", () => {
      wanted.ranges[at][side] = input.value === "" || Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
      changed();
    });
    return input;
  }));
  data.ranges.forEach((range, at) => byId("ranges").append(make("span", "range", `${range.label} `, ...bounds[at])));

  const orders = [["run", "as in the run"], ...data.ranges.flatMap(({ name, label }) => [[`${name} down`, `${label}, largest first`], [`${name} up`, `${label}, smallest first`]]), ["random", "random"]];
  byId("order").append(...orders.map(([value, label]) => new Option(label, value)));
  byId("order").addEventListener("change", () => {
    wanted.order = byId("order").value;
    byId("seed-label").hidden = wanted.order !== "random";
    changed();
  });
  byId("seed").addEventListener("input", () => {
    wanted.seed = byId("seed").valueAsNumber || 0;
    changed();
  });
  byId("query").addEventListener("input", async () => {
    wanted.query = byId("query").value;
    if (wanted.query.trim() && !questions.texts) {
      byId("status").textContent = "loading the texts …";
      try {
        await questions.loadTexts();
      } catch (error) {
        wanted.query = "";
        byId("status").textContent = `The search does not work: ${error.message}.`;
        return;
      }
    }
    changed();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    clear();
    changed();
  });

  function clear() {
    wanted.facets = data.facets.map(() => new Set());
    wanted.ranges = data.ranges.map(() => [null, null]);
    wanted.query = byId("query").value = "";
    [...facetSelects, ...bounds.flat()].forEach((field) => { field.value = ""; });
  }

  /** Behind each value of the lists, how many questions it would leave. */
  function showCounts(counts) {
    facetSelects.forEach((select, at) => data.facets[at].values.forEach(({ label }, value) => {
      select.options[value + 1].text = `${short(label)} (${counts[at][value].toLocaleString("en")})`;
    }));
  }

  return { wanted, clear, showCounts };
}

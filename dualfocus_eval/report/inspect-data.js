// The questions of the inspector: loading, filtering, ordering. Nothing here touches the page but for loading scripts.
"use strict";

/** What the data files call with their content. */
const dualfocus = (() => {
  const KEPT_CHUNKS = 40;
  const loading = new Map(); // file name -> promise
  const chunks = new Map(); // number of a chunk -> its cards, the least recently used first
  const received = new Map(); // file name -> content, between a script's run and its load event
  const listeners = [];

  /** The content of a data file; a page from the file system may load scripts and nothing else. */
  function load(name) {
    if (!loading.has(name)) {
      loading.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `inspect/${name}.js`;
        script.onload = () => {
          const content = received.get(name);
          received.delete(name);
          content ? resolve(content) : reject(new Error(`inspect/${name}.js is damaged`));
        };
        script.onerror = () => reject(new Error(`inspect/${name}.js cannot be loaded`));
        document.head.append(script);
        script.remove();
      }).finally(() => loading.delete(name)));
    }
    return loading.get(name);
  }

  const fileName = (kind, part) => `${kind}-${String(part).padStart(5, "0")}`;

  /** The cards of a chunk. The last few chunks are kept. */
  async function chunk(part) {
    const cards = chunks.get(part) ?? await load(fileName("cards", part));
    chunks.delete(part);
    chunks.set(part, cards);
    if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
    return cards;
  }

  return {
    index: (data) => listeners.forEach((listener) => listener(data)),
    cards: (part, cards) => received.set(fileName("cards", part), cards),
    texts: (part, texts) => received.set(fileName("texts", part), texts),
    onIndex: (listener) => listeners.push(listener),
    chunk,
    loadTexts: (part) => load(fileName("texts", part)),
  };
})();

/** The questions by their places 0, 1, ..., which is the order of the run. */
class Questions {
  constructor(data) {
    this.data = data;
    this.count = data.count;
    this.texts = null; // lower case, once they are loaded
    this.textsLoaded = null;
    this.lastOrder = { name: "", places: null };
  }

  /** A promise of the texts to search, loaded at the first call. */
  loadTexts() {
    this.textsLoaded ??= (async () => {
      const texts = [];
      for (let part = 0; part * this.data.texts < this.count; part++) {
        for (const text of await dualfocus.loadTexts(part)) texts.push(text.toLowerCase());
      }
      this.texts = texts;
    })();
    return this.textsLoaded;
  }

  key(place) {
    return `${this.data.tasks[this.data.task[place]]}/${this.data.doc[place]}`;
  }

  /** The place of a question, -1 where there is none of that key. */
  placeOf(key) {
    const cut = key.lastIndexOf("/");
    const task = this.data.tasks.indexOf(key.slice(0, cut));
    const doc = Number(key.slice(cut + 1));
    if (task < 0) return -1;
    for (let place = 0; place < this.count; place++) {
      if (this.data.doc[place] === doc && this.data.task[place] === task) return place;
    }
    return -1;
  }

  async card(place) {
    const size = this.data.chunk;
    return (await dualfocus.chunk(Math.floor(place / size)))[place % size];
  }

  /**
   * The places that pass all filters, in order, and how many questions each value of a facet would leave.
   *
   * wanted: {facets: a Set of chosen values (or none) for each facet, ranges: [low, high] for each range, with null for
   * an open end, query, order, seed}
   */
  select(wanted) {
    const { facets, ranges } = this.data;
    // For each facet: of every combination of values whether it passes; null where all do.
    const passing = facets.map((facet, at) => {
      const chosen = wanted.facets[at];
      return chosen.size ? facet.sets.map((values) => values.some((value) => chosen.has(value))) : null;
    });
    const bounds = ranges.map((range, at) => {
      const [low, high] = wanted.ranges[at];
      const none = low === null && high === null;
      return none ? null : [(low ?? -Infinity) / range.scale, (high ?? Infinity) / range.scale, range.values];
    }).filter(Boolean);
    // While the texts are being loaded the search waits; other filters need not.
    const words = this.texts ? wanted.query.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const counts = facets.map((facet) => new Uint32Array(facet.sets.length));
    const order = this.order(wanted.order, wanted.seed);
    const places = new Uint32Array(this.count);
    let found = 0;
    for (const place of order) {
      if (!bounds.every(([low, high, values]) => values[place] !== null && values[place] >= low && values[place] <= high)) continue;
      if (words.length && !words.every((word) => this.texts[place].includes(word))) continue;
      let failed = -1; // the only facet that fails; -2 where several do
      for (let at = 0; at < facets.length; at++) {
        if (passing[at] && !passing[at][facets[at].codes[place]]) failed = failed === -1 ? at : -2;
      }
      if (failed === -2) continue;
      if (failed === -1) places[found++] = place;
      for (let at = 0; at < facets.length; at++) {
        if (failed === -1 || failed === at) counts[at][facets[at].codes[place]]++;
      }
    }
    return { places: places.slice(0, found), counts: facets.map((facet, at) => Questions.perValue(facet, counts[at])) };
  }

  /** Counts of combinations of values as counts of the values. */
  static perValue(facet, counts) {
    const found = new Array(facet.values.length).fill(0);
    facet.sets.forEach((values, code) => values.forEach((value) => { found[value] += counts[code]; }));
    return found;
  }

  /** All places in an order: "run", "random", or "NAME up" and "NAME down" for a range, unknown values last. */
  order(name, seed) {
    const id = name === "random" ? `random ${seed}` : name;
    if (this.lastOrder.name !== id) this.lastOrder = { name: id, places: this.sorted(name, seed) };
    return this.lastOrder.places;
  }

  sorted(name, seed) {
    const places = Uint32Array.from({ length: this.count }, (_, place) => place);
    if (name === "run") return places;
    if (name === "random") return Questions.shuffled(places, seed);
    const [range, way] = name.split(" ");
    const { values } = this.data.ranges.find((one) => one.name === range);
    const sign = way === "down" ? -1 : 1;
    const keys = Float64Array.from(values, (value) => (value === null ? Infinity : sign * value));
    return places.sort((one, other) => keys[one] - keys[other] || one - other || 0);
  }

  /** Fisher-Yates with numbers of mulberry32: the same seed gives the same order everywhere. */
  static shuffled(places, seed) {
    let state = seed >>> 0;
    for (let end = places.length - 1; end > 0; end--) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      const other = Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296) * (end + 1));
      [places[end], places[other]] = [places[other], places[end]];
    }
    return places;
  }
}

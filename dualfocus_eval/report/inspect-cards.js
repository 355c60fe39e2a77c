// A card of the inspector. Whatever comes from files becomes text and never markup.
"use strict";

const cards = (() => {
  const LONGEST = 600;
  // As common/escaping.py has it: what acts on a page unseen, or turns the direction of writing.
  const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]/gu;

  function visible(text) {
    return String(text).replace(UNSEEN, (found) => {
      const code = found.charCodeAt(0);
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
    });
  }

  /** An element with a class and children: elements, and texts, which are made visible. */
  function make(tag, classes, ...children) {
    const element = document.createElement(tag);
    if (classes) element.className = classes;
    for (const child of children) {
      if (child === null || child === undefined) continue;
      element.append(child instanceof Node ? child : visible(child));
    }
    return element;
  }

  /** A text from the run: its own direction of writing, cut where it is very long. */
  function words(text, tag = "span", classes = "words") {
    const element = make(tag, classes);
    element.dir = "auto";
    const shown = visible(text);
    if (shown.length <= LONGEST) {
      element.textContent = shown.trim() ? shown : "(nothing)";
      return element;
    }
    const more = make("button", "control", `Show all ${shown.length.toLocaleString("en")} characters`);
    more.type = "button";
    more.addEventListener("click", () => element.replaceChildren(shown));
    element.append(`${shown.slice(0, LONGEST)} … `, more);
    return element;
  }

  function perplexity(nll) {
    if (nll === undefined || nll === null) return "–";
    const value = Math.exp(nll);
    return value < 1e4 ? value.toFixed(3) : value.toExponential(2);
  }

  const known = (value) => value !== undefined && value !== null;
  const right = (score) => (known(score) ? (score > 0 ? "right" : "wrong") : "no score");
  const tone = (score) => (known(score) ? (score > 0 ? "good" : "bad") : "");

  function place(element, left, top, width, height) {
    Object.assign(element.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%` });
  }

  /** The width in px at which a picture of that shape fits into a field; very tall ones stay wide enough to be seen. */
  const sized = (width, height, most, highest) => Math.max(60, Math.min(most, (highest * width) / height));

  function outline(kind, box) {
    const element = make("div", `outline ${kind}`);
    place(element, box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1);
    return element;
  }

  function picture(card, data, alternative) {
    const image = make("img");
    image.src = `${data.pictures}/${card.image.digest}.jpg`;
    image.alt = alternative;
    image.loading = "lazy";
    image.decoding = "async";
    image.draggable = false;
    image.addEventListener("error", () => { // it was there when the page was made
      image.parentElement.classList.add("missing");
      image.replaceWith(make("span", "gone", "no picture"));
    });
    return image;
  }

  /** The image with the outlines drawn in, at its own shape, whatever size the kept picture has. */
  function framed(card, side, data) {
    const { width, height, kept } = card.image;
    const frame = make("div", kept ? "frame" : "frame missing");
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `${sized(width, height, 520, 340)}px`;
    if (kept) frame.append(picture(card, data, `The image of ${card.key}`));
    else frame.append(make("span", "gone", "no picture"));
    if (card.truth) frame.append(outline("truth", card.truth));
    if (side.crop) {
      const { left, top, right: end, bottom } = side.crop;
      frame.append(outline("crop", { x1: left / width, y1: top / height, x2: end / width, y2: bottom / height }));
    }
    if (side.box) frame.append(outline("box", side.box));
    return make("figure", "", frame, make("figcaption", "", `${width} × ${height} px`));
  }

  /** The sub-region, cut from the same picture by coordinates. */
  function cropped(card, side, data) {
    if (!side.crop) return null;
    const { left, top, right: end, bottom } = side.crop;
    const [width, height] = [end - left, bottom - top];
    const caption = make("figcaption", "", `sub-region, ${width} × ${height} px`);
    if (side.crop_outside || !(width > 0 && height > 0)) {
      return make("figure", "", make("p", "warn", "The sub-region lies outside of the image: the traces are damaged."), caption);
    }
    if (!card.image.kept) return null;
    const frame = make("div", "frame cut");
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `${sized(width, height, 280, 280)}px`;
    const image = picture(card, data, `The sub-region of ${card.key}`);
    place(image, -left / width, -top / height, card.image.width / width, card.image.height / height);
    frame.append(image);
    return make("figure", "", frame, caption);
  }

  function answerRow(name, side) {
    const answer = side[name];
    const row = make("tr", side.selected === name ? "selected" : "");
    const heading = make("th", "", name, side.selected === name ? make("span", "chip", "selected") : null);
    heading.scope = "row";
    const cells = [
      make("td", "text", words(answer.text)),
      make("td", "number", perplexity(answer.nll)),
      make("td", "number", perplexity(answer.cost)),
      make("td", "", make("span", `chip ${tone(answer.score)}`, right(answer.score)), known(answer.score) && answer.score % 1 ? ` ${answer.score}` : null),
    ];
    row.append(heading, ...cells);
    return row;
  }

  function answers(side) {
    const names = ["macro", "micro"].filter((name) => side[name]);
    if (!names.length) {
      return side.error ? null : make("p", "", "answer: ", words(side.answer ?? ""), " ", make("span", `chip ${tone(side.score)}`, right(side.score)));
    }
    const head = make("tr", "", make("td"), ...["answer", "PPL", "compared", ""].map((text, at) => {
      const cell = make(text ? "th" : "td", at === 1 || at === 2 ? "number" : "", text);
      if (text) cell.scope = "col";
      return cell;
    }));
    const table = make("table", "answers", make("thead", "", head), make("tbody", "", ...names.map((name) => answerRow(name, side))));
    const frame = make("div", "wide", table);
    frame.tabIndex = 0; // where it is too narrow for the table, the arrow keys scroll it
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Answers");
    return frame;
  }

  /** Why this answer was selected, in a sentence. */
  function why(side, run) {
    if (side.error) return `The question failed: ${side.error}.`;
    if (side.skipped_micro) return "No second pass: the macro answer was confident enough.";
    if (side.fallback && !side.micro) return `Only the macro answer: ${side.fallback}.`;
    if (!side.selected || !side.decision) return "";
    if (known(side.macro?.cost) && known(side.micro?.cost)) {
      const [own, other] = side.selected === "micro" ? ["micro", "macro"] : ["macro", "micro"];
      const fallback = side.fallback ? ` Fallback: ${side.fallback}.` : "";
      const what = run.compared ? ` (${run.compared})` : "";
      return `Selected ${own}: the rule ${side.rule}${what} has ${perplexity(side[own].cost)} for it and ${perplexity(side[other].cost)} for ${other}; the lower one is selected.${fallback}`;
    }
    return `Selected ${side.selected}: ${side.decision}.`;
  }

  function grounding(side, run) {
    if (!known(side.box_text) && !side.grounding) return null;
    const parts = ["The model's text for the box: ", known(side.box_text) ? words(side.box_text, "code", "") : "(none)"];
    if (side.grounding && side.grounding !== "ok") parts.push(": ", make("span", "chip warn", side.grounding));
    if (side.box) {
      const corners = [side.box.x1, side.box.y1, side.box.x2, side.box.y2].map((corner) => corner.toFixed(2)).join(", ");
      parts.push(`, read as [${corners}] of the image`);
    }
    if (known(side.box_text) && run.reading) parts.push(` (${run.reading})`);
    return make("p", "note", ...parts);
  }

  function sideOf(card, side, run, data, facets) {
    const element = make("div", "side");
    if (run.name) element.append(make("h3", "", run.name));
    const chips = make("p", "chips", ...facets.map(({ label, classes }) => make("span", `chip ${classes}`, label)));
    if (facets.length) element.append(chips);
    const reason = why(side, run);
    const text = make("div", "reading", answers(side), reason ? make("p", "", reason) : null, grounding(side, run));
    const figures = card.image ? make("div", "figures", framed(card, side, data), cropped(card, side, data)) : null;
    element.append(make("div", "looking", figures, text));
    return element;
  }

  function questionOf(card) {
    const parts = [words(card.question ?? "", "p", "question")];
    if (card.options) {
      const list = make("ol", "options");
      list.append(...card.options.map((option) => words(option, "li", "")));
      parts.push(list);
    }
    parts.push(make("p", "", "right answer: ", make("strong", "", words(card.target ?? ""))));
    if (card.prompt) {
      const details = make("details", "", make("summary", "", "prompt"), words(card.prompt, "pre", ""));
      parts.push(details);
    }
    return parts;
  }

  return { make, words, visible, sideOf, questionOf };
})();

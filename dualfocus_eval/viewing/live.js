// The page of a running run: asks the server every two seconds and shows what it says. All texts are set as text.
"use strict";

const EVERY = 2000; // milliseconds
const SILENT = 30; // seconds without an answer after which the page says so
const PHASES = {
  waiting: "No question has been asked here yet. The page changes when the run begins.",
  answering: "The run is answering.",
  scoring: "Every question is answered. lmms-eval is scoring the answers and writing the results.",
  reporting: "The run has ended. Its report is being made.",
  finished: "The run has ended.",
};

const at = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US");
let watched = false; // whether this page has seen the run answer

function duration(seconds) {
  if (seconds === null) return "not known";
  const total = Math.round(seconds);
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60)];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${total % 60} s` : `${total} s`;
}

function number(value, share, signed) {
  if (value === null) return "";
  const shown = share ? (100 * value).toFixed(1) : value.toFixed(2);
  return signed && value > 0 ? `+${shown}` : shown;
}

function cell(text, kind) {
  const made = document.createElement("td");
  made.className = kind;
  made.textContent = text;
  return made;
}

function estimate(found, share, signed) {
  const unit = share ? (signed ? " points" : "%") : "";
  const made = cell(found ? number(found.value, share, signed) + unit : "", "number");
  if (found && found.low !== null && found.high !== null) {
    const interval = document.createElement("span");
    interval.className = "ci";
    interval.textContent = `${number(found.low, share, signed)} to ${number(found.high, share, signed)}`;
    made.append(interval);
  }
  return made;
}

function fill(section, rows) {
  at(section).hidden = rows.length === 0;
  at(section).querySelector("tbody").replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  }));
}

function taskRow(task) {
  return [
    cell(task.name, "text brief"),
    cell(`${whole.format(task.answered)} of ${whole.format(task.asked)}`, "number"),
    ...["macro", "micro", "selected"].map((pathway) => estimate(task.scores[pathway], task.share, false)),
    estimate(task.difference, task.share, true),
    cell(whole.format(task.failed), task.failed ? "number bad" : "number"),
  ];
}

const kindRow = (found) => [
  cell(found.kind, "text brief"), cell(whole.format(found.count), "number"), cell(found.example, "text"),
];

function phase(state) {
  const run = state.run;
  if (state.phase === "finished" && !state.report) return "The run has ended, and its report cannot be made.";
  if (state.phase === "answering" && run && run.idle >= SILENT) {
    return `No new answer for ${duration(run.idle)}. If the run was stopped, start the same command again to resume it.`;
  }
  return PHASES[state.phase];
}

function showProgress(run) {
  at("progress").hidden = false;
  const bar = at("bar");
  bar.setAttribute("aria-valuemax", run.asked);
  bar.setAttribute("aria-valuenow", run.answered);
  bar.firstElementChild.style.width = `${run.asked ? (100 * run.answered) / run.asked : 0}%`;
  const earlier = run.answered_earlier ? ` (${whole.format(run.answered_earlier)} in an earlier run)` : "";
  at("answered").textContent = `${whole.format(run.answered)} of ${whole.format(run.asked)}${earlier}`;
  at("rate").textContent = run.rate === null ? "not known" : run.rate.toPrecision(3);
  at("elapsed").textContent = duration(run.elapsed);
  at("left").textContent = run.answered >= run.asked ? "none" : duration(run.left);
}

function show(state) {
  const run = state.run;
  if (state.report && !watched) {
    location.replace("/report/index.html");
    return;
  }
  watched ||= state.phase === "answering";
  at("title").textContent = run ? `DualFocus: ${run.model}` : `DualFocus: ${state.place}`;
  document.title = run ? `${run.answered} of ${run.asked}: ${run.model}` : at("title").textContent;
  at("report").hidden = !state.report;
  const remarks = [state.problem, ...(run ? run.remarks : [])].filter(Boolean);
  showRemarks(remarks);
  at("phase").textContent = phase(state);
  if (!run) return;
  showProgress(run);
  fill("scores", run.tasks.map(taskRow));
  fill("failures", run.failures.map(kindRow));
  fill("fallbacks", run.fallbacks.map(kindRow));
}

function showRemarks(remarks) {
  at("remarks").hidden = remarks.length === 0;
  at("remarks").firstElementChild.replaceChildren(...remarks.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

/** What the server knows; null where it does not answer. */
async function asked() {
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function look() {
  const state = await asked();
  setTimeout(look, EVERY);
  if (state) show(state);
  else at("phase").textContent = "dualfocus view does not answer: it was stopped. This page shows the last state.";
}

look();

// The command that asks a question of the inspector again.
"use strict";

const asking = (() => {
  /** A word for a POSIX shell; control characters, which a terminal would act on, are written as codes. */
  function quoted(text) {
    if (/[\x00-\x1f\x7f-\x9f]/.test(text)) {
      const codes = text.replace(/[\\']/g, "\\$&").replace(/[\x00-\x1f\x7f-\x9f]/g, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
      return `$'${codes}'`;
    }
    return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
  }

  /** The kept picture's path: whole where the page was opened from a file, else relative to the report. */
  function pathOf(card, data) {
    const relative = `${data.pictures}/${card.image.digest}.jpg`;
    return location.protocol === "file:" ? decodeURIComponent(new URL(relative, location.href).pathname) : relative;
  }

  /** null where it cannot be asked: neither its task nor its picture is at hand. */
  function command(card, run, data) {
    const settings = run.ask.model_args ? [`--model_args ${quoted(run.ask.model_args)}`] : [];
    if (run.ask.tasks.includes(card.task)) return ["dualfocus ask", `--doc=${quoted(card.key)}`, ...settings].join(" ");
    if (!card.image?.kept || !card.question) return null;
    if (card.options?.some((option) => option.includes(","))) return null; // --options are separated by commas
    const options = card.options?.length > 1 ? [`--options=${quoted(card.options.join(","))}`] : [];
    return ["dualfocus ask", quoted(pathOf(card, data)), `--question=${quoted(card.question)}`, ...options, ...settings].join(" ");
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copySelected(text);
    }
  }

  /** For pages from the file system, which some browsers give no clipboard. */
  function copySelected(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  return { command, copy, quoted };
})();

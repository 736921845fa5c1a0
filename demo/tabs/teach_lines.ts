import type { TaughtPair } from "../protocol.ts";
import { t } from "../text/i18n.svelte.ts";

/** What the two columns of a line are: a sentence and its translation, or a text and its label. */
export type Columns = "translation" | "label";

/** The lines of a pasted text, or what is wrong with the first that is none. */
export type ReadLines =
  | { readonly pairs: readonly TaughtPair[]; readonly fault?: undefined }
  | { readonly fault: string };

/** A line is shown in a message as far as this. */
const SHOWN = 40;
const MOST_CHARACTERS = 2000;
const MOST_LINES = 20_000;
const MOST_LABELS = 100;
/** A first line that names the columns, as files for `heed finetune` may begin, is no example. */
const HEADERS: Readonly<Record<Columns, string>> = { translation: "source\ttarget", label: "text\tlabel" };

/**
 * Reads two columns: what is before and behind the first tab of each line, or the first `=>` where it has no tab, since a tab is hard to
 * type into a page. Empty lines are skipped, and a header. A line that does not fit is told with its number.
 */
export function readLines(text: string, columns: Columns): ReadLines {
  const pairs: TaughtPair[] = [];
  for (const [i, whole] of text.split(/\r?\n/).entries()) {
    if (whole.trim() === "" || (i === 0 && whole === HEADERS[columns])) continue;
    const line = i + 1;
    const [first, second] = columnsOf(whole);
    const shown = whole.length > SHOWN ? `${whole.slice(0, SHOWN)}…` : whole;
    if (second === undefined) {
      return { fault: t("Line {line}: a tab, or =>, must part its two columns; got “{shown}”.", { line, shown }) };
    }
    if (first === "" || second === "") {
      return { fault: t("Line {line}: both columns must have text; got “{shown}”.", { line, shown }) };
    }
    if (second.includes("\t")) {
      return { fault: t("Line {line}: there must be two columns; got more in “{shown}”.", { line, shown }) };
    }
    if (whole.length > MOST_CHARACTERS) {
      return {
        fault: t("Line {line}: it has {n} characters; at most {most} fit here.", {
          line,
          n: whole.length,
          most: MOST_CHARACTERS,
        }),
      };
    }
    if (pairs.length === MOST_LINES) {
      return { fault: t("Line {line}: at most {most} lines are taken here.", { line, most: MOST_LINES }) };
    }
    pairs.push({ line, first, second });
  }
  return check(pairs, columns);
}

function columnsOf(line: string): readonly [string, string | undefined] {
  const mark = line.includes("\t") ? "\t" : "=>";
  const cut = line.indexOf(mark);
  if (cut < 0) return [line.trim(), undefined];
  return [line.slice(0, cut).trim(), line.slice(cut + mark.length).trim()];
}

function check(pairs: readonly TaughtPair[], columns: Columns): ReadLines {
  if (pairs.length === 0) return { fault: t("There is no line to learn from. Write or drop some.") };
  if (columns === "translation") return { pairs };
  const labels = new Map<string, number>();
  for (const { second, line } of pairs) if (!labels.has(second)) labels.set(second, line);
  if (labels.size < 2) {
    return {
      fault: t("Line {line}: every line has the label “{label}”; two labels or more are needed.", {
        line: pairs.at(-1)?.line ?? 1,
        label: [...labels.keys()][0] ?? "",
      }),
    };
  }
  if (labels.size > MOST_LABELS) {
    const line = [...labels.values()][MOST_LABELS] ?? 1;
    return {
      fault: t("Line {line}: it has label number {n}, and at most {most} are taken. The label is the second column.", {
        line,
        n: MOST_LABELS + 1,
        most: MOST_LABELS,
      }),
    };
  }
  return { pairs };
}

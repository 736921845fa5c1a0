import type { CaseResult, OutputResult } from "../src/conformance/index.ts";

/** The rows of a case: one an output, and one more for what it lacks or why it broke. All of it is text, never markup. */
export function caseRows(result: CaseResult): HTMLTableRowElement[] {
  const { name, outputs, status, missing, error } = result;
  const rows = outputs.map((output) => outputRow(name, output));
  const reason = error ?? (status === "skipped" ? `needs ${missing.join("; ")}` : undefined);
  if (reason !== undefined) rows.push(row(status, name, ["", "", "", "", "", `${status}: ${reason}`]));
  return rows;
}

function outputRow(name: string, output: OutputResult): HTMLTableRowElement {
  const { maxAbsoluteError, maxRelativeError, atol, rtol, kernels, ok, worst } = output;
  const place = worst ? ` at ${worst.index}: got ${worst.actual}, expected ${worst.expected}` : "";
  return row(ok ? "passed" : "failed", name, [
    output.name,
    short(maxAbsoluteError),
    short(maxRelativeError),
    `${short(atol)} + ${short(rtol)} · |x|`,
    kernels.join(" → ") || "none (a copy)",
    ok ? "passed" : `failed${place}`,
  ]);
}

function row(status: CaseResult["status"], name: string, cells: readonly string[]): HTMLTableRowElement {
  const element = document.createElement("tr");
  element.className = status;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  element.append(head, ...cells.map(cell));
  return element;
}

function cell(text: string, index: number): HTMLTableCellElement {
  const element = document.createElement("td");
  element.textContent = text;
  if (index >= 1 && index <= 3) element.className = "number";
  return element;
}

function short(value: number): string {
  return value === 0 ? "0" : value.toPrecision(3);
}

// Runs the conformance suite in this browser, on chosen files or on the cases that come with Heed. Public API only.
import {
  type CaseFile,
  type CaseResult,
  closingLine,
  type ConformanceReport,
  runConformance,
} from "../src/conformance/index.ts";
import { availableTiers, createEngine, isHeedError, type Tier, TIERS } from "../src/index.ts";
import { caseRows } from "./conformance_table.ts";
import { chosenEntries, droppedEntries } from "./files.ts";
import "./style.css";
import "./conformance.css";

const OWN_FOLDER = "../test/conformance/cases/";
const own = import.meta.glob<string>("../test/conformance/cases/**/*.json", { query: "?raw", import: "default" });

const form = element("form", HTMLFormElement);
const tierSelect = element("tier", HTMLSelectElement);
const filterInput = element("filter", HTMLInputElement);
const folderInput = element("folder", HTMLInputElement);
const filesInput = element("files", HTMLInputElement);
const runButton = element("run", HTMLButtonElement);
const stopButton = element("stop", HTMLButtonElement);
const ownButton = element("own", HTMLButtonElement);
const copyButton = element("copy", HTMLButtonElement);
const chosenLine = element("chosen", HTMLElement);
const statusLine = element("status", HTMLElement);
const errorLine = element("error", HTMLElement);
const rows = element("rows", HTMLTableSectionElement);
const reportArea = element("report", HTMLTextAreaElement);

let files: readonly CaseFile[] = ownCases();
let running: AbortController | undefined;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void run();
});
stopButton.addEventListener("click", () => running?.abort());
copyButton.addEventListener("click", () => void copyReport());
ownButton.addEventListener("click", () => {
  folderInput.value = "";
  filesInput.value = "";
  take(ownCases());
});
for (const input of [folderInput, filesInput]) {
  input.addEventListener("change", () => {
    const other = input === folderInput ? filesInput : folderInput;
    other.value = "";
    take(caseFiles(chosenEntries(input.files ?? []).entries));
  });
}
form.addEventListener("dragover", (event) => {
  event.preventDefault();
  form.classList.add("dropping");
});
form.addEventListener("dragleave", () => form.classList.remove("dropping"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("dropping");
  if (event.dataTransfer) void takeDropped(event.dataTransfer);
});

// A table that is wider than the screen has to scroll by the keyboard too.
element("results", HTMLElement).tabIndex = 0;
take(files);
await offerTiers();

/** Lists the tiers of this browser's adapter; without one, says why nothing can run. */
async function offerTiers(): Promise<void> {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) {
    statusLine.textContent = "";
    showError(`This browser has no ${navigator.gpu ? "GPU for WebGPU" : "WebGPU"}, so that nothing can run here.`);
    return;
  }
  const available = availableTiers(adapter);
  for (const tier of TIERS) {
    const option = new Option(tier, tier, tier === available.at(-1));
    option.disabled = !available.includes(tier);
    tierSelect.append(option);
  }
  tierSelect.value = available.at(-1) ?? "core";
  statusLine.textContent = "Ready.";
  setRunning(false);
}

async function run(): Promise<void> {
  if (running || runButton.disabled) return;
  running = new AbortController();
  rows.replaceChildren();
  reportArea.value = "";
  errorLine.hidden = true;
  setRunning(true);
  statusLine.textContent = "Starting…";
  const cases: CaseResult[] = [];
  try {
    const engine = await createEngine({ tier: tierSelect.value as Tier });
    try {
      const report = await runConformance(engine, files, {
        filter: filterInput.value.trim(),
        signal: running.signal,
        onCase: (result, done, total) => {
          cases.push(result);
          rows.append(...caseRows(result));
          statusLine.textContent = `${done} of ${total}…`;
        },
      });
      const { adapter, facts } = engine;
      const { userAgent } = navigator;
      writeReport({ adapter, tier: facts.tier, software: facts.software, userAgent, ...report });
      statusLine.textContent = closingLine(report);
    } finally {
      await engine.dispose();
    }
  } catch (error) {
    statusLine.textContent = `Stopped after ${cases.length} cases.`;
    if (!isHeedError(error, "ABORTED")) showError(error instanceof Error ? error.message : String(error));
  } finally {
    running = undefined;
    setRunning(false);
  }
}

/** What people send: who computed, and what came out. */
interface PageReport extends ConformanceReport {
  readonly adapter: object;
  readonly tier: Tier;
  readonly software: boolean;
  readonly userAgent: string;
}

function writeReport(report: PageReport): void {
  // Infinity and NaN, which JSON lacks, are what a broken kernel gives: as text they stay to be read.
  const asText = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
  reportArea.value = JSON.stringify(report, asText);
}

async function copyReport(): Promise<void> {
  try {
    await navigator.clipboard.writeText(reportArea.value);
    statusLine.textContent = "The report is in the clipboard.";
  } catch {
    // Without https, or where it is forbidden, there is no clipboard: the text can be copied by hand.
    reportArea.closest("details")?.setAttribute("open", "");
    reportArea.focus();
    reportArea.select();
    statusLine.textContent = "This browser gives no clipboard: copy the selected text.";
  }
}

async function takeDropped(data: DataTransfer): Promise<void> {
  try {
    const { entries } = await droppedEntries(data);
    take(caseFiles(entries));
  } catch (error) {
    showError(error instanceof Error ? error.message : String(error));
  }
}

/** Makes these the cases to run. */
function take(chosen: readonly CaseFile[]): void {
  files = chosen.length > 0 ? chosen : ownCases();
  errorLine.hidden = true;
  if (chosen.length === 0) showError("There are no cases (.json) in it. Heed's own are taken.");
  const isOwn = chosen.length === 0 || chosen.every(({ name }) => `${OWN_FOLDER}${name}` in own);
  chosenLine.textContent = `${files.length} ${files.length === 1 ? "case" : "cases"}${isOwn ? " of Heed's own" : ""}. A folder can be dropped here too.`;
}

function ownCases(): CaseFile[] {
  return Object.entries(own).map(([path, load]) => ({ name: path.slice(OWN_FOLDER.length), text: load }));
}

function caseFiles(entries: readonly (readonly [string, File])[]): CaseFile[] {
  return entries
    .filter(([name]) => name.toLowerCase().endsWith(".json"))
    .map(([name, file]) => ({ name, text: () => file.text() }));
}

function setRunning(isRunning: boolean): void {
  for (const control of [runButton, ownButton, tierSelect, filterInput, folderInput, filesInput]) {
    control.disabled = isRunning;
  }
  stopButton.disabled = !isRunning;
  copyButton.disabled = isRunning || reportArea.value === "";
}

function showError(message: string): void {
  errorLine.textContent = message;
  errorLine.hidden = false;
}

function element<E extends HTMLElement>(id: string, type: abstract new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`conformance.html has no ${type.name} #${id}`);
  return found;
}

import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { Command } from "commander";
import { type CaseFile, caseLine, type ConformanceReport, closingLine, runConformance } from "../conformance/run.ts";
import { HeedError } from "../core/errors.ts";
import { EXIT } from "./exit_codes.ts";
import { type GpuOptions, openEngine, openGpu } from "./gpu.ts";
import { addGpuFlags } from "./model_flags.ts";
import { note, printLine } from "./output.ts";

interface ConformanceCliOptions extends GpuOptions {
  filter?: string;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  $ heed conformance ./vectors                   every case of the folder, on the highest tier
  $ heed conformance ./vectors --tier core       with nothing but WebGPU's defaults
  $ heed conformance ./vectors --filter softmax --json

A case is a JSON file of ONNX nodes with inputs and outputs, or of a PyTorch op with inputs, outputs and gradients.
Exit codes: 0 nothing failed, 1 a case failed, 2 wrong usage, 3 no GPU, 130 interrupted.`;

/** The command `heed conformance`; `done` receives the exit code. */
export function conformanceCommand(signal: AbortSignal, done: (code: number) => void): Command {
  const command = new Command("conformance")
    .description("Compare the ops with a folder of test vectors")
    .argument("<folder>", "folder of cases, searched with its subfolders")
    .option("--filter <text>", "run the cases alone whose name contains this")
    .option("--json", "print one JSON object with the error of each output");
  return addGpuFlags(command)
    .addHelpText("after", EXAMPLES)
    .action(async (folder: string, options: ConformanceCliOptions) => done(await conformance(folder, options, signal)));
}

async function conformance(folder: string, options: ConformanceCliOptions, signal: AbortSignal): Promise<number> {
  const files = await caseFiles(folder);
  const gpu = await openGpu(options);
  const engine = await openEngine(gpu, options);
  let report: ConformanceReport;
  try {
    report = await runConformance(engine, files, {
      filter: options.filter,
      signal,
      onCase: (result) => {
        if (!options.json) printLine(caseLine(result));
      },
    });
  } finally {
    await engine.dispose();
  }
  if (options.json) {
    printLine(JSON.stringify(report));
    note(closingLine(report));
  } else {
    printLine(closingLine(report));
  }
  return report.failed > 0 ? EXIT.FAILED : EXIT.OK;
}

/** The JSON files below a folder, or the one file, by name. Throws `USAGE` if there are none. */
async function caseFiles(folder: string): Promise<CaseFile[]> {
  const found = await stat(folder).catch(() => undefined);
  if (!found) throw new HeedError("USAGE", `conformance: there is no folder ${folder}. Name a folder of cases.`);
  const paths = found.isDirectory()
    ? (await readdir(folder, { recursive: true }))
        .filter((name) => name.endsWith(".json"))
        .map((name) => join(folder, name))
    : [folder];
  if (paths.length === 0) {
    throw new HeedError("USAGE", `conformance: ${folder} must hold cases (.json); got none. Name a folder of cases.`);
  }
  return paths.sort().map((path) => ({
    name: found.isDirectory() ? relative(folder, path).replaceAll("\\", "/") : path,
    text: () => readFile(path, "utf8"),
  }));
}

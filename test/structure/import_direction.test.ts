import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";

// What each folder of src/ may import, itself aside. Anything that is not listed is an error.
const BASE = ["core", "gpu"];
const MODELS = [...BASE, "ops", "program", "nn", "formats", "sources", "text"];
const TASKS = [...MODELS, "models"];
const ALLOWED: Record<string, readonly string[]> = {
  core: [],
  gpu: ["core"],
  reference: ["core"],
  text: ["core"],
  sources: BASE,
  formats: BASE,
  ops: BASE,
  program: [...BASE, "ops"],
  nn: [...BASE, "ops", "program"],
  models: MODELS,
  // model.run and the capture of a generation are inspections.
  // The self test compares kernels with the reference on the user's own device.
  tasks: [...TASKS, "inspect", "reference"],
  // Generates and shows attention with the weights that it is training.
  train: [...TASKS, "tasks", "inspect"],
  inspect: TASKS,
  conformance: [...TASKS, "tasks", "train", "inspect", "reference"],
  cli: [...TASKS, "tasks", "train", "inspect", "conformance", "serve", "entry"],
  serve: [...TASKS, "tasks", "train", "inspect", "entry"],
  // index.ts and node.ts, the public API.
  entry: [...TASKS, "tasks", "train", "inspect", "conformance"],
};
// Of the command line, the page and the server, the page alone is outside src/: it sees what a user sees.
const DEMO_MAY_IMPORT = /^src\/(index|conformance\/index|train\/index)\.ts$/;

interface Import {
  from: string;
  to: string;
}

describe("imports", () => {
  const imports = readImports("src");

  it("are read at all", () => {
    expect(imports.length).toBeGreaterThan(20);
  });

  it("point one way", () => {
    const wrong = imports.filter(({ from, to }) => to.startsWith("src/") && !isAllowed(from, to));
    expect(wrong.map(({ from, to }) => `${from} must not import ${to}`)).toEqual([]);
  });

  it("of a model family never reach another family", () => {
    const family = (file: string) => /^src\/models\/([^/]+)\//.exec(file)?.[1];
    const wrong = imports.filter(({ from, to }) => family(from) && family(to) && family(from) !== family(to));
    expect(wrong.map(({ from, to }) => `${from} must not import ${to}`)).toEqual([]);
  });

  it("of webgpu stand in platform_node.ts alone", () => {
    const from = imports.filter(({ to }) => to === "webgpu").map((found) => found.from);
    expect([...new Set(from)]).toEqual(["src/gpu/platform_node.ts"]);
  });

  it("of Node's modules stand in files for Node alone", () => {
    const isForNode = (file: string) => /_node\.ts$|^src\/(cli|serve)\/|^src\/node\.ts$/.test(file);
    const wrong = imports.filter(({ from, to }) => !isForNode(from) && (to.startsWith("node:") || isForNode(to)));
    expect(wrong.map(({ from, to }) => `${from} must not import ${to}`)).toEqual([]);
  });

  it("of shaders stand in ops and gpu", () => {
    const wrong = imports.filter(({ from, to }) => to.endsWith(".wgsl") && !/^src\/(ops|gpu)\//.test(from));
    expect(wrong.map(({ from, to }) => `${from} must not import ${to}`)).toEqual([]);
  });

  it("of the page are the public API", () => {
    const wrong = readImports("demo").filter(({ to }) => to.startsWith("src/") && !DEMO_MAY_IMPORT.test(to));
    expect(wrong.map(({ from, to }) => `${from} must not import ${to}`)).toEqual([]);
  });
});

describe("the rule itself", () => {
  it("refuses the wrong way and accepts the right one", () => {
    expect(isAllowed("src/ops/matmul.ts", "src/program/plan.ts")).toBe(false);
    expect(isAllowed("src/text/tokenizer.ts", "src/gpu/device.ts")).toBe(false);
    expect(isAllowed("src/tasks/generate.ts", "src/index.ts")).toBe(false);
    expect(isAllowed("src/program/plan.ts", "src/ops/matmul.ts")).toBe(true);
    expect(isAllowed("src/nn/linear.ts", "src/nn/norm.ts")).toBe(true);
  });
});

function isAllowed(from: string, to: string): boolean {
  const [source, target] = [layer(from), layer(to)];
  return source === target || (ALLOWED[source]?.includes(target) ?? false);
}

/** `src/ops/matmul.ts` is in `ops`; files directly in `src/` are the `entry`. */
function layer(file: string): string {
  const parts = file.split("/");
  return parts.length > 2 ? (parts[1] ?? "") : "entry";
}

function readImports(folder: string): Import[] {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => /\.(ts|svelte)$/.test(name) && !name.endsWith(".d.ts"))
    .flatMap((name) => {
      const from = `${folder}/${name}`;
      const { importedFiles } = ts.preProcessFile(readFileSync(join(ROOT, from), "utf8"), true, true);
      return importedFiles.map(({ fileName }) => ({ from, to: target(from, fileName) }));
    });
}

/** A relative import as a path from the root; a package's name as it is. */
function target(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return relative(ROOT, resolve(ROOT, from, "..", specifier));
}

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import ts from "typescript";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { ensureBuilt, ROOT } from "../support/built.ts";

const run = promisify(execFile);
const project = mkdtempSync(join(tmpdir(), "heed-package-"));
let files: string[];

beforeAll(async () => {
  await ensureBuilt();
  const packed = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", project], { cwd: ROOT });
  const [{ filename, files: listed }] = JSON.parse(packed.stdout);
  files = listed.map((file: { path: string }) => file.path);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
  // What a user of Node installs: the package, and the optional peer for WebGPU.
  await run("npm", ["install", ...quiet, `./${filename}`, `webgpu@${packageJson.devDependencies.webgpu}`], {
    cwd: project,
  });
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

describe("the package, installed in an empty project", () => {
  it("holds the library, its types and the command, and nothing of the tests or the page", () => {
    expect(files).toEqual(
      expect.arrayContaining([
        "bin/heed.mjs",
        "dist/index.mjs",
        "dist/index.d.mts",
        "dist/node.mjs",
        "models/shakespeare/model.safetensors",
        "models/shakespeare/recipe.json",
      ]),
    );
    expect(files.filter((file) => !/^(bin|dist|models)\/|^(package\.json|README\.md|LICENSE)$/.test(file))).toEqual([]);
    expect(files.filter((file) => file.startsWith("dist/demo"))).toEqual([]);
  });

  it("runs no script at installation", () => {
    const scripts = Object.keys(packageJson.scripts);
    expect(scripts.filter((name) => /^(pre|post)?(install|prepare|prepublish)$/.test(name))).toEqual([]);
  });

  it("has at most 12 direct dependencies, each of an exact version", () => {
    const versions = Object.values(packageJson.dependencies);
    expect(versions.length).toBeLessThanOrEqual(12);
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  it("imports in Node by both names, as one and the same library", async () => {
    const script =
      'const [a, b] = await Promise.all([import("heed"), import("heed/node")]);' +
      "console.log(typeof a.nodeGpu, typeof a.Device, a.HeedError === b.HeedError);";
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], { cwd: project });
    expect(stdout).toBe("function function true\n");
  });

  it.each([
    ["heed", ts.ModuleResolutionKind.Bundler, "index.d.mts"],
    ["heed", ts.ModuleResolutionKind.NodeNext, "node.d.mts"],
    ["heed/node", ts.ModuleResolutionKind.Bundler, "node.d.mts"],
    ["heed/node", ts.ModuleResolutionKind.NodeNext, "node.d.mts"],
  ])("has the types of %s where resolution %i looks for them", (name, moduleResolution, file) => {
    const importer = join(project, "main.mts");
    const { resolvedModule } = ts.resolveModuleName(
      name,
      importer,
      { moduleResolution },
      ts.sys,
      undefined,
      undefined,
      ts.ModuleKind.ESNext,
    );
    expect(resolvedModule?.resolvedFileName.endsWith(`heed/dist/${file}`)).toBe(true);
    expect(readFileSync(resolvedModule?.resolvedFileName ?? "", "utf8")).toContain("HeedError");
  });

  it("brings the command heed, which finds the project's WebGPU", async () => {
    const { stdout } = await run(join(project, "node_modules/.bin/heed"), ["doctor", "--json"], { cwd: project });
    expect(JSON.parse(stdout).tier).toMatch(/^(core|subgroups|f16|full)$/);
  });

  it("bundles for the browser under Vite, without a trace of Node", async () => {
    writeFileSync(join(project, "index.html"), '<script type="module" src="./main.js"></script>');
    writeFileSync(join(project, "main.js"), 'import * as heed from "heed"; console.log(heed);');
    const warnings: string[] = [];
    await build({
      root: project,
      configFile: false,
      logLevel: "silent",
      build: {
        outDir: "out",
        modulePreload: false,
        rollupOptions: { onwarn: (warning) => void warnings.push(warning.message) },
      },
    });
    expect(warnings).toEqual([]);
    const html = readFileSync(join(project, "out/index.html"), "utf8");
    const script = /src="\/(assets\/[^"]+\.js)"/.exec(html)?.[1] ?? "";
    expect(existsSync(join(project, "out", script))).toBe(true);
    const code = readFileSync(join(project, "out", script), "utf8");
    expect(code).toContain("NO_ADAPTER");
    expect(code).not.toMatch(/node:fs|child_process|dawn\.node/);
  });
});

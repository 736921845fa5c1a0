import { defineConfig } from "tsdown";
import { wgsl } from "./build/wgsl_plugin.ts";

const shared = {
  format: "esm" as const,
  target: "es2022",
  plugins: [wgsl({ strip: true })],
  hash: false,
  fixedExtension: true,
  logLevel: "warn" as const,
};

export default defineConfig([
  {
    ...shared,
    // One build, so that the entries share their classes: an error of one is an error of the other.
    entry: {
      index: "src/index.ts",
      node: "src/node.ts",
      conformance: "src/conformance/index.ts",
      train: "src/train/index.ts",
      cli: "src/cli/entry.ts",
    },
    platform: "neutral",
    deps: { neverBundle: [/^node:/] },
    outDir: "dist",
    // The page lies in dist/demo: each build removes its own files alone.
    clean: ["dist/*.mjs", "dist/*.mts", "dist/chunks"],
    outputOptions: { chunkFileNames: "chunks/[name].mjs" },
    dts: true,
  },
  {
    ...shared,
    // One file with everything in it, for a script tag; its size is the library's size.
    entry: { heed: "src/index.ts" },
    platform: "browser",
    deps: { alwaysBundle: [/.*/] },
    outDir: "dist/cdn",
    clean: ["dist/cdn"],
    minify: true,
    dts: false,
  },
]);

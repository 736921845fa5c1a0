import { readFile } from "node:fs/promises";

/** The part of a Rollup, Rolldown or Vite plugin that {@link wgsl} uses. */
export interface WgslPlugin {
  name: string;
  enforce: "pre";
  load: (id: string) => Promise<{ code: string; map: null; moduleType: "js" } | null>;
}

/**
 * Lets modules write `import source from "./x.wgsl"`: the default export is the file's text.
 * `strip` removes comments but keeps every line, so that a compiler's line number is still the file's.
 */
export function wgsl(options: { strip: boolean }): WgslPlugin {
  return {
    name: "heed:wgsl",
    enforce: "pre",
    async load(id) {
      const path = id.split("?")[0] ?? id;
      if (!path.endsWith(".wgsl")) return null;
      const source = await readFile(path, "utf8");
      const text = options.strip ? stripComments(source) : source;
      return { code: `export default ${JSON.stringify(text)};\n`, map: null, moduleType: "js" };
    },
  };
}

/** WGSL without comments, indentation and trailing blanks, every token on the line where it was written. */
export function stripComments(source: string): string {
  let out = "";
  let depth = 0;
  for (let i = 0; i < source.length; i++) {
    const pair = source.slice(i, i + 2);
    if (pair === "/*") {
      // WGSL's block comments nest.
      depth++;
      i++;
    } else if (depth > 0) {
      if (pair === "*/") {
        depth--;
        i++;
        if (depth === 0) out += " ";
      } else if (source[i] === "\n") out += "\n";
    } else if (pair === "//") {
      const end = source.indexOf("\n", i);
      if (end < 0) break;
      i = end - 1;
    } else out += source[i];
  }
  return out
    .split("\n")
    .map((line) => line.trim())
    .join("\n");
}

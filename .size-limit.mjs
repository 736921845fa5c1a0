import { readFileSync } from "node:fs";

const FOLDER = "dist/cdn";

/** A chunk and those that it imports at once; `import()` brings the others when they are used. */
function startedWith(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  const code = readFileSync(`${FOLDER}/${name}`, "utf8");
  for (const [, next] of code.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)) startedWith(next, found);
  return found;
}

export default [
  {
    name: "core library, everything that an engine starts with, bundled",
    path: [...startedWith("heed.mjs")].map((name) => `${FOLDER}/${name}`),
    limit: "100 kB",
    gzip: true,
  },
];

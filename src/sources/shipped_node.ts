import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { noShippedModel, SHIPPED_FOLDERS, type ShippedTask } from "./shipped.ts";

/** The folder of the model for a task that comes with the package. Throws `UNSUPPORTED` where the package came without it. */
export function shippedModel(task: ShippedTask): string {
  const root = packageRoot();
  const path = join(root, "models", SHIPPED_FOLDERS[task]);
  if (existsSync(join(path, "config.json"))) return path;
  throw noShippedModel(task, root);
}

/** The package that this file is part of: it lies at another depth in the sources than in the build. */
function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    if (isHeed(join(folder, "package.json"))) return folder;
    if (dirname(folder) === folder) return start;
  }
}

function isHeed(path: string): boolean {
  try {
    return (JSON.parse(readFileSync(path, "utf8")) as { name?: unknown }).name === "heed";
  } catch {
    return false;
  }
}

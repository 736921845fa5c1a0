import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { ROOT } from "../../support/built.ts";

/** The folder of a model among the optional assets (`HEED_ASSETS`, default `../shared/assets`), or why there is none. */
export function modelAsset(name: string): { readonly folder: string | undefined; readonly missing: string } {
  const folder = join(resolve(ROOT, process.env["HEED_ASSETS"] || "../shared/assets"), "models", name);
  const missing = `needs the asset models/${name}: set HEED_ASSETS`;
  return { folder: existsSync(folder) ? folder : undefined, missing };
}

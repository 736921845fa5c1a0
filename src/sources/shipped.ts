import { HeedError } from "../core/errors.ts";

/** What Heed can do with a model of its own. */
export type ShippedTask = "generate" | "translate";

/** Folders of the models that come with Heed, under `models/` of the package and of the page. */
export const SHIPPED_FOLDERS: Readonly<Record<ShippedTask, string>> = { generate: "shakespeare", translate: "zh_en" };

/**
 * The URL of the model for a task that lies beside a page, below `base` (default the page's own address). Throws `UNSUPPORTED`
 * where the page came without it.
 */
export async function shippedModel(task: ShippedTask, base: string | URL = document.baseURI): Promise<string> {
  const url = new URL(`./models/${SHIPPED_FOLDERS[task]}/`, base).href;
  const answer = await fetch(`${url}config.json`).catch(() => undefined);
  // A server that answers every address with its page is told apart by the type.
  if (answer?.ok && !(answer.headers.get("content-type") ?? "").includes("html")) return url;
  throw noShippedModel(task, String(base));
}

/** Says that there is no model for a task in `place`. */
export function noShippedModel(task: ShippedTask, place: string): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `${task}: Heed's own model is not here: models/${SHIPPED_FOLDERS[task]} with config.json is missing in ${place}. Name a model: a Hub id (hf:owner/name), a URL, or a folder.`,
  );
}

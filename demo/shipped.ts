import type { Choice } from "./files.ts";
import type { Slot } from "./protocol.ts";

/** Where the models that Heed ships are, below the page. */
const FOLDERS: Readonly<Partial<Record<Slot, string>>> = { text: "models/shakespeare", translator: "models/zh_en" };

/** The models that this build of the page brings with it; a build without them has none. */
export async function shippedModels(): Promise<Partial<Record<Slot, Choice>>> {
  const found = await Promise.all(
    Object.entries(FOLDERS).map(async ([slot, folder]) => {
      const url = new URL(`./${folder}/`, document.baseURI).href;
      // A server that answers every address with its page is told apart by the type.
      const answer = await fetch(`${url}config.json`).catch(() => undefined);
      const there = answer?.ok === true && !(answer.headers.get("content-type") ?? "").includes("html");
      return there ? [[slot, { name: folder.replace(/^.*\//, ""), spec: url, shipped: true }] as const] : [];
    }),
  );
  return Object.fromEntries(found.flat());
}

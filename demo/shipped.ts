import type { Choice } from "./files.ts";
import type { Slot } from "./protocol.ts";

/** Where the models that Heed ships are, below the page. */
const FOLDERS: Readonly<Partial<Record<Slot, string>>> = { text: "shakespeare", translator: "zh_en" };
const FILES = ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"];

/** A model that this build of the page brings with it. Undefined in a build without it, and where its files do not arrive. */
export async function shippedModel(slot: Slot): Promise<Choice | undefined> {
  const name = FOLDERS[slot];
  if (name === undefined) return undefined;
  const files = await Promise.all(FILES.map((file) => fetchFile(name, file)));
  const [config, , , weights] = files;
  if (!config || !weights) return undefined;
  return {
    name,
    spec: new Map(files.filter((file) => file !== undefined).map((file) => [file.name, file])),
    shipped: true,
  };
}

/** A whole file, so that the browser can keep it for the time without a network. */
async function fetchFile(folder: string, name: string): Promise<File | undefined> {
  const answer = await fetch(new URL(`./models/${folder}/${name}`, document.baseURI)).catch(() => undefined);
  // A server that answers every address with its page is told apart by the type.
  if (!answer?.ok || (answer.headers.get("content-type") ?? "").includes("html")) return undefined;
  return new File([await answer.blob()], name);
}

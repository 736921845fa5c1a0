import { type ShippedTask, shippedModel } from "../src/index.ts";
import type { Choice } from "./files.ts";

/** What the models that Heed ships have, beside config.json. */
const FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

/** The model for a task that this build of the page brings with it. Undefined in a build without it, and where its files do not arrive. */
export async function shippedChoice(task: ShippedTask): Promise<Choice | undefined> {
  const folder = await shippedModel(task).catch(() => undefined);
  if (folder === undefined) return undefined;
  const files = await Promise.all(FILES.map((name) => fetchFile(folder, name)));
  const present = files.filter((file) => file !== undefined);
  const name = new URL(folder).pathname.split("/").at(-2) ?? task;
  return files[0] && files.at(-1)
    ? { name, spec: new Map(present.map((file) => [file.name, file])), shipped: true }
    : undefined;
}

/** A whole file, so that the browser can keep it for the time without a network. */
async function fetchFile(folder: string, name: string): Promise<File | undefined> {
  const answer = await fetch(new URL(name, folder)).catch(() => undefined);
  return answer?.ok ? new File([await answer.blob()], name) : undefined;
}

import type { ModelSpec } from "./protocol.ts";

/** More files than any checkpoint has: somebody dropped the wrong folder. */
const MAX_FILES = 2000;

/** A model that a person has chosen, and what the page calls it. */
export interface Choice {
  readonly name: string;
  readonly spec: ModelSpec;
  /** True for a model that comes with the page. */
  readonly shipped?: boolean;
}

/** Files by their path inside the folder that was chosen, if it was one. */
export interface Entries {
  readonly folder: string | undefined;
  readonly entries: readonly (readonly [string, File])[];
}

/** Files chosen with an input, by their path inside the chosen folder. */
export function chosenEntries(files: Iterable<File>): Entries {
  let folder: string | undefined;
  const entries = [...files].map((file): [string, File] => {
    const path = file.webkitRelativePath;
    if (!path) return [file.name, file];
    const cut = path.indexOf("/");
    folder = path.slice(0, cut);
    return [path.slice(cut + 1), file];
  });
  return { folder, entries };
}

/** Files dropped on the page: single ones, or what one folder holds. Throws for more than a model or a folder of vectors has. */
export async function droppedEntries(data: DataTransfer): Promise<Entries> {
  // Both have to be taken before the first await: the lists are emptied after the event.
  const roots = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const files = [...data.files];
  // Files that come from another page's script have no entry.
  if (roots.length === 0) return chosenEntries(files);
  const entries: [string, File][] = [];
  for (const root of roots) await collect(root, root.isDirectory ? undefined : "", entries);
  const [first] = roots;
  return { folder: first?.isDirectory ? first.name : undefined, entries };
}

/** A model's files, chosen with an input. Throws for two files of one name. */
export function chosenFiles(files: Iterable<File>): Choice {
  return fromFiles(chosenEntries(files));
}

/** A model's files, dropped on the page. Throws for two files of one name. */
export async function droppedFiles(data: DataTransfer): Promise<Choice> {
  return fromFiles(await droppedEntries(data));
}

/** Reads an entry and all below it; the name of the dropped folder itself (`prefix` undefined) is left out. */
async function collect(entry: FileSystemEntry, prefix: string | undefined, into: [string, File][]): Promise<void> {
  if (into.length > MAX_FILES) throw new Error(tooMany());
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    into.push([`${prefix ?? ""}${entry.name}`, file]);
    return;
  }
  // A clone of a repository has its history beside the model.
  if (prefix !== undefined && entry.name.startsWith(".")) return;
  const below = prefix === undefined ? "" : `${prefix}${entry.name}/`;
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A call gives a part of the entries, 100 in Chrome; an empty one is the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return;
    for (const child of part) await collect(child, below, into);
  }
}

function fromFiles({ folder, entries }: Entries): Choice {
  if (entries.length === 0) throw new Error("There are no files in it. Choose the folder with config.json.");
  if (entries.length > MAX_FILES) throw new Error(tooMany());
  const files = new Map(entries);
  if (files.size < entries.length)
    throw new Error("Two of these files have the same name. Choose one model at a time.");
  const [only = ""] = files.keys();
  return { name: folder ?? (files.size === 1 ? only : `${files.size} files`), spec: files };
}

function tooMany(): string {
  return `This folder holds more than ${MAX_FILES} files, so it is not a model's. Choose the folder with config.json.`;
}

/** What a person typed, as the engine takes it: URLs and `hf:` ids as they are, `owner/name` as a Hub id. */
export function namedModel(text: string): Choice {
  const name = text.trim();
  return { name: name.replace(/^hf:/i, ""), spec: /^(https?:\/\/|hf:)/i.test(name) ? name : `hf:${name}` };
}

/** True for the files of a LoRA adapter, as PEFT writes them. */
export function isAdapter({ spec }: Choice): boolean {
  return typeof spec !== "string" && spec.has("adapter_config.json") && !spec.has("config.json");
}

/** Hands a file to the person, as a download. */
export function save(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser reads the blob after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

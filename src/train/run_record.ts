import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject, readJsonObject } from "../core/json.ts";
import type { Source } from "../core/source.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { TensorEntry } from "../formats/safetensors.ts";
import { createSha256 } from "../sources/hash.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Recipe } from "./recipe.ts";
import { namesLabels, type Task } from "./tasks.ts";

/** What gives the weights of a run their meaning, by the names that messages call it by: JSON values that stay while it goes on. */
export type RunRecord = Readonly<Record<string, unknown>>;

/** The file of a checkpoint that holds its {@link RunRecord}. */
export const RUN_RECORD = "run.json";

/** What a run takes from the checkpoint that it goes on from, however its data and files have changed since. */
export interface KeptRun {
  /** Of a checkpoint that has none, undefined. */
  readonly record: RunRecord | undefined;
  /** Names of classes or labels in the order of their numbers, of tasks whose data names them. */
  readonly labels: readonly string[] | undefined;
  /** Of a checkpoint that holds its model whole. */
  readonly config: JsonObject | undefined;
  /** Files of its tokenizer by their names, where it holds them. */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
}

const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"];

/** Reads what a run keeps of its checkpoint. Throws `BAD_FILE`. */
export async function readKeptRun(from: Source, task: Task): Promise<KeptRun> {
  const record = await readJsonObject(from, RUN_RECORD);
  const config = await readJsonObject(from, "config.json");
  const tokenizerFiles = new Map<string, string>();
  for (const name of TOKENIZER_FILES) {
    const text = await from.readText(name);
    if (text !== undefined) tokenizerFiles.set(name, text);
  }
  const described = config ?? record?.["model"];
  return { record, config, tokenizerFiles, labels: namesLabels(task) ? labelsOf(described) : undefined };
}

function labelsOf(config: unknown): string[] | undefined {
  const names = isObject(config) ? config["id2label"] : undefined;
  return isObject(names) ? Object.values(names).map(String) : undefined;
}

/** The file that {@link readKeptRun} reads a record from. */
export function encodeRunRecord(record: RunRecord): [name: string, content: string] {
  return [RUN_RECORD, `${JSON.stringify(record, null, 1)}\n`];
}

/** What stays of a recipe. Where its tokenizer's file lies is no part of it. */
export function recipeRecord({ task, model, tokenizer }: Pick<Recipe, "task" | "model" | "tokenizer">): RunRecord {
  return {
    task: task === "language-model" ? "lm" : task,
    model,
    tokenizer: tokenizer.type === "file" ? { type: "file" } : tokenizer,
  };
}

/** Differences that a message names at most. */
const MOST_TOLD = 4;

/** Throws `USAGE` where something of `now` is not what the run that goes on began with. */
export function checkSameRun(command: "train" | "finetune", before: RunRecord, now: RunRecord): void {
  const found = differences(before, JSON.parse(JSON.stringify(now)), "");
  if (found.length === 0) return;
  const more = found.length > MOST_TOLD ? `; and ${found.length - MOST_TOLD} more` : "";
  throw new HeedError(
    "USAGE",
    `${command}: a run that is resumed must keep what its weights were trained as; got ${found.slice(0, MOST_TOLD).join("; ")}${more}. Put that back as it was, or begin another run in another output.`,
  );
}

/** `model.n_head 4, where it began with 2` for each place in which two JSON values differ. */
function differences(before: unknown, now: unknown, path: string): string[] {
  if (isObject(before) && isObject(now)) {
    const names = new Set([...Object.keys(before), ...Object.keys(now)]);
    return [...names].flatMap((name) => differences(before[name], now[name], path ? `${path}.${name}` : name));
  }
  if (JSON.stringify(before) === JSON.stringify(now)) return [];
  if (isNames(before) && isNames(now)) return [differentNames(before, now, path)];
  if (isDigest(before) && isDigest(now)) return [`another ${path} than it began with`];
  return [`${path} ${shown(now)}, where it began with ${shown(before)}`];
}

/** What a hash says is nothing for people. */
function isDigest(value: unknown): boolean {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.length > 3 && value.every((name) => typeof name === "string");
}

function differentNames(before: readonly string[], now: readonly string[], path: string): string {
  const such = (names: readonly string[]): string => `${names.length} (such as ${names[0]})`;
  const added = now.filter((name) => !before.includes(name));
  const missing = before.filter((name) => !now.includes(name));
  const parts = [
    ...(added.length > 0 ? [`with ${such(added)} that it began without`] : []),
    ...(missing.length > 0 ? [`without ${such(missing)} that it began with`] : []),
  ];
  return `${path} ${parts.length > 0 ? parts.join(", ") : "in another order"}`;
}

function shown(value: unknown): string {
  const text = value === undefined ? "none" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** What a tokenizer is tried with: cases, marks, digits, spaces and another script, which normalisers and splits treat their own ways. */
const PROBE = "Ein  Töchterchen's 12345 E-Mails\n\tλόγος 東京";

/** A hash of what each number means to a tokenizer, and of how it cuts a text. */
export function tokenizerDigest(tokenizer: Pick<Tokenizer, "vocabSize" | "idToToken" | "encode">): string {
  const hash = createSha256();
  const pieces = Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.idToToken(id));
  hash.update(new TextEncoder().encode(JSON.stringify([pieces, cut(tokenizer)])));
  return hash.digestHex();
}

/** Undefined for a tokenizer that refuses what it does not know. */
function cut(tokenizer: Pick<Tokenizer, "encode">): readonly number[] | undefined {
  try {
    return tokenizer.encode(PROBE);
  } catch {
    return undefined;
  }
}

/** Tensors that are looked into, and bytes of each: enough to tell one training of a model from another without reading it whole. */
const SAMPLED_TENSORS = 8;
const SAMPLED_BYTES = 4096;

/**
 * A hash of names, shapes and formats of a checkpoint's tensors, and of some of their bytes; undefined where they can't be read any more, which is no
 * reason to lose what was trained.
 */
export function weightsDigest(checkpoint: Checkpoint): Promise<string | undefined> {
  return hashWeights(checkpoint).catch(() => undefined);
}

async function hashWeights({ tensors }: Checkpoint): Promise<string> {
  const hash = createSha256();
  const all = [...tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, storedAs, shape } of all) hash.update(new TextEncoder().encode(`${name} ${storedAs} ${shape}\n`));
  const step = Math.max(1, Math.floor(all.length / SAMPLED_TENSORS));
  for (const entry of all.filter((_, i) => i % step === 0)) hash.update(await firstBytes(entry));
  return hash.digestHex();
}

async function firstBytes({ file, start, end }: TensorEntry): Promise<Uint8Array> {
  return file.read(start, Math.min(end, start + SAMPLED_BYTES));
}

// The engine, away from the page's own thread. It uses nothing but Heed's public API.
import { expose } from "comlink";
import {
  type AttentionStep,
  availableTiers,
  clearDownloads,
  createEngine,
  downloadUsage,
  type DownloadUsage,
  type Engine,
  HeedError,
  isHeedError,
  type Tier,
} from "../src/index.ts";
import type {
  DeviceReport,
  EngineWorker,
  Failure,
  GenerateRequest,
  LoadReport,
  ModelReport,
  ModelSpec,
  Outcome,
  PieceReport,
  Slot,
  SpeedReport,
  TaughtSlot,
  WatchedStep,
  WritingReport,
} from "./protocol.ts";
import { listen } from "./worker/listen.ts";
import { continueWith, look, steps, watchedStep } from "./worker/look.ts";
import { Models } from "./worker/models.ts";
import { read } from "./worker/read.ts";
import { Teacher } from "./worker/teach.ts";
import { tokenTexts } from "./worker/token_text.ts";
import { translate } from "./worker/translate.ts";

/** Reports go to the page at most this often, so that it stays idle while text streams. */
const REPORT_EVERY_MS = 33;

let engine: Engine | undefined;
const models = new Models();
const teacher = new Teacher();
let loading: AbortController | undefined;
/** What `stop` ends. */
let running: AbortController | undefined;

const worker: EngineWorker = {
  start: (tier) => outcome(() => start(tier)),
  load: (slot, spec, onProgress) => outcome(() => load(slot, spec, onProgress)),
  cancelLoad: () => loading?.abort(),
  unload: (slot) => outcome(() => unload(slot)),
  generate: (request, onPiece) => outcome(() => stoppable((signal) => generate(request, onPiece, signal))),
  stop: () => running?.abort(),
  look: (request) => outcome(() => look(models.get("text"), request)),
  steps: (ids, head, prefix) => outcome(() => steps(models.get("text"), ids, head, prefix)),
  continueWith: (request) => outcome(() => continueWith(models.get("text"), request)),
  translate: (request, onPiece) =>
    outcome(() => stoppable((signal) => translate(models.get("translator"), request, signal, onPiece))),
  listen: (sound) => outcome(() => stoppable((signal) => listen(models.get("listener"), sound, signal))),
  read: (request) => outcome(() => read(models.get("reader"), request)),
  teach: (request, onReport) =>
    outcome(() => stoppable((signal) => teacher.teach(started(), models, request, { signal, onReport }))),
  teachOn: (onReport) => outcome(() => stoppable((signal) => teacher.goOn({ signal, onReport }))),
  taught: (kind) => outcome(() => teacher.files(kind)),
  addAdapter: (slot, name, files) => outcome(() => addAdapter(slot, name, files)),
  useAdapter: (slot, name) => outcome(() => useAdapter(slot, name)),
  cache: () => outcome(downloadUsage),
  clearCache: () => outcome(clearCache),
  selfTest: () => outcome(() => started().selfTest()),
  measure: () => outcome(measure),
};
expose(worker);

async function start(tier: Tier | undefined): Promise<DeviceReport> {
  engine = await createEngine({ tier });
  const { adapter, facts } = engine;
  const granted = await navigator.gpu.requestAdapter();
  return {
    adapter,
    tier: facts.tier,
    tiers: granted ? availableTiers(granted) : [facts.tier],
    software: facts.software,
    features: [...engine.device.raw.features].sort(),
    limits: limitsOf(engine.device.raw.limits),
  };
}

/** The limits that decide what fits; the others are the same everywhere. */
function limitsOf(limits: GPUSupportedLimits): Record<string, number> {
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = limits;
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize, maxComputeWorkgroupsPerDimension } =
    limits;
  return {
    ...{ maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage },
    ...{ maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize, maxComputeWorkgroupsPerDimension },
  };
}

/** Tokens that the speed of decoding is measured over. */
const MEASURED_TOKENS = 48;

async function measure(): Promise<SpeedReport> {
  const speed = await started().measure();
  const model = models.find("text");
  if (!model) return speed;
  const options = { greedy: true, maxTokens: MEASURED_TOKENS };
  const { stats } = await model.generate([0], options).result;
  const { tokensPerSecond } = stats;
  const gigabytesPerSecond = (tokensPerSecond * model.weightBytes) / 1e9;
  return { ...speed, decode: { model: model.family, tokensPerSecond, gigabytesPerSecond } };
}

async function load(slot: Slot, spec: ModelSpec, onProgress: (report: LoadReport) => void): Promise<ModelReport> {
  const controller = new AbortController();
  loading = controller;
  let newest: LoadReport | undefined;
  // The newest report now and then, so that one that nothing follows is sent too.
  const send = () => {
    if (newest) onProgress(newest);
    newest = undefined;
  };
  const timer = setInterval(send, REPORT_EVERY_MS);
  try {
    return await models.load(started(), slot, spec, {
      signal: controller.signal,
      onProgress(report) {
        newest = report;
      },
    });
  } finally {
    clearInterval(timer);
    loading = undefined;
  }
}

async function clearCache(): Promise<DownloadUsage> {
  await clearDownloads();
  return downloadUsage();
}

async function addAdapter(slot: TaughtSlot, name: string, files: ReadonlyMap<string, File>): Promise<null> {
  await started().loadAdapter(models.get(slot), files, { name });
  return null;
}

async function useAdapter(slot: TaughtSlot, name: string | undefined): Promise<null> {
  await models.get(slot).useAdapter(name);
  return null;
}

async function unload(slot: Slot): Promise<null> {
  await models.unload(slot);
  return null;
}

/** Runs what a person can stop. */
async function stoppable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  running = controller;
  try {
    return await work(controller.signal);
  } finally {
    running = undefined;
  }
}

async function generate(
  request: GenerateRequest,
  onPiece: (report: PieceReport) => void,
  signal: AbortSignal,
): Promise<WritingReport> {
  const { device } = started();
  const writer = models.get("text");
  const { prompt, watch = false, prefix = 0, ...options } = request;
  let steps: WatchedStep[] = [];
  const attention = watch ? { onStep: (step: AttentionStep) => steps.push(watchedStep(writer, step)) } : undefined;
  const generation = writer.generate(prompt, { ...options, prefixLength: prefix, attention, signal });
  let text = "";
  let pieces = 0;
  let reportedAt = 0;
  const report = () => {
    reportedAt = performance.now();
    onPiece({ text, pieces, steps, gpuBytes: device.bytesInUse });
    steps = [];
  };
  for await (const piece of generation) {
    text += piece;
    pieces++;
    if (performance.now() - reportedAt < REPORT_EVERY_MS) continue;
    report();
    // Lets a message in between two tokens, so that stop is heard at once.
    await new Promise((resolve) => setTimeout(resolve));
  }
  const { ids, finish, seed, stats, text: whole } = await generation.result;
  report();
  const tokens = tokenTexts(writer.tokenizer, [...ids.prompt, ...ids.generated]);
  const cut = ids.prompt.length;
  const split = { prompt: tokens.slice(0, cut), tokens: tokens.slice(cut) };
  return { text: whole, ...split, finish, seed, stats, gpuBytes: device.bytesInUse };
}

function started(): Engine {
  if (!engine) throw new HeedError("USAGE", "engine: not started. Call start first.");
  return engine;
}

async function outcome<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return { ok: false, error: failure(error) };
  }
}

function failure(error: unknown): Failure {
  if (isHeedError(error)) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error) };
}

// The engine, away from the page's own thread. It uses nothing but Heed's public API.
import { expose } from "comlink";
import {
  type AttentionStep,
  availableTiers,
  createEngine,
  type Engine,
  HeedError,
  isHeedError,
  type TextModel,
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
  WatchedStep,
  WritingReport,
} from "./protocol.ts";
import { continueWith, look, steps, watchedStep } from "./worker/look.ts";
import { tokenTexts } from "./worker/token_text.ts";

/** Reports go to the page at most this often, so that it stays idle while text streams. */
const REPORT_EVERY_MS = 33;

let engine: Engine | undefined;
let model: TextModel | undefined;
let loading: AbortController | undefined;
let writing: AbortController | undefined;

const worker: EngineWorker = {
  start: (tier) => outcome(() => start(tier)),
  load: (slot, spec, onProgress) => outcome(() => load(slot, spec, onProgress)),
  cancelLoad: () => loading?.abort(),
  unload: (slot) => outcome(() => unload(slot)),
  generate: (request, onPiece) => outcome(() => generate(request, onPiece)),
  stop: () => writing?.abort(),
  look: (request) => outcome(() => look(loaded(), request)),
  steps: (ids, head) => outcome(() => steps(loaded(), ids, head)),
  selfTest: () => outcome(() => started().selfTest()),
  measure: () => outcome(measure),
  continueWith: (request) => outcome(() => continueWith(loaded(), request)),
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
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize, maxComputeWorkgroupsPerDimension } = limits;
  return {
    ...{ maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage },
    ...{ maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize, maxComputeWorkgroupsPerDimension },
  };
}

/** Tokens that the speed of decoding is measured over. */
const MEASURED_TOKENS = 48;

async function measure(): Promise<SpeedReport> {
  const running = started();
  const speed = await running.measure();
  if (!model) return speed;
  const options = { greedy: true, maxTokens: MEASURED_TOKENS };
  const { stats } = await model.generate([0], options).result;
  const { tokensPerSecond } = stats;
  const gigabytesPerSecond = (tokensPerSecond * model.weightBytes) / 1e9;
  return { ...speed, decode: { model: model.family, tokensPerSecond, gigabytesPerSecond } };
}

async function load(slot: Slot, spec: ModelSpec, onProgress: (report: LoadReport) => void): Promise<ModelReport> {
  const running = started();
  const controller = new AbortController();
  loading = controller;
  let reportedAt = 0;
  try {
    await unload(slot);
    model = await running.load(spec, {
      signal: controller.signal,
      onProgress: ({ loadedBytes, totalBytes }) => {
        const now = performance.now();
        if (now - reportedAt < REPORT_EVERY_MS && loadedBytes < totalBytes) return;
        reportedAt = now;
        onProgress({ loadedBytes, totalBytes });
      },
    });
  } finally {
    loading = undefined;
  }
  const { family, source, contextLength, vocabSize, tokenizer, facts } = model;
  const { layers, heads } = facts;
  const gpuBytes = running.device.bytesInUse;
  return { family, source, contextLength, vocabSize, layers, heads, hasTokenizer: tokenizer !== undefined, gpuBytes };
}

async function unload(_: Slot): Promise<null> {
  const old = model;
  model = undefined;
  await old?.dispose();
  return null;
}

async function generate(request: GenerateRequest, onPiece: (report: PieceReport) => void): Promise<WritingReport> {
  const { device } = started();
  const writer = loaded();
  const { prompt, watch = false, ...options } = request;
  const controller = new AbortController();
  writing = controller;
  let steps: WatchedStep[] = [];
  try {
    const attention = watch ? { onStep: (step: AttentionStep) => steps.push(watchedStep(writer, step)) } : undefined;
    const generation = writer.generate(prompt, { ...options, attention, signal: controller.signal });
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
  } finally {
    writing = undefined;
  }
}

function loaded(): TextModel {
  if (model) return model;
  throw new HeedError("USAGE", "page: a model is needed and none is loaded. Load one first.");
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

import { join } from "node:path";
import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { type EncoderDecoder, isRule, mapLeaves, mapRules, type WeightRule } from "../../src/models/family.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openModel } from "../../src/models/registry.ts";
import { denseStep } from "../../src/nn/dense_step.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import type { Value } from "../../src/ops/op.ts";
import { gradients } from "../../src/program/autodiff.ts";
import type { ProgramRecorder } from "../../src/program/record.ts";
import { type HostTensor, runOps } from "../../src/program/run_ops.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { u32 } from "../support/host.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import {
  readSeq2SeqGolden,
  SEQ2SEQ_GOLDENS,
  type Seq2SeqCase,
  type Seq2SeqGolden,
  seq2SeqGoldenPath,
} from "../support/seq2seq_goldens.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

/** What the recorded pass gives, for B sources and targets padded to one length each. */
interface Pass {
  readonly rec: ProgramRecorder;
  readonly logits: Value;
  readonly parameters: readonly { readonly rule: WeightRule; readonly value: Value }[];
  readonly inputs: Readonly<Record<string, Value>>;
}

async function withModel(device: Device, name: Seq2SeqGolden, body: (model: EncoderDecoder, p: Tensors) => unknown) {
  const checkpoint = await openCheckpoint(await openSource(seq2SeqGoldenPath(name)));
  const opened = openModel(checkpoint.config);
  if (opened.kind !== "encoder-decoder") throw new Error(`${name} is an ${opened.kind}`);
  const weights = await loadWeights(device, opened.model, checkpoint);
  const tensors: Tensor[] = [];
  mapLeaves(
    weights.tree,
    (t): t is Tensor => t instanceof Tensor,
    (t) => tensors.push(t),
  );
  try {
    await body(opened.model, tensors);
  } finally {
    weights.dispose();
  }
}

type Tensors = readonly Tensor[];

/** Runs the whole model on padded sequences, and reads what `outputs` picks. */
async function run(
  device: Device,
  model: EncoderDecoder,
  tensors: Tensors,
  cases: readonly Seq2SeqCase[],
  options: { training?: boolean; unfused?: boolean; more?: Record<string, HostTensor> },
  outputs: (pass: Pass) => Record<string, Value>,
) {
  const batch = cases.length;
  const [sourceLength, length] = [longest(cases.map((c) => c.ids)), longest(cases.map((c) => c.decoderIds))];
  const positions = Math.max(sourceLength, length);
  const constants = Object.entries(model.constants(positions)).map(([key, { shape, data }]) => {
    return [key, { shape, data: new Float32Array(data) }] as const;
  });
  return runOps(
    device,
    {
      ...Object.fromEntries(constants),
      ...options.more,
      source: u32([batch * sourceLength], padded(cases.map((c) => c.ids))),
      sourceRows: u32([batch * sourceLength, 2], rows(batch, sourceLength)),
      lengths: u32(
        [batch],
        cases.map((c) => c.ids.length),
      ),
      target: u32([batch * length], padded(cases.map((c) => c.decoderIds))),
      targetRows: u32([batch * length, 2], rows(batch, length)),
    },
    (rec, values) => {
      const value = (key: string) => (values as Record<string, Value>)[key] as Value;
      const parameters: { rule: WeightRule; value: Value }[] = [];
      let next = 0;
      const tree = mapRules(model.rules, (rule) => {
        const tensor = tensors[next++] as Tensor;
        const made = options.training ? rec.state(tensor) : rec.weight(tensor);
        parameters.push({ rule, value: made });
        return made;
      });
      const shared = {
        batch,
        constants: Object.fromEntries(constants.map(([key]) => [key, value(key)])),
        ...{ training: options.training ?? false, unfused: () => options.unfused ?? false },
      };
      const encoder = { tokens: value("source"), rowTable: value("sourceRows"), length: sourceLength };
      const encoded = model.encode(
        rec,
        tree,
        denseStep({ ...shared, ...encoder, causal: false, keyLengths: value("lengths") }),
      );
      const memory = { layers: model.memory(rec, tree, encoded), length: sourceLength, keyLengths: value("lengths") };
      const decoder = { tokens: value("target"), rowTable: value("targetRows"), length };
      const hidden = model.hidden(rec, tree, denseStep({ ...shared, ...decoder, memory }));
      return outputs({ rec, logits: model.logits(rec, tree, hidden), parameters, inputs: values });
    },
  );
}

function longest(lists: readonly number[][]): number {
  return Math.max(...lists.map((l) => l.length));
}

function padded(lists: readonly number[][]): number[] {
  const length = longest(lists);
  return lists.flatMap((l) => [...l, ...Array.from({ length: length - l.length }, () => 0)]);
}

function rows(batch: number, length: number): number[] {
  return Array.from({ length: batch * length }, (_, n) => [Math.floor(n / length), n % length]).flat();
}

describeOnDevice("encoder–decoders on whole sequences", (device) => {
  it.each(SEQ2SEQ_GOLDENS)("%s: the logits of the reference, both sources in one padded batch", async (name) => {
    await withModel(device(), name, async (model, tensors) => {
      const cases = readSeq2SeqGolden(name);
      const { logits } = await run(device(), model, tensors, cases, {}, (pass) => ({ logits: pass.logits }));
      const { vocabSize } = model.facts;
      const length = longest(cases.map((c) => c.decoderIds));
      cases.forEach((c, b) => {
        const start = b * length * vocabSize;
        const got = logits!.slice(start, start + c.logits.length);
        assertClose(got, c.logits, { ...tolerance("f32", "logits"), label: `${name} ${b}` });
      });
    });
  });

  it.each(SEQ2SEQ_GOLDENS)("%s: the cross-attention weights of the reference", async (name) => {
    await withModel(device(), name, async (model, tensors) => {
      for (const c of readSeq2SeqGolden(name)) {
        const names = Array.from({ length: model.facts.layers }, (_, l) => `block.${l}.cross_attention.probs`);
        const got = await run(device(), model, tensors, [c], { unfused: true }, ({ rec }) =>
          Object.fromEntries(names.map((n) => [n, rec.named.get(n) as Value])),
        );
        const all = names.flatMap((n) => [...(got[n] as Float32Array)]);
        assertClose(all, c.cross, { ...tolerance("f32", "attention"), label: name });
      }
    });
  });

  it("transformer: the gradients of PyTorch", async () => {
    const cases = readSeq2SeqGolden("transformer");
    const expected = readTestSafetensors(join(seq2SeqGoldenPath("transformer"), "gradients.safetensors"));
    const length = longest(cases.map((c) => c.decoderIds));
    const targets = cases.flatMap(({ ids, decoderIds }) => {
      const next = [...decoderIds.slice(1), ids[0] as number];
      return [...next, ...Array.from({ length: length - next.length }, () => -100)];
    });
    await withModel(device(), "transformer", async (model, tensors) => {
      let parameters: Pass["parameters"] = [];
      const more = { targets: { shape: [targets.length], data: Int32Array.from(targets) } };
      const got = await run(device(), model, tensors, cases, { training: true, more }, (pass) => {
        parameters = pass.parameters;
        const loss = crossEntropy(pass.rec, pass.logits, pass.inputs["targets"] as Value);
        const grads = gradients(
          pass.rec,
          loss,
          parameters.map((p) => p.value),
        );
        return { loss, ...Object.fromEntries(grads.map((g, i) => [`grad${i}`, g])) };
      });
      assertClose(got["loss"]!, expected.get("loss")!.data, { ...tolerance("f32", "logits"), label: "loss" });
      const seen = new Set(["loss"]);
      parameters.forEach(({ rule }, i) => {
        expect(isRule(rule)).toBe(true);
        const reference = rule.from.flatMap((n) => [...(expected.get(n)?.data ?? [])]);
        for (const n of rule.from) seen.add(n);
        assertClose(got[`grad${i}`]!, reference, { ...gradientTolerance(reference), label: rule.from.join(", ") });
      });
      expect([...expected.keys()].filter((n) => !seen.has(n))).toEqual([]);
    });
  });
});

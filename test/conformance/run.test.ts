import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import {
  type CaseFile,
  caseLine,
  type ConformanceOptions,
  closingLine,
  runConformance,
} from "../../src/conformance/run.ts";
import { describeWithAssets } from "../support/assets.ts";
import { describeOnDevice, describeOnTiers } from "../support/devices.ts";
import { DirectOps } from "../../src/tasks/direct_ops.ts";

const OWN = fileURLToPath(new URL("./cases", import.meta.url));

/** The cases of a folder, each with its content changed by `edit`. */
function casesOf(folder: string, edit: (text: string) => string = (text) => text): CaseFile[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => ({ name, text: async () => edit(readFileSync(`${folder}/${name}`, "utf8")) }));
}

interface TorchFile {
  case: string;
  doc: string;
  options: Record<string, unknown>;
  inputs: Record<string, { dtype: string; shape: number[]; data: string }>;
  outputs: Record<string, unknown>;
}

const one = (content: unknown): CaseFile => ({ name: "a.json", text: async () => JSON.stringify(content) });
const f32 = (...values: number[]) => ({
  dtype: "float32",
  shape: [values.length],
  data: Buffer.from(Float32Array.from(values).buffer).toString("base64"),
});

await describeOnTiers("conformance", (engine, tier) => {
  it("gives the biased scores of keys whose weight underflows", async () => {
    const of = (shape: number[], ...values: number[]) => ({ ...f32(...values), shape });
    const node = {
      op: "Attention",
      inputs: ["Q", "K", "V", "attn_mask"],
      outputs: ["Y", "", "", "qk"],
      attributes: { qk_matmul_output_mode: 2 },
    };
    const zeros = of([1, 1, 2, 2], 0, 0, 0, 0);
    const content = {
      opset: { "ai.onnx": 23 },
      nodes: [node],
      graph_inputs: node.inputs,
      graph_outputs: ["Y", "qk"],
      inputs: [zeros, zeros, of([1, 1, 2, 2], 1, 2, 3, 4), of([2, 2], 0, -10_000, 0, 0)],
      outputs: [of([1, 1, 2, 2], 1, 2, 2, 3), of([1, 1, 2, 2], 0, -10_000, 0, 0)],
    };
    const { cases } = await runConformance(engine(), [one(content)]);
    expect(cases.map(caseLine)).toEqual(["passed a"]);
  });

  it("passes the cases of this repository, and says what ran", async () => {
    const report = await runConformance(engine(), casesOf(OWN));
    expect(report.cases.map(caseLine)).toEqual(casesOf(OWN).map(({ name }) => `passed ${name.replace(".json", "")}`));
    for (const output of report.cases.flatMap((c) => c.outputs)) {
      expect(output.tier).toBe(tier);
      // The gradient of the keys' bias is 0 but for rounding, which Adam makes into steps.
      if (!output.name.endsWith(".k.b")) expect(output.maxAbsoluteError).toBeLessThan(1e-3);
      expect(output.atol + output.rtol).toBeGreaterThan(0);
    }
    const softmax = report.cases.find((c) => c.name === "onnx/softmax");
    expect(softmax?.outputs[0]?.kernels[0]).toMatch(/^softmax\(/);
  });
});

describeOnDevice("conformance", (device) => {
  const run = async (files: CaseFile[], options?: ConformanceOptions) => {
    const ops = new DirectOps(device());
    try {
      return await runConformance(ops, files, options);
    } finally {
      ops.programs.dispose();
    }
  };
  const single = async (content: unknown) => (await run([one(content)])).cases[0]!;
  const softmax = { op: "Softmax", inputs: ["x"], outputs: ["y"], attributes: {} };

  it("fails a case whose result is another, with the place", async () => {
    const result = await single({ nodes: [softmax], inputs: [f32(0, 0)], outputs: [f32(0.5, 0.75)] });
    expect(result.status).toBe("failed");
    expect(result.outputs[0]).toMatchObject({ ok: false, maxAbsoluteError: 0.25 });
    expect(caseLine(result)).toContain("worst at 1: got 0.5, expected 0.75");
  });

  it("fails a result that is NaN or of another length", async () => {
    const nan = await single({ nodes: [softmax], inputs: [f32(0, 0)], outputs: [f32(Number.NaN, 0.5)] });
    expect(nan.status).toBe("failed");
    const longer = await single({ nodes: [softmax], inputs: [f32(0, 0)], outputs: [f32(0.5, 0.5, 0)] });
    expect(longer.status).toBe("failed");
  });

  it("skips what is missing, and names it", async () => {
    const array = f32(1);
    const nodes = [{ op: "Einsum", inputs: ["x"], outputs: ["y"], attributes: {} }];
    expect(caseLine(await single({ nodes, inputs: [array], outputs: [array] }))).toBe(
      "skipped a: needs the operator Einsum",
    );
    const torch = { case: "mish", options: {}, inputs: { x: array }, outputs: { out: array } };
    expect(caseLine(await single(torch))).toBe('skipped a: needs the op of case "mish"');
    const lost = {
      nodes: [{ ...softmax, inputs: ["x", "cap"] }],
      graph_inputs: ["x"],
      inputs: [array],
      outputs: [array],
    };
    expect(caseLine(await single(lost))).toContain('needs the constant "cap", which the file lacks');
    expect(caseLine(await single({ some: "thing" }))).toContain("skipped a: needs a case of ONNX");
  });

  it("fails files that are broken", async () => {
    const broken = await run([{ name: "b.json", text: async () => "{" }]);
    expect(broken.cases[0]?.error).toBe("conformance: a case must be JSON.");
    const short = { ...f32(1, 2), shape: [3] };
    const result = await single({ nodes: [softmax], inputs: [short], outputs: [f32(1)] });
    expect(result.error).toBe("conformance: float32 [3] needs 12 bytes; got 8.");
  });

  const kept = (name: string) => JSON.parse(readFileSync(`${OWN}/torch/${name}.json`, "utf8")) as TorchFile;

  it("takes a run's steps from its batches, and does without biases and with an output of its own", async () => {
    const { case: _, doc: __, options, inputs, outputs } = kept("run_decoder_small");
    const { steps: ___, layers: ____, ...rest } = options;
    expect(caseLine(await single({ options: rest, inputs, outputs }))).toBe("passed a");
    const tied = { ...inputs, "param:out.w": inputs["param:tok"], "param:out.b": f32(0, 0, 0, 0, 0, 0, 0) };
    const { losses } = outputs;
    const untied = await single({ options, inputs: tied, outputs: { losses } });
    // The first step is the same; then the two matrices part.
    expect(untied.outputs[0]?.worst?.index).toBeGreaterThan(0);
    const bare = Object.entries(inputs).filter(([name]) => !/\.(q|up|down)\.b$|ln\d\.b$/.test(name));
    const without = await single({ options, inputs: Object.fromEntries(bare), outputs: { losses } });
    expect(without.error).toBeUndefined();
    expect(without.outputs[0]?.maxRelativeError).toBeGreaterThan(1e-6);
  });

  it.each([
    ["more steps than batches", { steps: 13 }, "with at least 13 steps; got [12, 2, 6]"],
    ["a width that heads do not divide", { H: 3 }, "the width of tok must be a multiple of H = 3; got 8"],
    ["no head count", { H: null }, "the case needs options.H"],
  ])("names what is wrong with a run: %s", async (_, change, message) => {
    const { options, ...rest } = kept("run_decoder_small");
    expect((await single({ ...rest, options: { ...options, ...change } })).error).toContain(message);
  });

  it.each([
    ["param:tok", [5, 8], "ids must be rows of tok, of which there are 5; got"],
    ["param:pos", [4, 8], "pos must have a row for each of 5 positions; got 4"],
    ["tokens", [24, 6], "tokens or target must be [steps, B, T + 1] with at least 12 steps; got [24, 6]"],
  ])("names what is wrong with a run's arrays: %s", async (name, shape, message) => {
    const { inputs, ...rest } = kept("run_decoder_small");
    const { data, dtype } = inputs[name]!;
    const length = shape.reduce((a, b) => a * b, dtype === "int64" ? 8 : 4);
    const cut = Buffer.from(data, "base64").subarray(0, length).toString("base64");
    const changed = { ...inputs, [name]: { dtype, shape, data: cut } };
    expect((await single({ ...rest, inputs: changed })).error).toContain(message);
  });

  it("names options of a training run that it does not have", async () => {
    const { options, ...rest } = kept("adamw_small");
    const result = await single({ ...rest, options: { ...options, amsgrad: true } });
    expect(caseLine(result)).toBe('skipped a: needs training with the option "amsgrad"');
  });

  it("runs nodes one after the other", async () => {
    const nodes = [
      { op: "LogSoftmax", inputs: ["x"], outputs: ["mid"], attributes: { axis: 0 } },
      { op: "Softmax", inputs: ["mid"], outputs: ["y"], attributes: { axis: 0 } },
    ];
    const result = await single({ nodes, inputs: [f32(0, 0)], graph_outputs: ["y"], outputs: [f32(0.5, 0.5)] });
    expect(result.status).toBe("passed");
  });

  it("takes an expected −∞ for anything masked", async () => {
    const nodes = [{ op: "LogSoftmax", inputs: ["x"], outputs: ["y"], attributes: {} }];
    const masked = await single({ nodes, inputs: [f32(0, -2e30)], outputs: [f32(0, Number.NEGATIVE_INFINITY)] });
    expect(masked.status).toBe("passed");
    const finite = await single({ nodes, inputs: [f32(0, -2e3)], outputs: [f32(0, Number.NEGATIVE_INFINITY)] });
    expect(finite.status).toBe("failed");
  });

  it("runs the cases alone that the filter names, tells of each, and stops for its signal", async () => {
    const seen: string[] = [];
    const report = await run(casesOf(OWN), { filter: "norm", onCase: ({ name }) => seen.push(name) });
    expect(seen).toEqual(["onnx/layer_normalization", "torch/rms_norm_small"]);
    expect(closingLine(report)).toBe("2 passed, 0 failed, 0 skipped");
    await expect(run(casesOf(OWN), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describeWithAssets("conformance with the vectors of the assets", "vectors", (path) => {
  describeOnDevice("on the highest tier", (device) => {
    it("passes all but what is named", async () => {
      const ops = new DirectOps(device());
      const report = await runConformance(ops, casesOf(path));
      ops.programs.dispose();
      expect(report.cases.filter((c) => c.status === "failed").map(caseLine)).toEqual([]);
      const owed = /score_mod|LinearAttention/;
      expect(report.cases.filter((c) => c.status === "skipped" && !owed.test(caseLine(c))).map(caseLine)).toEqual([]);
      expect(report.passed).toBeGreaterThan(100);
    });
  });
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { argmax } from "../../src/reference/sample.ts";
import { describeWithAssets } from "./assets.ts";
import { assertClose } from "./close.ts";
import { goldenPath, readGolden } from "./goldens.ts";
import { gpt2Reference, type Gpt2Sizes } from "./gpt2_reference.ts";
import { readGptNanoSort, readGptNanoSortPartials, writeGptNanoSort } from "./gpt_nano_sort.ts";
import { readTestCheckpoint } from "./safetensors.ts";

/** Our names of the values that the partials file has in the same layout. */
const SAME_LAYOUT: Record<string, string> = {
  x: "embedding",
  ln1: "block.0.ln_1",
  qkv: "block.0.qkv",
  attSm: "block.0.probs",
  y: "block.0.y",
  yProj: "block.0.attention",
  attnResid: "block.0.residual",
  ln2: "block.0.ln_2",
  fc: "block.0.fc",
  gelu: "block.0.gelu",
  mlp: "block.0.mlp",
  block0: "block.0.out",
  block1: "block.1.out",
  block2: "block.2.out",
  ln_f: "ln_f",
};

describe("gpt2Reference", () => {
  it("equals transformers on a random checkpoint: logits and 16 greedy tokens", () => {
    const { config, tensors } = readTestCheckpoint(goldenPath("gpt2"));
    const sizes = config as unknown as Gpt2Sizes;
    for (const { ids, logits, greedy } of readGolden("gpt2")) {
      const { logits: actual } = gpt2Reference(tensors, sizes, ids);
      assertClose(actual, logits, { atol: 1e-4, rtol: 1e-4, shape: [ids.length, sizes.vocab_size] });
      const tokens = [...ids];
      for (let i = 0; i < greedy.length; i++) {
        tokens.push(argmax(gpt2Reference(tensors, sizes, tokens).logits.subarray(-sizes.vocab_size)));
      }
      expect(tokens.slice(ids.length)).toEqual(greedy);
    }
  });
});

describeWithAssets("gpt2Reference on gpt-nano-sort", "models/gpt-nano-sort", (path) => {
  const model = () => readGptNanoSort(path);

  it("equals each intermediate of the file", () => {
    const { config, tensors } = model();
    const { ids, values } = readGptNanoSortPartials(path);
    for (const [b, row] of ids.entries()) {
      const result = gpt2Reference(tensors, config, row);
      const part = (name: string): Float64Array => {
        const { data } = values.get(name) as { data: Float64Array };
        return data.subarray((b * data.length) / ids.length, ((b + 1) * data.length) / ids.length);
      };
      // The file was computed in f32.
      const close = { atol: 2e-5, rtol: 1e-4 };
      for (const [theirs, ours] of Object.entries(SAME_LAYOUT)) {
        assertClose(result.values.get(ours) as Float64Array, part(theirs), {
          ...close,
          label: `${theirs}, batch ${b}`,
        });
      }
      assertClose(result.logits, part("lm_head"), { ...close, label: `lm_head, batch ${b}` });
    }
  });

  it("sorts", () => {
    const { config, tensors } = model();
    const V = config.vocab_size;
    const ids = [2, 0, 1, 1, 0, 2];
    while (ids.length < 12) {
      const { logits } = gpt2Reference(tensors, config, ids);
      ids.push(argmax(logits.subarray(logits.length - V)));
    }
    expect(ids.slice(6)).toEqual([0, 0, 1, 1, 2, 2]);
  });

  it("is the same model when written and read again", () => {
    const folder = mkdtempSync(join(tmpdir(), "gpt-nano-sort-"));
    try {
      writeGptNanoSort(model(), folder);
      const again = readTestCheckpoint(folder);
      expect(again.config).toEqual(model().config);
      expect([...again.tensors.keys()]).toContain("h.2.mlp.c_proj.weight");
      expect(again.tensors).toEqual(model().tensors);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

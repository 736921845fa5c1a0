import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDecoder, openEncoder, openModel } from "../../src/models/registry.ts";
import { goldenPath } from "../support/goldens.ts";

const messageOf = (config: Record<string, unknown>): string => {
  try {
    openModel(config);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("the config was taken");
};

describe("an architecture that is not supported", () => {
  it.each([
    ["qwen2_moe", "Qwen2MoeForCausalLM", "qwen2, qwen3"],
    ["lama", "LamaForCausalLM", "llama"],
    ["gemma", "GemmaForCausalLM", "gemma2, gemma3, gemma3_text"],
    ["gptj", "GPTJForCausalLM", "gpt2"],
    ["chatglm", "ChatGLMModel", "glm"],
    ["deberta-v2", "DebertaV2ForSequenceClassification", "bert"],
    ["mamba", "MambaForCausalLM", "bloom"],
    ["pegasus", "PegasusForConditionalGeneration", "bart"],
  ])("names the nearest to %s", (model_type, architecture, nearest) => {
    const message = messageOf({ model_type, architectures: [architecture] });
    expect(message).toContain(`"${model_type}"`);
    expect(message.split("The nearest that are: ")[1]?.split(". Take")[0]).toContain(nearest);
  });

  it("says that model_type is missing", () => {
    expect(messageOf({ architectures: ["GPT2LMHeadModel"] })).toMatch(
      /must have a model_type for GPT2LMHeadModel; got null/,
    );
  });

  it("refuses a decoder whose head tells classes, and names its kind where an encoder is needed", () => {
    const config = JSON.parse(readFileSync(join(goldenPath("gpt2"), "config.json"), "utf8"));
    const classes = { ...config, architectures: ["GPT2ForSequenceClassification"] };
    expect(() => openDecoder(classes)).toThrow(/GPT2ForSequenceClassification .* has another one\. Take a checkpoint/);
    expect(() => openEncoder(classes)).toThrow(
      /an encoder such as BERT is needed here; gpt2 is a decoder\. Use generate or chat/,
    );
  });
});

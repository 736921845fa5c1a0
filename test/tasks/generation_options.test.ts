import { describe, expect, it } from "vitest";
import { checkTokens, type GenerateOptions, resolveGeneration } from "../../src/tasks/generation_options.ts";
import { readGenerationDefaults } from "../../src/tasks/hub_generation.ts";

const resolve = (options: GenerateOptions, hub: Record<string, unknown> = {}) =>
  resolveGeneration(options, readGenerationDefaults({}, hub));

describe("what is asked of a generation", () => {
  it.each([
    [{ lengthPenalty: 2 }, {}, "lengthPenalty means something to a beam search alone"],
    [{ earlyStopping: true }, {}, "earlyStopping means something"],
    [{ lengthPenalty: 1, earlyStopping: false, beams: 1 }, { num_beams: 4 }, "lengthPenalty and earlyStopping mean"],
    [{ lengthPenalty: 2, greedy: true }, { num_beams: 4 }, "there is none here"],
    [{ numReturn: 2 }, {}, "numReturn must be at most beams; got 2 of 1"],
    [{ numReturn: 5 }, { num_beams: 4 }, "got 5 of 4"],
    [{ beams: 4, topK: 5 }, {}, "a beam search takes no topK"],
    [{ beams: 4, greedy: true }, {}, "a beam search takes no greedy"],
    [{ beams: 4, logprobs: 1 }, {}, "a beam search takes no logprobs"],
    [{ greedy: true, topP: 0.5 }, {}, "greedy takes no topP"],
  ] as [GenerateOptions, Record<string, unknown>, string][])(
    "is refused where it would do nothing: %j beside %j",
    (options, hub, message) => {
      expect(() => resolve(options, hub)).toThrow(
        expect.objectContaining({ code: "USAGE", message: expect.stringContaining(message) }),
      );
    },
  );

  it("is taken where the checkpoint's own search honours it", () => {
    const { beams } = resolve({ numReturn: 3, lengthPenalty: 0.5 }, { num_beams: 4, early_stopping: true });
    expect(beams).toEqual({ beams: 4, numReturn: 3, lengthPenalty: 0.5, earlyStopping: true });
  });

  it("is no search where the likeliest token is asked for, by either name", () => {
    for (const options of [{ greedy: true }, { temperature: 0 }]) {
      const resolved = resolve(options, { num_beams: 4, do_sample: true, temperature: 0.7 });
      expect([resolved.beams.beams, resolved.temperature]).toEqual([1, 0]);
    }
  });

  it.each([
    [{ forcedBos: 5 }, 3, "a prompt of one token; this one has 3"],
    [{ suppressTokens: [1, 97] }, 1, "suppressTokens must have token ids below 97; got 97"],
    [{ badWords: [[1], [2, 300]] }, 1, "badWords must have token ids below 97; got 300"],
    [{ forcedEos: [4, 99] }, 1, "forcedEos"],
    [{ forcedBos: 99 }, 1, "forcedBos"],
    [{ beginSuppressTokens: [99] }, 1, "beginSuppressTokens"],
  ] as [GenerateOptions, number, string][])("names tokens that there are: %j", (options, prompt, message) => {
    expect(() => checkTokens(options, prompt, 97)).toThrow(
      expect.objectContaining({ code: "USAGE", message: expect.stringContaining(message) }),
    );
    expect(() => checkTokens({ forcedBos: 96, forcedEos: 1, badWords: [[96]] }, 1, 97)).not.toThrow();
  });
});

describe("what a checkpoint asks of a generation", () => {
  const old = {
    typical_p: 1,
    num_beam_groups: 1,
    diversity_penalty: 0,
    encoder_no_repeat_ngram_size: 0,
    guidance_scale: null,
  };

  it.each([
    [{ do_sample: true, typical_p: 0.9 }, {}, "typical_p 0.9"],
    [{ num_beams: 4, num_beam_groups: 2, diversity_penalty: 1 }, {}, "num_beam_groups 2, diversity_penalty 1"],
    [{ encoder_no_repeat_ngram_size: 3 }, { greedy: true }, "encoder_no_repeat_ngram_size 3"],
  ] as [Record<string, unknown>, GenerateOptions, string][])(
    "is refused where Heed can't do it: %j",
    (hub, options, message) => {
      expect(() => resolve(options, hub)).toThrow(
        expect.objectContaining({ code: "UNSUPPORTED", message: expect.stringContaining(message) }),
      );
    },
  );

  it("is no hindrance where it changes nothing", () => {
    expect(resolve({}, { ...old, do_sample: true, num_beams: 1 }).temperature).toBe(1);
    expect(resolve({ greedy: true }, { do_sample: true, typical_p: 0.9 }).temperature).toBe(0);
    expect(resolve({ topP: 0.9 }, { typical_p: 0.9 }).topP).toBe(0.9);
  });

  it("ends at its own stop strings unless the caller has others", () => {
    expect(resolve({}, { stop_strings: "END" }).stop).toEqual(["END"]);
    expect(resolve({ stop: ["x"] }, { stop_strings: ["END"] }).stop).toEqual(["x"]);
  });
});

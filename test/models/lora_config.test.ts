import { describe, expect, it } from "vitest";
import { parseLoraConfig } from "../../src/models/lora_config.ts";

const PLAIN = { peft_type: "LORA", r: 4, lora_alpha: 8, lora_dropout: 0, target_modules: ["q_proj", "v_proj"] };
const parse = (fields: Record<string, unknown>) => parseLoraConfig({ ...PLAIN, ...fields });
const path = (layer: number, module: string) => `model.layers.${layer}.self_attn.${module}`;

describe("adapter_config.json", () => {
  it("gives a layer the numbers of the first pattern that matches the end of its name", () => {
    const { layer, config } = parse({
      rank_pattern: { "layers.0.self_attn.q_proj": 6, "q_proj|nothing": 2, "^model.layers.1.self_attn.v_proj": 1 },
      alpha_pattern: { "(?P<any>v)_proj": 32, _proj: 1 },
    });
    expect(layer(path(0, "q_proj"))).toEqual({ rank: 6, scale: 8 / 6 });
    expect(layer(path(1, "q_proj"))).toEqual({ rank: 2, scale: 4 });
    expect(layer(path(1, "v_proj"))).toEqual({ rank: 1, scale: 32 });
    expect(layer(path(11, "v_proj"))).toEqual({ rank: 4, scale: 8 });
    // A pattern begins at a dot: `_proj` is no whole name.
    expect(layer(path(0, "k_proj"))).toEqual({ rank: 4, scale: 2 });
    expect(config).toMatchObject({ rank: 4, alpha: 8 });
    const stabilised = parse({ use_rslora: true, rank_pattern: { q_proj: 16 } });
    expect(stabilised.layer(path(0, "q_proj")).scale).toBe(2);
    expect(stabilised.layer(path(0, "v_proj")).scale).toBe(4);
  });

  it.each([
    ["ends of names", {}, [path(0, "q_proj"), path(1, "v_proj")], [path(0, "k_proj"), path(0, "xq_proj")]],
    [
      "a pattern",
      { target_modules: ".*\\.0\\..*(q|k)_proj" },
      [path(0, "q_proj")],
      [path(1, "q_proj"), path(0, "v_proj")],
    ],
    ["all", { target_modules: "all-linear", exclude_modules: ["v_proj"] }, [path(0, "o_proj")], [path(0, "v_proj")]],
    ["less a pattern", { exclude_modules: ".*\\.1\\..*" }, [path(0, "q_proj")], [path(1, "q_proj")]],
    [
      "some layers",
      { layers_to_transform: [1, 3] },
      [path(1, "q_proj"), path(3, "v_proj")],
      [path(0, "q_proj"), "q_proj"],
    ],
    ["one layer", { layers_to_transform: 2, layers_pattern: "layers" }, [path(2, "q_proj")], [path(1, "q_proj")]],
    ["another list", { layers_to_transform: [0], layers_pattern: ["h"] }, ["t.h.0.a.q_proj"], [path(0, "q_proj")]],
    ["not what is whole", { modules_to_save: ["self_attn.q_proj"] }, [path(0, "v_proj")], [path(0, "q_proj")]],
  ])("targets %s", (_, fields, inside, outside) => {
    const { isTarget } = parse(fields);
    expect(inside.filter((name) => !isTarget(name))).toEqual([]);
    expect(outside.filter((name) => isTarget(name))).toEqual([]);
  });

  it("brings whole what modules_to_save names, with its parts", () => {
    const { isWhole } = parse({ modules_to_save: ["classifier", "norm"] });
    expect(["classifier", "classifier.dense", "pre_classifier", "l.0.input_layernorm"].every(isWhole)).toBe(true);
    expect(["classifiers", "pre_classifier.dense", "model"].some(isWhole)).toBe(false);
  });

  it.each([
    ["peft_type", "LOHA"],
    ["alora_invocation_tokens", [5]],
    ["layer_replication", [[0, 2]]],
    ["lora_bias", true],
    ["target_parameters", ["experts.gate"]],
    ["use_qalora", true],
    ["use_bdlora", { nblocks: 2 }],
    ["arrow_config", { top_k: 3 }],
    ["kasa_config", { beta: 1 }],
    ["monteclora_config", { x: 1 }],
    ["init_lora_weights", "pissa_niter_16"],
    ["init_lora_weights", "olora"],
  ])("refuses by name what would be computed otherwise, with the way out: %s", (name, value) => {
    const refused = new RegExp(`${name} must .*merge_and_unload`);
    expect(() => parse({ [name]: value })).toThrow(refused);
  });

  it("takes what changes nothing, and refuses what is malformed", () => {
    parse({ init_lora_weights: "gaussian", alora_invocation_tokens: null, qalora_group_size: 16, megatron_core: "x" });
    expect(() => parse({ r: 0 })).toThrow("must have r, lora_alpha and lora_dropout");
    expect(() => parse({ target_modules: null })).toThrow("target_modules must be a list of names or a pattern");
    expect(() => parse({ rank_pattern: { q_proj: "8" } })).toThrow(
      'rank_pattern must hold numbers that fit; got {"q_proj":"8"}',
    );
    expect(() => parse({ alpha_pattern: { "(": 8 } })).toThrow("alpha_pattern must be regular expressions");
    expect(() => parse({ layers_to_transform: ["1"] })).toThrow("layers_to_transform must be numbers of layers");
  });
});

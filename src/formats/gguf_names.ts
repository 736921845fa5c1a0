/** How the tensors of a GGUF file are called in the Hub's checkpoints, by their architecture. */
export interface GgufNaming {
  /** By name, the parts after `blk.N.` under the Hub's block. */
  readonly whole: Readonly<Record<string, string>>;
  /** Before the number of a block. */
  readonly block: string;
  readonly inBlock: Readonly<Record<string, string>>;
}

const GATED: GgufNaming = {
  whole: { token_embd: "model.embed_tokens", output_norm: "model.norm", output: "lm_head" },
  block: "model.layers.",
  inBlock: {
    attn_norm: "input_layernorm",
    attn_q: "self_attn.q_proj",
    attn_k: "self_attn.k_proj",
    attn_v: "self_attn.v_proj",
    attn_output: "self_attn.o_proj",
    attn_q_norm: "self_attn.q_norm",
    attn_k_norm: "self_attn.k_norm",
    ffn_norm: "post_attention_layernorm",
    ffn_gate: "mlp.gate_proj",
    ffn_up: "mlp.up_proj",
    ffn_down: "mlp.down_proj",
  },
};

const GEMMA: GgufNaming = {
  ...GATED,
  inBlock: {
    ...GATED.inBlock,
    ffn_norm: "pre_feedforward_layernorm",
    post_attention_norm: "post_attention_layernorm",
    post_ffw_norm: "post_feedforward_layernorm",
  },
};

const PHI3: GgufNaming = {
  ...GATED,
  inBlock: { ...GATED.inBlock, attn_qkv: "self_attn.qkv_proj", ffn_up: "mlp.gate_up_proj" },
};

const GPT2: GgufNaming = {
  whole: { token_embd: "wte", position_embd: "wpe", output_norm: "ln_f", output: "lm_head" },
  block: "h.",
  inBlock: {
    attn_norm: "ln_1",
    attn_qkv: "attn.c_attn",
    attn_output: "attn.c_proj",
    ffn_norm: "ln_2",
    ffn_up: "mlp.c_fc",
    ffn_down: "mlp.c_proj",
  },
};

/** By `general.architecture`. */
export const GGUF_NAMING: ReadonlyMap<string, GgufNaming> = new Map([
  ["llama", GATED],
  ["qwen2", GATED],
  ["qwen3", GATED],
  ["gemma2", GEMMA],
  ["gemma3", GEMMA],
  ["phi3", PHI3],
  ["gpt2", GPT2],
]);

/** The Hub's name for a tensor, or undefined where it has none. */
export function hubName({ whole, block, inBlock }: GgufNaming, name: string): string | undefined {
  const parts = /^(?:blk\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name);
  if (!parts) return undefined;
  const [, number, stem = "", kind] = parts;
  const table = number === undefined ? whole : inBlock;
  if (!Object.hasOwn(table, stem)) return undefined;
  return `${number === undefined ? "" : `${block}${number}.`}${table[stem]}.${kind}`;
}

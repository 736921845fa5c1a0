import { HeedError } from "../core/errors.ts";
import type { ArrayTensor } from "../program/direct.ts";
import type { AttentionCallOptions } from "../tasks/direct_attention.ts";
import { type Broadcast, broadcastAt, isKept as keeps, type MaskOptions } from "../reference/qk_scores.ts";
import { type CaseTensor, concatRows, padLast, permute, toF32 } from "./arrays.ts";
import { largeScoreSlack, plainScores, type Qkv, threeKernels } from "./attention_paths.ts";
import type { NodeCall, NodeOutput } from "./onnx.ts";
import type { CaseRun } from "./run.ts";

/** What scores out of reach are set to, in masks and in what is compared. */
const MASKED = -1e30;

/** The modes of `qk_matmul_output`. */
const [PLAIN, CAPPED, BIASED, WEIGHTS] = [0, 1, 2, 3];

/**
 * Attention (versions 23 and 24) and FlexAttention without its functions: Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen
 * → Y, present_key, present_value, qk_matmul_output. Y is computed by the fused kernel and by the three named ones.
 */
export async function onnxAttention(run: CaseRun, call: NodeCall): Promise<readonly (NodeOutput | undefined)[]> {
  for (const name of ["score_mod", "prob_mod"]) {
    if (call.node.attributes[name] === undefined) continue;
    throw new HeedError("UNSUPPORTED", `${call.node.op} with a ${name}`);
  }
  const qkv = operandsOf(call);
  const options = optionsOf(call, qkv);
  const isRows = call.input(0).shape.length === 3;
  const copy = (tensor: ArrayTensor): NodeOutput => ({ tensor, precision: "op", kernels: [] });
  const unfused = await threeKernels(run, qkv, options);
  const fused = await run.call((how) => run.engine.attention(qkv.q, qkv.k, qkv.v, { ...options, ...how, as: "array" }));
  const { out, scores } = unfused.result as { out: ArrayTensor; scores: ArrayTensor };
  const slack = largeScoreSlack(qkv.q.shape[3] as number, scores.data, toF32(qkv.v).data);
  const shared = { precision: "attention", slack } as const;
  const y: NodeOutput = {
    ...shared,
    tensor: joinHeads(fused.result.out, isRows),
    kernels: fused.kernels,
    others: [{ ...shared, tensor: joinHeads(out, isRows), kernels: unfused.kernels, path: "three kernels" }],
  };
  const qk = call.wants(3) ? await scoresOf(run, call, qkv, unfused, options) : undefined;
  return [y, copy(qkv.k), copy(qkv.v), qk];
}

/** q, k and v as `[B, H, T, D]`, with what is past in front of k and v. */
function operandsOf(call: NodeCall): Qkv {
  const [q, k, v] = [call.input(0), call.input(1), call.input(2)];
  const kvHeads = call.number("kv_num_heads");
  const past = (index: number, now: ArrayTensor): ArrayTensor => {
    const before = call.inputs[index];
    return before ? concatRows(before, now) : now;
  };
  const tensors: Qkv = {
    q: splitHeads(call, q, call.number("q_num_heads")),
    k: past(4, splitHeads(call, k, kvHeads)),
    v: past(5, splitHeads(call, v, kvHeads)),
  };
  // Attention in f16 takes all three so; anything else is computed in f32.
  const isHalf = [q, k, v].every((t) => t.dtype === "float16");
  return isHalf ? tensors : { q: toF32(tensors.q), k: toF32(tensors.k), v: toF32(tensors.v) };
}

function splitHeads({ node }: NodeCall, tensor: CaseTensor, heads: number | undefined): ArrayTensor {
  if (tensor.shape.length === 4) return tensor;
  const [batch, length, width] = tensor.shape;
  if (tensor.shape.length !== 3 || heads === undefined || heads < 1 || (width as number) % heads !== 0) {
    throw new HeedError(
      "BAD_FILE",
      `conformance: ${node.op} needs [B, H, T, D], or [B, T, H·D] with q_num_heads and kv_num_heads; got [${tensor.shape.join(", ")}].`,
    );
  }
  const shape = [batch as number, length as number, heads, (width as number) / heads];
  return permute({ shape, data: tensor.data }, [0, 2, 1, 3]);
}

function joinHeads(out: ArrayTensor, isRows: boolean): ArrayTensor {
  if (!isRows) return out;
  const [batch, heads, length, width] = out.shape as [number, number, number, number];
  return { shape: [batch, length, heads * width], data: permute(out, [0, 2, 1, 3]).data };
}

function optionsOf(call: NodeCall, { q, k }: Qkv): AttentionCallOptions {
  const [batch, , queries] = q.shape as [number, number, number];
  const keys = k.shape[2] as number;
  const causal = call.number("is_causal", 0) === 1;
  const softcap = call.number("softcap", 0);
  const lengths = call.inputs[6] && Array.from(call.inputs[6].data);
  const past = call.inputs[4]?.shape[2];
  // Without a past, keys that are there already end the sequence: the queries are its last ones.
  const starts = lengths && past === undefined ? lengths.map((n) => n - queries) : undefined;
  const before = starts?.some((start) => start < 0) ?? false;
  const mask = maskOf(call, keys, causal && before ? causalMask(starts as number[], queries, keys) : undefined, batch);
  return {
    scale: call.number("scale"),
    ...(softcap > 0 ? { softcap } : {}),
    ...(causal && !before ? { causal, queryStart: starts ?? past ?? 0 } : {}),
    ...(lengths ? { keyLengths: lengths.map((n) => Math.min(n, keys)) } : {}),
    ...mask,
  };
}

/** `attn_mask` as an option: booleans as a mask, numbers as a bias; keys that it does not reach are masked. */
function maskOf(
  call: NodeCall,
  keys: number,
  frontier: ArrayTensor | undefined,
  batch: number,
): Pick<AttentionCallOptions, "mask" | "bias"> {
  const given = call.inputs[3];
  if (!given) return frontier ? { mask: frontier } : {};
  const isBool = given.dtype === "bool";
  const numbers = isBool ? given : toF32(given);
  const width = given.shape.at(-1) ?? 1;
  const padded = width === 1 ? numbers : padLast(numbers, keys, isBool ? 0 : MASKED);
  const tensor = { shape: [1, 1, 1, 1, ...padded.shape].slice(-4), data: padded.data };
  if (frontier && isBool) {
    throw new HeedError("UNSUPPORTED", `a boolean mask beside queries that begin before the keys (batch ${batch})`);
  }
  if (isBool) return { mask: tensor };
  return frontier ? { bias: tensor, mask: frontier } : { bias: tensor };
}

/** Which keys the queries may attend to where some stand before the first key: `[B, 1, T, S]`. */
function causalMask(starts: readonly number[], queries: number, keys: number): ArrayTensor {
  const data = Uint32Array.from({ length: starts.length * queries * keys }, (_, at) => {
    const position = (Math.floor(at / keys) % queries) + (starts[Math.floor(at / (keys * queries))] as number);
    return at % keys <= position ? 1 : 0;
  });
  return { shape: [starts.length, 1, queries, keys], data };
}

/** `qk_matmul_output` in the mode that is asked for. */
async function scoresOf(
  run: CaseRun,
  call: NodeCall,
  qkv: Qkv,
  { result, kernels }: Awaited<ReturnType<typeof threeKernels>>,
  options: AttentionCallOptions,
): Promise<NodeOutput> {
  const mode = call.number("qk_matmul_output_mode", PLAIN as number);
  const { scores, probs, lse } = result as Record<"scores" | "probs" | "lse", ArrayTensor>;
  const slack = largeScoreSlack(qkv.q.shape[3] as number, scores.data, [1]);
  const shared = { precision: "attention", slack, kernels } as const;
  if (mode === CAPPED) return { ...shared, tensor: scores };
  if (mode === WEIGHTS) return { ...shared, tensor: probs };
  if (mode === BIASED) return { ...shared, tensor: biasedScores({ scores, probs, lse }, options) };
  if (mode !== PLAIN) throw new HeedError("UNSUPPORTED", `qk_matmul_output_mode ${mode}`);
  const plain = await plainScores(run, qkv, options);
  return { ...shared, kernels: plain.kernels, tensor: plain.result["scores"] as ArrayTensor };
}

/**
 * Scores after biases and masks, from the weights: `log(probs) + lse`, −1e30 where masked. A weight that underflows says nothing of its
 * score: that is the sum of the score and its bias.
 */
function biasedScores(
  { scores, probs, lse }: Readonly<Record<"scores" | "probs" | "lse", ArrayTensor>>,
  { causal, queryStart, keyLengths, bias, mask }: AttentionCallOptions,
): ArrayTensor {
  const [, H, T, S] = probs.shape as [number, number, number, number];
  const structure = { causal, queryStart, keyLengths } as MaskOptions;
  const data = Float32Array.from(probs.data, (p, at) => {
    if (p > 0) return Math.log(p) + (lse.data[Math.floor(at / S)] as number);
    const [j, i, h, b] = [at % S, Math.floor(at / S) % T, Math.floor(at / S / T) % H, Math.floor(at / S / T / H)];
    const added = bias ? broadcastAt(bias as unknown as Broadcast, b, h, i, j) : 0;
    const isKept = keeps(b, i, j, structure) && (!mask || broadcastAt(mask as unknown as Broadcast, b, h, i, j) !== 0);
    return isKept && added > MASKED ? (scores.data[at] as number) + added : MASKED;
  });
  return { shape: probs.shape, data };
}

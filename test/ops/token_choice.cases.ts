import type { Device } from "../../src/gpu/device.ts";
import { packSeen, seenWords } from "../../src/ops/sample.ts";
import { banTokens, NO_TOKEN, topTokens } from "../../src/ops/token_choice.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32, u32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

interface Problem {
  readonly N: number;
  readonly V: number;
  readonly top: number;
  readonly banned?: readonly number[];
  readonly seen?: readonly number[];
  readonly penalty?: number;
  readonly renormalised?: boolean;
  /** The first of the tokens that count together. */
  readonly group?: number;
  readonly chosen?: boolean;
  readonly size?: number;
  /** Tokens whose logit is −∞. */
  readonly masked?: readonly number[];
}

/** (token, score) of each rank, in float64. */
function ranked(logits: ArrayLike<number>, problem: Problem) {
  const { top, banned = [], seen = [], penalty = 1, masked = [], renormalised = false, group } = problem;
  const all = Array.from(logits, (x, token) => ({ x: masked.includes(token) ? Number.NEGATIVE_INFINITY : x, token }));
  const largest = Math.max(...all.map(({ x }) => x));
  const lse = largest + Math.log(all.reduce((sum, { x }) => sum + Math.exp(x - largest), 0));
  const logprobs = all.map(({ x, token }) => ({ token, logprob: x - lse }));
  const kept = logprobs
    .filter(({ token }) => !banned.includes(token) && !masked.includes(token))
    .map(({ token, logprob }) => ({ token, score: seen.includes(token) ? logprob * penalty : logprob }));
  kept.sort((a, b) => b.score - a.score || a.token - b.token);
  if (group !== undefined) {
    const together = Math.log(kept.reduce((sum, { token, score }) => sum + (token < group ? 0 : Math.exp(score)), 0));
    const before = Math.max(...kept.map(({ token, score }) => (token < group ? score : Number.NEGATIVE_INFINITY)));
    if (together > before) return { logprobs, best: kept.filter(({ token }) => token >= group).slice(0, top) };
  }
  const left = renormalised ? Math.log(kept.reduce((sum, { score }) => sum + Math.exp(score), 0)) : 0;
  return { logprobs, best: kept.slice(0, top).map(({ token, score }) => ({ token, score: score - left })) };
}

async function checkTop(device: Device, p: Problem): Promise<void> {
  const { N, V, top, banned = [], seen = [], penalty = 1, size = 2, masked = [] } = p;
  const random = createRandom(N * 1000 + V);
  const logits = Float32Array.from(random.normals(N * V, size));
  for (let n = 0; n < N; n++) for (const i of masked) logits[n * V + i] = Number.NEGATIVE_INFINITY;
  const chosen = Array.from({ length: N }, (_, n) => (n * 7 + 3) % V);
  const [factor = 0] = new Uint32Array(Float32Array.of(penalty).buffer);
  const words = [factor, p.renormalised ? 1 : 0, p.group ?? NO_TOKEN, ...packSeen(banned, V), ...packSeen(seen, V)];
  const isRuled = banned.length + seen.length > 0 || p.group !== undefined;
  const inputs = {
    logits: f32([N, V], logits),
    ...(p.chosen ? { chosen: u32([N], chosen) } : {}),
    ...(isRuled ? { rules: u32([N, words.length], Array.from({ length: N }, () => words).flat()) } : {}),
  };
  const { out } = await runOps(device, inputs, (rec, v) => ({ out: topTokens(rec, v, { top }) }));
  const got = out as Uint32Array<ArrayBuffer>;
  const scores = new Float32Array(got.buffer, got.byteOffset, got.length);
  for (let n = 0; n < N; n++) {
    const { logprobs, best } = ranked(logits.subarray(n * V, (n + 1) * V), p);
    const at = n * (top + 1) * 2;
    const tokens = Array.from({ length: top + 1 }, (_, r) => got[at + 2 * r]);
    const expected = [
      p.chosen ? chosen[n] : NO_TOKEN,
      ...Array.from({ length: top }, (_, r) => best[r]?.token ?? NO_TOKEN),
    ];
    if (tokens.join() !== expected.join()) throw new Error(`row ${n}: tokens ${tokens.join()}, not ${expected.join()}`);
    const close = { ...tolerance("f32", "attention"), label: `row ${n}` };
    assertClose(
      Float32Array.from(best, (_, r) => scores[at + 2 * r + 3] as number),
      best.map((b) => b.score),
      close,
    );
    if (p.chosen) assertClose(scores.slice(at + 1, at + 2), [logprobs[chosen[n] as number]?.logprob ?? 0], close);
  }
}

export const cases = opCases("token_choice", (add) => {
  add("ranks tokens by log-probability, and gives that of the chosen one", async (device) => {
    await checkTop(device, { N: 3, V: 97, top: 5, chosen: true });
    await checkTop(device, { N: 1, V: 5, top: 8 });
    await checkTop(device, { N: 2, V: 1500, top: 3, chosen: true, size: 1e3 });
  });
  add("leaves out banned tokens and those of −∞, and makes seen ones less likely", (device) =>
    checkTop(device, { N: 2, V: 70, top: 68, banned: [0, 31, 32, 69], seen: [1, 40], penalty: 3, masked: [5] }),
  );
  add("brings the scores that are left to a sum of one where the rules say so", async (device) => {
    const rules = { banned: [0, 31, 69], seen: [1, 40], penalty: 3, masked: [5], renormalised: true };
    await checkTop(device, { N: 2, V: 70, top: 68, ...rules });
    await withGpuVariants(device, () => checkTop(device, { N: 3, V: 700, top: 4, ...rules, size: 30 }));
  });
  add("leaves a group's tokens alone where they are together likelier than any before them", async (device) => {
    // Of 100 logits near 0 some 30 are together likelier than the likeliest; of large logits they are not always.
    await checkTop(device, { N: 4, V: 100, top: 40, group: 70, size: 0.5 });
    await checkTop(device, { N: 9, V: 100, top: 40, group: 95, size: 4, banned: [0, 96] });
    await checkTop(device, { N: 2, V: 100, top: 5, group: 98, banned: [98, 99] });
    await withGpuVariants(device, () => checkTop(device, { N: 3, V: 700, top: 4, group: 600 }));
  });
  add("ranks with the variants of GPUs", (device) =>
    withGpuVariants(device, () => checkTop(device, { N: 2, V: 700, top: 4, banned: [699], chosen: true })),
  );
  add("gives no token where a logit is NaN or infinite", async (device) => {
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const logits = f32([1, 3], [0, wrong, 1]);
      const { out } = await runOps(device, { logits }, (rec, v) => ({ out: topTokens(rec, v, { top: 1 }) }));
      if (out?.[2] !== NO_TOKEN) throw new Error(`expected no token, got ${out?.[2]}`);
    }
  });
  add("bans tokens row by row", async (device) => {
    const V = 40;
    const logits = Float32Array.from(createRandom(5).normals(2 * V));
    const banned = [...packSeen([0, 39], V), ...packSeen([32], V)];
    const inputs = { logits: f32([2, V], logits), banned: u32([2, seenWords(V)], banned) };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: banTokens(rec, v) }));
    const expected = logits.map((x, i) => ([0, 39, V + 32].includes(i) ? Number.NEGATIVE_INFINITY : x));
    if ((out as Float32Array).join() !== expected.join()) throw new Error(`got ${out?.join()}`);
  });
  add("refuses rules of another size", (device) =>
    assertShapeError(() => {
      const inputs = { logits: f32([1, 40], Array(40).fill(0)), rules: u32([1, 3], [0, 0, 0]) };
      return runOps(device, inputs, (rec, v) => ({ out: topTokens(rec, v, { top: 1 }) }));
    }, "topTokens: rules must be [1, 7] u32; got rules [1, 3] u32."),
  );
});

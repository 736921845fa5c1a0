import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkFused, problem } from "./attention_support.ts";

export const cases = opCases("attention", (add) => {
  add("matches the reference on a plain case", (device) => checkFused(device, createRandom(1), problem({ B: 2, H: 4, Hkv: 2, T: 37, S: 50, D: 64 })));
});

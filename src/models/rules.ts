import type { WeightRule } from "./family.ts";

/** A bias or a gain, `[size]`. */
export function vectorRule(name: string, size: number): WeightRule {
  return { from: [name], shape: [size], role: "vector" };
}

/** A matrix `[rows, cols]`, such as an embedding. */
export function matrixRule(name: string, rows: number, cols: number): WeightRule {
  return { from: [name], shape: [rows, cols], role: "matrix" };
}

/** Gain and bias of a layer norm, `[width]`. */
export function normRules(name: string, width: number) {
  return { weight: vectorRule(`${name}.weight`, width), bias: vectorRule(`${name}.bias`, width) };
}

/** Like {@link normRules} for BERT's norms, which its first files call gamma and beta. */
export function gainRules(name: string, width: number) {
  const { weight, bias } = normRules(name, width);
  return { weight: { ...weight, or: [`${name}.gamma`] }, bias: { ...bias, or: [`${name}.beta`] } };
}

/** A linear layer, or several of one input as one: weight `[sum of rows, cols]`, and its bias if there is one. */
export function joinedRules(names: readonly string[], rows: readonly number[], cols: number, biased: boolean) {
  const total = rows.reduce((a, b) => a + b, 0);
  const weight: WeightRule = { from: names.map((n) => `${n}.weight`), rows, shape: [total, cols], role: "matrix" };
  const bias: WeightRule = { from: names.map((n) => `${n}.bias`), rows, shape: [total], role: "vector" };
  return { weight, bias: biased ? bias : undefined };
}

/** A convolution over rows: PyTorch's `[rows, channels, kernel]` as the matrix `[rows, channels · kernel]`. */
export function convRules(
  name: string,
  size: { readonly rows: number; readonly channels: number; readonly kernel: number; readonly biased: boolean },
) {
  const { rows, channels, kernel, biased } = size;
  const columns = channels * kernel;
  const weight: WeightRule = {
    ...{ from: [`${name}.weight`], shape: [rows, columns], stored: [rows, channels, kernel] },
    // f16 rows are read four by four.
    role: columns % 4 === 0 ? "matrix" : "vector",
  };
  return { weight, bias: biased ? vectorRule(`${name}.bias`, rows) : undefined };
}

import { expect, it } from "vitest";
import { parseRecipe } from "../../src/train/recipe.ts";
import { TINY_RECIPE } from "./tiny.ts";

it.each([
  [{ data: { text: "a.txt", shuffle: true } }, /data\.shuffle is not known/],
  [{ data: { source: "a.txt" } }, /data\.target is missing/],
  [{ data: { text: 3 } }, /data\.text must be string, got 3/],
  [{ data: {} }, /data must be an object with one of text, examples, source \(and target\), or grammar, got none/],
  [{ data: { text: "a", examples: "b" } }, /one of text, .*, got text, examples/],
  [{ optimizer: { type: "adam", momentum: 0.9 } }, /optimizer\.momentum is not known/],
  [{ optimizer: { type: "sgd", beta1: 0.9 } }, /optimizer\.beta1 is not known/],
  [{ optimizer: { type: "lion" } }, /optimizer\.type must be .*"adamw".*, got "lion"/],
  [{ schedule: { type: "constant", learningRate: 1e-3, minimum: 1e-4 } }, /schedule\.minimum is not known/],
])("a recipe with %j is refused by its field", (fields, message) => {
  expect(() => parseRecipe({ ...TINY_RECIPE, ...fields })).toThrow(message);
});

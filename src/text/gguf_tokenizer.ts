import type { Tokenizer } from "./tokenizer.ts";
export function loadGgufTokenizer(metadata: ReadonlyMap<string, unknown>): Tokenizer | undefined {
  return metadata.size < 0 ? undefined : undefined;
}

import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import type { Tier } from "../../../src/gpu/tiers.ts";
import { openSource } from "../../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../../src/tasks/engine.ts";
import type { TextModel } from "../../../src/tasks/text_model.ts";
import type { BenchModel, Contender } from "./contender.ts";

/** Heed through its public interface, and what the profile needs. */
export interface HeedContender extends Contender {
  readonly engine: Engine;
  readonly model: TextModel;
}

export async function heedContender(model: BenchModel, tier: Tier | undefined): Promise<HeedContender> {
  const engine = await createEngineWith({ gpu: await nodeGpu(), tier }, openSource);
  const loaded = await engine.load(model.folder, { maxSequences: 2, cacheTokens: 1024 });
  let session = loaded.session();
  const generate = async (prompt: readonly number[], maxTokens: number) =>
    (await session.generate(prompt, { maxTokens, temperature: 0 }).result).ids.generated;
  return {
    name: `heed (${engine.facts.tier})`,
    engine,
    model: loaded,
    async prefill(prompt) {
      session.dispose();
      session = loaded.session();
      return (await generate(prompt, 1))[0]!;
    },
    decode: (count) => generate([], count),
    async logits(prompt) {
      return (await loaded.logits(prompt)).at(-1)!;
    },
    dispose: () => engine.dispose(),
  };
}

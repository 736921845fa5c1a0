import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { folderSource } from "../../src/sources/folder_node.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";

interface Expected {
  ids: number[];
  logits: AssetArray;
}

const CLOSE = { atol: 1e-4, rtol: 1e-3 };

describeOnDevice("adapters", (device) => {
  it.each(["llama_gqa", "gpt2", "gpt_neox"] as const)(
    "give PEFT's logits beside the weights and merged: %s",
    async (name) => {
      const folder = fileURLToPath(new URL(`../fixtures/lora/${name}`, import.meta.url));
      const { ids, logits } = readJson<Expected>(join(folder, "expected.json"));
      const expected = decodeArray(logits);
      const buffers = device().buffersInUse;
      const model = await TextModel.load(device(), await folderSource(goldenPath(name)), { dtype: "f32" });
      const run = async () => (await model.logits(ids)).flatMap((row) => [...row]);
      const bare = await run();
      const adapter = await model.loadAdapter(await folderSource(folder), { slotRank: 6 });
      assertClose(await run(), bare, { atol: 1e-6, rtol: 0 });
      await model.useAdapter(adapter);
      assertClose(await run(), expected, CLOSE);
      const tapped = (await model.run(ids)).logits!.flatMap((row) => [...row]);
      assertClose(tapped, expected, CLOSE);
      const adapted = await model.generate(ids, { greedy: true, maxTokens: 6 }).result;
      await model.useAdapter();
      assertClose(await run(), bare, { atol: 1e-6, rtol: 0 });
      await model.mergeAdapter(adapter);
      assertClose(await run(), expected, CLOSE);
      expect((await model.generate(ids, { greedy: true, maxTokens: 6 }).result).ids).toEqual(adapted.ids);
      await expect(model.useAdapter(adapter)).rejects.toThrow("one that was loaded is needed");
      await model.dispose();
      expect(device().buffersInUse).toBe(buffers);
    },
  );

  it("are not switched while a generation runs, and must belong to the model", async () => {
    const model = await TextModel.load(device(), await folderSource(goldenPath("llama_gqa")));
    const other = fileURLToPath(new URL("../fixtures/lora/gpt2", import.meta.url));
    await expect(model.loadAdapter(await folderSource(other))).rejects.toThrow(
      "Check that adapter and model belong together",
    );
    const own = fileURLToPath(new URL("../fixtures/lora/llama_gqa", import.meta.url));
    const name = await model.loadAdapter(await folderSource(own), { name: "own" });
    expect(name).toBe("own");
    const generation = model.generate([1, 2, 3], { maxTokens: 20, greedy: true });
    const result = generation.result;
    await expect(model.useAdapter("own")).rejects.toThrow("a generation is running");
    await result;
    await model.useAdapter("own");
    await model.dispose();
  });
});
